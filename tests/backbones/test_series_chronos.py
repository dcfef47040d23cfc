"""Chronos: a stand-in for the package always, and the package itself where it is installed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mealkit
from mealkit import Forecaster, backbones
from mealkit.errors import BackboneError, InvalidValueError, MissingPackageError, WeightsError
from mealkit.specs import SeriesDataSpec

DATA = SeriesDataSpec(horizon_steps=12)
QUANTILES = [0.1, 0.5, 0.9]


class StandIn(transformers.PreTrainedModel):
    """Answers with the last value, and the bias of its quantile; knows how often it was asked."""

    config_class = transformers.T5Config

    def __init__(self, config: transformers.T5Config) -> None:
        super().__init__(config)
        self.chronos_config = SimpleNamespace(**config.chronos_config)
        self.encoder = torch.nn.Linear(1, 1)
        self.output_patch_embedding = torch.nn.Linear(1, len(QUANTILES))
        self.post_init()

    def forward(self, context: torch.Tensor) -> SimpleNamespace:
        last = self.encoder(context[:, -1:])
        made = context[:, -1:] + 0 * last + self.output_patch_embedding.bias
        return SimpleNamespace(quantile_preds=made[..., None].expand(-1, -1, 8))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    package, bolt = ModuleType("chronos"), ModuleType("chronos.chronos_bolt")
    bolt.ChronosBoltModelForForecasting = StandIn
    for module in (package, bolt):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What `save_pretrained` writes for the stand-in, under the real architecture's name."""
    t5: Any = transformers.T5Config  # keeps entries that it does not know
    config = t5(
        d_model=8, num_layers=1, chronos_config={
            "context_length": 64, "prediction_length": 8, "input_patch_size": 8,
            "input_patch_stride": 8, "quantiles": QUANTILES,
        },
    )  # fmt: skip
    net = StandIn(config)
    with torch.no_grad():
        net.output_patch_embedding.bias.copy_(torch.tensor([-1.0, 0.5, 1.0]))
    net.save_pretrained(tmp_path / "bolt")
    file = tmp_path / "bolt" / "config.json"
    text = file.read_text(encoding="utf-8").replace('"StandIn"', '"ChronosBoltModelForForecasting"')
    file.write_text(text, encoding="utf-8")
    return tmp_path / "bolt"


def test_names_are_described_without_the_package():
    info = backbones.describe("chronos-bolt-small")
    assert (info.source, info.licence) == ("chronos", "Apache-2.0")
    assert info.weights == "Hugging Face hub id amazon/chronos-bolt-small"
    assert {"chronos-2", "chronos-2-small"} <= set(backbones.find("chronos-*", kind="series"))


def test_without_the_package_it_says_what_to_install(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "chronos", None)
    for name in ("chronos-2", folder):
        with pytest.raises(MissingPackageError, match=r"pip install 'mealkit\[chronos\]'"):
            backbones.create(name, DATA)


@pytest.mark.usefixtures("stand_in")
def test_weights_that_cannot_be_reached_say_what_to_do():
    with pytest.raises(WeightsError, match=r"'amazon/chronos-2' .*path of a folder"):
        backbones.create("chronos-2", DATA)


@pytest.mark.usefixtures("stand_in")
def test_it_answers_with_medians_and_goes_on_from_them(folder):
    """The median is the last value and half a deviation of the window, eight steps at a time."""
    net: Any = backbones.create(folder, DATA, preprocessing={"context_steps": 16}).eval()
    assert (net.name, net.pretrained) == ("chronos-bolt", True)
    past = torch.arange(16.0)[None].expand(2, -1) * torch.tensor([[1.0], [3.0]])
    history = torch.tensor([16, 4])
    answer = net.forecast(past, history, horizon=12)
    first = 15 + 0.5 * float(np.arange(16).std())
    second = 45 + 0.5 * 3 * float(np.arange(4).std())
    expected = [[first] * 8, [second] * 8]
    assert torch.allclose(answer[:, :8], torch.tensor(expected), atol=1e-4)
    step = torch.tensor([[first - 15], [second - 45]])
    assert torch.allclose(answer[:, 8:] - answer[:, 7:8], step.expand(-1, 4), atol=1e-4)
    inside = {name for block in net.blocks for name in block.parameters}
    assert inside == {"net.inner.encoder.weight", "net.inner.encoder.bias"}


@pytest.mark.usefixtures("stand_in")
def test_a_task_forecasts_and_is_saved_with_it(folder, tmp_path):
    series = np.sin(np.arange(200) / 3) + 5
    task = Forecaster.from_arrays(series, horizon=12, backbone=folder)
    answer = task.predict()
    assert answer.model == ("chronos-bolt",)
    task.save(tmp_path / "task")
    loaded: Any = mealkit.load(tmp_path / "task")  # a Forecaster
    again = loaded.predict()
    assert np.array_equal(again.quantiles, answer.quantiles)


@pytest.mark.usefixtures("stand_in")
def test_what_cannot_be_meant_is_refused(folder):
    with pytest.raises(InvalidValueError, match="context=65: 'chronos-bolt' sees 64 steps at most"):
        backbones.create(folder, DATA, preprocessing={"context_steps": 65})
    with pytest.raises(BackboneError, match="cannot change a net that is trained already"):
        backbones.create(folder, DATA, options={"d_model": 3})
    file = folder / "config.json"
    text = file.read_text(encoding="utf-8").replace("ChronosBoltModelFor", "T5For")
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BackboneError, match="architecture 'T5ForForecasting' are not supported"):
        backbones.create(folder, DATA)


@pytest.mark.parametrize("family", ["chronos-2", "chronos-bolt"])
def test_a_folder_forecasts_as_the_package_does_by_itself(family, tmp_path):
    chronos = pytest.importorskip("chronos")
    own = {
        "context_length": 64, "input_patch_size": 8, "input_patch_stride": 8,
        "quantiles": [step / 10 for step in range(1, 10)], "use_reg_token": True,
    }  # fmt: skip
    sizes = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    torch.manual_seed(0)
    if family == "chronos-2":
        own |= {"output_patch_size": 8, "max_output_patches": 2, "use_arcsinh": True}
        config = chronos.chronos2.config.Chronos2CoreConfig(**sizes, chronos_config=own)
        net = chronos.Chronos2Model(config).eval()
        pipeline = chronos.Chronos2Pipeline(net)
    else:
        own |= {"prediction_length": 16}
        more = {"num_decoder_layers": 1, "decoder_start_token_id": 0, "pad_token_id": 0}
        t5: Any = transformers.T5Config  # keeps entries that it does not know
        config = t5(**sizes, **more, vocab_size=2, chronos_config=own)
        net = chronos.chronos_bolt.ChronosBoltModelForForecasting(config).eval()
        pipeline = chronos.ChronosBoltPipeline(net)
    net.save_pretrained(tmp_path)
    made = backbones.create(tmp_path, DATA, preprocessing={"context_steps": 32}).eval()
    assert made.name == family
    past = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 32)).cumsum(1)).float()
    with torch.no_grad():
        found = made.forecast(past, torch.full((3,), 32), horizon=12)
    inputs = past[:, None] if family == "chronos-2" else past
    quantiles, _ = pipeline.predict_quantiles(inputs, prediction_length=12, quantile_levels=[0.5])
    expected = torch.stack([each.squeeze() for each in quantiles])
    assert torch.allclose(found, expected, atol=1e-3)
