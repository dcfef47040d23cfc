"""Thresholds: the highest F1 against every other cut, ties, classes of which nothing is known."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mealkit.tasks.thresholds import best_thresholds, macro_f1


def drawn(seed: int, num: int = 80):
    rng = np.random.default_rng(seed)
    targets = (rng.random((num, 3)) < (0.5, 0.2, 0.05)).astype(np.uint8)
    targets[0] = 1  # every class is there
    probabilities = np.clip(0.3 * targets + 0.6 * rng.random((num, 3)), 0, 1)
    return np.round(probabilities, 2).astype(np.float32), targets  # rounded: some are equal


def f1(known, given) -> float:
    return 2 * (known * given).sum() / (known.sum() + given.sum())


@pytest.mark.parametrize("seed", range(8))
def test_no_other_threshold_has_a_higher_f1(seed: int) -> None:
    probabilities, targets = drawn(seed)
    thresholds = best_thresholds(probabilities, targets)
    for place, threshold in enumerate(thresholds):
        values, known = probabilities[:, place].astype(np.float64), targets[:, place]
        others = [f1(known, values >= cut) for cut in np.linspace(0, 1, 301)]
        assert f1(known, values >= threshold) == pytest.approx(max(others))
        assert np.abs(values - threshold).min() > 1e-3, "between two probabilities, not on one"


def test_a_threshold_is_midway_and_one_half_where_that_is_as_good() -> None:
    column = np.array([[0.9], [0.8], [0.3], [0.1]], dtype=np.float32)
    assert best_thresholds(column, np.array([[1], [1], [0], [0]])) == (0.5,)
    (low,) = best_thresholds(column, np.array([[1], [1], [1], [0]]))
    assert low == pytest.approx(0.2)
    (high,) = best_thresholds(column, np.array([[1], [0], [0], [0]]))
    assert high == pytest.approx(0.85)


def test_of_cuts_as_good_the_one_nearest_to_one_half_is_taken() -> None:
    column = np.array([[0.4], [0.3], [0.2], [0.1]])
    # The first alone: 2 / 3. All four: 2 * 2 / (4 + 2), the same.
    (threshold,) = best_thresholds(column, np.array([[1], [0], [0], [1]]))
    assert threshold == pytest.approx(0.35)


@pytest.mark.parametrize("value", [0, 1])
def test_a_class_that_none_or_all_have_keeps_one_half(value: int) -> None:
    column = np.array([[0.9], [0.2]])
    assert best_thresholds(column, np.full((2, 1), value)) == (0.5,)


def test_macro_f1_agrees_with_scikit_learn() -> None:
    probabilities, targets = drawn(3)
    decisions = probabilities >= 0.5
    expected = f1_score(targets, decisions, average="macro", zero_division=0)
    assert macro_f1(decisions, targets) == pytest.approx(expected)


def test_no_threshold_lies_between_what_differs_by_rounding():
    targets = np.array([[1], [0], [1], [0], [0]])
    exact = np.array([[0.4], [0.3], [0.3], [0.1], [0.1]])
    rounded = exact + np.array([[0.0], [0.0], [3e-8], [0.0], [2e-8]])
    assert best_thresholds(rounded, targets) == pytest.approx(best_thresholds(exact, targets))
