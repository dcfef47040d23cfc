"""Metrics of forecasts: values by hand, and digits that others have printed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mealkit import Forecaster, SeriesData
from mealkit.tasks.forecast_metrics import (
    CRPS,
    MASE,
    MSIS,
    OWA,
    QUANTILES,
    RMSSE,
    SMAPE,
    SQL,
    WQL,
    Coverage,
)

FORECAST = torch.tensor([[2.0, 4.0], [0.0, 10.0]])
TARGET = torch.tensor([[1.0, 2.0], [0.0, 30.0]])
SCALE = torch.tensor([3.0, 5.0])
LOCKED = {
    "mase": 0.270724,
    "rmsse": 0.295013,
    "smape": 5.17524,
    "wql": 0.045365,
    "sql": 0.224268,
    "crps": 11.015554,
    "msis": 2.398207,
    "coverage": 0.833333,
    "owa": 0.270266,
}
"""Of the drawn forecasts below; whoever changes a metric changes what it is compared with."""


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


def test_crps_by_hand():
    forecast = torch.tensor([[[1.0, 4.0]]])
    assert value(CRPS((0.1, 0.9)), forecast, torch.tensor([[5.0]])) == pytest.approx(1.3)


def test_crps_of_many_quantiles_is_that_of_the_distribution():
    """Of a standard normal: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi) (Gneiting et al. 2005)."""
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    levels = (torch.arange(4000, dtype=torch.float64) + 0.5) / 4000
    for happened in (-1.5, 0.0, 0.4, 3.0):
        y = torch.tensor([[happened]], dtype=torch.float64)
        density = float(normal.log_prob(y).exp())
        exact = happened * (2 * float(normal.cdf(y)) - 1) + 2 * density - np.pi**-0.5
        found = value(CRPS(levels.tolist()), normal.icdf(levels)[None, None], y)
        assert found == pytest.approx(exact, abs=1e-3)


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


def drawn() -> dict[str, np.ndarray]:
    """Two series of different size, 30 known steps and 6 to forecast, and forecasts of them."""
    rng = np.random.default_rng(7)
    size = np.array([[1.0], [50.0]])
    past, target = size * rng.normal(10, 2, (2, 30)), size * rng.normal(10, 2, (2, 6))
    mean = target + size * rng.normal(0, 1, (2, 6))
    normal = torch.special.ndtri(torch.tensor(QUANTILES, dtype=torch.float64)).numpy()
    quantiles = mean[..., None] + size[..., None] * normal
    low, high = mean - size, mean + size
    return {
        "past": past, "target": target, "mean": mean, "quantiles": quantiles, "low": low,
        "high": high, "naive": past[:, -6:],
    }  # fmt: skip


def of_ours(drawn: dict[str, np.ndarray], season: int = 6) -> dict[str, float]:
    tensors = {name: torch.from_numpy(values) for name, values in drawn.items()}
    change = np.abs(drawn["past"][:, season:] - drawn["past"][:, :-season])
    absolute = torch.from_numpy(change.mean(1))
    squared = torch.from_numpy(np.sqrt(np.square(change).mean(1)))
    mean, target, each = (tensors[name] for name in ("mean", "target", "quantiles"))
    low, high = tensors["low"], tensors["high"]
    return {
        "mase": value(MASE(), mean, target, absolute),
        "rmsse": value(RMSSE(), mean, target, squared),
        "smape": value(SMAPE(), mean, target),
        "wql": value(WQL(), each, target),
        "sql": value(SQL(), each, target, absolute),
        "crps": value(CRPS(), each, target),
        "msis": value(MSIS(95), low, high, target, absolute),
        "coverage": value(Coverage(), low, high, target),
        "owa": value(OWA(), mean, tensors["naive"], target, absolute),
    }


def of_loops(drawn: dict[str, np.ndarray], season: int = 6) -> dict[str, float]:
    """The definitions, number by number, in float64."""
    sums: dict[str, list[float]] = {name: [] for name in of_ours(drawn)}
    totals = {"loss": 0.0, "size": 0.0}
    naive: dict[str, list[float]] = {"smape": [], "mase": []}
    for row in range(2):
        past, target = drawn["past"][row], drawn["target"][row]
        changes = [past[t] - past[t - season] for t in range(season, len(past))]
        scale = sum(map(abs, changes)) / len(changes)
        root = (sum(c * c for c in changes) / len(changes)) ** 0.5
        parts: dict[str, list[float]] = {name: [] for name in sums}
        for step, y in enumerate(target):
            f, low, high = (drawn[name][row, step] for name in ("mean", "low", "high"))
            g = drawn["naive"][row, step]
            losses = [
                p * (y - q) if y >= q else (1 - p) * (q - y)
                for p, q in zip(QUANTILES, drawn["quantiles"][row, step], strict=True)
            ]
            loss = 2 * sum(losses) / len(losses)
            totals["loss"] += loss
            totals["size"] += abs(y)
            parts["mase"].append(abs(y - f) / scale)
            parts["rmsse"].append((y - f) ** 2)
            parts["smape"].append(200 * abs(y - f) / (abs(y) + abs(f)))
            parts["sql"].append(loss / scale)
            parts["crps"].append(loss)
            missed = max(low - y, 0) + max(y - high, 0)
            parts["msis"].append((high - low + 2 / 0.05 * missed) / scale)
            parts["coverage"].append(float(low <= y <= high))
            naive["mase"].append(abs(y - g) / scale)
            naive["smape"].append(200 * abs(y - g) / (abs(y) + abs(g)))
        for name, values in parts.items():
            sums[name].append(sum(values) / max(1, len(values)))
        sums["rmsse"][-1] = sums["rmsse"][-1] ** 0.5 / root
    found = {name: sum(values) / 2 for name, values in sums.items()}
    ratios = [found[name] / (sum(values) / len(values)) for name, values in naive.items()]
    return found | {"wql": totals["loss"] / totals["size"], "owa": sum(ratios) / 2}


def test_all_metrics_have_the_digits_of_their_definitions():
    found, expected = of_ours(drawn()), of_loops(drawn())
    assert found == pytest.approx(expected, rel=1e-12)
    assert {name: round(number, 6) for name, number in found.items()} == LOCKED


def test_metrics_agree_with_utilsforecast():
    losses = pytest.importorskip("utilsforecast.losses")
    values = drawn()
    ids = np.repeat(["a", "b"], 6)
    frame = pd.DataFrame(
        {"unique_id": ids, "ds": np.tile(np.arange(30, 36), 2), "y": values["target"].ravel()}
    )
    frame["m"] = values["mean"].ravel()
    frame["m-lo-95"], frame["m-hi-95"] = values["low"].ravel(), values["high"].ravel()
    names = [f"m{place}" for place in range(len(QUANTILES))]
    frame[names] = values["quantiles"].reshape(12, -1)
    past = pd.DataFrame(
        {
            "unique_id": np.repeat(["a", "b"], 30),
            "ds": np.tile(np.arange(30), 2),
            "y": values["past"].ravel(),
        }
    )
    found, levels = of_ours(values), np.array(QUANTILES)
    scaled = {"seasonality": 6, "train_df": past}
    theirs = {
        "mase": losses.mase(frame, ["m"], **scaled),
        "rmsse": losses.rmsse(frame, ["m"], **scaled),
        "smape": losses.smape(frame, ["m"]),
        "sql": losses.scaled_mqloss(frame, {"m": names}, levels, **scaled),
        "crps": losses.mqloss(frame, {"m": names}, levels),
        "coverage": losses.coverage(frame, ["m"], 95),
    }
    factors = {"smape": 200, "sql": 2, "crps": 2}  # theirs lack them
    for name, table in theirs.items():
        assert table["m"].mean() * factors.get(name, 1) == pytest.approx(found[name], rel=1e-9)


@pytest.mark.real
def test_seasonal_naive_on_ett_has_the_digits_of_fev_bench(shared: Path):
    task = Forecaster.from_csv(shared / "data/ETTh1.csv", horizon=168)
    answer = task.backtest(windows=20, step=168)
    assert answer.naive["mase"] == pytest.approx(1.3279, abs=5e-5)
    assert answer.model in {"ridge", "resmlp", "ensemble"}  # what validation windows chose
    assert answer.metrics["mase"] <= 1.185
    assert answer.metrics["sql"] <= 0.965
    assert answer.metrics["coverage_80"] == pytest.approx(0.80, abs=0.03)
    assert answer.metrics["coverage_95"] == pytest.approx(0.95, abs=0.03)


@pytest.mark.real
@pytest.mark.parametrize(("horizon", "mse", "mae"), [(96, 0.364, 0.391), (192, 0.397, 0.410)])
def test_ridge_on_ett_has_the_digits_of_the_long_protocol(
    shared: Path, horizon: int, mse: float, mae: float
):
    """12 months train, 4 validate, 4 are scored from every hour, in deviations of the first 12."""
    hours = 24 * 30 * np.array([12, 4, 4])
    frame = pd.read_csv(shared / "data/ETTh1.csv")[: hours.sum()]
    data = SeriesData.from_data_frame(frame, horizon=horizon, val=hours[1], test=hours[2])
    task = Forecaster.from_data(data, backbone="ridge", context=512)
    task.finetune(refit=False)
    answer = task.evaluate(step=1)
    deviation = frame.drop(columns="date")[: hours[0]].std(ddof=0)
    unit = deviation[list(answer.forecasts.series)].to_numpy()[:, None]
    errors = (answer.actual - answer.forecasts.mean) / unit
    assert np.square(errors).mean() == pytest.approx(mse, abs=2e-3)
    assert np.abs(errors).mean() == pytest.approx(mae, abs=2e-3)


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
