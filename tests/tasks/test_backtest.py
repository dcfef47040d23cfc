"""Backtests that learn anew: each window is forecast by what was known before it, and no more."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import mealkit
from mealkit import Forecaster
from mealkit.backbones.series_ridge import Ridge
from mealkit.errors import InvalidValueError

HORIZON = 4


def waves(*, broken: int = 0) -> dict[str, np.ndarray]:
    """Two series of unequal length, the last steps of which may be nonsense."""
    rng = np.random.default_rng(0)
    made = {}
    for name, count in (("a", 120), ("b", 100)):
        series = np.sin(np.arange(count) / 3) + rng.normal(0, 0.2, count)
        made[name] = np.concatenate([series[: count - broken], np.full(broken, 1e6)])
    return made


def ridge(arrays) -> Forecaster:
    return Forecaster.from_arrays(arrays, horizon=HORIZON, backbone="ridge", context=12)


def rows(answer, windows, which):
    """Some windows of each of the two series."""
    places = [windows * series + window for series in range(2) for window in which]
    made = answer.forecasts
    return made.mean[places], made.quantiles[places], made.naive[places], answer.actual[places]


def sales(count: int = 240) -> pd.DataFrame:
    """Two shops that end on different days, and whose season grows."""
    rng = np.random.default_rng(0)
    parts = []
    for number, shop in enumerate("ab"):
        hours = np.arange(count - 30 * number)
        season = (5 + hours / 20) * np.sin(hours * 2 * np.pi / 24)
        values = 20 * (number + 1) + season + rng.normal(0, 1, len(hours))
        stamps = pd.date_range("2024-01-01", periods=len(hours), freq="h")
        parts.append(pd.DataFrame({"date": stamps, "shop": shop, "sales": values}))
    return pd.concat(parts, ignore_index=True)


def shops(frame: pd.DataFrame) -> Forecaster:
    task = Forecaster.from_data_frame(frame, horizon=HORIZON, season=24, backbone="ridge")
    task.finetune()
    return task


def test_each_window_is_that_of_a_task_fitted_right_before_it():
    task = ridge(waves())
    answer = task.backtest(windows=3, refit=True)
    for window in range(3):
        alone = task.backtest(windows=3 - window)
        for ours, theirs in zip(
            rows(answer, 3, [window]), rows(alone, 3 - window, [0]), strict=True
        ):
            assert np.array_equal(ours, theirs)
    once = task.backtest(windows=3)
    assert answer.forecasts.series == once.forecasts.series == ("a",) * 3 + ("b",) * 3
    assert answer.cutoffs == once.cutoffs
    assert not np.array_equal(answer.forecasts.mean, once.forecasts.mean)


def test_a_number_is_of_windows_between_two_fits():
    task = ridge(waves())
    answer, once, last = (
        task.backtest(windows=3, refit=2),
        task.backtest(windows=3),
        task.backtest(windows=1),
    )
    for ours, theirs in zip(rows(answer, 3, [0, 1]), rows(once, 3, [0, 1]), strict=True):
        assert np.array_equal(ours, theirs)
    for ours, theirs in zip(rows(answer, 3, [2]), rows(last, 1, [0]), strict=True):
        assert np.array_equal(ours, theirs)


def test_scores_are_over_all_windows():
    answer = Forecaster.from_arrays(waves(), horizon=HORIZON, backbone="drift").backtest(
        windows=3, refit=True
    )
    once = Forecaster.from_arrays(waves(), horizon=HORIZON, backbone="drift").backtest(windows=3)
    # A method that learns nothing forecasts alike, whenever its intervals were calibrated.
    for name in ("mase", "rmsse", "smape"):
        assert answer.metrics[name] == pytest.approx(once.metrics[name], rel=1e-6)
        assert answer.naive[name] == pytest.approx(once.naive[name], rel=1e-6)


def test_nothing_after_a_cutoff_reaches_a_window_before_it():
    answers = [ridge(waves(broken=broken)).backtest(windows=3, refit=True) for broken in (0, 4)]
    for ours, theirs in zip(*(rows(a, 3, [0, 1, 2])[:3] for a in answers), strict=True):
        assert np.array_equal(ours, theirs)
    answers = [ridge(waves(broken=broken)).backtest(windows=3, refit=True) for broken in (0, 8)]
    for ours, theirs in zip(*(rows(a, 3, [0, 1])[:3] for a in answers), strict=True):
        assert np.array_equal(ours, theirs)
    assert not np.array_equal(rows(answers[0], 3, [2])[0], rows(answers[1], 3, [2])[0])


def test_short_series_join_when_they_are_long_enough(caplog):
    arrays = {"short": np.arange(16.0), "long": np.arange(90.0), "tiny": np.arange(5.0)}
    task = Forecaster.from_arrays(arrays, horizon=5, backbone="naive")
    answer = task.backtest(windows=6, refit=True)
    assert answer.forecasts.series == ("short",) * 3 + ("long",) * 6
    expected = [0, 5, 10, 59, 64, 69, 74, 79, 84]
    assert answer.forecasts.mean[:, 0] == pytest.approx(expected, abs=1e-4)
    assert answer.actual[:, 0].tolist() == [1, 6, 11, 60, 65, 70, 75, 80, 85]
    assert "1 series are too short for 6 windows" in caplog.text
    assert "loses" not in caplog.text  # the seasonal naive method of no season is this one


@pytest.mark.parametrize(
    ("refit", "words"), [(0, "at least 1"), (-1, "at least 1"), ("all", "whole number")]
)
def test_a_count_that_is_none_is_refused(refit, words):
    with pytest.raises(InvalidValueError, match=f"refit=.*{words}"):
        ridge(waves()).backtest(refit=refit)


def test_a_task_of_its_own_stays_as_it_is():
    task = ridge(waves())
    task.finetune()
    before = task.predict().quantiles
    task.backtest(windows=2, refit=True)
    assert np.array_equal(before, task.predict().quantiles)


def test_all_windows_between_two_fits_are_forecast_in_the_same_passes(monkeypatch):
    calls, forecast = [], Ridge.forecast

    def counted(net, *batch, horizon):
        calls.append(len(batch[0]))
        return forecast(net, *batch, horizon=horizon)

    monkeypatch.setattr(Ridge, "forecast", counted)
    counts = []
    for windows in (2, 12):
        calls.clear()
        ridge(waves()).backtest(windows=windows)
        counts.append(len(calls))
        assert 2 * windows in calls  # all of both series at once
    assert counts[0] == counts[1]


def test_the_seed_alone_decides_what_a_net_learns(monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 3)
    answers = []
    for seed in (0, 0, 1):
        task = Forecaster.from_arrays(
            waves(), horizon=HORIZON, backbone="resmlp", context=12, seed=seed
        )
        torch.rand(7)  # what was drawn before does not matter
        task.finetune(epochs=1)
        answers.append(task.predict().quantiles)
    assert np.array_equal(answers[0], answers[1])
    assert not np.array_equal(answers[0], answers[2])


def test_a_fit_to_everything_leaves_nothing_of_its_choices_behind(tmp_path):
    """The context, too, is chosen by what was known."""
    frame = sales()
    late = frame.groupby("shop").cumcount(ascending=False) < 100
    noise = np.random.default_rng(1).normal(0, 30, len(frame))
    frame["sales"] = frame["sales"].where(~late, 30 + noise)
    fitted, unfitted = (
        shops(frame),
        Forecaster.from_data_frame(frame, horizon=HORIZON, season=24, backbone="ridge"),
    )
    fitted.save(tmp_path / "task")
    loaded = mealkit.load(tmp_path / "task")
    usual = unfitted.backtest(windows=17)
    assert fitted.net.input_spec.context_steps < 74
    for one in (fitted, loaded):
        answer = one.backtest(unfitted.data, windows=17)
        assert np.array_equal(answer.forecasts.mean, usual.forecasts.mean)


def test_intervals_of_new_series_do_not_know_what_they_are_compared_with():
    task = shops(sales())
    frame = sales().assign(shop=lambda table: "new " + table["shop"])
    late = frame.groupby("shop").cumcount(ascending=False) < HORIZON
    wild = frame.assign(sales=frame["sales"].where(~late, frame["sales"] * 50))
    usual, other = (task.evaluate(one).forecasts for one in (frame, wild))
    assert np.array_equal(usual.quantiles, other.quantiles)
