"""Forecaster: from a table to calibrated forecasts beside the naive ones, saved, never leaking."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.errors import DataError, InvalidValueError, NoDataError
from mealkit.tasks import choosing
from mealkit.tasks.error_quantiles import GRID, ErrorQuantiles
from mealkit.tasks.forecasting import forecast, mase

NAMES = ["drift", "naive", "naive2", "ridge", "seasonal-naive", "theta"]


def sales(count: int = 400, *, seed: int = 0) -> pd.DataFrame:
    """Three shops whose days are alike and whose noise is not; the shops end on different days."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, shop in enumerate(("a", "b", "c")):
        hours = np.arange(count - 30 * number)
        values = (
            20 * (number + 1) + 5 * np.sin(hours * 2 * np.pi / 24) + rng.normal(0, 1, len(hours))
        )
        stamps = pd.date_range("2024-01-01", periods=len(hours), freq="h")
        parts.append(pd.DataFrame({"date": stamps, "shop": shop, "sales": values}))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no backbone is named, try a tiny net for a few steps beside ridge."""
    tiny = choosing.Candidate("resmlp", "resmlp", {"width": 8, "num_blocks": 1, "depth": 1})
    ridge = choosing.Candidate("ridge", "ridge")
    monkeypatch.setitem(choosing.CANDIDATES, "fast", (ridge, tiny))
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 3)


@pytest.fixture
def task() -> Forecaster:
    made = Forecaster.from_data_frame(sales(), horizon=12, backbone="ridge")
    made.finetune()
    return made


# Forecasts.


def test_forecasts_follow_each_series_and_beat_the_naive_one(task):
    frame = task.predict().to_frame()
    assert list(frame.columns) == [
        "series", "time", "mean", "0.025", "0.1", "0.9", "0.975", "seasonal_naive", "model"
    ]  # fmt: skip
    assert frame["time"].dtype.kind == "M"
    assert set(frame["model"]) == {"ridge"}
    truth = []
    for number, (_, group) in enumerate(frame.groupby("series", sort=False)):
        hours = 400 - 30 * number + np.arange(12)
        assert group["time"].iloc[0] == pd.Timestamp("2024-01-01") + pd.Timedelta(
            hours=int(hours[0])
        )
        truth += (20 * (number + 1) + 5 * np.sin(hours * 2 * np.pi / 24)).tolist()
    error = np.abs(frame["mean"] - truth).mean()
    assert error < 0.6 * np.abs(frame["seasonal_naive"] - truth).mean()


def test_quantiles_never_cross(task):
    quantiles = task.predict(level=[1, 10, 50, 80, 95, 99, 99.9]).quantiles
    assert (np.diff(quantiles, axis=2) >= 0).all()
    wide, narrow = task.predict(level=[95]).interval(95), task.predict(level=[80]).interval(80)
    assert (wide[1] - wide[0] > narrow[1] - narrow[0]).all()
    with pytest.raises(InvalidValueError, match="no 50 % interval"):
        task.predict().interval(50)
    with pytest.raises(InvalidValueError, match="level=120"):
        task.predict(level=[120])


@pytest.mark.parametrize("name", NAMES)
def test_every_backbone_forecasts_shorter_and_longer_horizons(name):
    task = Forecaster.from_data_frame(sales(200), horizon=6, backbone=name)
    task.finetune()
    usual, short, long = (task.predict(horizon=steps) for steps in (None, 2, 40))
    assert np.allclose(short.mean, usual.mean[:, :2])
    assert np.allclose(long.mean[:, :6], usual.mean)
    low, high = long.interval(80)
    assert np.isfinite(long.quantiles).all()
    assert ((high - low)[:, -1] > (high - low)[:, 5]).all()


def test_new_values_and_new_series_are_forecast_as_they_were_learnt(task):
    frame = sales()
    assert np.allclose(task.predict(frame).mean, task.predict().mean, atol=1e-4)
    other = frame[frame["shop"] == "a"].assign(shop="d", sales=lambda table: 3 * table["sales"])
    answer = task.predict(other)
    assert answer.series == ("d",)
    assert np.allclose(answer.mean[0], 3 * task.predict().mean[0], rtol=1e-4)
    with pytest.raises(DataError, match="no column 'sales'"):
        task.predict(frame.rename(columns={"sales": "turnover"}))


def test_new_columns_of_a_wide_table_are_said_to_be_no_series(caplog):
    wide = sales().pivot(index="date", columns="shop", values="sales").iloc[:300]
    task = Forecaster.from_data_frame(wide[["a", "b"]], horizon=6, backbone="seasonal-naive")
    task.finetune()
    caplog.set_level(logging.INFO, logger="mealkit")
    assert task.predict(wide).series == ("a", "b")
    assert "Not forecast, for they were not learnt from: the columns 'c'. New" in caplog.text
    caplog.clear()
    assert task.predict(wide[["b", "a"]]).series == ("a", "b")
    assert "Not forecast" not in caplog.text


def test_evaluate_on_a_table_compares_its_last_steps(task):
    answer = task.evaluate(sales(seed=5))
    assert len(answer.forecasts) == 3
    assert answer.skill["mase"] == pytest.approx(1 - answer.metrics["mase"] / answer.naive["mase"])
    assert answer.skill["mase"] > 0.1
    windows = answer.to_windows()
    error = (windows["actual"] - windows["mean"]).abs().mean()
    assert error < (windows["actual"] - windows["seasonal_naive"]).abs().mean()
    assert list(answer.to_frame().columns) == ["ridge", "seasonal_naive", "skill"]


def test_windows_of_the_past_say_when_they_start():
    task = Forecaster.from_data_frame(sales(200), horizon=6, backbone="seasonal-naive")
    windows = task.backtest(windows=2, step=4).to_windows()
    firsts = windows.groupby(["series", "cutoff"], sort=False)["time"].first()
    hour = pd.Timedelta("1h")
    cutoffs = firsts.index.get_level_values("cutoff")
    assert [cutoff + hour for cutoff in cutoffs] == list(firsts)
    ends = sales(200).groupby("shop")["date"].max()
    assert list(cutoffs) == [ends[s] - back * hour for s in "abc" for back in (10, 6)]
    truth = sales(200).set_index(["shop", "date"])["sales"]
    keys = pd.MultiIndex.from_frame(windows[["series", "time"]])
    assert np.array_equal(truth[keys].to_numpy(), windows["actual"])


def test_series_too_short_for_all_windows_have_their_last_ones(caplog):
    arrays = {"long": np.arange(90.0), "short": np.arange(16.0), "tiny": np.arange(5.0)}
    task = Forecaster.from_arrays(arrays, horizon=5, backbone="naive")
    answer = task.backtest(windows=6)
    assert answer.forecasts.series == ("long",) * 6 + ("short",) * 3
    assert answer.forecasts.mean[6:, 0].tolist() == [0, 5, 10]
    assert "1 series are too short for 6 windows" in caplog.text


def test_without_a_test_part_there_is_nothing_to_evaluate(task):
    with pytest.raises(NoDataError, match="test=12"):
        task.evaluate()
    held = Forecaster.from_data_frame(sales(), horizon=12, test=24)
    held.finetune()
    assert len(held.evaluate(step=1).forecasts) == 3 * 13


# Leaks.


@pytest.mark.parametrize("name", [None, *NAMES])
def test_nothing_after_a_cutoff_changes_a_forecast_before_it(name):
    frame = sales(200)
    answers = []
    for broken in (False, True):
        if broken:
            late = frame.groupby("shop").cumcount(ascending=False) < 12
            frame.loc[late, "sales"] = 1e7
        task = Forecaster.from_data_frame(frame, horizon=6, backbone=name, season=24)
        answers.append(task.backtest(windows=3, step=6).forecasts)
    before = [3 * number for number in range(3)]  # of each series the first window
    for part in ("mean", "quantiles", "naive"):
        first, second = (getattr(answer, part) for answer in answers)
        assert np.array_equal(first[before], second[before])
    # What a later window does see of it makes its intervals wider at least.
    assert not np.array_equal(answers[0].quantiles, answers[1].quantiles)


def test_the_season_is_told_from_what_was_known():
    """Whether the last days repeat or not must not decide how the days before are forecast."""
    frame = sales(200)
    rank = frame.groupby("shop").cumcount(ascending=False)
    broken = frame.assign(sales=frame["sales"].where(rank >= 12, (-1e6) ** (rank % 3)))
    assert SeriesData.from_data_frame(frame, horizon=6).spec.season == 24
    assert SeriesData.from_data_frame(broken, horizon=6).spec.season == 1
    means = [
        Forecaster.from_data_frame(table, horizon=6).backtest(windows=3, step=6).forecasts.mean[::3]
        for table in (frame, broken)
    ]
    assert np.array_equal(*means)
    assert SeriesData.from_data_frame(broken, horizon=6, test=12).spec.season == 24


def test_a_hole_before_the_cutoff_is_not_filled_from_behind_it():
    frame = sales(200)
    rank = frame.groupby("shop").cumcount()
    length = frame.groupby("shop")["sales"].transform("size")
    answers = []
    for late in (0.0, 1e6):
        hole = (rank >= length - 24) & (rank < length - 10)
        changed = frame.assign(sales=frame["sales"].where(rank < length - 10, late))[~hole]
        task = Forecaster.from_data_frame(changed, horizon=6, season=24)
        answers.append(task.backtest(windows=3, step=6).forecasts.mean[::3])
    assert np.array_equal(*answers)


def test_what_is_held_back_is_neither_learnt_nor_remembered():
    frame = sales(200)
    rank = frame.groupby("shop").cumcount(ascending=False)
    broken = frame.assign(sales=frame["sales"].where(rank >= 12, 1e7))
    means = []
    for table in (frame, broken):
        task = Forecaster.from_data_frame(table, horizon=6, season=24, test=12)
        task.finetune()
        means.append(task.predict().mean)
    assert np.array_equal(*means)


# Choosing and telling.


def test_the_default_takes_the_naive_method_where_nothing_is_better(caplog, monkeypatch):
    monkeypatch.setitem(choosing.CANDIDATES, "fast", (choosing.Candidate("ridge", "ridge"),))
    walk = np.random.default_rng(0).normal(size=(150, 2)).cumsum(0)
    task = Forecaster.from_arrays(walk, horizon=5)
    with caplog.at_level(logging.INFO, "mealkit"):
        task.finetune()
    (line,) = [text for text in caplog.messages if "is used" in text]
    scores = {
        name: float(line.split(f"{name} ")[-1].split(",")[0].rstrip("."))
        for name in ("ridge", "seasonal-naive")
    }
    assert scores["seasonal-naive"] < scores["ridge"]
    assert task.model == "seasonal-naive"
    assert line.startswith("seasonal-naive is used: no mix is better. MASE on")


def test_a_named_model_that_loses_is_kept_with_a_warning_that_names_the_better(caplog):
    task = Forecaster.from_data_frame(sales(), horizon=12, backbone="naive")
    task.finetune()
    assert task.model == "naive"
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "naive forecasts worse than seasonal-naive" in warning


def test_refit_learns_from_what_validated():
    learnt = []
    for refit in (False, True):
        task = Forecaster.from_data_frame(sales(), horizon=12, backbone="ridge")
        history = task.finetune(refit=refit)
        learnt.append((task.net.weight.clone(), task.objective.learnt.counts["series", False]))
        assert history.rows[0]["val/loss"] > 0
    assert learnt[1][1] == sum(
        max(0, 400 - 30 * n - 12 - task.net.needs_steps + 1) for n in range(3)
    )
    assert learnt[0][1] < learnt[1][1]
    assert not torch.equal(learnt[0][0], learnt[1][0])


def test_ridge_takes_the_setting_with_the_lower_mase():
    rng = np.random.default_rng(0)
    restless = rng.normal(size=(300, 2)) * rng.choice([0.01, 3], size=(300, 1))
    taken = set()
    for data in (
        SeriesData.from_data_frame(sales(), horizon=12),
        SeriesData.from_arrays(restless.cumsum(0) * 0.1 + restless, horizon=5),
    ):
        task = Forecaster.from_data(data, backbone="ridge")
        task.finetune(refit=False)
        chosen, scores = task.objective.choice, {}
        for choice in task.objective.candidates:
            task.objective.take(task.net, choice)
            mean, _ = forecast(task.net, data.val, horizon=data.spec.horizon_steps)
            scores[choice] = mase(mean, data.val, data.spec.season)
        assert scores[chosen] == min(scores.values())
        taken.add(chosen.windows)
    assert taken == {"series", "window"}  # else the test could not fail


def test_a_second_finetune_learns_the_same_again(task):
    before = task.predict().mean
    task.finetune()
    assert np.array_equal(before, task.predict().mean)


def test_a_plain_trainer_fits_calibrates_and_remembers(bare_trainer):
    data = SeriesData.from_data_frame(sales(), horizon=12)
    plain = Forecaster.from_data(data, backbone="ridge")
    with pytest.warns(UserWarning, match="returned `None`"):
        bare_trainer(2).fit(plain, datamodule=data)
    ours = Forecaster.from_data(data, backbone="ridge")
    ours.finetune(refit=False)
    assert np.allclose(plain.predict().quantiles, ours.predict().quantiles)
    assert plain.calibration("model").calibrated


def test_a_trainer_that_validates_within_the_epoch_solves_at_its_end():
    data = SeriesData.from_data_frame(sales(), horizon=12)
    data.batch_size = 64
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    weights = []
    for often in (1.0, 0.5):
        task = Forecaster.from_data(data, backbone="ridge")
        trainer = pl.Trainer(max_epochs=1, val_check_interval=often, barebones=False, **quiet)
        with pytest.warns(UserWarning, match="returned `None`"):
            task.finetune(trainer=trainer, refit=False)
        weights.append(task.net.weight)
    assert torch.allclose(*weights, atol=1e-6)


def test_a_plain_trainer_tests_and_predicts_windows(bare_trainer, task):
    data = SeriesData.from_data_frame(sales(), horizon=12, test=24)
    task.finetune(data)
    trainer = bare_trainer(1)
    (scores,) = trainer.test(task, datamodule=data, verbose=False)
    errors = task.evaluate(step=1, data=data)
    spread = data.scale.spread[errors.forecasts.numbers][:, None]
    expected = np.square((errors.actual - errors.forecasts.mean) / spread).mean()
    assert scores["test/loss"] == pytest.approx(expected, rel=1e-4)
    answers = trainer.predict(task, data.loader(data.test))
    mean = torch.cat([answer["mean"] for answer in answers]).numpy()
    center = data.scale.center[errors.forecasts.numbers][:, None]
    assert np.allclose(mean * spread + center, errors.forecasts.mean, atol=1e-3)


def test_arguments_that_would_change_nothing_are_refused(task):
    with pytest.raises(InvalidValueError, match=r"epochs=, lr=: .* solved in one pass"):
        task.finetune(epochs=3, lr=0.1)
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False)
    with pytest.raises(InvalidValueError, match="callbacks= beside trainer="):
        task.finetune(trainer=trainer, callbacks=[pl.Callback()])


def test_data_of_another_horizon_are_refused(task):
    with pytest.raises(InvalidValueError, match="horizon_steps=12, the data have 6"):
        task.finetune(SeriesData.from_data_frame(sales(), horizon=6))


def test_a_run_folder_holds_settings_history_and_the_task(task, tmp_path):
    task.finetune(run=tmp_path / "run")
    assert json.loads((tmp_path / "run/settings.json").read_text())["data"]["sees"] == "windows"
    assert "val/loss" in (tmp_path / "run/history.csv").read_text()
    with pytest.raises(InvalidValueError, match="'naive' has nothing to fit"):
        Forecaster.from_data(task.data, backbone="naive").finetune(run=tmp_path / "other")
    again = mealkit.load(tmp_path / "run/task")
    assert np.array_equal(again.predict(None).mean, task.predict().mean)


# Intervals.


def test_calibrated_quantiles_are_those_of_the_errors():
    errors = np.random.default_rng(0).exponential(size=(4000, 3)) * [1, 2, 3]
    made = ErrorQuantiles.learn(errors, np.zeros(4000, dtype=int), ["a"], season=1)
    mean, units = np.full((1, 3), 10.0), np.array([2.0])
    found = made.quantiles(mean, units, ["a"], np.array([0.1, 0.85, 0.9]))
    expected = 10 + 2 * np.quantile(errors, [0.1, 0.85, 0.9], axis=0).T
    assert found[0] == pytest.approx(expected, rel=0.03)


def test_few_errors_are_corrected_for():
    """Of 19 errors, the 95 % quantile is the largest: one more will exceed it 1 time in 20."""
    errors = np.arange(19.0)[:, None]
    made = ErrorQuantiles.learn(errors, np.zeros(19, dtype=int), ["a"], season=1)
    (((found,),),) = made.quantiles(np.zeros((1, 1)), np.ones(1), ["a"], np.array([0.95]))
    assert found == pytest.approx(18)


def test_windows_that_are_alike_count_as_fewer():
    errors = np.random.default_rng(0).normal(size=(400, 1))
    found = [
        ErrorQuantiles.learn(
            errors, np.zeros(400, dtype=int), ["a"], season=1, alike=alike
        ).quantiles(np.zeros((1, 1)), np.ones(1), ["a"], np.array([0.1, 0.5, 0.9]))[0, 0]
        for alike in (1, 20)
    ]
    assert found[1] == pytest.approx(
        np.quantile(errors, [1 - 0.9 * 21 / 20, 0.5, 0.9 * 21 / 20]), abs=1e-6
    )
    assert found[1][0] < found[0][0] < found[0][2] < found[1][2]


def test_series_with_many_windows_have_quantiles_of_their_own():
    errors = np.concatenate([np.ones((60, 1)), np.full((60, 1), 3.0), np.full((5, 1), 9.0)])
    series = np.repeat([0, 1, 2], [60, 60, 5])
    made = ErrorQuantiles.learn(errors, series, ["a", "b", "c"], season=1)
    assert made.own == ("a", "b")
    ids = ["a", "b", "c", "new"]
    found = made.quantiles(np.zeros((4, 1)), np.ones(4), ids, np.array([0.999]))
    assert found[:, 0, 0].tolist() == [1, 3, 9, 9]


def test_uncalibrated_intervals_are_normal_and_widen_with_seasons():
    made = ErrorQuantiles(4, season=2)
    found = made.quantiles(np.zeros((1, 4)), np.ones(1), ["a"], np.array([0.975]))[0, :, 0]
    assert found == pytest.approx(1.2533 * 1.96 * np.sqrt([1, 1, 2, 2]), rel=1e-3)
    assert tuple(sorted(GRID)) == GRID


def test_intervals_of_noise_hold_what_they_say():
    rng = np.random.default_rng(3)
    data = SeriesData.from_arrays(rng.normal(size=(900, 6)), horizon=4, test=300)
    task = Forecaster.from_data(data)
    task.finetune()
    metrics = task.evaluate(step=3).metrics
    assert metrics["coverage_80"] == pytest.approx(0.8, abs=0.03)
    assert metrics["coverage_95"] == pytest.approx(0.95, abs=0.03)


def test_measured_coverage_is_said(caplog):
    task = Forecaster.from_data_frame(sales(), horizon=12, backbone="ridge")
    with caplog.at_level(logging.INFO, "mealkit"):
        task.finetune()
    (line,) = [text for text in caplog.messages if text.startswith("Calibrated")]
    share = float(line.split("80 % intervals held ")[1].split(" %")[0])
    assert 60 < share <= 100


# Defects.


def defects() -> dict[str, pd.DataFrame]:
    frame = sales(200)
    first = frame["shop"] == "a"
    stamps = frame["date"]
    return {
        "hole": frame[~(first & stamps.between("2024-01-03", "2024-01-05"))],
        "late hole": frame.drop(index=range(170, 198)),
        "missing": frame.assign(sales=frame["sales"].where(frame.index % 7 > 0)),
        "infinite": frame.assign(sales=frame["sales"].where(frame.index % 50 > 0, np.inf)),
        "constant": frame.assign(sales=frame["sales"].where(~first, 4.0)),
        "all constant": frame.assign(sales=4.0),
        "zeros": frame.assign(sales=frame["sales"].where(~first, 0.0)),
        "short": frame[~first | (stamps < "2024-01-01 09:00")],
        "single point": frame[~first | (stamps < "2024-01-01 01:00")],
        "only single points": frame.groupby("shop").head(1),
        "only short": frame.groupby("shop").head(8),
        "unsorted": frame.sample(frac=1, random_state=0),
        "huge": frame.assign(sales=frame["sales"] * 1e30),
        "tiny": frame.assign(sales=frame["sales"] * 1e-30),
        "mostly missing": frame.assign(sales=frame["sales"].where(frame.index % 5 == 0)),
    }


@pytest.mark.parametrize("name", [None, *NAMES])
@pytest.mark.parametrize("defect", defects())
def test_no_defect_leads_to_a_forecast_that_is_no_number(defect, name):
    frame = defects()[defect]
    given = {"frequency": "h"} if defect == "only single points" else {}
    task = Forecaster.from_data_frame(frame, horizon=6, season=24, backbone=name, **given)
    if defect in ("only single points", "only short", "mostly missing") and name == "ridge":
        with pytest.raises(DataError, match=r"No series has the .* steps that 'ridge'"):
            task.finetune()
        return
    task.finetune()
    answer = task.predict()
    assert answer.series == ("a", "b", "c")
    assert np.isfinite(answer.mean).all()
    assert np.isfinite(answer.quantiles).all()
    if "constant" in defect:
        assert answer.mean[0] == pytest.approx([4] * 6)
        assert answer.quantiles[0] == pytest.approx(np.full((6, 4), 4), abs=1e-6)
    if defect == "single point":
        assert answer.mean[0] == pytest.approx([frame["sales"].iloc[0]] * 6)


def test_a_short_series_is_forecast_by_a_simpler_method_that_is_named():
    frame = defects()["short"]
    task = Forecaster.from_data_frame(frame, horizon=6, season=3, backbone="ridge", context=24)
    task.finetune()
    answer = task.predict()
    assert answer.model == ("seasonal-naive", "ridge", "ridge")
    assert answer.mean[0] == pytest.approx(frame["sales"].to_numpy()[[6, 7, 8, 6, 7, 8]])


def test_a_large_series_takes_nothing_from_a_small_one_behind_it():
    rng = np.random.default_rng(0)
    small = rng.normal(size=300)
    answers = []
    for size in (1, 1e25):
        task = Forecaster.from_arrays(
            [size * rng.normal(size=300), small], horizon=3, backbone="naive"
        )
        task.finetune()
        answers.append(task.units(task.predict().table)[1])
    assert answers[0] == answers[1] > 0.5


# Frames, pictures, saved tasks.


def test_frames_are_answered_in_kind(task, monkeypatch):
    class Frame:
        def __init__(self, columns):
            self.table = pd.DataFrame(columns)
            self.columns = list(columns)

        def __getitem__(self, name):
            return self.table[name].tolist()

        def __len__(self):
            return len(self.table)

    polars = type(sys)("polars")
    polars.DataFrame = Frame
    monkeypatch.setitem(sys.modules, "polars", polars)
    frame = sales()
    answer = task.predict(Frame({name: frame[name].tolist() for name in frame}))
    assert isinstance(answer.to_frame(), Frame)
    assert np.allclose(answer.mean, task.predict(frame).mean)
    assert isinstance(task.predict(frame).to_frame(), pd.DataFrame)
    own = Forecaster.from_data_frame(
        Frame({name: frame[name].tolist() for name in frame}), horizon=12, backbone="ridge"
    )
    own.finetune()
    assert isinstance(own.predict().to_frame(), Frame)


def test_pictures_show_past_forecast_and_naive(task):
    axes = task.predict().plot(["b", "c"]).axes
    assert [panel.get_title() for panel in axes] == ["b", "c"]
    labels = [text.get_text() for text in axes[0].get_legend().get_texts()]
    assert labels == ["past", "95 % interval", "80 % interval", "ridge", "seasonal naive"]
    assert len(axes[0].lines[0].get_ydata()) == 48
    with pytest.raises(mealkit.errors.UnknownNameError, match="no series 'z'"):
        task.predict().plot("z")
    with pytest.raises(InvalidValueError, match=r"series=3: expected the name .* such as 'a'"):
        task.predict().plot(3)


@pytest.mark.parametrize("name", [None, *NAMES])
def test_another_process_forecasts_the_same(name, tmp_path):
    task = Forecaster.from_data_frame(sales(200), horizon=6, backbone=name)
    task.finetune()
    task.save(tmp_path / "saved")
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "model.safetensors",
        "task.json",
    ]
    again = mealkit.load(tmp_path / "saved")
    for before, after in zip(_answers(task), _answers(again), strict=True):
        assert np.array_equal(before.quantiles, after.quantiles)
        assert before.to_frame().equals(after.to_frame())


def _answers(task):
    return task.predict(), task.predict(horizon=9), task.predict(sales(150, seed=2))


@pytest.mark.slow
def test_a_fresh_interpreter_forecasts_the_same(task, tmp_path):
    task.save(tmp_path / "saved")
    code = (
        f"import mealkit; print(mealkit.load({str(tmp_path / 'saved')!r}).predict().mean.tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert np.allclose(json.loads(done.stdout), task.predict().mean)


def test_a_task_saved_without_history_asks_for_data(task, tmp_path):
    task.save(tmp_path / "saved", history=False)
    assert len(task.memory) == 3
    again = mealkit.load(tmp_path / "saved")
    with pytest.raises(NoDataError, match="history=False"):
        again.predict(None)
    ours, theirs = task.predict(sales()), again.predict(sales())
    assert np.array_equal(ours.mean, theirs.mean)
    assert np.array_equal(ours.quantiles, theirs.quantiles)


def test_a_task_that_was_never_fitted_says_so():
    with pytest.raises(NoDataError, match="or was not fitted"):
        Forecaster("naive", horizon=3).predict()
    with pytest.raises(NoDataError, match="no data to train on"):
        Forecaster("naive", horizon=3).finetune()


def test_the_parts_fit_together():
    data = SeriesData.from_data_frame(sales(), horizon=12, season=24)
    task = Forecaster("seasonal-naive", horizon=12, season=24)
    assert len(task.finetune(data)) == 0
    assert task.predict().mean == pytest.approx(task.predict().naive)


@pytest.mark.parametrize("backbone", [None, "ridge", "resmlp"])
def test_what_learns_from_series_is_fitted_before_it_forecasts(backbone, tmp_path):
    series = np.sin(np.arange(120) / 4) + 3
    task = Forecaster.from_arrays(series, horizon=4, season=1, backbone=backbone)
    again = mealkit.load(task.save(tmp_path / "task"))
    for one in (task, again):
        for ask in (one.predict, one.evaluate, one.residuals, one.anomalies, one.decompose):
            with pytest.raises(InvalidValueError, match=r"is not fitted yet .* task.finetune\(\)"):
                ask(series)
    ridge = Forecaster.from_arrays(series, horizon=4, season=1, backbone="ridge")
    ridge.finetune()
    loaded: Any = mealkit.load(ridge.save(tmp_path / "fitted"))  # a Forecaster
    assert np.isfinite(loaded.predict().mean).all()


def test_methods_that_learn_nothing_forecast_as_they_are():
    task = Forecaster.from_arrays(np.arange(60.0), horizon=3, season=1, backbone="drift")
    assert np.isfinite(task.predict(np.arange(60.0)).mean).all()


@pytest.mark.parametrize("level", [True, "80", None, ["a"], [80, 100], 0, 100, float("nan")])
def test_levels_that_are_no_percentages_are_refused(level):
    task = Forecaster.from_arrays(np.arange(60.0), horizon=3, season=1, backbone="drift")
    with pytest.raises(InvalidValueError, match=r"level=.* expected percentages"):
        task.predict(np.arange(60.0), level=level)


def test_a_number_is_one_level(task):
    one, listed = task.predict(level=80), task.predict(level=[80])
    assert one.probabilities == (0.1, 0.9)
    assert np.array_equal(one.quantiles, listed.quantiles)
    both = task.predict(level=np.array([80.0, 95.0]))
    assert both.probabilities == (0.025, 0.1, 0.9, 0.975)
