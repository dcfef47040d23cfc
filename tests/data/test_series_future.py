"""Futures of covariates: every row and value that is missing, doubled or of no use is named."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mealkit.data import SeriesData
from mealkit.data.report import Report
from mealkit.data.series_future import with_future
from mealkit.errors import DataError


def shops(count: int = 30, **more: object) -> SeriesData:
    parts = []
    for number, shop in enumerate("ab"):
        days = np.arange(count - 5 * number)
        stamps = pd.date_range("2024-01-01", periods=len(days))
        columns = {"date": stamps, "shop": shop, "sales": days * 1.0, "price": days % 7}
        parts.append(pd.DataFrame(columns))
    roles = {"time": "date", "target": "sales", "series": "shop", "future": "price"}
    return SeriesData.from_data_frame(pd.concat(parts), **{"horizon": 3, **roles, **more})


def ahead(steps: int = 3) -> pd.DataFrame:
    frames = [
        pd.DataFrame(
            {
                "shop": shop,
                "date": pd.date_range(first, periods=steps),
                "price": start + np.arange(steps),
            }
        )
        for shop, first, start in (("a", "2024-01-31", 100.0), ("b", "2024-01-26", 200.0))
    ]
    return pd.concat(frames, ignore_index=True)


def extend(data: SeriesData, frame: object, *, steps: int = 3, needed: bool = True):
    table = with_future(
        data.table, frame, spec=data.spec, steps=steps, needed=needed, report=Report()
    )
    offsets = table.covariates.offsets
    return [
        table.covariates.future[start + length : end, 0].tolist()
        for start, end, length in zip(offsets[:-1], offsets[1:], table.lengths, strict=True)
    ]


def test_rows_in_any_order_come_behind_the_last_values():
    frame = ahead().sample(frac=1, random_state=0)
    assert extend(shops(), frame) == [[100, 101, 102], [200, 201, 202]]
    assert extend(shops(), ahead(5), steps=5)[1] == [200, 201, 202, 203, 204]


def test_fewer_steps_than_the_net_forecasts_stay_as_they_were_last():
    assert extend(shops(), ahead(1), steps=1) == [[100] * 3, [200] * 3]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: None, "future= is needed: 'price' of the series 'a' is not known at 2024-01-31"),
        (lambda f: f.drop(index=4), "lacks rows: 'price' of the series 'b' .* at 2024-01-27"),
        (lambda f: f[f["shop"] == "a"], "of the series 'b' is not known at 2024-01-26"),
        (lambda f: f.drop(columns="price"), "In future=: There is no column 'price'"),
        (lambda f: f.assign(shop="z"), "rows of 'z', which is no series that is forecast"),
        (lambda f: pd.concat([f, f[:1]]), "several rows of the series 'a' at 2024-01-31"),
        (
            lambda f: f.assign(price=f["price"].where(f.index != 1)),
            "no number in 'price' for the series 'a' at 2024-02-01",
        ),
        (lambda f: f.assign(price=np.inf), "no number in 'price' for the series 'a'"),
        (lambda f: f.assign(price="dear"), "column 'price' hold no number"),
        (lambda f: ahead(4), "1 rows at other times .2024-02-03.* for the series 'a'"),
        (
            lambda f: f.assign(date=f["date"] - pd.Timedelta("1D")),
            "1 rows at other times .2024-01-30",
        ),
        (lambda f: f.assign(date=f["date"].dt.tz_localize("UTC")), "got .* .times of the zone UTC"),
        (lambda f: f.assign(date=range(6)), "are of another kind"),
    ],
)
def test_what_is_wrong_is_named(change, words):
    with pytest.raises(DataError, match=words):
        extend(shops(), change(ahead()))


def test_a_table_without_future_covariates_takes_none():
    data = SeriesData.from_arrays([np.arange(30.0)], horizon=3)
    with pytest.raises(DataError, match="the data had no covariates that are known ahead"):
        with_future(data.table, ahead(), spec=data.spec, steps=3, needed=False, report=Report())


def test_what_the_table_knows_counts_where_the_frame_says_nothing_else():
    days = np.arange(33)
    sales = np.where(days < 30, days * 1.0, np.nan)
    stamps = pd.date_range("2024-01-01", periods=33)
    frame = pd.DataFrame({"date": stamps, "sales": sales, "price": days * 1.0})
    data = SeriesData.from_data_frame(frame, horizon=3, target="sales", future="price")
    assert extend(data, None) == [[30, 31, 32]]
    other = pd.DataFrame({"date": stamps[31:32], "price": [7.0]})
    assert extend(data, other) == [[30, 7, 32]]
    more = pd.DataFrame({"date": pd.date_range("2024-02-03", periods=2), "price": [1.0, 2.0]})
    assert extend(data, more, steps=5) == [[30, 31, 32, 1, 2]]


def test_rows_without_times_follow_the_last_ones():
    frame = pd.DataFrame({"sales": np.arange(20.0), "price": np.arange(20.0) % 4})
    data = SeriesData.from_data_frame(frame, horizon=3, target="sales", future="price")
    assert extend(data, pd.DataFrame({"price": [7, 8, 9]})) == [[7, 8, 9]]
    with pytest.raises(DataError, match="lacks rows"):
        extend(data, pd.DataFrame({"price": [7, 8]}))
    with pytest.raises(DataError, match="4 rows for the series 'sales'; expected those of the 3"):
        extend(data, pd.DataFrame({"price": [7, 8, 9, 9]}))


def test_targets_of_a_series_share_its_rows():
    data = shops()
    frame = pd.DataFrame(
        {"date": pd.date_range("2024-01-01", periods=30), "a": np.arange(30.0), "b": 1.0}
    )
    frame.loc[28:, "b"] = np.nan  # b ends earlier: its steps are other ones
    frame["price"] = 5.0
    wide = SeriesData.from_data_frame(frame, horizon=3, future="price")
    rows = pd.DataFrame({"date": pd.date_range("2024-01-31", periods=3), "price": [1.0, 2.0, 3.0]})
    assert extend(wide, rows[:3])[0] == [1, 2, 3]
    assert extend(wide, rows[:3])[1] == [5, 5, 1]
    assert data.table.ids == ("a", "b")


def test_days_of_a_time_zone_are_found_by_its_clock():
    stamps = pd.date_range("2024-03-20", periods=14, freq="D", tz="Europe/Berlin")
    frame = pd.DataFrame({"date": stamps, "sales": np.arange(14.0), "price": np.arange(14.0)})
    data = SeriesData.from_data_frame(
        frame[:11], horizon=3, target="sales", future="price", frequency="D"
    )
    assert extend(data, frame[11:]) == [[11, 12, 13]]
    hours = pd.date_range("2024-03-30", periods=40, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"date": hours, "sales": np.arange(40.0), "price": np.arange(40.0)})
    data = SeriesData.from_data_frame(frame[:37], horizon=3, target="sales", future="price")
    assert extend(data, frame[37:]) == [[37, 38, 39]]
