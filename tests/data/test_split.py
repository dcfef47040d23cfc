from __future__ import annotations

import random
from collections.abc import Iterable

import pytest
import torch

from mealkit.data.split import classes_of, folds_by_hash, split_by_hash
from mealkit.errors import InvalidValueError


def items(num: int, num_classes: int = 3, *, start: int = 0) -> tuple[list[str], list[int]]:
    keys = [f"item {number}" for number in range(start, start + num)]
    return keys, [number % num_classes for number in range(start, start + num)]


def alone(targets: Iterable[int]) -> list[list[int]]:
    """Every item has one class."""
    return [[target] for target in targets]


def several(num: int, seed: int) -> tuple[list[str], list[list[int]]]:
    """Items of any number of five classes, some of them rare."""
    rng = random.Random(seed)
    shares = (0.6, 0.4, 0.2, 0.1, 0.06)
    return [f"item {n}" for n in range(num)], [
        [target for target, share in enumerate(shares) if rng.random() < share] for _ in range(num)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_added_items_leave_the_others_on_their_side(seed):
    keys, targets = items(60)
    more_keys, more_targets = items(40, start=60)
    before = dict(zip(keys, split_by_hash(keys, alone(targets), share=0.2, seed=seed), strict=True))
    chosen = split_by_hash(keys + more_keys, alone(targets + more_targets), share=0.2, seed=seed)
    after = dict(zip(keys + more_keys, chosen, strict=True))
    moved = [key for key in keys if before[key] != after[key]]
    # Only an item that was forced into validation may go back: it is the last one of its class.
    for key in moved:
        target = targets[keys.index(key)]
        class_mates = [other for other, t in zip(keys, targets, strict=True) if t == target]
        assert sum(before[other] for other in class_mates) == 1
        assert before[key]
    assert len(moved) <= 3


def test_order_does_not_matter():
    keys, targets = items(50)
    chosen = dict(zip(keys, split_by_hash(keys, alone(targets), share=0.3, seed=1), strict=True))
    order = list(range(50))
    random.Random(0).shuffle(order)
    shuffled = split_by_hash(
        [keys[n] for n in order], alone(targets[n] for n in order), share=0.3, seed=1
    )
    assert shuffled == [chosen[keys[n]] for n in order]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [0.01, 0.2, 0.99])
def test_every_class_of_two_keys_is_on_both_sides(seed, share):
    keys, targets = items(9)
    chosen = split_by_hash(keys, alone(targets), share=share, seed=seed)
    for target in range(3):
        sides = {side for side, t in zip(chosen, targets, strict=True) if t == target}
        assert sides == {True, False}


def test_single_items_stay_in_train():
    for seed in range(20):
        chosen = split_by_hash(["a", "b", "c"], [[0], [1], [1]], share=0.9, seed=seed)
        assert chosen[0] is False


def test_equal_keys_stay_together_even_across_classes():
    keys = [f"group {number // 4}" for number in range(80)]
    targets = [number % 2 for number in range(80)]
    for seed in range(10):
        chosen = split_by_hash(keys, alone(targets), share=0.3, seed=seed)
        sides = {key: {chosen[n] for n in range(80) if keys[n] == key} for key in set(keys)}
        assert all(len(side) == 1 for side in sides.values())
        assert any(chosen)


def test_the_share_is_met_on_average():
    keys, targets = items(5000)
    chosen = split_by_hash(keys, alone(targets), share=0.2, seed=0)
    assert abs(sum(chosen) / 5000 - 0.2) < 0.02
    assert chosen != split_by_hash(keys, alone(targets), share=0.2, seed=1)


def test_no_share_is_no_validation():
    assert split_by_hash(["a", "b"], [[0], [0]], share=0, seed=0) == [False, False]


@pytest.mark.parametrize("share", [-0.1, 1, 1.5])
def test_shares_that_cannot_be_meant_are_refused(share):
    with pytest.raises(InvalidValueError, match=r"expected a share in \[0, 1\)"):
        split_by_hash(["a"], [[0]], share=share, seed=0)


# Folds.


@pytest.mark.parametrize("seed", range(5))
def test_folds_hold_equal_shares_of_each_class(seed):
    keys, targets = items(62)
    folds = folds_by_hash(keys, alone(targets), k=5, seed=seed)
    for target in range(3):
        counts = [
            sum(f == n and t == target for f, t in zip(folds, targets, strict=True))
            for n in range(5)
        ]
        assert max(counts) - min(counts) <= 1
    sizes = [folds.count(n) for n in range(5)]
    assert sum(sizes) == 62
    assert max(sizes) - min(sizes) <= 2


