"""Residuals and anomalies: each value beside a forecast that did not see it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import mealkit
from mealkit import Forecaster
from mealkit.errors import InvalidValueError, NoDataError, UnknownNameError


def hours(count: int = 400, *, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    parts = []
    for number, place in enumerate("ab"):
        stamps = pd.date_range("2024-01-01", periods=count - 50 * number, freq="h")
        values = 10 + 5 * np.sin(np.arange(len(stamps)) * np.pi / 12) + rng.normal(size=len(stamps))
        parts.append(pd.DataFrame({"time": stamps, "place": place, "heat": values}))
    return pd.concat(parts, ignore_index=True)


def fitted(frame: pd.DataFrame, backbone: str | None = "ridge") -> Forecaster:
    task = Forecaster.from_data_frame(frame, horizon=12, season=24, backbone=backbone)
    task.finetune()
    return task


def test_residuals_are_those_of_forecasts_made_by_hand():
    frame = hours()
    task = fitted(frame)
    found = task.residuals(last=30, step=1).to_frame()
    assert list(found.columns) == ["series", "time", "value", "expected", "residual", "model"]
    assert found.groupby("series").size().tolist() == [30, 30]
    truth = frame.groupby("place").tail(30)
    assert np.array_equal(found["value"], truth["heat"])
    assert found["time"].tolist() == truth["time"].tolist()
    place = frame[frame["place"] == "a"]
    for back in (30, 7, 1):
        (mean,) = task.predict(place.iloc[:-back], horizon=1).mean
        row = found[found["series"] == "a"].iloc[-back]
        assert row["expected"] == pytest.approx(mean[0], rel=1e-4)
        assert row["residual"] == pytest.approx(row["value"] - mean[0], abs=1e-3)


def test_with_a_longer_step_values_are_forecast_from_before_the_block():
    frame = hours()
    task = fitted(frame)
    found = task.residuals(step=12, last=30).to_frame()
    mine = found[found["series"] == "b"]
    place = frame[frame["place"] == "b"]
    for first, count in ((0, 12), (12, 12), (24, 6)):
        (mean,) = task.predict(place.iloc[: len(place) - 30 + first], horizon=count).mean
        assert mine["expected"].to_numpy()[first : first + count] == pytest.approx(mean, rel=1e-4)


@pytest.mark.parametrize("step", [1, 12])
@pytest.mark.parametrize("backbone", ["ridge", "theta", "drift", "seasonal-naive"])
def test_no_value_reaches_its_own_forecast_or_band(step, backbone):
    task = fitted(hours(200), backbone)
    other = hours(150, seed=9)
    first = task.anomalies(other, step=step, last=24)
    changed = other.assign(heat=other["heat"].where(other.index % 150 < 140, 1e4))
    second = task.anomalies(changed, step=step, last=24)
    place = 24 - 10
    assert first.values[place - 1] == second.values[place - 1]
    assert second.values[place] == 1e4
    known = slice(0, place + 1)
    for name in ("expected", "low", "high"):
        assert np.array_equal(getattr(first, name)[known], getattr(second, name)[known])
    assert not first.flags[place]
    assert second.flags[place]


def test_values_out_of_the_band_are_flagged_and_the_others_are_not():
    frame = hours(600)
    task = fitted(frame)
    later = hours(600, seed=4)
    spikes = [500, 560]
    for row in spikes:
        later.loc[row, "heat"] += 12
    found = task.anomalies(later, level=99.5, last=150)
    frame = found.to_frame()
    assert list(frame.columns) == [
        "series", "time", "value", "expected", "low", "high", "anomaly", "model"
    ]  # fmt: skip
    flagged = frame[frame["anomaly"]]
    assert set(later.loc[spikes, "time"]) <= set(flagged["time"])
    outside = (frame["value"] < frame["low"]) | (frame["value"] > frame["high"])
    assert (outside == frame["anomaly"]).all()
    usual = found.flags.sum() - 2
    assert usual <= 0.06 * len(found)  # neighbours of a spike are forecast from it


def test_a_level_flags_about_as_many_as_it_says():
    task = fitted(hours(900))
    shares = [task.anomalies(hours(900, seed=3), level=level).flags.mean() for level in (80, 95)]
    assert shares[0] == pytest.approx(0.20, abs=0.06)
    assert shares[1] == pytest.approx(0.05, abs=0.04)


def test_a_shift_stays_out_of_the_band_for_as_long_as_a_step():
    task = fitted(hours(600))
    shifted = hours(600, seed=4).query("place == 'a'")
    shifted = shifted.assign(heat=shifted["heat"] + 15 * (np.arange(600) >= 576))
    blocks = task.anomalies(shifted, step=12, last=36).flags
    assert blocks[:12].sum() <= 1
    assert blocks[12:24].all()


def test_missing_values_are_no_anomalies():
    frame = hours()
    task = fitted(frame)
    holed = frame.assign(heat=frame["heat"].where(frame.index % 40 != 0))
    found = task.anomalies(holed)
    assert np.isnan(found.values).sum() > 0
    assert not found.flags[np.isnan(found.values)].any()
    assert np.isfinite(found.expected).all()


def test_a_constant_has_no_anomalies_until_it_changes():
    frame = hours(300).assign(heat=0.1 + 2 / 3)
    task = fitted(frame)
    assert not task.anomalies().flags.any()
    frame.loc[299, "heat"] += 1e-3
    found = task.anomalies(frame, last=5).to_frame()
    assert found["anomaly"].tolist() == [False] * 4 + [True] + [False] * 5


def test_without_data_it_looks_back_on_what_it_knows(tmp_path):
    frame = hours()
    task = fitted(frame)
    whole = task.anomalies()
    needed = task.net.needs_steps
    assert len(whole) == len(frame) - 2 * needed
    task.save(tmp_path / "task")
    kept = mealkit.load(tmp_path / "task").anomalies(last=12)
    mine = [place for place, name in enumerate(whole.series) if name == "a"][-12:]
    assert np.allclose(kept.expected[:12], whole.expected[mine], rtol=1e-4)
    assert kept.times[:12] == [whole.times[place] for place in mine]


def test_series_that_are_too_short_are_named(caplog):
    task = fitted(hours())
    other = pd.concat([hours(100), hours(60)[:4].assign(place="tiny")])
    assert set(task.residuals(other).series) == {"a"}  # b has 50 hours less
    assert "Too short for 'ridge' to look back on: 'b', 'tiny'." in caplog.text
    with pytest.raises(NoDataError, match="No series has more than"):
        task.residuals(hours(60)[:4])


def test_wrong_steps_are_refused():
    task = fitted(hours(200), "seasonal-naive")
    with pytest.raises(InvalidValueError, match="at most the 12 steps"):
        task.residuals(step=13)
    with pytest.raises(InvalidValueError, match="last=0"):
        task.anomalies(last=0)
    with pytest.raises(InvalidValueError, match="level=100"):
        task.anomalies(level=100)


def test_pictures_mark_what_is_outside():
    task = fitted(hours())
    found = task.anomalies(level=80)
    (axes,) = found.plot("b").axes
    assert axes.get_title() == "b"
    marked = next(line for line in axes.lines if line.get_label() == "outside")
    mine = np.array([name == "b" for name in found.series])
    assert len(marked.get_xdata()) == found.flags[mine].sum() > 0
    with pytest.raises(UnknownNameError, match="no series 'z'"):
        found.plot("z")
    assert f"{found.flags.sum()} of {len(found)} values" in repr(found)
