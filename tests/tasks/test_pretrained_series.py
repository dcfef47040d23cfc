"""Nets that were trained elsewhere: forecasts as they come, calibrated, or trained further."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import mealkit
from mealkit import Forecaster, SeriesData


def arrays() -> dict[str, np.ndarray]:
    rng, steps = np.random.default_rng(0), np.arange(300)
    season = np.sin(steps * 2 * np.pi / 12)
    return {
        "long": 5 + season + rng.normal(0, 0.1, 300),
        "large": 500 + 90 * season[:200] + rng.normal(0, 5, 200),
        "short": season[:20],
        "point": np.array([3.0]),
    }


@pytest.fixture
def timesfm(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    config = transformers.TimesFm2_5Config(
        num_hidden_layers=1, hidden_size=32, intermediate_size=32, head_dim=8,
        num_attention_heads=4, num_key_value_heads=4, context_length=128, horizon_length=8,
        output_quantile_len=16,
    )  # fmt: skip
    transformers.TimesFm2_5ModelForPrediction(config).save_pretrained(tmp_path / "timesfm")
    return tmp_path / "timesfm"


def make(folder: Path, **more: object) -> Forecaster:
    return Forecaster.from_arrays(arrays(), horizon=12, season=12, backbone=folder, **more)


def state(task: Forecaster) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.net.named_parameters()}


def test_it_forecasts_without_being_fitted_and_is_calibrated_on_its_data(timesfm, caplog):
    task = make(timesfm)
    before = state(task)
    answer = task.predict()
    assert answer.model == ("timesfm-2.5",) * 3 + ("naive",)
    assert np.isfinite(answer.quantiles).all()
    assert task.calibration("model").calibrated
    assert all(torch.equal(value, before[name]) for name, value in task.net.named_parameters())
    assert "timesfm-2.5 forecasts worse than seasonal-naive" in caplog.text  # it is random
    longer = task.predict(horizon=30)
    assert np.allclose(longer.mean[:, :12], answer.mean)


def test_without_data_to_calibrate_on_it_says_so(timesfm, caplog):
    task = Forecaster(timesfm, horizon=12, season=12, context=64)
    answer = task.predict(arrays())
    assert np.isfinite(answer.quantiles).all()
    assert "has no data to calibrate on" in caplog.text
    assert np.allclose(answer.mean, make(timesfm, context=64).predict().mean, rtol=1e-3)


def test_backtests_of_what_was_not_fitted_train_nothing(timesfm):
    task = make(timesfm, context=64)
    found = task.backtest(windows=2, step=12)
    data = SeriesData.from_arrays(arrays()["long"][:276], horizon=12, season=12)
    plain = Forecaster.from_data(data, backbone=timesfm, context=64).predict()
    assert np.allclose(found.forecasts.mean[0], plain.mean[0], rtol=1e-3)
    assert task.zero_shot


def test_nothing_after_a_cutoff_changes_a_forecast(timesfm):
    means = []
    for last in (0.0, 1e6):
        series = arrays()["long"].copy()
        series[-12:] += last
        task = Forecaster.from_arrays(series, horizon=12, season=12, backbone=timesfm)
        means.append(task.backtest(windows=1).forecasts.quantiles)
    assert np.array_equal(*means)


def test_saved_tasks_forecast_the_same_without_the_folder(timesfm, tmp_path):
    task = make(timesfm)
    answer = task.predict()
    task.save(tmp_path / "task")
    timesfm.rename(tmp_path / "elsewhere")
    again: Any = mealkit.load(tmp_path / "task")  # a Forecaster
    assert again.zero_shot
    assert np.array_equal(again.predict().quantiles, answer.quantiles)


@pytest.mark.parametrize("strategy", ["freeze", "lora", "full"])
def test_it_is_trained_further_by_strategies(timesfm, strategy, monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 15)
    data = SeriesData.from_arrays(arrays()["long"], horizon=12, season=12, test=24)
    task = Forecaster.from_data(data, backbone=timesfm, context=32)
    before, untrained = state(task), task.evaluate().metrics["mase"]
    assert task.zero_shot
    task.finetune(epochs=1, strategy=strategy, batch_size=8, lr=3e-3, refit=False)
    assert not task.zero_shot
    changed = {n for n, v in task.net.named_parameters() if not torch.equal(v, before[n])}
    assert any(".output_projection_point." in name for name in changed)
    assert any(".model." in name for name in changed) == (strategy != "freeze")
    assert set(before) == {name for name, _ in task.net.named_parameters()}
    assert task.evaluate().metrics["mase"] < 0.8 * untrained


def test_backtests_of_what_was_fitted_train_from_the_weights_it_came_with(timesfm, monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 3)
    task = Forecaster.from_arrays(
        arrays()["large"], horizon=12, season=12, backbone=timesfm, context=32
    )
    untrained = task.backtest(windows=1).forecasts.mean
    task.finetune(epochs=1, batch_size=8, refit=False)
    first, second = (task.backtest(windows=1).forecasts.mean for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.allclose(first, untrained)


@pytest.mark.parametrize("name", ["patchtst", "patchtsmixer"])
def test_untrained_families_learn(name, monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 60)
    data = SeriesData.from_arrays(arrays()["long"], horizon=6, season=12, test=24)
    net = mealkit.backbones.create(name, data.spec, options={"d_model": 16})
    task = Forecaster.from_data(data, backbone=net)
    task.finetune(epochs=1, batch_size=16, lr=3e-3, refit=False)
    evaluation = task.evaluate(step=1)
    assert evaluation.model == name
    last = np.abs(evaluation.actual - evaluation.actual[:, :1]).mean()  # about what naive misses
    assert np.abs(evaluation.actual - evaluation.forecasts.mean).mean() < 0.5 * last
    assert not task.zero_shot