def test_folds_depend_on_what_items_are_and_not_on_their_order():
    keys, targets = items(50)
    folds = dict(zip(keys, folds_by_hash(keys, alone(targets), k=4, seed=1), strict=True))
    order = list(range(50))
    random.Random(0).shuffle(order)
    again = folds_by_hash([keys[n] for n in order], alone(targets[n] for n in order), k=4, seed=1)
    assert again == [folds[keys[n]] for n in order]
    assert list(folds.values()) != folds_by_hash(keys, alone(targets), k=4, seed=2)


def test_large_and_small_groups_are_dealt_out_evenly():
    keys = [f"group {number}" for number in range(12) for _ in range(1 + number % 4)]
    targets = [0 if number % 2 else 1 for number in range(len(keys))]
    folds = folds_by_hash(keys, alone(targets), k=3, seed=0)
    assert len(set(zip(keys, folds, strict=True))) == 12
    sizes = [folds.count(n) for n in range(3)]
    assert max(sizes) - min(sizes) <= 4, "the largest group"


def test_a_key_without_which_a_class_is_not_trained_on_is_in_no_fold():
    keys = ["a", "b", "c", "d", "alone", "mixed", "mixed"]
    targets = [0, 0, 1, 1, 2, 0, 3]
    folds = folds_by_hash(keys, alone(targets), k=2, seed=0)
    assert folds[4:] == [-1, -1, -1]
    assert sorted(folds[:2]) == sorted(folds[2:4]) == [0, 1]
    with pytest.raises(InvalidValueError, match="at most the 4 different inputs or groups"):
        folds_by_hash(keys, alone(targets), k=5, seed=0)


# Items with any number of classes.


def test_rows_of_zeros_and_ones_name_their_classes():
    targets = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]], dtype=torch.uint8)
    assert classes_of(targets) == [[1, 2], [], [0]]
    assert classes_of(torch.tensor([2, 0])) == [[2], [0]]


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [0.02, 0.2, 0.9])
def test_every_class_is_trained_on_and_nearly_every_one_validated(seed, share):
    keys, targets = several(60, seed)
    chosen = split_by_hash(keys, targets, share=share, seed=seed)
    sides = {
        target: {side for side, own in zip(chosen, targets, strict=True) if target in own}
        for target in range(5)
    }
    num_items = [sum(target in own for own in targets) for target in range(5)]
    assert all(False in sides[target] for target in range(5) if num_items[target])
    absent = [t for t in range(5) if num_items[t] > 1 and True not in sides[t]]
    assert len(absent) <= (1 if share < 0.2 else 0), "needed in train by another class"


def test_added_items_with_several_classes_leave_the_others_on_their_side():
    keys, targets = several(200, 3)
    before = split_by_hash(keys[:120], targets[:120], share=0.2, seed=1)
    after = split_by_hash(keys, targets, share=0.2, seed=1)
    assert sum(one != other for one, other in zip(before, after[:120], strict=True)) <= 2


@pytest.mark.parametrize("seed", range(10))
def test_folds_hold_like_shares_of_each_of_several_classes(seed):
    keys, targets = several(200, seed)
    folds = folds_by_hash(keys, targets, k=4, seed=seed)
    for target in range(5):
        counts = [
            sum(f == n and target in own for f, own in zip(folds, targets, strict=True))
            for n in range(4)
        ]
        rare = sum(counts) < 25
        assert max(counts) - min(counts) <= (1 if rare else 9), (target, counts)
    sizes = [folds.count(n) for n in range(4)]
    assert sum(sizes) == 200
    assert max(sizes) - min(sizes) <= 9
    order = list(range(200))
    random.Random(0).shuffle(order)
    again = folds_by_hash([keys[n] for n in order], [targets[n] for n in order], k=4, seed=seed)
    assert again == [folds[n] for n in order]


def test_groups_with_several_classes_stay_together_in_folds():
    keys, targets = several(120, 5)
    keys = [f"group {number // 3}" for number in range(120)]
    folds = folds_by_hash(keys, targets, k=3, seed=0)
    assert len(set(zip(keys, folds, strict=True))) == 40
