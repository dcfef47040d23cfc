"""Series from tables of all forms: what is told from them, and what each defect comes to."""

from __future__ import annotations

import json
import logging

import numpy as np
import pandas as pd
import pytest
import torch

from mealkit.data import Frequency, SeriesData
from mealkit.errors import DataError, InvalidValueError, NoDataError
from mealkit.specs import Covariate, DataSpec, InputSpec, SeriesDataSpec, SeriesSpec


def hourly(count: int = 200, *, start: str = "2024-01-01", seed: int = 0) -> pd.DataFrame:
    hours = np.arange(count)
    noise = np.random.default_rng(seed).normal(0, 0.1, count)
    values = 5 + np.sin(hours * 2 * np.pi / 24) + noise
    return pd.DataFrame({"date": pd.date_range(start, periods=count, freq="h"), "sales": values})


def read(frame: pd.DataFrame, **more: object) -> SeriesData:
    return SeriesData.from_data_frame(frame, **{"horizon": 6, **more})


# Form.


def test_long_wide_and_row_tables_hold_the_same_series(tmp_path):
    first, second = hourly(seed=1), hourly(seed=2)
    long = pd.concat([first.assign(shop="a"), second.assign(shop="b")])
    wide = pd.DataFrame({"date": first["date"], "a": first["sales"], "b": second["sales"]})
    rows = pd.DataFrame(np.stack([first["sales"], second["sales"]])).add_prefix("V")
    rows.insert(0, "name", ["a", "b"])
    tables = [read(frame).table for frame in (long, wide, rows)]
    arrays = SeriesData.from_arrays({"a": first["sales"], "b": second["sales"]}, horizon=6).table
    for table in [*tables, arrays]:
        assert table.ids == ("a", "b")
        assert np.allclose(table.values, [*first["sales"], *second["sales"]])
    assert [str(table.frequency) for table in tables] == ["h", "h", "1"]
    long.to_csv(tmp_path / "sales.csv", index=False)
    assert np.allclose(
        SeriesData.from_csv(tmp_path / "sales.csv", horizon=6).table.values, tables[0].values
    )


def test_one_line_says_what_the_table_was_taken_for(caplog):
    with caplog.at_level(logging.INFO, "mealkit"):
        read(hourly().assign(shop="a"))
    (line,) = caplog.messages
    assert "target 'sales', series 'shop', time 'date'" in line
    assert "a step of h, season 24 (found), horizon 6" in line


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            {"other": pd.Timestamp("2024-01-01")},
            "which column is the time.*'date', 'other'.*time='date'",
        ),
        ({"shop": "a", "town": "b"}, "which column is the series.*'shop', 'town'"),
        ({"shop": "a", "price": 2.0}, "which column to forecast.*'sales', 'price'"),
    ],
)
def test_candidates_are_listed_where_it_is_not_clear(column, words):
    with pytest.raises(DataError, match=words):
        read(hourly().assign(**column))


def test_a_misspelt_column_is_an_error_with_the_nearest_one():
    with pytest.raises(DataError, match=r"no column 'sale'\. Did you mean 'sales'"):
        read(hourly(), target="sale")


def test_several_targets_are_series_of_their_own():
    frame = hourly().assign(shop="a", price=2.0)
    assert read(frame, target=["sales", "price"]).table.ids == ("a/sales", "a/price")


def test_names_of_series_keep_their_zeros(tmp_path):
    hourly().assign(shop="007").to_csv(tmp_path / "s.csv", index=False)
    data = SeriesData.from_csv(tmp_path / "s.csv", horizon=6, series="shop")
    assert data.table.ids == ("007",)


def test_an_index_of_times_and_a_column_of_integers_are_times():
    frame = hourly().set_index("date")
    assert str(read(frame).table.frequency) == "h"
    years = pd.DataFrame({"year": range(1950, 2020, 2), "value": np.arange(35.0)})
    table = read(years).table
    assert (table.frequency, table.last[0]) == (Frequency("index", 2), 2018)
    assert table.times_after(0, back=0, count=2) == [2020, 2022]


# Time.


