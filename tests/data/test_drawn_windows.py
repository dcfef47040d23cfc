"""Windows that are drawn: series as often, an order per seed and epoch, shared, resumable."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mealkit import SeriesData
from mealkit.data.drawn_windows import DrawnWindows
from mealkit.errors import InvalidValueError
from mealkit.specs import SeriesSpec

SPEC = SeriesSpec(context_steps=4, horizon_steps=2)


def unequal() -> SeriesData:
    rng = np.random.default_rng(0)
    arrays = {"long": rng.normal(size=900), "short": rng.normal(size=12), "tiny": np.ones(3)}
    data = SeriesData.from_arrays(arrays, horizon=2, val=0)
    data.prepare(SPEC)
    data.draws = True
    return data


def sampler(data: SeriesData, **given) -> DrawnWindows:
    return DrawnWindows(data.train, batch_size=50, num_steps=20, **given)


def test_each_series_comes_as_often_and_each_window_at_some_time():
    data = unequal()
    drawn = torch.tensor(list(sampler(data)))
    assert len(drawn) == len(sampler(data)) == 1000
    series = data.train.origins.series[drawn]
    assert np.bincount(series, minlength=3)[:2] == pytest.approx([500, 500], abs=60)
    short = drawn[torch.from_numpy(series == 1)]
    assert len(short.unique()) == (data.train.origins.series == 1).sum() == 7
    assert drawn.max() < len(data.train)


def test_the_order_is_one_of_seed_and_epoch():
    data = unequal()
    orders = []
    for seed, epoch in ((0, 0), (0, 0), (0, 1), (7, 0)):
        one = sampler(data, seed=seed)
        one.set_epoch(epoch)
        orders.append(list(one))
    assert orders[0] == orders[1]
    assert orders[0] != orders[2]
    assert orders[0] != orders[3]


def test_processes_share_the_draws():
    data = unequal()
    parts = [list(sampler(data, num_processes=2, rank=rank)) for rank in (0, 1)]
    assert [len(part) for part in parts] == [1000, 1000]
    both = sampler(data)
    both.total_size = 2000
    assert list(both)[::2][:500] == parts[0][:500]


def test_a_loader_goes_on_where_it_was():
    data = unequal()
    data.batch_size = 30
    whole = [batch["index"].tolist() for batch in data.train_dataloader()]
    assert len(whole) == 100
    assert [len(batch) for batch in whole] == [30] * 100
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 0, "position": 97})
    assert [batch["index"].tolist() for batch in loader] == whole[97:]
    with pytest.raises(InvalidValueError, match="batch_size=0"):
        data.loader(data.train, batch_size=0, shuffle=True)


def test_some_of_many_validation_windows_are_watched(monkeypatch):
    data = SeriesData.from_arrays(np.random.default_rng(0).normal(size=(300, 2)), horizon=2)
    data.prepare(SPEC)
    every = sum(len(batch["index"]) for batch in data.val_dataloader())
    assert every == len(data.val)
    monkeypatch.setattr("mealkit.data.series.MOST_WATCHED", 50)
    data.draws = True
    (batch,) = data.val_dataloader()
    assert 30 < len(batch["index"]) <= 50
    assert len(batch["series"].unique()) == 2


def test_a_batch_of_drawn_windows_is_one_gather_through_the_loader_too(count_calls):
    """Of ETTh1's size: an epoch of large batches makes as many calls as one of small ones."""
    data = SeriesData.from_arrays(
        np.random.default_rng(0).normal(size=(17_420, 7)), horizon=96, val=0
    )
    data.prepare(SeriesSpec(context_steps=336, horizon_steps=96))
    data.draws, calls = True, []
    for size in (64, 1024):
        data.batch_size = size
        calls.append(count_calls(list, data.train_dataloader()))
    assert calls[0] == calls[1]
