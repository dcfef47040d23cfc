"""update: new rows are what rows from the start would have been, but for what was fitted."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

import mealkit
from mealkit import Forecaster
from mealkit.errors import DataError, NoDataError


def sales(days: int = 200) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    stamps = pd.date_range("2024-01-01", periods=days, freq="D")
    parts = [
        pd.DataFrame(
            {"day": stamps, "shop": shop, "sales": 20 + stamps.day_of_week + rng.normal(size=days)}
        )
        for shop in "ab"
    ]
    return pd.concat(parts, ignore_index=True)


def apart(frame: pd.DataFrame, steps: int = 20) -> tuple[pd.DataFrame, pd.DataFrame]:
    late = frame.groupby("shop").cumcount(ascending=False) < steps
    return frame[~late], frame[late]


@pytest.mark.parametrize("backbone", [None, "ridge", "theta", "seasonal-naive"])
def test_an_updated_task_forecasts_as_if_it_had_been_asked_with_all_rows(backbone):
    frame = sales()
    known, new = apart(frame)
    task = Forecaster.from_data_frame(known, horizon=7, backbone=backbone)
    task.finetune()
    model, weights = task.model, {n: v.clone() for n, v in task.backbone.state_dict().items()}
    calibration = task.calibration("model").table.clone()
    expected = task.predict(frame)
    answer = task.update(new).predict()
    assert np.allclose(answer.quantiles, expected.quantiles, rtol=1e-5)
    assert answer.to_frame()["time"].tolist() == expected.to_frame()["time"].tolist()
    assert task.model == model
    assert all(np.array_equal(v, weights[n]) for n, v in task.backbone.state_dict().items())
    assert np.array_equal(task.calibration("model").table, calibration)


def test_rows_can_come_one_by_one_and_after_loading(tmp_path):
    frame = sales()
    known, new = apart(frame)
    task = Forecaster.from_data_frame(known, horizon=7, backbone="ridge")
    task.finetune()
    task.save(tmp_path / "task")
    again = mealkit.load(tmp_path / "task")
    for _, rows in new.groupby("day"):
        again.update(rows)
    task.update(new)
    assert np.array_equal(again.predict(None).quantiles, task.predict().quantiles)
    again.save(tmp_path / "task")
    kept = mealkit.load(tmp_path / "task").predict(None)
    assert np.array_equal(kept.quantiles, task.predict().quantiles)


def test_the_next_fit_learns_from_the_new_rows():
    frame = sales()
    known, new = apart(frame)
    asked = {"horizon": 7, "season": 7, "val": 30, "backbone": "ridge", "context": 28}
    task = Forecaster.from_data_frame(known, **asked)
    task.finetune()
    task.update(new).finetune()
    whole = Forecaster.from_data_frame(frame, **asked)
    whole.finetune()
    assert np.array_equal(task.predict().quantiles, whole.predict().quantiles)


@pytest.mark.parametrize("is_loaded", [False, True])
def test_the_next_fit_looks_at_as_much_of_the_past_as_the_first(is_loaded, tmp_path):
    """The context that was chosen is no limit: with new rows a longer one may be better."""
    noise = np.random.default_rng(0).normal(size=160)
    far = noise + np.roll(noise, 12)  # the value of 12 steps ago comes again
    arrays = {"a": np.concatenate([noise[:60], far[60:]])}
    whole = Forecaster.from_arrays(arrays, horizon=4, backbone="ridge")
    whole.finetune()
    task = Forecaster.from_arrays({"a": noise[:60]}, horizon=4, backbone="ridge")
    task.finetune()
    assert task.net.input_spec.context_steps < whole.net.input_spec.context_steps
    if is_loaded:
        task.save(tmp_path / "task")
        task = mealkit.load(tmp_path / "task")
    task.finetune(whole.data)
    assert np.array_equal(task.predict().quantiles, whole.predict().quantiles)


def test_a_new_series_is_forecast_from_its_own_past(caplog):
    known, new = apart(sales())
    task = Forecaster.from_data_frame(known, horizon=7, backbone="ridge")
    task.finetune()
    other = sales(150).query("shop == 'a'").assign(shop="c", sales=lambda t: 9 * t["sales"])
    expected = task.predict(other)
    with caplog.at_level(logging.INFO, "mealkit"):
        answer = task.update(pd.concat([new, other])).predict()
    assert "3 series have new values, 1 of them were not known" in caplog.text
    assert answer.series == ("a", "b", "c")
    assert np.allclose(answer.quantiles[2], expected.quantiles[0], rtol=1e-5)


def test_a_hole_before_the_new_rows_is_said(caplog):
    known, new = apart(sales())
    task = Forecaster.from_data_frame(known, horizon=7, backbone="ridge")
    task.finetune()
    task.update(new[new["day"] > "2024-07-03"])
    assert "a: 5 steps before its new rows are missing" in caplog.text
    assert np.isfinite(task.predict().quantiles).all()


def test_rows_that_do_not_fit_change_nothing():
    known, new = apart(sales())
    task = Forecaster.from_data_frame(known, horizon=7, backbone="ridge")
    task.finetune()
    before = task.predict().quantiles
    with pytest.raises(DataError, match=r"columns .* not fitted with: 'rain'"):
        task.update(new.assign(rain=0))
    with pytest.raises(DataError, match="no column 'sales'"):
        task.update(new.drop(columns="sales"))
    with pytest.raises(DataError, match="'a' is known up to"):
        task.update(sales())
    with pytest.raises(DataError, match="doubled times"):
        task.update(pd.concat([new, new]))
    assert np.array_equal(task.predict().quantiles, before)
    assert len(task.data.table.values) == len(known)


def test_held_back_steps_are_taken_up_when_they_are_known(caplog):
    frame = sales()
    _, new = apart(frame, 14)
    task = Forecaster.from_data_frame(frame, horizon=7, season=7, test=14, backbone="ridge")
    task.finetune()
    expected = task.predict(frame).mean
    task.update(new)
    assert "held back as test are dropped" in caplog.text
    assert np.allclose(task.predict().mean, expected, rtol=1e-5)
    with pytest.raises(NoDataError, match="no test part"):
        task.evaluate()


def test_a_task_fitted_to_other_series_keeps_its_own_data():
    known, new = apart(sales())
    other = known.assign(shop=known["shop"].map({"a": "x", "b": "y"}))
    task = Forecaster.from_data_frame(other, horizon=7, backbone="ridge")
    task.finetune(Forecaster.from_data_frame(known, horizon=7).data)
    task.update(new)
    assert task.data.table.ids == ("x", "y")
    assert task.predict().series == ("a", "b")


def test_without_history_there_is_nothing_to_update(tmp_path):
    known, new = apart(sales())
    task = Forecaster.from_data_frame(known, horizon=7, backbone="ridge")
    with pytest.raises(NoDataError, match="not fitted yet"):
        task.update(new)
    task.finetune()
    task.save(tmp_path / "task", history=False)
    with pytest.raises(NoDataError, match="history=False"):
        mealkit.load(tmp_path / "task").update(new)


def test_arrays_are_taken_up_in_order():
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(80, 2)).cumsum(0)
    task = Forecaster.from_arrays(whole[:70], horizon=3, backbone="ridge")
    task.finetune()
    expected = task.predict(whole).mean
    assert np.allclose(task.update(whole[70:]).predict().mean, expected, rtol=1e-5)
