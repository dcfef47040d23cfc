"""Datasets with one entry a series: whatever holds them, the table is that of a data frame."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mealkit import Forecaster, SeriesData
from mealkit.data.series_entries import is_dataset
from mealkit.errors import DataError, InvalidValueError, NoDataError

RNG = np.random.default_rng(0)
VALUES = {"a": RNG.normal(size=60), "b": RNG.normal(size=45)}


class Map(Dataset):
    """As torch's: a length and items, and no end to an iteration over it."""

    def __init__(self, entries: list) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, number: int) -> object:
        return self.entries[number % len(self.entries)]


class Stream(IterableDataset):
    def __init__(self, entries: list) -> None:
        self.entries = entries

    def __iter__(self) -> Iterator[object]:
        return iter(self.entries)


def frame(freq: str = "h") -> pd.DataFrame:
    parts = [
        pd.DataFrame(
            {"t": pd.date_range("2024-01-01", periods=len(v), freq=freq), "id": id, "y": v}
        )
        for id, v in VALUES.items()
    ]
    return pd.concat(parts, ignore_index=True)


def entries(start: object, **more: object) -> list[dict[str, object]]:
    return [{"item_id": id, "start": start, "target": v, **more} for id, v in VALUES.items()]


def same(one: SeriesData, other: SeriesData) -> bool:
    mine, theirs = one.table, other.table
    return (
        mine.ids == theirs.ids
        and np.array_equal(mine.values, theirs.values)
        and np.array_equal(mine.last, theirs.last)
        and mine.frequency == theirs.frequency
    )


@pytest.mark.parametrize("kind", [list, Map, Stream])
@pytest.mark.parametrize(
    "start",
    [pd.Period("2024-01-01 00:00", "h"), pd.Timestamp("2024-01-01"), "2024-01-01T00:00"],
)
def test_every_kind_of_dataset_and_start_is_read(kind, start):
    given = {} if isinstance(start, pd.Period) else {"frequency": "h"}
    data = SeriesData.from_dataset(kind(entries(start)), horizon=3, **given)
    assert same(data, SeriesData.from_data_frame(frame(), horizon=3))


@pytest.mark.parametrize("kind", [list, np.asarray, pd.DatetimeIndex])
def test_a_time_for_each_value_is_read(kind):
    made = [
        {"id": id, "timestamp": kind(list(part["t"])), "target": part["y"].tolist()}
        for id, part in frame().groupby("id")
    ]
    data = SeriesData.from_dataset(made, horizon=3)
    assert same(data, SeriesData.from_data_frame(frame(), horizon=3))


@pytest.mark.parametrize(
    ("period", "step"), [("M", "MS"), ("Q-DEC", "QS"), ("Y", "YS"), ("W-SUN", "W"), ("D", "D")]
)
def test_periods_become_the_grid_of_their_starts(period, step):
    start = pd.Period("2024-01-01", period)
    data = SeriesData.from_dataset(entries(start), horizon=3)
    assert str(data.table.frequency) == step
    stamps = pd.period_range(start, periods=60, freq=period).to_timestamp()
    assert data.table.last[0] == np.datetime64(stamps[-1], "s")


def test_month_ends_stay_month_ends():
    data = SeriesData.from_dataset(entries("2024-01-31"), horizon=3, frequency="M")
    stamps = pd.date_range("2024-01-31", periods=60, freq="ME")
    assert data.table.last[0] == np.datetime64(stamps[-1], "s")


@pytest.mark.parametrize("step", ["D", "h"])
def test_zones_are_kept_over_a_change_of_clocks(step):
    stamps = pd.date_range("2024-03-01", periods=60, freq=step, tz="Europe/Berlin")
    table = pd.DataFrame({"t": stamps, "y": VALUES["a"]})
    made = [{"start": stamps[0], "target": VALUES["a"]}]
    data = SeriesData.from_dataset(made, horizon=3, frequency=step)
    expected = SeriesData.from_data_frame(table, horizon=3)
    assert np.array_equal(data.table.last, expected.table.last)
    assert data.table.times_after(0, back=5, count=3) == expected.table.times_after(
        0, back=5, count=3
    )


def test_arrays_and_rows_of_channels_are_series():
    data = SeriesData.from_dataset(Map([torch.ones(20), np.zeros(30)]), horizon=3)
    assert data.table.ids == ("0", "1")
    assert data.table.lengths.tolist() == [20, 30]
    several = [{"item_id": "x", "target": np.arange(40.0).reshape(2, 20)}]
    data = SeriesData.from_dataset(several, horizon=3)
    assert data.table.ids == ("x/0", "x/1")
    assert data.table.series(1).tolist() == list(range(20, 40))


def test_other_fields_are_named(caplog):
    made = entries(pd.Period("2024-01-01", "D"), feat_static_cat=[0], note=None)
    with caplog.at_level("INFO", "mealkit"):
        SeriesData.from_dataset(made, horizon=3)
    assert "these fields are not used: feat_static_cat, note." in caplog.text


def test_what_cannot_be_read_is_named():
    def read(made, **given):
        return SeriesData.from_dataset(made, horizon=3, **given)

    with pytest.raises(InvalidValueError, match=r"not how long a step is. Give it: frequency="):
        read(entries("2024-01-01"))
    with pytest.raises(DataError, match="Entry 1 of the dataset: There is no field 'target'"):
        read([*entries(0)[:1], {"item_id": "b", "start": 0, "targets": [1.0]}])
    with pytest.raises(DataError, match="Entry 0 of the dataset: 'target' holds no numbers"):
        read([{"target": ["x", "y"]}])
    with pytest.raises(DataError, match=r"has the shape \(1, 1, 2\)"):
        read([{"target": np.ones((1, 1, 2))}])
    with pytest.raises(DataError, match="2 entries of the dataset are called 'a'"):
        read([{"id": "a", "target": np.ones(9)}] * 2)
    with pytest.raises(DataError, match="has 3 values and 2 times"):
        read([{"timestamp": [1, 2], "target": np.ones(3)}])
    with pytest.raises(DataError, match="Entry 0 of the dataset has no 'start'"):
        read(entries(None))
    with pytest.raises(DataError, match="Entry 0 of the dataset is a int; expected a dict"):
        read([3])
    days, hours = (pd.Period("2024-01-01", f) for f in "Dh")
    with pytest.raises(DataError, match="different frequencies: D, h"):
        read([{"start": days, "target": [1.0]}, {"start": hours, "target": [1.0]}])
    with pytest.raises(NoDataError, match="no entries"):
        read([])


def test_what_is_a_dataset():
    assert is_dataset(entries(0))
    assert is_dataset(Map([]))
    assert is_dataset(Stream([]))
    for other in (np.ones(3), [np.ones(3)], {"a": np.ones(3)}, frame(), "sales.csv", torch.ones(3)):
        assert not is_dataset(other)


def test_a_task_reads_datasets_again():
    made = entries(pd.Period("2024-01-01", "h"))
    task = Forecaster.from_dataset(made, horizon=3, backbone="ridge", context=8)
    task.finetune()
    answer = task.predict()
    assert answer.series == ("a", "b")
    assert answer.to_frame()["time"].iloc[0] == pd.Timestamp("2024-01-01") + pd.Timedelta("60h")
    assert np.allclose(task.predict(Map(made)).mean, answer.mean, rtol=1e-4)
    late = [{"item_id": "a", "start": pd.Period("2024-01-03 12:00", "h"), "target": [1.0, 2.0]}]
    task.update(late)
    assert task.predict().to_frame()["time"].iloc[0] == pd.Timestamp("2024-01-03 14:00")
