"""Strategies are pure functions; what they answer is checked by hand."""

import pytest

from mealkit.errors import InvalidValueError, UnknownNameError
from mealkit.tasks import STRATEGIES, FreezeUnfreeze, LayerDecay
from mealkit.tasks.strategies import Schedule, name_of, resolve


def rows(strategy: object, num_epochs: int, num_blocks: int) -> list[tuple[float, ...]]:
    schedule = Schedule(resolve(strategy), num_epochs, num_blocks)
    return [schedule.row(epoch) for epoch in range(num_epochs)]


def test_full_trains_every_block_in_every_epoch() -> None:
    assert rows("full", 2, 3) == [(1, 1, 1), (1, 1, 1)]


def test_freeze_trains_no_block_in_any_epoch() -> None:
    assert rows("freeze", 2, 3) == [(0, 0, 0), (0, 0, 0)]


def test_freeze_unfreeze_opens_everything_after_its_frozen_epochs() -> None:
    assert rows("freeze_unfreeze", 3, 2) == [(0, 0), (1, 1), (1, 1)]
    assert rows(FreezeUnfreeze(epochs=2), 3, 2) == [(0, 0), (0, 0), (1, 1)]


def test_gradual_opens_blocks_from_the_output_side_until_all_are_open() -> None:
    assert rows("gradual", 4, 3) == [(0, 0, 0), (0, 0, 1), (0, 1, 1), (1, 1, 1)]
    assert rows("gradual", 3, 5) == [(0,) * 5, (0, 0, 1, 1, 1), (1,) * 5]


def test_layer_decay_slows_blocks_by_their_distance_from_the_head() -> None:
    assert rows(LayerDecay(0.5), 1, 3) == [(0.125, 0.25, 0.5)]


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_keeps_its_contract(name: str) -> None:
    strategy = resolve(name)
    for num_epochs in (1, 2, 7):
        for num_blocks in (1, 4):
            for row in rows(name, num_epochs, num_blocks):
                assert all(0 <= value <= 1 for value in row)
                assert list(row) == sorted(row), "the input side never trains faster"
    assert strategy(0, 3, 0, 4) == strategy(0, 3, 0, 4)
    assert name_of(strategy) == name


def test_frozen_epochs_are_counted_from_the_start() -> None:
    assert Schedule(resolve("freeze"), 4, 2).num_frozen_epochs == 4
    assert Schedule(resolve("freeze_unfreeze"), 4, 2).num_frozen_epochs == 1
    assert Schedule(resolve("full"), 4, 2).num_frozen_epochs == 0


def test_phases_join_like_epochs() -> None:
    phases = Schedule(FreezeUnfreeze(2), 5, 1).phases()
    assert phases == [(0, 1, (0.0,)), (2, 4, (1.0,))]


def test_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no strategy 'frezee'\. Did you mean 'freeze'"):
        resolve("frezee")


def test_negative_multiplier_is_refused() -> None:
    with pytest.raises(
        InvalidValueError, match=r"in epoch 0=-1\.0: expected a number in \[0, inf\)"
    ):
        Schedule(lambda epoch, num_epochs, block, num_blocks: -1.0, 2, 1).row(0)


@pytest.mark.parametrize("make", [lambda: LayerDecay(0.0), lambda: FreezeUnfreeze(0)])
def test_impossible_settings_are_refused(make: object) -> None:
    with pytest.raises(InvalidValueError, match="expected"):
        make()
