"""Training nets for series: seeds, best epochs, refits, runs, modules, defects, saved tasks."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.errors import BackboneError, DataError, InvalidValueError
from mealkit.specs import SeriesDataSpec
from mealkit.tasks import Training
from mealkit.tasks.stopping import TimeLimit

NETS = [
    name
    for name in mealkit.backbones.find(kind="series")
    if mealkit.backbones.describe(name).source == "mealkit"
    and mealkit.backbones.create(name, SeriesDataSpec(horizon_steps=4)).trained
]
QUICK = {"epochs": 1, "batch_size": 16}


def sales(count: int = 200, *, seed: int = 0) -> pd.DataFrame:
    """Three shops whose days are alike and whose noise is not; the shops end on different days."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, shop in enumerate(("a", "b", "c")):
        hours = np.arange(count - 20 * number)
        noise = rng.normal(0, 1, len(hours))
        values = 20 * (number + 1) + 5 * np.sin(hours * 2 * np.pi / 24) + noise
        stamps = pd.date_range("2024-01-01", periods=len(hours), freq="h")
        parts.append(pd.DataFrame({"date": stamps, "shop": shop, "sales": values}))
    return pd.concat(parts, ignore_index=True)


def make(name: str | nn.Module, frame: pd.DataFrame | None = None, **given) -> Forecaster:
    frame = sales() if frame is None else frame
    return Forecaster.from_data_frame(frame, horizon=6, season=24, backbone=name, **given)


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    """An epoch of a test is 15 steps."""
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 15)


@pytest.fixture
def trained() -> Forecaster:
    task = make("nlinear")
    task.finetune(epochs=8, batch_size=64)
    return task


