"""New rows behind series that are known: the table is that of one source with all rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mealkit.data.report import Report
from mealkit.data.series_append import append
from mealkit.data.series_build import build_table
from mealkit.data.series_columns import read_rows, rows_of_arrays
from mealkit.errors import DataError, InvalidValueError, NoDataError


def days(count: int = 40, *, start: str = "2024-01-01", zone: str | None = None) -> pd.DataFrame:
    stamps = pd.date_range(start, periods=count, freq="D", tz=zone)
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame({"day": stamps, "shop": shop, "sales": rng.normal(size=count)})
        for shop in "ab"
    ]
    return pd.concat(parts, ignore_index=True)


def rows_of(frame: pd.DataFrame):
    return read_rows(frame, time="day", target="sales", series="shop")[1]


def table_of(frame: pd.DataFrame, **given):
    given = {"frequency": "D", "season": 7, "report": Report(), **given}
    return build_table(rows_of(frame), **given)


def same(one, other) -> bool:
    return (
        one.ids == other.ids
        and np.array_equal(one.values, other.values)
        and np.array_equal(one.observed, other.observed)
        and np.array_equal(one.offsets, other.offsets)
        and np.array_equal(one.last, other.last)
    )


def test_rows_that_are_appended_are_as_rows_that_were_there():
    """Holes are filled the same, in the known part, between the two, and in the new part."""
    frame = days().drop(index=[10, 11, 33, 34, 35, 37])
    frame.loc[25, "sales"] = np.nan
    late = frame["day"] >= "2024-02-05"
    report = Report()
    joint = append(table_of(frame[~late]), rows_of(frame[late]), report=report)
    assert same(joint, table_of(frame))
    assert [entry.input for entry in report.entries] == ["a", "a"]
    assert [entry.problem.split(" ")[0] for entry in report.entries] == ["1", "3"]


def test_only_some_series_have_new_rows_and_new_ones_come_behind():
    frame = days()
    new = frame[(frame["shop"] == "b") & (frame["day"] >= "2024-02-01")]
    other = new.assign(shop="c")
    known = table_of(frame[frame["day"] < "2024-02-01"])
    joint = append(known, rows_of(pd.concat([other, new])), report=Report())
    assert joint.ids == ("a", "b", "c")
    assert np.diff(joint.offsets).tolist() == [31, 40, 9]
    assert np.array_equal(joint.series(0), known.series(0))
    assert np.array_equal(joint.series(2), new["sales"])
    assert [f"{last}"[5:10] for last in joint.last] == ["01-31", "02-09", "02-09"]


def test_rows_in_any_order_are_sorted_and_reported():
    frame = days()
    late = frame["day"] >= "2024-02-01"
    mixed = frame[late].sample(frac=1, random_state=0)
    report = Report()
    joint = append(table_of(frame[~late]), rows_of(mixed), report=report)
    assert same(joint, table_of(frame))
    assert {entry.input for entry in report.entries} == {"a", "b"}


@pytest.mark.parametrize(
    ("new", "match"),
    [
        (days(3, start="2024-02-09"), "'a' is known up to 2024-02-09.* 1 of the new rows .* row 0"),
        (days(2, start="2024-02-10 06:00"), "whole number of steps of D after 2024-02-09"),
        (pd.concat([days(2, start="2024-02-10")] * 2), "'a' has 2 doubled times"),
        (days(2, start="2024-02-10", zone="UTC"), "in the time zone UTC, those of the series with"),
    ],
)
def test_rows_that_cannot_follow_are_refused(new, match):
    with pytest.raises(DataError, match=match):
        append(table_of(days()), rows_of(new), report=Report())


def test_rows_of_another_kind_are_refused():
    known = table_of(days())
    with pytest.raises(DataError, match="have no times, and the series have dates"):
        append(known, rows_of_arrays({"a": [1.0]}, ids=None), report=Report())
    numbered = days(3).assign(day=[1, 2, 3] * 2)
    with pytest.raises(InvalidValueError, match="frequency='D' does not fit"):
        append(known, rows_of(numbered), report=Report())
    with pytest.raises(NoDataError, match="No series holds a number"):
        append(known, rows_of(days(2, start="2024-03-01").assign(sales=np.nan)), report=Report())


def test_arrays_follow_in_their_order():
    whole = {"a": [1.0, 2, np.nan, 4, 5], "b": [7.0]}
    known = build_table(rows_of_arrays({"a": [1.0, 2], "b": [7.0]}, ids=None), report=Report())
    new = rows_of_arrays({"a": [np.nan, 4, 5], "c": [3.0, 4.0]}, ids=None)
    joint = append(known, new, report=Report())
    expected = build_table(rows_of_arrays({**whole, "c": [3.0, 4.0]}, ids=None), report=Report())
    assert same(joint, expected)


@pytest.mark.parametrize("step", ["MS", "ME", "B", "h", "15min", "W"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_every_grid_goes_on(step, zone):
    stamps = pd.date_range("2024-01-05", periods=60, freq=step, tz=zone)
    frame = pd.DataFrame({"day": stamps, "shop": "a", "sales": np.arange(60.0)}).drop(index=41)
    known = table_of(frame[:40], frequency=step)
    joint = append(known, rows_of(frame[40:]), report=Report())
    assert same(joint, table_of(frame, frequency=step))
