"""Labels in tables: what is cut, what is 0 or 1, and what is refused with its row."""

import numpy as np
import pandas as pd
import pytest

from mealkit.data.label_columns import plain_columns, read_labels, split_labels
from mealkit.errors import ClassError, DataError, InvalidValueError

IDS = ["a.jpg", "b.jpg", "c.jpg"]


@pytest.mark.parametrize(
    "values",
    [
        [1, 0, 1],
        [1.0, 0.0, 1.0],
        [True, False, True],
        ["1", "0", "1"],
        ["1.0", " 0", "1"],
        ["True", "false", "TRUE"],
        np.array([1, 0, 1], dtype=np.uint8),
    ],
)
def test_columns_of_zeros_and_ones_are_the_classes_in_their_order(values) -> None:
    frame = pd.DataFrame({"dog": values, "cat": [0, 0, 1]})
    labels, names = read_labels(frame, ["dog", "cat"], delimiter=None, ids=IDS)
    assert labels == [("dog",), (), ("cat", "dog")]
    assert names == ("dog", "cat")


@pytest.mark.parametrize(
    ("value", "error", "words"),
    [
        (2, ClassError, r"Row 1 of column 'dog' holds 2; expected 0 or 1"),
        (-1, ClassError, "Row 1 of column 'dog' holds -1"),
        (0.5, ClassError, "holds 0.5"),
        ("yes", ClassError, "holds 'yes'; .*label='...'"),
        (None, DataError, r"no value in column 'dog': row 1 \(b.jpg\)"),
        (float("nan"), DataError, r"no value in column 'dog': row 1 \(b.jpg\)"),
    ],
)
def test_other_values_are_refused_with_row_and_column(value, error, words: str) -> None:
    frame = pd.DataFrame({"cat": [1, 0, 1], "dog": pd.Series([1, value, 0], dtype=object)})
    with pytest.raises(error, match=words):
        read_labels(frame, ["cat", "dog"], delimiter=None, ids=IDS)


@pytest.mark.parametrize("label", [[], ["cat"], ["cat", "cat"]])
def test_columns_that_are_no_classes_are_refused(label: list[str]) -> None:
    with pytest.raises(InvalidValueError, match="at least two different columns"):
        plain_columns(label)


def test_a_missing_column_is_refused_by_name() -> None:
    frame = pd.DataFrame({"cat": [1, 0, 1], "dog": [0, 0, 1]})
    with pytest.raises(DataError, match=r"no column 'dig'. Did you mean 'dog'"):
        read_labels(frame, ["cat", "dig"], delimiter=None, ids=IDS)


def test_a_delimiter_cuts_and_nothing_else_does() -> None:
    values = ["golden retriever|cat, sleeping", "", " cat, sleeping "]
    labels = split_labels(values, "|", ids=IDS)
    assert labels == [("cat, sleeping", "golden retriever"), (), ("cat, sleeping",)]
    frame = pd.DataFrame({"tags": values})
    whole, names = read_labels(frame, "tags", delimiter=None, ids=IDS)
    assert whole == values
    assert names is None
    assert read_labels(frame, "tags", delimiter="|", ids=IDS)[0] == labels


@pytest.mark.parametrize(
    ("values", "delimiter", "error", "words"),
    [
        (["a|b", "a|", ""], "|", ClassError, "Row 1 has an empty label between delimiters: 'a|'"),
        (["a|b", "b|a|b", ""], "|", ClassError, "Row 1 has the label 'b' 2 times"),
        (["a|b", 3, ""], "|", ClassError, "Row 1 has the label 3 of type int"),
        (["a|b", ["a"], ""], "|", ClassError, "Row 1 has the label .*type list"),
        (["a|b", None, ""], "|", DataError, r"an empty text is none\): row 1 \(b.jpg\)"),
        (["a|b", "a", ""], "", InvalidValueError, "label_delimiter='': expected a text such as"),
    ],
)
def test_what_cannot_be_cut_is_refused(values, delimiter: str, error, words: str) -> None:
    with pytest.raises(error, match=words.replace("|", "[|]")):
        split_labels(values, delimiter, ids=IDS)


def test_a_delimiter_beside_columns_is_refused() -> None:
    frame = pd.DataFrame({"cat": [1, 0, 1], "dog": [0, 0, 1]})
    with pytest.raises(InvalidValueError, match="beside several columns"):
        read_labels(frame, ["cat", "dog"], delimiter="|", ids=IDS)
