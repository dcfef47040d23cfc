"""Series through the same class: hidden patches, and a hand-off to Forecaster."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
import transformers
from safetensors.torch import load_file, save_file

import mealkit
from mealkit import Forecaster, SeriesData, SSLPretrainer
from mealkit.backbones import create
from mealkit.data import UnlabelledImages, UnlabelledSeries
from mealkit.errors import (
    BackboneError,
    DataError,
    InvalidValueError,
    NoDataError,
    RunError,
    WeightsError,
)
from mealkit.specs import SeriesDataSpec
from mealkit.tasks import checkpoint

CONTEXT = 48
OPTIONS = {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 2}


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("series", "unlabelled_series"):
        monkeypatch.setattr(f"mealkit.data.{module}.EPOCH_STEPS", 8)


def arrays() -> dict[str, np.ndarray]:
    rng, steps = np.random.default_rng(0), np.arange(300)
    wave = np.sin(steps * 2 * np.pi / 24)
    return {
        "small": wave + 0.1 * rng.normal(size=300),
        "large": 500 + 90 * np.roll(wave, 5) + 5 * rng.normal(size=300),
    }


def encoder(**options: Any) -> Any:
    spec = SeriesDataSpec(horizon_steps=0)
    given = {**OPTIONS, **options}
    return create("patchtst", spec, preprocessing={"context_steps": CONTEXT}, options=given)


def make(seed: int = 0, **more: Any) -> SSLPretrainer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SSLPretrainer.from_arrays(arrays(), backbone=encoder(), **more)


def state(task: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def forecaster(backbone: Any, **more: Any) -> Forecaster:
    return Forecaster.from_arrays(arrays(), horizon=12, season=24, backbone=backbone, **more)


def states_of(net: Any, past: torch.Tensor) -> torch.Tensor:
    """Ask the encoder inside of a net that forecasts as that net asks it."""
    asked: dict[str, torch.Tensor] = {}
    inner = net.get_submodule("net.inner.model")
    hook = inner.register_forward_hook(
        lambda module, given, output: asked.update(states=output.last_hidden_state[:, 0])
    )
    with torch.no_grad():
        net.eval()(past)
    hook.remove()
    return asked["states"]


def windows() -> torch.Tensor:
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.normal(size=(5, CONTEXT)).cumsum(1)).float()


@pytest.fixture
def trained() -> SSLPretrainer:
    pre = make()
    pre.pretrain(epochs=1, batch_size=32)
    return pre


# Training.


def test_rebuilding_gets_better_and_moves_the_backbone() -> None:
    pre = make()
    before = state(pre.backbone)
    history = pre.pretrain(epochs=6, batch_size=64, lr=3e-3)
    assert history.rows[-1]["train/loss"] < 0.9 * history.rows[0]["train/loss"]
    assert {"embedding/spread", "embedding/rank"} <= set(history.rows[0])
    moved = [n for n, v in pre.backbone.named_parameters() if not torch.equal(v, before[n])]
    assert len(moved) > 0.9 * len(list(pre.backbone.named_parameters()))
    assert pre.backbone.pretrained


@pytest.mark.filterwarnings("ignore:Total length")
def test_a_plain_trainer_trains_alike(bare_trainer: Callable[[int], pl.Trainer]) -> None:
    ours, plain = make(), make()
    ours.pretrain(epochs=2, batch_size=16)
    plain.data.batch_size = 16
    torch.manual_seed(plain.plan.training.seed)
    trainer = bare_trainer(2)
    trainer.gradient_clip_val = 1.0
    trainer.fit(plain, datamodule=plain.data)
    assert same(state(plain), state(ours))


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 12:
            raise RuntimeError("stopped")


def test_a_stopped_run_ends_where_the_whole_one_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))
    settings: dict[str, Any] = {"epochs": 2, "batch_size": 16}
    whole = make()
    expected = whole.pretrain(**settings, run=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped"):
        make().pretrain(**settings, run=tmp_path / "run", callbacks=[Stop()])
    again = make(seed=1)  # other random weights: the first ones are on disk
    history = again.pretrain(**settings, run=tmp_path / "run", resume=True)
    assert same(state(again), state(whole))
    rows = [{n: v for n, v in row.items() if n != "seconds"} for row in history.rows]
    assert rows == [{n: v for n, v in row.items() if n != "seconds"} for row in expected.rows]
    other = SSLPretrainer.from_arrays(arrays(), backbone=encoder(), test=30)
    with pytest.raises(RunError, match=r"data\.train"):
        other.pretrain(**settings, run=tmp_path / "run", resume=True)


def test_an_alarm_is_raised_where_all_windows_look_alike(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    pre = make()
    net: Any = pre.backbone
    encode = net.encode

    def alike(past: torch.Tensor, hidden: torch.Tensor) -> Any:
        states, patches = encode(past, hidden)
        return states.mean(0, keepdim=True).expand_as(states), patches

    monkeypatch.setattr(net, "encode", alike)
    history = pre.pretrain(epochs=9, batch_size=16, on_collapse="stop")
    assert "The embeddings of masked_patches have collapsed" in caplog.text
    assert len(history) < 9
    caplog.clear()
    make().pretrain(epochs=4, batch_size=16)
    assert "collapsed" not in caplog.text


# Answers.


def test_one_vector_per_series_in_order_from_tables_and_arrays(tmp_path: Path) -> None:
    days = pd.date_range("2024-01-01", periods=300, freq="D")
    parts = [pd.DataFrame({"day": days, "shop": n, "sales": v}) for n, v in arrays().items()]
    table = pd.concat(parts)
    named: dict[str, Any] = {"time": "day", "target": "sales", "series": "shop"}
    pre = SSLPretrainer.from_data_frame(table, backbone=encoder(), **named)
    pre.pretrain(epochs=1, batch_size=16)
    found = pre.embed(table)
    assert found.ids == ("small", "large")
    assert found.values.shape == (2, 16)
    assert np.allclose(pre.embed(arrays()).values, found.values, atol=1e-5)
    assert np.array_equal(pre.embed(pre.data).values, found.values)
    table.to_csv(tmp_path / "later.csv", index=False)
    assert np.allclose(pre.embed(str(tmp_path / "later.csv")).values, found.values, atol=1e-5)
    own = arrays()["small"][-CONTEXT:]
    window = torch.from_numpy(own).float()[None]
    with torch.no_grad():
        expected = pre.backbone.eval()(window)
    assert np.allclose(found.values[0], expected[0], atol=1e-4)  # of the last window alone
    with pytest.raises(DataError, match="fewer than the 48 steps that the net sees: 'series 0'"):
        pre.embed([np.arange(20.0)])
    with pytest.raises(DataError, match="sales"):
        pre.embed(table.rename(columns={"sales": "turnover"}))
    with pytest.raises(InvalidValueError, match="image='day': these are series"):
        pre.embed(table, image="day")


def test_what_does_not_exist_for_series_is_an_error_that_says_what_to_do(photos: Path) -> None:
    pre = make()
    with pytest.raises(InvalidValueError, match=r"no labels.*Forecaster\.from_csv.*'freeze'"):
        pre.pretrain(epochs=1, probe=photos / "train")
    with pytest.raises(InvalidValueError, match="measured by forecasts of later steps"):
        pre.evaluate(SeriesData.from_arrays(arrays(), horizon=12))
    with pytest.raises(InvalidValueError, match="precision='bf16-mixed': series run in fp32"):
        pre.pretrain(epochs=1, precision="bf16-mixed")
    with pytest.raises(InvalidValueError, match=r"Forecaster\.from_csv.*backbone=pre"):
        pre.predict(arrays())
    with pytest.raises(InvalidValueError, match=r"backbone=pre\)\.finetune"):
        pre.finetune()
    series = SeriesData.from_arrays(arrays(), horizon=12)
    with pytest.raises(InvalidValueError, match=r"got SeriesData\. Make them with mealkit"):
        pre.pretrain(series, epochs=1)
    pictures = UnlabelledImages.from_arrays(np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(InvalidValueError, match="got UnlabelledImages"):
        pre.pretrain(pictures, epochs=1)
    with pytest.raises(NoDataError, match="no data to train on"):
        SSLPretrainer(encoder()).pretrain(epochs=1)


# Keeping and handing over.


def test_a_saved_pretrainer_goes_on_where_it_was(trained: SSLPretrainer, tmp_path: Path) -> None:
    again: Any = mealkit.load(trained.save(tmp_path / "pre"))
    assert isinstance(again, SSLPretrainer)
    assert again.method == trained.method
    assert again.spec == trained.spec
    assert same(state(again), state(trained))
    values = trained.embed(arrays()).values
    assert np.array_equal(again.embed(arrays()).values, values)
    data = UnlabelledSeries.from_arrays(arrays())
    ours = trained.pretrain(epochs=1, batch_size=16)
    theirs = again.pretrain(data, epochs=1, batch_size=16)
    assert theirs.rows[0]["train/loss"] == ours.rows[0]["train/loss"]
    assert same(state(again), state(trained))


@pytest.mark.parametrize("form", ["pretrainer", "folder", "module"])
def test_the_hand_off_is_equal_bit_for_bit(
    form: str, trained: SSLPretrainer, tmp_path: Path
) -> None:
    past = windows()
    with torch.no_grad():
        before = trained.eval().backbone.states(past)
    kept = state(trained)
    given = {
        "pretrainer": trained,
        "folder": str(trained.save(tmp_path / "pre")),
        "module": trained.backbone,
    }[form]
    task = forecaster(given)
    assert torch.equal(states_of(task.net, past), before)
    assert task.net.pretrained
    assert task.needs_fit
    assert not task.zero_shot
    with pytest.raises(InvalidValueError, match="patchtst is not fitted yet"):
        task.predict()
    task.finetune(epochs=1, strategy="freeze", batch_size=32, refit=False)
    assert torch.equal(states_of(task.net, past), before)  # frozen: the head alone has learnt
    assert np.isfinite(task.predict().mean).all()
    assert not task.net.head_is_fresh
    task.finetune(epochs=1, strategy="full", batch_size=32, refit=False)
    assert not torch.equal(states_of(task.net, past), before)
    assert same(state(trained), kept)


def test_one_encoder_serves_any_horizon(trained: SSLPretrainer) -> None:
    for horizon in (3, 30):
        task = Forecaster.from_arrays(arrays(), horizon=horizon, backbone=trained)
        task.finetune(epochs=1, strategy="freeze", batch_size=32)
        assert task.predict().mean.shape == (2, horizon)


@pytest.mark.parametrize("strategy", ["freeze", "freeze_unfreeze", "gradual", "full", None])
def test_strategies_train_what_they_say(strategy: str | None, trained: SSLPretrainer) -> None:
    task = forecaster(trained)
    before = state(task.net)
    names = {name for block in task.net.blocks for name in block.parameters}
    assert all(".model." in name for name in names)
    task.finetune(epochs=2, strategy=strategy, batch_size=32, refit=False)
    moved = {n for n, v in task.net.named_parameters() if not torch.equal(v, before[n])}
    assert any(".head." in name for name in moved)
    assert bool(moved & names) == (strategy != "freeze")


@pytest.mark.slow
def test_a_head_on_pretrained_states_learns_more_than_one_on_random_ones() -> None:
    pre = make()
    random = copy.deepcopy(pre.backbone)
    pre.pretrain(epochs=40, batch_size=64, lr=3e-3)
    errors = {}
    for name, net in {"random": random, "pretrained": pre.backbone}.items():
        task = forecaster(net, test=24)
        task.finetune(epochs=20, strategy="freeze", lr=3e-3, batch_size=64, refit=False)
        errors[name] = task.evaluate().metrics["mase"]
    assert errors["pretrained"] < 0.9 * errors["random"]


def test_a_fitted_task_is_saved_and_tested_on_the_past_from_the_pretrained_weights(
    trained: SSLPretrainer, tmp_path: Path
) -> None:
    task = forecaster(trained)
    first = task.backtest(windows=1)
    task.finetune(epochs=1, batch_size=32)
    answer = task.predict()
    again: Any = mealkit.load(task.save(tmp_path / "task"))
    assert np.array_equal(again.predict().quantiles, answer.quantiles)
    assert not again.net.head_is_fresh
    data = SeriesData.from_arrays(arrays(), horizon=12, season=24)
    with pytest.raises(InvalidValueError, match="had been pretrained before it was fitted"):
        again.backtest(data, windows=1)
    # From the weights that it came with, and not from random ones.
    second = forecaster(trained)
    second.fitting = dict(task.fitting)
    assert np.isfinite(first.forecasts.mean).all()
    assert np.array_equal(
        task.backtest(windows=1).forecasts.mean, second.backtest(windows=1).forecasts.mean
    )


def test_an_unfitted_task_stays_unfitted_when_saved(trained: SSLPretrainer, tmp_path: Path) -> None:
    folder = forecaster(trained).save(tmp_path / "task")
    again: Any = mealkit.load(folder)
    for task in (again, forecaster(str(folder))):
        assert task.needs_fit
        with pytest.raises(InvalidValueError, match="not fitted yet"):
            task.predict(arrays())


def test_pretraining_goes_on_from_what_forecasts(trained: SSLPretrainer) -> None:
    task = forecaster(trained)
    task.finetune(epochs=1, batch_size=32, refit=False)
    expected = states_of(task.net, windows())
    pre = SSLPretrainer.from_arrays(arrays(), backbone=task)
    with torch.no_grad():
        assert torch.equal(pre.eval().backbone.states(windows()), expected)
    assert len(pre.pretrain(epochs=1, batch_size=16)) == 1


def test_tensors_that_do_not_fit_are_errors_that_name_them(
    trained: SSLPretrainer, tmp_path: Path
) -> None:
    folder = trained.save(tmp_path / "pre")
    tensors = load_file(folder / "model.safetensors")
    first = "backbone.net.encoder.embedder.input_embedding.weight"
    save_file({n: v for n, v in tensors.items() if n != first}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 missing .*input_embedding\.weight"):
        forecaster(str(folder))
    save_file({**tensors, first: torch.zeros(7)}, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="1 misshapen"):
        forecaster(str(folder))
    more = {**tensors, "backbone.net.extra": torch.zeros(1)}
    save_file(more, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 unexpected .*extra"):
        forecaster(str(folder))
    with pytest.raises(InvalidValueError, match="finished Backbone, which passes"):
        forecaster(trained.backbone, context=20)


def test_exported_weights_load_into_transformers(trained: SSLPretrainer, tmp_path: Path) -> None:
    file = trained.export(tmp_path / "encoder.safetensors")
    net: Any = trained.eval().backbone
    plain = transformers.PatchTSTModel(net.model_config).eval()
    plain.load_state_dict(load_file(file))
    past = windows()
    scaled = (past - past.mean(1, keepdim=True)) / past.std(1, keepdim=True, correction=0)
    with torch.no_grad():
        expected = plain(past_values=scaled[..., None]).last_hidden_state[:, 0]
        assert torch.allclose(net.states(past), expected, atol=1e-6)


@pytest.mark.real
@pytest.mark.slow
def test_etth1_is_learnt_and_handed_over(shared: Path) -> None:
    frame = pd.read_csv(shared / "data" / "ETTh1.csv")[:4000]
    data = SeriesData.from_data_frame(frame, horizon=24, val=720, test=480)
    spec = SeriesDataSpec(horizon_steps=0)
    net = create("patchtst", spec, preprocessing={"context_steps": 96}, options=OPTIONS)
    pre = SSLPretrainer.from_data(data, backbone=net)
    assert pre.data.table.lengths.tolist() == [2800] * 7
    history = pre.pretrain(epochs=100, batch_size=64, lr=3e-3)
    assert history.rows[-1]["train/loss"] < 0.95 * history.rows[0]["train/loss"]
    task = Forecaster.from_data(data, backbone=pre)
    task.finetune(epochs=30, strategy="freeze", batch_size=64, lr=3e-3, refit=False)
    answer = task.evaluate()
    assert answer.metrics["mase"] < 1.5 * answer.naive["mase"]  # after 240 steps of a tiny head


def test_backbones_without_an_encoder_and_other_kinds_are_refused(trained: SSLPretrainer) -> None:
    with pytest.raises(BackboneError, match="patchtst, patchtsmixer"):
        SSLPretrainer.from_arrays(arrays(), backbone="nlinear")
    with pytest.raises(BackboneError, match="series was given where one for image is needed"):
        mealkit.ImageClassifier(trained, classes=["a", "b"])