@pytest.mark.parametrize(
    ("frequency", "start", "season"),
    [
        ("15min", "2024-01-01", 96), ("h", "2024-01-01 07:30", 24), ("D", "2024-01-01", 7),
        ("B", "2024-01-01", 5), ("W-SUN", "2024-01-07", 52), ("MS", "2024-01-01", 12),
        ("ME", "2024-01-31", 12), ("QS", "2024-01-01", 4), ("QE", "2024-03-31", 4),
        ("YS", "2000-01-01", 1),
    ],
)  # fmt: skip
def test_frequencies_are_found_and_go_on_as_pandas_does(frequency, start, season):
    stamps = pd.date_range(start, periods=70, freq=frequency)
    frame = pd.DataFrame({"date": stamps[:40], "x": np.arange(40.0)})
    table = read(frame).table
    assert str(table.frequency) == frequency.removesuffix("-SUN")
    assert table.frequency.season == season
    assert Frequency.parse(str(table.frequency)) == table.frequency
    assert table.times_after(0, back=0, count=30) == list(stamps[40:])
    assert table.times_after(0, back=10, count=10) == list(stamps[30:40])


def test_the_thirtieth_of_each_month_comes_back_after_february():
    stamps = pd.to_datetime(["2023-11-30", "2023-12-30", "2024-01-30", "2024-02-29"])
    frame = pd.DataFrame({"date": stamps, "x": np.arange(4.0)})
    found = read(frame, horizon=1).table.times_after(0, back=0, count=2)
    assert [str(stamp.date()) for stamp in found] == ["2024-03-30", "2024-04-30"]


def test_days_of_a_time_zone_last_as_long_as_its_clocks_say():
    stamps = pd.date_range("2024-03-20", periods=20, freq="D", tz="Europe/Berlin")
    table = read(pd.DataFrame({"date": stamps, "x": np.arange(20.0)})).table
    assert str(table.frequency) == "D"
    (after,) = table.times_after(0, back=0, count=1)
    assert after == pd.Timestamp("2024-04-09", tz="Europe/Berlin")
    hours = pd.date_range("2024-03-30", periods=60, freq="h", tz="Europe/Berlin")
    table = read(pd.DataFrame({"date": hours, "x": np.arange(60.0)})).table
    assert (str(table.frequency), int(table.lengths[0])) == ("h", 60)
    assert table.times_after(0, back=0, count=1) == [hours[-1] + pd.Timedelta("1h")]


@pytest.mark.parametrize(
    ("text", "same"),
    [("1mo", "MS"), ("H", "h"), ("1h", "h"), ("60min", "h"), ("T", "min"), ("1q", "QS")],
)
def test_spellings_of_pandas_and_polars_are_read(text, same):
    assert Frequency.parse(text) == Frequency.parse(same)


@pytest.mark.parametrize("text", ["fortnight", "0h", ""])
def test_other_spellings_are_refused(text):
    with pytest.raises(InvalidValueError, match="expected a number and one of"):
        Frequency.parse(text)


def test_a_season_that_the_values_do_not_have_is_not_assumed():
    frame = hourly(400)
    assert read(frame).spec.season == 24
    walk = frame.assign(sales=np.random.default_rng(0).normal(size=400).cumsum())
    assert read(walk).spec.season == 1
    assert read(walk, season=24).spec.season == 24


# Defects.


def test_gaps_stay_on_the_grid_masked_and_filled_from_before():
    frame = hourly()
    data = read(frame.drop(index=range(100, 148)))
    assert int(data.table.lengths[0]) == 200
    assert data.table.observed.tolist() == [True] * 100 + [False] * 48 + [True] * 52
    day = frame["sales"].to_numpy()[76:100]
    assert np.allclose(data.table.values[100:148], [*day, *day])
    assert data.report.entries[0].problem.startswith("48 of 200 steps are missing")


def test_no_window_learns_from_a_filled_target():
    data = read(hourly().drop(index=[50]), val=0)
    data.prepare(SeriesSpec(context_steps=12, horizon_steps=6))
    batch = data.train.__getitems__(list(range(len(data.train))))
    assert bool(batch["observed"].all())
    origins = set(data.train.origins.steps.tolist())
    assert origins == set(range(12, 195)) - set(range(45, 51))


