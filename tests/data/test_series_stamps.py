"""Stamps from cells: every common form of a date is read, and none is guessed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mealkit.data import SeriesData
from mealkit.data.series_cells import kind_of
from mealkit.data.series_stamps import looks_dated, to_times
from mealkit.errors import DataError

DAYS = pd.date_range("2024-01-01", periods=40)
EXPECTED = DAYS.to_numpy().astype("datetime64[s]")


def read(stamps: object) -> SeriesData:
    frame = pd.DataFrame({"when": stamps, "sales": np.arange(float(len(stamps)))})
    return SeriesData.from_data_frame(frame, horizon=2)


@pytest.mark.parametrize(
    "form", ["%Y-%m-%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%y", "%Y/%m/%d %H:%M"]
)
def test_dates_of_every_form_are_read_and_their_column_is_found(form):
    texts = DAYS.strftime(form)
    stamps, zone = to_times(list(texts), name="when")
    assert np.array_equal(stamps, EXPECTED)
    assert zone is None
    data = read(texts)
    assert (data.spec.time, len(data.table)) == ("when", 1)
    assert data.table.last[0] == EXPECTED[-1]


def test_integers_are_dates_where_all_of_them_are_some():
    stamps, _ = to_times(DAYS.strftime("%Y%m%d").astype(int), name="when")
    assert np.array_equal(stamps, EXPECTED)
    numbers, _ = to_times(20_240_101 + np.arange(40), name="when")  # there is no 32 January
    assert numbers[-1] == 20_240_140
    few, _ = to_times([20_240_101, 20_240_102], name="when")
    assert few.tolist() == [20_240_101, 20_240_102]


def test_dates_that_may_begin_with_day_or_month_are_refused():
    texts = [f"{month:02}/01/2024" for month in range(1, 13)]
    with pytest.raises(DataError, match="may begin with the day or with the month: '02/01/2024'"):
        read(texts)
    dotted, _ = to_times(["01.02.2024", "02.02.2024"], name="when")
    assert dotted[0] == np.datetime64("2024-02-01")


def test_dates_in_two_orders_are_refused_by_name():
    with pytest.raises(DataError, match="begin with the day and with the month: '31/01/2024' and"):
        to_times(["31/01/2024", "02/28/2024"], name="when")


def test_a_date_that_is_none_is_an_error_and_no_name_of_a_series():
    texts = [*DAYS.strftime("%Y-%m-%d")[:-1], "2024-02-31"]
    assert looks_dated(texts)
    with pytest.raises(DataError, match=r"1 rows of the time column 'when' hold no time \(row 39"):
        read(texts)
    assert not looks_dated(["shop 1-2", "shop 1-3"])


@pytest.mark.parametrize("wrong", ["yesterday", "", "2024-01"])
def test_one_cell_that_is_no_date_leaves_the_column_one_of_times(wrong):
    texts = DAYS.strftime("%d.%m.%Y").tolist()
    texts[3] = wrong
    frame = pd.DataFrame({"when": texts, "shop": "a", "sales": np.arange(40.0)})
    with pytest.raises(DataError, match=r"1 rows of the time column 'when' hold no time \(row 3"):
        SeriesData.from_data_frame(frame, horizon=2)


def test_changing_offsets_are_put_into_one_zone():
    texts = ["2024-03-31T00:00+01:00", "2024-03-31T01:00+01:00", "2024-03-31T03:00+02:00"]
    stamps, zone = to_times(texts, name="when")
    assert zone == "UTC"
    assert np.diff(stamps).astype(int).tolist() == [3600, 3600]


def test_fractions_of_seconds_are_refused_and_not_cut_off():
    with pytest.raises(DataError, match=r"90 rows .* lie between two seconds \(row 1"):
        read(pd.date_range("2024-01-01", periods=100, freq="100ms"))


def test_periods_are_times():
    data = read(pd.period_range("2020-01", periods=30, freq="M"))
    assert (data.spec.time, data.spec.frequency) == ("when", "MS")


def test_kinds_and_dates_are_told_without_a_call_per_cell(count_calls):
    few, many = (list(pd.date_range("2024-01-01", periods=count)) for count in (1_000, 30_000))
    for cells in (few, many):
        assert kind_of([None, "", *cells]) == "time"
        assert to_times(cells, name="date")[0][-1] == np.datetime64(cells[-1])
    assert count_calls(kind_of, many) == count_calls(kind_of, few)
    asked = [
        count_calls(lambda cells: to_times(cells, name="date"), cells) for cells in (few, many)
    ]
    assert asked[1] < asked[0] + 1_000
