"""Metrics of forecasts: values by hand, and digits that others have printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mealkit import Forecaster, SeriesData
from mealkit.tasks.forecast_metrics import MASE, MSIS, OWA, RMSSE, SMAPE, SQL, WQL, Coverage

FORECAST = torch.tensor([[2.0, 4.0], [0.0, 10.0]])
TARGET = torch.tensor([[1.0, 2.0], [0.0, 30.0]])
SCALE = torch.tensor([3.0, 5.0])


def value(metric, *arrays):
    metric.update(*arrays)
    return float(metric.compute())


def test_point_metrics_by_hand():
    assert value(MASE(), FORECAST, TARGET, SCALE) == pytest.approx((1.5 / 3 + 10 / 5) / 2)
    rmsse = (np.sqrt(2.5) / 3 + np.sqrt(200) / 5) / 2
    assert value(RMSSE(), FORECAST, TARGET, SCALE) == pytest.approx(rmsse)
    # 200 * 1/3, 200 * 2/6, 0 / 0 counts as 0, 200 * 20/40
    assert value(SMAPE(), FORECAST, TARGET) == pytest.approx((200 / 3 + 0 + 200 / 3 + 100) / 4)


def test_quantile_metrics_by_hand():
    forecast = torch.tensor([[[1.0, 4.0]]])  # quantiles 0.1 and 0.9 of one step
    target = torch.tensor([[5.0]])
    losses = (0.1 * 4 + 0.9 * 1) / 2
    quantiles = (0.1, 0.9)
    assert value(WQL(quantiles), forecast, target) == pytest.approx(2 * losses / 5)
    assert value(SQL(quantiles), forecast, target, torch.tensor([2.0])) == pytest.approx(losses)


def test_interval_metrics_by_hand():
    low, high = torch.tensor([[0.0, 0.0]]), torch.tensor([[2.0, 2.0]])
    target = torch.tensor([[1.0, 5.0]])
    assert value(Coverage(), low, high, target) == 0.5
    # width 2, and 3 above at 2 / (1 - 0.8)
    assert value(MSIS(80), low, high, target, torch.tensor([4.0])) == pytest.approx(
        (2 + 32) / 2 / 4
    )


def test_owa_is_one_for_naive2_itself():
    metric = OWA()
    assert value(metric, FORECAST, FORECAST, TARGET, SCALE) == pytest.approx(1)
    metric.reset()
    better = (FORECAST + TARGET) / 2
    assert value(metric, better, FORECAST, TARGET, SCALE) < 1


def test_what_was_not_observed_and_what_never_changed_counts_for_nothing():
    observed = torch.tensor([[True, False], [True, True]])
    scale = torch.tensor([3.0, 0.0])
    assert value(MASE(), FORECAST, TARGET, scale, observed) == pytest.approx(1 / 3)
    nothing = torch.zeros_like(observed)
    assert np.isnan(value(MASE(), FORECAST, TARGET, scale, nothing))


def test_batches_add_up_to_the_whole():
    whole, parts = MASE(), MASE()
    whole.update(FORECAST, TARGET, SCALE)
    for row in (slice(0, 1), slice(1, 2)):
        parts.update(FORECAST[row], TARGET[row], SCALE[row])
    assert float(whole.compute()) == pytest.approx(float(parts.compute()))


@pytest.mark.real
def test_seasonal_naive_on_ett_has_the_digits_of_fev_bench(shared: Path):
    task = Forecaster.from_csv(shared / "data/ETTh1.csv", horizon=168)
    answer = task.backtest(windows=20, step=168)
    assert answer.naive["mase"] == pytest.approx(1.3279, abs=5e-5)
    assert answer.model == "ridge"
    assert answer.metrics["mase"] <= 1.185
    assert answer.metrics["sql"] <= 0.965
    assert answer.metrics["coverage_80"] == pytest.approx(0.80, abs=0.03)
    assert answer.metrics["coverage_95"] == pytest.approx(0.95, abs=0.03)


@pytest.mark.real
@pytest.mark.parametrize(
    ("backbone", "smape", "mase"),
    [("naive2", 9.161, 2.777), ("seasonal-naive", 9.161, 2.777), ("theta", 9.093, 2.637)],
)
def test_m4_weekly_has_the_digits_of_the_competition(
    shared: Path, backbone: str, smape: float, mase: float
):
    train = pd.read_csv(shared / "data/m4-weekly-train.csv")
    test = pd.read_csv(shared / "data/m4-weekly-test.csv").iloc[:, 1:].to_numpy(float)
    data = SeriesData.from_data_frame(train, horizon=13, season=1, val=0)
    task = Forecaster.from_data(data, backbone=backbone)
    task.finetune()
    mean = torch.from_numpy(task.predict().mean)
    scale = [np.abs(np.diff(data.table.series(n))).mean() for n in range(359)]
    target = torch.from_numpy(test)
    assert value(SMAPE(), mean, target) == pytest.approx(smape, abs=5e-4)
    assert value(MASE(), mean, target, torch.tensor(scale)) == pytest.approx(mase, abs=5e-4)