def test_missing_and_infinite_values_are_masked_and_reported():
    frame = hourly()
    frame.loc[10, "sales"] = np.inf
    frame.loc[20, "sales"] = np.nan
    data = read(frame)
    assert np.flatnonzero(~data.table.observed).tolist() == [10, 20]
    assert np.isfinite(data.table.values).all()
    problems = [entry.problem for entry in data.report.entries]
    assert problems[0] == "1 infinite values, counted as missing"


@pytest.mark.parametrize("value", [1e101, -1e308])
def test_values_that_cannot_be_squared_are_refused_by_row(value):
    frame = hourly()
    frame.loc[10, "sales"] = value
    with pytest.raises(DataError, match=r"1 values beyond 1e\+100, .* in row 10"):
        read(frame)
    frame.loc[10, "sales"] = np.sign(value) * 1e99
    assert np.isfinite(read(frame).scale.spread).all()


def test_doubled_times_are_an_error_that_names_the_rows():
    frame = pd.concat([hourly(), hourly()[7:8].assign(sales=9.0)], ignore_index=True)
    with pytest.raises(DataError, match=r"'sales' has 1 doubled times: .* in rows 7 and 200"):
        read(frame)
    mean = read(frame, duplicates="mean").table
    assert mean.values[7] == pytest.approx((hourly()["sales"][7] + 9) / 2)
    last = read(frame, duplicates="last")
    assert last.table.values[7] == 9
    assert "1 doubled times" in last.report.entries[1].problem


def test_unsorted_rows_are_sorted_and_reported():
    data = read(hourly().sample(frac=1, random_state=0))
    assert np.allclose(data.table.values, hourly()["sales"])
    assert "not in the order of time" in data.report.entries[0].problem


def test_a_wrong_declared_frequency_is_an_error():
    with pytest.raises(
        DataError, match=r"191 times of the series 'sales' do not stand on a grid of steps of D"
    ):
        read(hourly(), frequency="D")
    with pytest.raises(InvalidValueError, match="holds dates"):
        read(hourly(), frequency="1")


def test_a_time_between_the_steps_is_named():
    frame = hourly()
    frame.loc[33, "date"] += pd.Timedelta("7min")
    with pytest.raises(DataError, match="in row 33"):
        read(frame)


@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("sales", "many", "hold no number .row 5: 'many'"),
        ("date", "soon", "hold no time .row 5: 'soon'"),
    ],
)
def test_cells_of_another_kind_are_named(column, cell, words):
    frame = hourly().astype({column: object})
    frame.loc[5, column] = cell
    with pytest.raises(DataError, match=words):
        read(frame, time="date", target="sales")


def test_a_series_that_ends_early_is_forecast_from_its_own_end():
    wide = pd.DataFrame({"date": hourly()["date"], "a": np.arange(200.0), "b": np.arange(200.0)})
    wide.loc[150:, "b"] = np.nan
    data = read(wide)
    assert data.table.lengths.tolist() == [200, 150]
    assert data.table.times_after(1, back=0, count=1) == [wide["date"][150]]
    assert "ends with 50 missing values" in data.report.entries[0].problem


def test_empty_and_numberless_tables_are_errors():
    with pytest.raises(NoDataError, match="no rows"):
        read(hourly()[:0])
    with pytest.raises(NoDataError, match="No series holds a number"):
        read(hourly().assign(sales=np.nan))
    with pytest.raises(DataError, match="horizon=300 is longer than the longest series"):
        read(hourly(), horizon=300)


# Parts and windows.


def test_parts_do_not_overlap():
    data = read(hourly(), val=40, test=20)
    data.prepare(SeriesSpec(context_steps=10, horizon_steps=6))
    assert data.train.origins.steps.max() + 6 == 140
    assert (data.val.origins.steps.min(), data.val.origins.steps.max()) == (140, 174)
    assert (data.test.origins.steps.min(), data.test.origins.steps.max()) == (180, 194)
    rest = data.rest()
    rest.prepare(SeriesSpec(context_steps=10, horizon_steps=6))
    assert (rest.origins.steps.min(), rest.origins.steps.max()) == (135, 174)


@pytest.mark.parametrize("horizon", [96, 192])
def test_validation_looks_at_all_hours_of_the_day(horizon):
    """A stride of 12 or 24 hours would tell of one or two hours alone."""
    data = SeriesData.from_data_frame(hourly(3000), horizon=horizon, season=24)
    hours = data.val.origins.steps % 24
    assert len(set(hours.tolist())) == 24
    per_horizon = horizon / np.diff(data.val.origins.steps).max()
    assert 6 < per_horizon <= 8


