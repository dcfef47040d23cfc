"""UnlabelledSeries: windows with nothing behind them, of what is known and was observed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mealkit import SeriesData
from mealkit.data import UnlabelledSeries
from mealkit.data.unlabelled_series import KnownWindows
from mealkit.errors import DataError, InvalidValueError, NoDataError
from mealkit.specs import SeriesSpec

SEES = SeriesSpec(context_steps=4, horizon_steps=0)


def frame() -> pd.DataFrame:
    days = pd.date_range("2024-01-01", periods=12, freq="D")
    parts = [
        pd.DataFrame({"day": days, "shop": shop, "sales": values, "price": 1.0})
        for shop, values in (("a", np.arange(12.0)), ("b", 5 * np.arange(12.0) + 100))
    ]
    return pd.concat(parts)


def read(data: UnlabelledSeries) -> torch.Tensor:
    data.prepare(SEES)
    return data.train.__getitems__(range(len(data.train)))["past"]


def test_long_wide_and_files_are_read_alike(tmp_path: Path) -> None:
    long = frame()
    wide = long.pivot(index="day", columns="shop", values="sales").reset_index()
    long.to_csv(tmp_path / "long.csv", index=False)
    arrays = {shop: part["sales"].to_numpy() for shop, part in long.groupby("shop")}
    columns = {"time": "day", "target": "sales", "series": "shop"}
    made = {
        "frame": UnlabelledSeries.from_data_frame(long, **columns),
        "csv": UnlabelledSeries.from_csv(tmp_path / "long.csv", **columns),
        "wide": UnlabelledSeries.from_data_frame(wide, time="day", target=["a", "b"]),
        "arrays": UnlabelledSeries.from_arrays(arrays),
    }
    expected = read(made["frame"])
    assert expected.shape == (2 * 9, 4)
    for data in made.values():
        assert data.table.ids == ("a", "b")
        assert torch.equal(read(data), expected)
    assert made["frame"].spec.time == "day"
    assert made["frame"].spec.horizon_steps == 0
    assert made["frame"].spec.length_steps == 12


def test_the_last_value_is_learnt_from_and_what_is_held_back_is_not() -> None:
    series = np.arange(10.0)
    data = UnlabelledSeries.from_arrays([series])
    values = read(data) * series.std() + series.mean()
    assert values[-1].round().tolist() == [6, 7, 8, 9]
    held = UnlabelledSeries.from_arrays([series], test=3)
    known = series[:7]
    values = read(held) * known.std() + known.mean()
    assert values[0].round().tolist() == [0, 1, 2, 3]
    assert values[-1].round().tolist() == [3, 4, 5, 6]
    with pytest.raises(NoDataError, match="test=10 leaves nothing"):
        UnlabelledSeries.from_arrays([series], test=10)
    with pytest.raises(InvalidValueError, match="test=-1"):
        UnlabelledSeries.from_arrays([series], test=-1)


def test_data_of_a_forecaster_give_what_trains() -> None:
    data = SeriesData.from_arrays([np.arange(30.0)], horizon=2, val=6, test=4)
    made = UnlabelledSeries.from_data(data)
    assert made.table.series(0).tolist() == list(range(20))
    with pytest.raises(InvalidValueError, match="Expected SeriesData, got list"):
        UnlabelledSeries.from_data([1.0])
    nothing = SeriesData.from_arrays([np.arange(9.0)], horizon=2, val=5, test=4)
    with pytest.raises(NoDataError, match="nothing trains"):
        UnlabelledSeries.from_data(nothing)


def test_gaps_are_marked_and_windows_of_gaps_left_out() -> None:
    series = np.arange(20.0)
    series[8:13] = np.nan
    data = UnlabelledSeries.from_arrays([series])
    data.prepare(SEES)
    batch = data.train.__getitems__(range(len(data.train)))
    assert set(batch) == {"index", "series", "history", "past", "observed"}
    ends = batch["history"].tolist()
    assert ends == [4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 18, 19, 20]  # at least half observed
    assert batch["observed"][ends.index(10)].tolist() == [True, True, False, False]


def test_short_series_are_named_and_refused_where_all_are(caplog: pytest.LogCaptureFixture) -> None:
    data = UnlabelledSeries.from_arrays({"long": np.arange(9.0), "short": np.arange(3.0)})
    data.prepare(SEES)
    data.prepare(SEES)
    said = [line for line in caplog.messages if "Left out" in line]
    assert len(said) == 1
    assert "1 of 2 series, which have fewer than the 4 steps that the net sees: 'short'" in said[0]
    with pytest.raises(DataError, match="No series has the 10 steps"):
        data.prepare(SEES.replace({"context_steps": 10}))


def test_last_windows_are_one_per_series() -> None:
    data = UnlabelledSeries.from_arrays({"a": np.arange(9.0), "b": np.arange(6.0) ** 2})
    last = KnownWindows.last(data.table)
    last.prepare(SEES)
    assert last.ids == ["a", "b"]
    batch = last.__getitems__([1])
    squares = np.arange(6.0) ** 2
    expected = (squares[-4:] - squares.mean()) / squares.std()
    assert np.allclose(batch["past"][0], expected, atol=1e-6)
    with pytest.raises(DataError, match=r"1 of 2 series have fewer than the 8 steps.*'b'"):
        KnownWindows.last(data.table).prepare(SEES.replace({"context_steps": 8}))


def test_an_epoch_is_drawn_by_series_and_goes_on_anywhere() -> None:
    data = UnlabelledSeries.from_arrays({"a": np.arange(90.0), "b": np.arange(6.0)}, seed=3)
    data.prepare(SEES)
    loader = data.loader(data.train, batch_size=16, shuffle=True)
    series = torch.cat([batch["series"] for batch in loader])
    assert len(series) == 100 * 16
    assert 0.4 < float((series == 0).float().mean()) < 0.6
    with pytest.raises(InvalidValueError, match="batch_size=0"):
        data.loader(data.train, batch_size=0, shuffle=True)
