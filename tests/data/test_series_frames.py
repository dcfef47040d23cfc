"""Frames of series: a series or a LazyFrame is one, and answers have the types that came in."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.data import UnlabelledSeries
from mealkit.errors import DataError

NUM_DAYS = 40


def table(ids=(1, 2), **times) -> pd.DataFrame:
    """A row per shop and day."""
    given = {"start": "2024-01-01", "periods": NUM_DAYS, "freq": "D", **times}
    stamps = pd.date_range(**given)
    return pd.concat(
        [pd.DataFrame({"shop": id, "date": stamps, "sales": np.arange(NUM_DAYS)}) for id in ids],
        ignore_index=True,
    )


def fitted(frame, **roles) -> Forecaster:
    task = Forecaster.from_data_frame(frame, horizon=2, backbone="drift", season=1, **roles)
    task.finetune()
    return task


def days() -> pd.Series:
    stamps = pd.date_range("2024-01-01", periods=NUM_DAYS, freq="D")
    return pd.Series(np.arange(float(NUM_DAYS)), stamps, name="sales")


# Answers in kind.


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame.astype({"shop": "int8", "date": "datetime64[s]"}),
        lambda frame: frame.astype({"shop": "Int64"}),
        lambda frame: frame.astype({"shop": "category"}),
        lambda frame: frame.astype({"shop": str}).astype({"shop": "category"}),
        lambda frame: frame.astype({"shop": float}),
        lambda frame: frame.assign(shop=frame["shop"] == 1),
        lambda frame: frame.assign(shop=frame["shop"].map({1: 1, 2: "b"}).astype(object)),
        lambda frame: frame.assign(date=frame["date"].dt.date),
        lambda frame: frame.assign(date=frame["date"].dt.to_period("D")),
        lambda frame: frame.assign(date=frame["date"].dt.tz_localize("America/New_York")),
        lambda frame: frame.assign(date=np.tile(np.arange(NUM_DAYS, dtype="int16"), 2)),
        lambda frame: frame.assign(date=np.tile(np.arange(float(NUM_DAYS)), 2)),
    ],
)
def test_series_and_times_come_back_in_the_types_that_they_had(change):
    frame = change(table())
    task = fitted(frame, time="date", series="shop", target="sales")
    windows = task.backtest(windows=2).to_windows()
    for answer in (
        task.predict().to_frame(),
        task.predict(frame).to_frame(),
        task.residuals().to_frame(),
        task.anomalies().to_frame(),
        windows,
        windows.drop(columns="time").rename(columns={"cutoff": "time"}),
    ):
        assert answer["series"].dtype == frame["shop"].dtype
        assert list(dict.fromkeys(answer["series"])) == list(dict.fromkeys(frame["shop"]))
        assert answer["time"].dtype == frame["date"].dtype
        assert type(answer["time"].iloc[0]) is type(frame["date"].iloc[0])
    first, last = task.predict().to_frame()["time"].iloc[0], frame["date"].iloc[-1]
    after = last + (frame["date"].iloc[1] - frame["date"].iloc[0])
    assert first == after


def test_times_that_the_type_cannot_hold_are_answered_in_a_wider_one():
    last = np.iinfo("int8").max
    frame = table([1]).assign(date=np.arange(last - NUM_DAYS + 1, last + 1).astype("int8"))
    answer = fitted(frame, time="date", series="shop").predict().to_frame()
    assert answer["time"].tolist() == [last + 1, last + 2]


def test_times_go_on_after_the_last_nanosecond():
    for start in ("2262-03-10", "2300-01-01"):
        stamps = np.datetime64(start) + np.arange(NUM_DAYS)
        frame = pd.DataFrame({"date": stamps.astype("datetime64[s]"), "sales": range(NUM_DAYS)})
        task = fitted(frame, time="date")
        assert str(task.predict().times[0][1])[:10] == str(stamps[-1] + 2)
        answer = task.predict().to_frame()["time"]
        assert answer.dtype == frame["date"].dtype
        assert str(answer.iloc[1])[:10] == str(stamps[-1] + 2)


def test_dates_that_were_texts_or_integers_come_back_as_timestamps():
    for form, kind in (("%Y-%m-%d", str), ("%Y%m%d", int)):
        frame = table().assign(date=lambda f, form=form: f["date"].dt.strftime(form))
        answer = fitted(frame.astype({"date": kind}), series="shop", time="date", target="sales")
        assert answer.predict().to_frame()["time"].iloc[0] == pd.Timestamp("2024-02-10")


def test_a_series_that_is_new_joins_the_categories():
    frame = table(["a", "b"]).astype({"shop": "category"})
    task = fitted(frame)
    last = frame["date"].max()
    new = table(["c"], start=last + pd.Timedelta(days=1)).astype({"shop": "category"})
    answer = task.update(new).predict().to_frame()
    assert list(dict.fromkeys(answer["series"])) == ["a", "b", "c"]
    assert isinstance(answer["series"].dtype, pd.CategoricalDtype)
    assert list(answer["series"].cat.categories) == ["a", "b", "c"]


def test_several_targets_have_names_of_their_own():
    frame = table().assign(visits=1.0)
    task = fitted(frame, time="date", series="shop", target=["sales", "visits"])
    assert set(task.predict().to_frame()["series"]) == {
        "1/sales",
        "1/visits",
        "2/sales",
        "2/visits",
    }


@pytest.mark.parametrize("type", ["int64", "Int64", "uint8"])
def test_a_saved_task_keeps_integers_as_names_and_the_type_of_times(tmp_path, type):
    frame = table().astype({"shop": type, "date": "datetime64[s]"})
    task = fitted(frame, time="date", series="shop", target="sales")
    again = mealkit.load(task.save(tmp_path / "task"))
    assert isinstance(again, Forecaster)
    assert again.predict().to_frame().equals(task.predict().to_frame())


def test_a_saved_task_keeps_days(tmp_path):
    frame = table().assign(date=lambda f: f["date"].dt.date)
    task = fitted(frame, time="date", series="shop", target="sales")
    again = mealkit.load(task.save(tmp_path / "task"))
    assert isinstance(again, Forecaster)
    assert again.predict().to_frame()["time"].iloc[0] == datetime.date(2024, 2, 10)


# What counts as a frame.


@pytest.mark.parametrize("period", [False, True])
def test_a_series_with_dates_is_one_series(period):
    series = days().to_period("D") if period else days()
    task = fitted(series)
    assert task.predict().series == ("sales",)
    assert task.predict().mean[0] == pytest.approx([40.0, 41.0], abs=1e-4)
    assert task.predict(series[:-5]).mean[0] == pytest.approx([35.0, 36.0], abs=1e-4)
    answer = task.predict(series).to_frame()
    assert answer["time"].dtype == series.index.dtype
    assert str(answer["time"].iloc[0])[:10] == "2024-02-10"


def test_a_series_without_a_name_or_dates_is_one_too():
    task = fitted(days().rename(None))
    assert task.predict(days().rename(None)).series == ("value",)
    counted = fitted(pd.Series(np.arange(40.0)))
    answer = counted.predict(pd.Series(np.arange(30.0)))
    assert answer.mean[0] == pytest.approx([30.0, 31.0], abs=1e-4)


def test_an_index_without_a_name_holds_the_times_that_were_learnt_from():
    task = fitted(days().rename_axis("day").reset_index())
    assert task.predict(days()[:-1]).mean[0] == pytest.approx([39.0, 40.0], abs=1e-4)
    update = days()[-1:].set_axis(pd.DatetimeIndex(["2024-02-10"]))
    assert str(task.update(update).predict().times[0][0])[:10] == "2024-02-11"


def test_a_series_of_another_name_is_refused():
    with pytest.raises(DataError, match="no column 'sales'"):
        fitted(days()).predict(days().rename("visits"))


def test_an_index_of_series_and_times_makes_several_series():
    series = table(["a", "b"]).set_index(["shop", "date"])["sales"]
    task = fitted(series)
    assert task.predict(series).series == ("a", "b")


@pytest.mark.parametrize(
    "wrap", [lambda s: s, lambda s: s.to_frame(), lambda s: [s], lambda s: {"a": s}]
)
def test_arrays_do_not_lose_dates_silently(wrap):
    with pytest.raises(DataError, match=r"index holds dates.*from_data_frame"):
        SeriesData.from_arrays(wrap(days()), horizon=2)
    task = Forecaster.from_arrays(wrap(days().reset_index(drop=True)), horizon=2, backbone="naive")
    task.finetune()
    with pytest.raises(DataError, match=r"index holds dates.*from_data_frame"):
        task.predict([days()])


def test_a_series_goes_into_what_was_made_from_arrays():
    task = Forecaster.from_arrays(np.arange(40.0), horizon=2, backbone="drift")
    task.finetune()
    assert task.predict(pd.Series(np.arange(30.0))).mean[0] == pytest.approx([30.0, 31.0], abs=1e-4)


def test_unlabelled_series_read_a_series_too():
    assert UnlabelledSeries.from_data_frame(days()).table.ids == ("sales",)


# Polars.


@pytest.fixture
def polars():
    return pytest.importorskip("polars")


@pytest.mark.parametrize(
    "types",
    [
        lambda pl: {},
        lambda pl: {"shop": pl.UInt8, "date": pl.Date},
        lambda pl: {"shop": pl.Categorical, "date": pl.Datetime("ms")},
        lambda pl: {"shop": pl.Enum(["1", "2", "3"]), "date": pl.Datetime("ns")},
        lambda pl: {"shop": pl.String, "date": pl.Datetime("us", "America/New_York")},
    ],
)
@pytest.mark.parametrize("lazy", [False, True])
def test_polars_answers_in_the_types_that_came_in(polars, types, lazy):
    wanted = types(polars)
    frame = polars.DataFrame(table().to_dict("list"))
    if "shop" in wanted and not wanted["shop"].is_integer():
        frame = frame.with_columns(polars.col("shop").cast(polars.String))
    zone = getattr(wanted.get("date"), "time_zone", None)
    if zone is not None:
        frame = frame.with_columns(polars.col("date").dt.replace_time_zone(zone))
    frame = frame.cast(wanted)
    task = fitted(frame.lazy() if lazy else frame, time="date", series="shop", target="sales")
    windows = task.backtest(windows=2).to_windows()
    for answer in (
        task.predict().to_frame(),
        task.predict(frame.lazy() if lazy else frame).to_frame(),
        task.residuals().to_frame(),
        windows,
        windows.drop("time").rename({"cutoff": "time"}),
    ):
        assert answer.schema["series"] == frame.schema["shop"]
        assert answer.schema["time"] == frame.schema["date"]
        assert answer["series"].unique(maintain_order=True).to_list() == (
            frame["shop"].unique(maintain_order=True).to_list()
        )
    step = frame["date"][1] - frame["date"][0]
    assert task.predict().to_frame()["time"][0] == frame["date"][-1] + step


def test_polars_scores_are_frames_of_polars(polars):
    frame = polars.DataFrame(table().to_dict("list"))
    scores = (
        fitted(frame, time="date", series="shop", target="sales").backtest(windows=2).to_frame()
    )
    assert scores.columns == ["metric", "drift", "seasonal_naive", "skill"]
    assert "mase" in scores["metric"].to_list()


def test_a_series_of_polars_is_one_without_times(polars):
    task = fitted(polars.Series("sales", np.arange(40.0)))
    answer = task.predict(polars.Series("sales", np.arange(30.0)))
    assert answer.series == ("sales",)
    assert answer.to_frame()["mean"].to_list() == pytest.approx([30.0, 31.0], abs=1e-4)


def test_what_is_known_ahead_may_be_lazy(polars):
    frame = table().assign(price=np.tile(np.arange(NUM_DAYS) % 3, 2))
    task = Forecaster.from_data_frame(
        frame,
        horizon=2,
        backbone="ridge",
        season=1,
        future="price",
        time="date",
        target="sales",
        series="shop",
    )
    task.finetune()
    ahead = table(start="2024-02-10").query("date < '2024-02-12'").assign(price=1)
    lazy = polars.DataFrame(ahead.drop(columns="sales").to_dict("list")).lazy()
    eager = task.predict(future=ahead.drop(columns="sales"))
    assert np.array_equal(task.predict(future=lazy).mean, eager.mean)