def test_scales_are_learnt_from_the_training_part_only():
    frame = hourly()
    frame.loc[140:, "sales"] = 1e6
    assert read(frame, val=40, test=20).scale.center[0] == pytest.approx(
        hourly()["sales"][:140].mean()
    )


def test_windows_are_what_slices_would_be():
    frame = pd.concat([hourly(80, seed=1).assign(shop="a"), hourly(50, seed=2).assign(shop="b")])
    data = read(frame, val=0)
    data.prepare(SeriesSpec(context_steps=12, horizon_steps=6, scaled=False))
    batch = data.train.__getitems__([0, 62, 63, len(data.train) - 1])
    a, b = data.table.series(0), data.table.series(1)
    expected = [a[:18], a[62:80], b[:18], b[32:50]]
    windows = np.concatenate([batch["past"], batch["target"]], axis=1)
    assert np.allclose(windows, expected)
    assert batch["series"].tolist() == [0, 0, 1, 1]


def test_whole_histories_are_flush_right():
    data = SeriesData.from_arrays([[1.0, 2.0, 3.0, 4.0], [5.0, 6.0]], horizon=1, val=0, test=1)
    data.prepare(SeriesSpec(context_steps=0, horizon_steps=1, scaled=False))
    batch = data.test.__getitems__([0, 1])
    assert batch["past"].tolist() == [[1, 2, 3], [0, 0, 5]]
    assert batch["target"].tolist() == [[4], [6]]
    assert batch["history"].tolist() == [3, 1]


def test_large_numbers_lose_nothing_but_their_offset():
    data = SeriesData.from_arrays([1e9 + np.arange(50.0) % 3], horizon=2, val=0)
    data.prepare(SeriesSpec(context_steps=4, horizon_steps=2))
    past = (
        data.train.__getitems__([0])["past"].double() * data.scale.spread[0] + data.scale.center[0]
    )
    assert np.allclose(past - 1e9, [[0, 1, 2, 0]], atol=1e-5)


def test_a_batch_is_one_gather(count_calls):
    """However many windows there are, the same calls are made: none of them is per window."""
    rng = np.random.default_rng(0)
    data = SeriesData.from_arrays(rng.normal(size=(5000, 4)), horizon=96, val=0)
    data.prepare(SeriesSpec(context_steps=336, horizon_steps=96))
    few, many = rng.integers(0, len(data.train), 16).tolist(), list(range(1024))
    assert count_calls(data.train.__getitems__, few) == count_calls(data.train.__getitems__, many)


def test_windows_hold_no_copies_of_what_they_see():
    """What is kept grows with the series and their windows, and not with what a window sees."""
    held = []
    for context in (24, 336):
        data = SeriesData.from_arrays(np.random.default_rng(0).normal(size=(5000, 4)), horizon=96)
        data.prepare(SeriesSpec(context_steps=context, horizon_steps=96))
        parts = [value for value in vars(data.train).values() if isinstance(value, torch.Tensor)]
        held.append(sum({p.data_ptr(): p.untyped_storage().nbytes() for p in parts}.values()))
        assert held[-1] <= 4 * data.table.values.nbytes  # places, steps and series of each window
        batch = data.train.__getitems__(range(1024))
        large = [batch[name].untyped_storage().nbytes() for name in ("past", "target", "observed")]
        assert max(large) <= 4 * 1024 * (context + 96)  # past and target are one gather
    assert held[1] <= 1.1 * held[0]


def test_steps_that_cannot_be_held_back_are_refused():
    with pytest.raises(InvalidValueError, match="val=3: expected 0 or at least the 6 steps"):
        read(hourly(), val=3)


