"""What refuses arguments, and what it says."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mealkit.errors import (
    InvalidValueError,
    can_be_called,
    check_count,
    check_number,
    check_path,
    check_positive,
    check_seed,
    check_switch,
    shown,
)


@pytest.mark.parametrize(("value", "within"), [(0, "[0, 1)"), (1.0, "(0, 1]"), (0.5, "(0, inf)")])
def test_numbers_inside_an_interval_pass(value: float, within: str) -> None:
    check_number("share", value, within)


@pytest.mark.parametrize(
    ("value", "within"),
    [
        (0, "(0, 1]"),
        (1, "[0, 1)"),
        (float("nan"), "[0, 1]"),
        (float("inf"), "(0, inf)"),
        (True, "[0, 1]"),
        ("0.5", "[0, 1]"),
        (None, "[0, 1]"),
    ],
)
def test_others_are_refused_with_the_interval(value: object, within: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        check_number("share", value, within, what="a share")
    assert str(caught.value) == f"share={value!r}: expected a share in {within}."


def test_counts_are_whole_numbers() -> None:
    check_count("k", torch.iinfo(torch.int8).max)
    for value, words in ((1.0, "a whole number"), ("1", "a whole number"), (0, "at least 1")):
        with pytest.raises(InvalidValueError, match=f"k={value!r}: expected {words}"):
            check_count("k", value)
    assert check_seed(-3, name="seeds") == -3
    with pytest.raises(InvalidValueError, match=r"seeds='a': expected a whole number"):
        check_seed("a", name="seeds")


def test_positive_numbers_are_above_zero_and_finite() -> None:
    check_positive("lr", 1e-9)
    for value in (0, -1.0, float("nan"), float("inf"), "1", None, True):
        with pytest.raises(InvalidValueError) as caught:
            check_positive("lr", value)
        assert str(caught.value) == f"lr={value!r}: expected a positive number."


def test_paths_are_texts_or_paths() -> None:
    check_path("run", "runs/ants", what="a folder")
    check_path("run", Path("runs"), what="a folder")
    for value in (5, None, ["runs"]):
        with pytest.raises(InvalidValueError) as caught:
            check_path("run", value, what="a folder")
        assert str(caught.value) == f"run={value!r}: expected the path of a folder."


def test_long_values_are_shown_in_one_short_line() -> None:
    assert shown(["a", 1]) == "['a', 1]"
    line = shown({"text": ["a\n"] * 1000})
    assert "\n" not in line
    assert len(line) < 80
    assert line.startswith("{'text': [")
    assert line.endswith("... (dict)")


def test_switches_are_true_or_false() -> None:
    check_switch("tta", False)
    for value in (1, "yes", None):
        with pytest.raises(InvalidValueError, match=f"tta={value!r}: expected True or False"):
            check_switch("tta", value)


def test_functions_are_asked_what_they_take() -> None:
    assert can_be_called(lambda images, *, seed: images, None, seed=0)
    assert not can_be_called(lambda images: images, None, seed=0)
    assert not can_be_called(lambda: None, 1)
    assert can_be_called(max, 1, 2), "it has no signature"


def test_numbers_of_numpy_become_plain_ones():
    assert type(check_count("epochs", np.int64(3))) is int
    assert type(check_number("dropout", np.float32(0.5), "[0, 1)")) is float
    assert type(check_seed(np.int64(-3))) is int


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (1.5, "seed=1.5: expected a whole number"),
        (True, "seed=True: expected a whole number"),
        (2**63, r"expected at least -2\*\*62 and at most 2\*\*62"),
        (-(2**63), "expected at least"),
    ],
)
def test_seeds_that_no_generator_takes_are_refused(seed, words):
    with pytest.raises(InvalidValueError, match=words):
        check_seed(seed)