class Convolutional(nn.Module):
    """What a user would bring; batch norm tells training from forecasting."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv1d(1, 8, 5), nn.BatchNorm1d(8), nn.ReLU())
        self.output = nn.Linear(8, 6)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        return self.output(self.body(past[:, None]).mean(2))


def test_a_trained_net_beats_the_naive_method(trained):
    answer = trained.evaluate(sales(seed=7))
    assert answer.model == "nlinear"
    assert answer.skill["mase"] > 0.1


def test_the_history_has_a_row_per_epoch_and_names_the_best():
    task = make("nlinear")
    history = task.finetune(epochs=3, batch_size=64, refit=False)
    losses = [row["val/loss"] for row in history.rows]
    assert len(losses) == 3
    assert history.best_epoch == int(np.argmin(losses))
    assert history.rows[0]["train/loss"] > history.rows[-1]["train/loss"]


def test_the_loss_of_validation_is_that_of_the_forecasts():
    task = make("nlinear")
    history = task.finetune(epochs=2, batch_size=64, refit=False)
    data = task.data
    data.prepare(task.input_spec)
    batch = data.val.__getitems__(range(len(data.val)))
    with torch.no_grad():
        error = (task.net(batch["past"]) - batch["target"]).square()
    assert history.rows[history.best_epoch]["val/loss"] == pytest.approx(
        float(error.mean()), rel=1e-4
    )


@pytest.mark.parametrize("name", NETS)
def test_one_seed_decides_everything(name):
    means = []
    for noise, seed in ((0, 0), (1, 0), (1, 5)):
        torch.manual_seed(noise)
        task = make(name)
        task.finetune(**QUICK, training=Training(seed=seed))
        means.append(task.predict().mean)
    assert np.array_equal(means[0], means[1])
    starts_at_one_point = name in ("nlinear", "dlinear")  # zeros, or means
    assert np.array_equal(means[0], means[2]) == starts_at_one_point


@pytest.mark.parametrize("name", NETS)
def test_nothing_after_a_cutoff_changes_a_forecast_before_it(name):
    frame, answers = sales(), []
    for broken in (False, True):
        if broken:
            late = frame.groupby("shop").cumcount(ascending=False) < 12
            frame.loc[late, "sales"] = 1e7
        task = make(name, frame)
        task.finetune(**QUICK)
        answers.append(task.backtest(windows=3, step=6).forecasts)
    first, second = answers
    assert np.array_equal(first.mean[::3], second.mean[::3])
    assert np.array_equal(first.quantiles[::3], second.quantiles[::3])
    assert not np.array_equal(first.quantiles, second.quantiles)


@pytest.mark.parametrize("name", NETS)
def test_another_process_forecasts_the_same(name, tmp_path):
    task = make(name)
    task.finetune(**QUICK)
    task.save(tmp_path / "saved")
    again: Any = mealkit.load(tmp_path / "saved")  # a Forecaster
    for ask in (None, sales(150, seed=2)):
        before, after = task.predict(ask, horizon=9), again.predict(ask, horizon=9)
        assert np.array_equal(before.quantiles, after.quantiles)
        assert np.isfinite(before.quantiles).all()
        assert set(before.model) == {name}
    usual = again.predict(horizon=4)
    assert np.allclose(usual.mean, again.predict(horizon=9).mean[:, :4], atol=1e-5)


def defects() -> dict[str, pd.DataFrame]:
    frame = sales()
    first = frame["shop"] == "a"
    return {
        "late hole": frame.drop(index=range(170, 198)),
        "missing": frame.assign(sales=frame["sales"].where(frame.index % 7 > 0)),
        "infinite": frame.assign(sales=frame["sales"].where(frame.index % 50 > 0, np.inf)),
        "constant": frame.assign(sales=frame["sales"].where(~first, 4.0)),
        "all constant": frame.assign(sales=4.0),
        "short": frame[~first | (frame["date"] < "2024-01-01 09:00")],
        "single point": frame[~first | (frame["date"] < "2024-01-01 01:00")],
        "huge": frame.assign(sales=frame["sales"] * 1e30),
        "tiny": frame.assign(sales=frame["sales"] * 1e-30),
    }


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("defect", defects())
def test_no_defect_leads_to_a_forecast_that_is_no_number(defect, name):
    frame = defects()[defect]
    task = make(name, frame)
    task.finetune(epochs=1, batch_size=4, refit=False)
    answer = task.predict()
    assert answer.series == ("a", "b", "c")
    assert np.isfinite(answer.quantiles).all()
    if "constant" in defect:
        assert answer.mean[0] == pytest.approx([4] * 6)
    if defect in ("short", "single point"):
        assert answer.model[0] in ("naive", "seasonal-naive")


def test_an_empty_module_is_no_missing_backbone():
    with pytest.raises(BackboneError, match=r"shape \(2, 30\) with \(2, 30\)"):
        make(nn.Sequential())


def test_series_too_short_to_learn_from_are_refused():
    with pytest.raises(DataError, match=r"No series has the .* steps that 'nlinear'"):
        make("nlinear", sales().groupby("shop").head(8), context=24).finetune()


def test_windows_that_validated_are_learnt_from_at_last(caplog):
    frame = sales()
    means = []
    for refit in (False, True):
        task = make("nlinear", frame)
        with caplog.at_level(logging.INFO, "mealkit"):
            task.finetune(**QUICK, refit=refit)
        means.append(task.predict().mean)
        assert ("Learning again" in caplog.text) == refit
    assert not np.allclose(*means, atol=1e-3)


@pytest.mark.parametrize(("refit", "shares"), [(True, [30.0, 30.0]), (False, [60.0])])
def test_a_time_limit_is_that_of_all_fits_together(refit, shares, monkeypatch):
    limits = []

    class Noted(TimeLimit):
        def __init__(self, seconds: float) -> None:
            super().__init__(seconds)
            limits.append(seconds)

    monkeypatch.setattr("mealkit.tasks.task.TimeLimit", Noted)
    task = make("nlinear")
    task.finetune(**QUICK, refit=refit, training=Training(time_limit_seconds=60))
    assert limits == shares
    assert task.fitting["training"].time_limit_seconds == 60  # of backtests, which do the same


def test_a_second_finetune_goes_on():
    task = make("nlinear")
    first = task.finetune(epochs=1, batch_size=64, refit=False)
    second = task.finetune(epochs=1, batch_size=64, refit=False)
    assert second.rows[0]["train/loss"] < 0.7 * first.rows[0]["train/loss"]


def test_a_backtest_starts_anew_with_the_settings_of_the_fit():
    frame = sales()
    task = make("nlinear", frame)
    task.finetune(epochs=2, batch_size=32)
    once = task.backtest(windows=2).forecasts.mean
    task.finetune(epochs=2, batch_size=32)
    assert np.array_equal(once, task.backtest(windows=2).forecasts.mean)
    assert task.fitting["epochs"] == 2


@pytest.mark.parametrize("strategy", ["freeze", "layer_decay", "gradual"])
def test_strategies_move_what_they_say(strategy):
    task = make("resmlp")
    task.finetune(epochs=1, batch_size=16, refit=False)
    before = {name: value.clone() for name, value in task.net.named_parameters()}
    blocks = [block.parameters for block in task.net.blocks]
    task.finetune(epochs=1, batch_size=16, refit=False, strategy=strategy)
    after = dict(task.net.named_parameters())
    moved = [any(not torch.equal(before[name], after[name]) for name in block) for block in blocks]
    assert len(blocks) >= 2
    assert moved == [strategy == "layer_decay"] * len(blocks)
    named = {name for block in blocks for name in block}
    assert all(not torch.equal(before[n], after[n]) for n in after if n not in named)


def test_what_makes_no_sense_for_series_is_refused():
    task = make("nlinear")
    with pytest.raises(InvalidValueError, match="series run in fp32"):
        task.finetune(precision="bf16-mixed")
    with pytest.raises(InvalidValueError, match="compares classes"):
        task.finetune(strategy="contrastive")
    with pytest.raises(InvalidValueError, match="epochs=0"):
        task.finetune(epochs=0)


def test_a_plain_trainer_trains_calibrates_and_remembers(bare_trainer):
    data = SeriesData.from_data_frame(sales(), horizon=6, season=24)
    data.batch_size = 16
    task = Forecaster.from_data(data, backbone="nlinear")
    bare_trainer(9).fit(task, datamodule=data)
    assert task.calibration("model").calibrated
    assert np.isfinite(task.predict().quantiles).all()
    assert task.evaluate(sales(seed=7)).skill["mase"] > 0


def test_a_trainer_of_the_users_fits_once(bare_trainer, caplog):
    task = make("nlinear")
    trainer = pl.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_progress_bar=False
    )
    with caplog.at_level(logging.INFO, "mealkit"):
        history = task.finetune(trainer=trainer, batch_size=16)
    assert len(history) == 2
    assert "Learning again" not in caplog.text


# Runs.


def test_a_run_is_recorded_and_a_finished_one_taken_over(tmp_path):
    task = make("nlinear")
    task.finetune(**QUICK, run=tmp_path / "run")
    settings = json.loads((tmp_path / "run/settings.json").read_text())
    assert settings["lr"] == task.net.default_lr
    again = mealkit.load(tmp_path / "run/task")
    assert np.array_equal(again.predict(None).mean, task.predict().mean)
    other = make("nlinear")
    history = other.finetune(**QUICK, run=tmp_path / "run", resume=True)
    assert len(history) == 1
    assert np.array_equal(other.predict().quantiles, task.predict().quantiles)


# Modules of the user's.


def test_a_convolutional_module_is_trained_saved_and_loaded(tmp_path):
    task = make(Convolutional(), context=24)
    task.finetune(epochs=2, batch_size=32)
    assert task.model == "Convolutional"
    assert not torch.equal(task.net.net.body[1].running_mean, torch.zeros(8))
    task.save(tmp_path / "saved")
    with pytest.raises(BackboneError, match="Pass the module"):
        mealkit.load(tmp_path / "saved")
    again = mealkit.load(tmp_path / "saved", backbone=Convolutional())
    assert np.array_equal(again.predict(None).quantiles, task.predict().quantiles)
    assert task.backtest(windows=2).model == "Convolutional"
    with pytest.raises(InvalidValueError, match="whose weights from before it was trained"):
        again.backtest(SeriesData.from_data_frame(sales(), horizon=6, season=24))


def test_a_module_that_forecasts_another_number_of_steps_is_refused_at_once():
    with pytest.raises(BackboneError, match=r"\(B, horizon\) = \(2, 6\)"):
        make(nn.Linear(24, 5), context=24)


def test_a_trained_task_is_the_backbone_of_another(trained, tmp_path):
    trained.save(tmp_path / "saved")
    for source in (tmp_path / "saved", trained):
        task = make(source, sales(seed=4))
        assert task.model == "nlinear"
        assert torch.equal(task.net.net.linear.weight, trained.net.net.linear.weight)
    with pytest.raises(BackboneError, match="forecasts 6 steps, and 9 are asked for"):
        Forecaster.from_data_frame(sales(), horizon=9, backbone=tmp_path / "saved")