def test_specs_survive_json():
    seen = SeriesSpec(context_steps=5, horizon_steps=3, scaled=False)
    assert InputSpec.from_json(seen.to_json()) == seen
    told = SeriesDataSpec(horizon_steps=3, season=7, target=("a", "b"), frequency="D")
    assert DataSpec.from_json(told.to_json()) == told
    kiosk = Covariate(column="kind", category="kiosk", center=0.25, spread=0.5)
    both = {"static": (kiosk,), "future": (Covariate(column="price"),)}
    seen = SeriesSpec(context_steps=5, horizon_steps=3, **both)
    told = SeriesDataSpec(horizon_steps=3, **both)
    for spec, kind in ((seen, InputSpec), (told, DataSpec)):
        assert kind.from_json(json.loads(json.dumps(spec.to_json()))) == spec
        assert spec.covariates == both
    assert seen.replace({"context_steps": 7}).covariates == both
    with pytest.raises(InvalidValueError, match="horizon=-1"):
        SeriesDataSpec(horizon_steps=-1)
    with pytest.raises(InvalidValueError, match="horizon=0: expected at least 1 step to forecast"):
        SeriesData.from_arrays([[1.0, 2.0] * 9], horizon=0)
    with pytest.raises(InvalidValueError, match="Covariates come in windows"):
        seen.replace({"context_steps": 0})


# Arguments.


@pytest.mark.parametrize("name", ["horizon", "season", "val", "test", "seed"])
@pytest.mark.parametrize("value", ["x", 12.5, True, -1])
def test_counts_that_are_none_are_refused_by_name(name, value):
    with pytest.raises(InvalidValueError, match=f"{name}="):
        read(hourly(), **{name: value})


def test_counts_of_numpy_are_plain_ones_afterwards():
    spec = read(hourly(), horizon=np.int64(6), season=np.int32(24)).spec
    assert json.loads(json.dumps(spec.to_json()))["horizon_steps"] == 6


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"target": 5}, "target=5: expected the name of a column, or several"),
        ({"target": []}, "target=\\[\\]: expected one or several different columns"),
        ({"target": ["sales", "sales"]}, "expected one or several different columns"),
        ({"time": ["date"]}, "time=\\['date'\\]: expected the name of a column, or None"),
        ({"series": 3}, "series=3: expected the name of a column, or None"),
        ({"past": None}, "past=None: expected the name of a column, or several; leave it out"),
        ({"frequency": 2.5}, "frequency=2.5: expected a text such as 'D', or an int"),
    ],
)
def test_names_that_are_none_are_refused(given, words):
    with pytest.raises(InvalidValueError, match=words):
        read(hourly(), **given)


@pytest.mark.parametrize("arrays", [5, None, "sales.csv", {"a": ["x"]}, {"a": 5}, ["x", "y"]])
def test_arrays_that_hold_no_numbers_are_refused(arrays):
    with pytest.raises(DataError, match="Expected series of numbers, got"):
        SeriesData.from_arrays(arrays, horizon=2)


def test_a_test_part_that_holds_back_everything_is_refused():
    with pytest.raises(DataError, match=r"test=60 holds back all there is.*has 60 steps"):
        SeriesData.from_arrays(np.arange(60.0), horizon=3, test=60)


def test_complex_numbers_are_none():
    with pytest.raises(DataError, match="60 rows of the column 'x' hold no number"):
        SeriesData.from_data_frame(pd.DataFrame({"x": np.arange(60) + 1j}), horizon=3, target="x")


def test_an_integer_is_a_step_of_integers():
    frame = pd.DataFrame({"step": 5 * np.arange(40), "sales": np.arange(40.0)})
    assert read(frame, frequency=5).table.frequency == Frequency("index", 5)


def test_a_grid_finer_than_all_rows_is_refused():
    with pytest.raises(DataError, match="A step is 30min, and no two rows are nearer than 2 steps"):
        read(hourly(), frequency="30min")
    assert read(hourly(40)[::3].iloc[:6], horizon=2, frequency="h").table.lengths.tolist() == [16]


def test_every_index_that_says_something_is_a_column():
    first, second = hourly(seed=1), hourly(seed=2)
    long = pd.concat([first.assign(shop="a"), second.assign(shop="b")])
    data = read(long.set_index(["shop", "date"]))
    assert (data.table.ids, data.spec.time, data.spec.series) == (("a", "b"), "date", "shop")
    rows = pd.DataFrame(np.stack([first["sales"], second["sales"]]), index=["a", "b"])
    assert read(rows).table.ids == ("a", "b")
    kept = first[first["sales"] > 0].sort_values("sales")  # an index that only counts
    assert read(kept).spec.target == ("sales",)
