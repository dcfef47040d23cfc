"""Nets for series from transformers: tiny random ones in folders, which need no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from mealkit import backbones
from mealkit.backbones.series_families import KINDS
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError, WeightsError
from mealkit.specs import SeriesDataSpec

DATA = SeriesDataSpec(horizon_steps=12)
PATCHES = {"context_length": 32, "patch_length": 8, "patch_stride": 4, "prediction_length": 10}
TINY = {
    "patchtst": {
        **PATCHES, "num_input_channels": 7, "d_model": 16, "num_attention_heads": 2, "ffn_dim": 32,
        "num_hidden_layers": 2, "pooling_type": None,
    },
    "patchtsmixer": {**PATCHES, "num_input_channels": 7, "d_model": 16, "num_layers": 2},
    "timesfm-2.5": {
        "num_hidden_layers": 2, "hidden_size": 32, "intermediate_size": 32, "head_dim": 8,
        "num_attention_heads": 4, "num_key_value_heads": 4, "context_length": 128,
        "horizon_length": 8, "output_quantile_len": 16,
    },
}  # fmt: skip


def made(name: str, **more: object) -> transformers.PreTrainedModel:
    kind, tiny = KINDS[name], dict(TINY[name])
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind.model_type, **{**tiny, **more})
    return getattr(transformers, kind.net)(config).eval()


def saved(name: str, folder: Path, **more: object) -> Path:
    made(name, **more).save_pretrained(folder)
    return folder


def windows(count: int = 3, *, steps: int = 32) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(count, steps)).cumsum(1)).float()


def ask(net, past: torch.Tensor, *, horizon: int = 12, known: int | None = None) -> torch.Tensor:
    history = torch.full((len(past),), known or past.shape[1])
    entries = {"past": past, "history": history}
    with torch.no_grad():
        return net.eval().forecast(*(entries[name] for name in net.inputs), horizon=horizon)


@pytest.mark.parametrize("name", TINY)
def test_a_folder_forecasts_as_transformers_does_by_itself(name, tmp_path):
    net: Any = backbones.create(saved(name, tmp_path), DATA, preprocessing=context(name))
    assert (net.pretrained, net.trained, net.name) == (True, True, name)
    plain = made(name, **({} if name == "timesfm-2.5" else {"num_input_channels": 1}))
    past = windows()
    with torch.no_grad():
        if name == "timesfm-2.5":
            output = plain(past_values=list(past), forecast_context_len=32, truncate_negative=False)
            expected = output.mean_predictions
        else:
            expected = plain(past_values=past[..., None]).prediction_outputs[..., 0]
    found = ask(net, past, horizon=8)
    assert torch.allclose(found, expected[:, :8], atol=1e-3)


def context(name: str) -> dict[str, int] | None:
    return {"context_steps": 32} if name == "timesfm-2.5" else None


@pytest.mark.parametrize("name", TINY)
def test_longer_horizons_go_on_from_the_forecasts(name, tmp_path):
    net = backbones.create(saved(name, tmp_path), DATA, preprocessing=context(name))
    once = ask(net, windows(), horizon=12)
    assert ask(net, windows(), horizon=40).shape == (3, 40)
    assert torch.allclose(ask(net, windows(), horizon=40)[:, :12], once)
    assert torch.allclose(ask(net, windows(), horizon=5), once[:, :5])


@pytest.mark.parametrize("name", TINY)
def test_what_else_is_in_the_batch_changes_nothing(name, tmp_path):
    """transformers clamps TimesFM at zero where no value of the whole batch is below it."""
    net = backbones.create(saved(name, tmp_path), DATA, preprocessing=context(name))
    past = windows().abs() + 0.5
    alone = torch.cat([ask(net, row[None]) for row in past])
    mixed = torch.cat([past, -past, 1e3 * past])
    assert torch.allclose(ask(net, mixed)[:3], alone, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_windows_that_never_change_go_on(name, tmp_path):
    net = backbones.create(saved(name, tmp_path), DATA, preprocessing=context(name))
    assert ask(net, torch.full((2, 32), 7.0)).tolist() == [[7.0] * 12] * 2


def test_timesfm_sees_only_what_is_known(tmp_path):
    net = backbones.create(
        saved("timesfm-2.5", tmp_path), DATA, preprocessing={"context_steps": 64}
    )
    past = windows(steps=64)
    short = ask(net, past, known=20)
    other = past.clone()
    other[:, :44] = 99
    assert torch.equal(ask(net, other, known=20), short)
    assert not torch.equal(ask(net, other), ask(net, past))
    history = torch.tensor([64, 20, 40])
    with torch.no_grad():
        both = net.forecast(past, history, horizon=12)
    for row, known in enumerate(history.tolist()):
        assert torch.allclose(both[row], ask(net, past[row : row + 1], known=known)[0], atol=1e-5)
    assert net.needs_steps == 2


@pytest.mark.parametrize("name", TINY)
def test_rebuilt_nets_forecast_the_same(name, tmp_path):
    net = backbones.create(saved(name, tmp_path), DATA, preprocessing=context(name))
    again = backbones.rebuild(net.config, net.input_spec, pretrained=True)
    again.load_state_dict(net.state_dict())
    assert torch.equal(ask(again, windows()), ask(net, windows()))


@pytest.mark.parametrize("name", TINY)
def test_blocks_are_the_layers_and_leave_the_head_out(name, tmp_path):
    net = backbones.create(saved(name, tmp_path), DATA, preprocessing=context(name))
    inside = {parameter for block in net.blocks for parameter in block.parameters}
    assert len(net.blocks) >= 1
    known = {parameter for parameter, _ in net.named_parameters()}
    assert inside < known
    heads = {"head", "output_projection_point", "output_projection_quantiles"}
    assert {n.split(".")[2] for n in known - inside} <= heads
    assert {n.split(".")[2] for n in inside} == {"model"}


@pytest.mark.parametrize("name", ["patchtst", "patchtsmixer"])
def test_untrained_nets_fit_the_data(name):
    data = SeriesDataSpec(horizon_steps=6, season=7, length_steps=120)
    net = backbones.create(name, data, options={"d_model": 16, "loss": "mse"})
    assert not net.pretrained
    assert net.input_spec.context_steps == 30
    assert net.config["model_config"]["patch_length"] == 7
    assert net.loss_name == "mse"
    assert ask(net, windows(steps=30), horizon=6).shape == (3, 6)
    longer = backbones.create(name, data, preprocessing={"context_steps": 64})
    assert longer.input_spec.context_steps == 64


def test_patchtst_has_the_papers_patches_and_flattened_head():
    net = backbones.create("patchtst", SeriesDataSpec(horizon_steps=96, length_steps=8640))
    values = net.net.inner.config
    assert (values.patch_length, values.patch_stride, values.pooling_type) == (16, 8, None)


def test_weights_in_the_place_of_random_ones(tmp_path):
    folder = saved("patchtst", tmp_path, num_input_channels=1, prediction_length=12)
    options = {k: v for k, v in TINY["patchtst"].items() if k not in PATCHES}
    del options["num_input_channels"]
    options |= {"patch_length": 8, "patch_stride": 4}
    net = backbones.create(
        "patchtst",
        DATA,
        weights=folder,
        preprocessing={"context_steps": 32},
        options=options,
    )
    assert net.pretrained
    assert torch.allclose(ask(net, windows()), ask(backbones.create(folder, DATA), windows()))


def test_a_likelihood_head_answers_with_its_mean(tmp_path):
    folder = saved("patchtst", tmp_path, loss="nll", distribution_output="normal")
    net = backbones.create(folder, DATA)
    plain = made("patchtst", loss="nll", distribution_output="normal", num_input_channels=1)
    with torch.no_grad():
        output = plain(past_values=windows()[..., None])
        made_of = plain.distribution_output.distribution(
            output.prediction_outputs, loc=output.loc, scale=output.scale
        )
    assert torch.allclose(ask(net, windows(), horizon=8), made_of.mean[:, :8, 0], atol=1e-3)


def test_what_cannot_be_meant_is_refused(tmp_path):
    with pytest.raises(BackboneError, match="'patchtst' is trained on your series"):
        backbones.create("patchtst", DATA, pretrained=True)
    with pytest.raises(UnknownNameError, match="no option of 'patchtst' 'depth'"):
        backbones.create("patchtst", DATA, options={"depth": 3})
    with pytest.raises(UnknownNameError, match="no loss 'mass'"):
        backbones.create("patchtst", DATA, options={"loss": "mass"})
    folder = saved("patchtst", tmp_path / "a")
    with pytest.raises(InvalidValueError, match="context=64: 'patchtst' sees 32 steps"):
        backbones.create(folder, DATA, preprocessing={"context_steps": 64})
    with pytest.raises(BackboneError, match="cannot change a net that is trained already"):
        backbones.create(folder, DATA, options={"d_model": 3})
    mixing = saved("patchtst", tmp_path / "b", channel_attention=True)
    with pytest.raises(BackboneError, match="mixes its 7 channels"):
        backbones.create(mixing, DATA)
    (tmp_path / "c").mkdir()
    with pytest.raises(BackboneError, match=r"expected a saved task, or a config.json"):
        backbones.create(tmp_path / "c", DATA)
    transformers.BertConfig().save_pretrained(tmp_path / "d")
    with pytest.raises(BackboneError, match="model_type 'bert' cannot forecast"):
        backbones.create(tmp_path / "d", DATA)
    (folder / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="There are no weights"):
        backbones.create(folder, DATA)


def test_weights_of_another_net_are_refused(tmp_path):
    folder = saved("patchtst", tmp_path / "a")
    other = saved("patchtst", tmp_path / "b", d_model=32)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="misshapen"):
        backbones.create(folder, DATA)


def test_hub_ids_that_cannot_be_reached_say_what_to_do():
    for name in ("timesfm-2.5", "someone/patchtst-etth1"):
        with pytest.raises(WeightsError, match=r"could not be reached.*path of a folder"):
            backbones.create(name, DATA)


def test_timesfm_is_described_without_its_weights():
    info = backbones.describe("timesfm-2.5")
    assert info.weights == "Hugging Face hub id google/timesfm-2.5-200m-transformers"
    assert 200e6 < info.num_parameters < 250e6
    assert (info.source, info.licence) == ("transformers", "Apache-2.0")
