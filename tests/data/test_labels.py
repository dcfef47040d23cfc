from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch

from mealkit.data.labels import Classes, plain_labels
from mealkit.errors import ClassError, DataError

IDS = [f"{number}.jpg" for number in range(5)]


@pytest.mark.parametrize(
    "labels",
    [
        [3, 1, 3],
        np.array([3, 1, 3], dtype=np.uint8),
        torch.tensor([3, 1, 3]),
        pandas.Series([3, 1, 3]),
        [np.int64(3), torch.tensor(1), 3],
        pandas.Series([3, 1, 3], dtype="Int64"),
    ],
)
def test_integers_of_any_container_are_read(labels):
    plain = plain_labels(labels, ids=IDS)
    assert plain == [3, 1, 3]
    assert {type(label) for label in plain} == {int}


def test_texts_are_never_split():
    labels = ["red, green", "blue sky", "red, green"]
    plain = plain_labels(pandas.Series(labels, dtype="category"), ids=IDS)
    assert Classes.learn(plain).names == ("blue sky", "red, green")
    assert plain_labels(np.array(labels), ids=IDS) == labels


def test_integers_are_ordered_by_value_and_texts_naturally():
    assert Classes.learn([10, 9, -1, 10]).names == ("-1", "9", "10")
    assert Classes.learn(["c10", "c9", "b", "c1"]).names == ("b", "c1", "c9", "c10")
    assert Classes.learn(["10", "9", "01", "1"]).names == ("01", "1", "9", "10")


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (True, "True of type bool"),
        (1.0, "1.0 of type float"),
        (("a",), "type tuple"),
        ([1], "not several"),
    ],
)
def test_what_is_no_label_is_refused(label, words):
    with pytest.raises(ClassError, match=rf"Row 1 has the label .*{words}"):
        plain_labels(["a", label], ids=IDS)


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA, np.nan])
def test_missing_labels_are_refused_with_their_rows(missing):
    labels = ["a", missing, "b", missing]
    with pytest.raises(
        DataError, match=r"2 of the rows have no label: row 1 \(1.jpg\), 3 \(3.jpg\)"
    ):
        plain_labels(labels, ids=IDS)


def test_one_text_is_no_list_of_labels():
    with pytest.raises(ClassError, match="not one text"):
        plain_labels("abc", ids=IDS)


def test_unseen_labels_are_refused_with_count_and_example():
    classes = Classes.learn(["cat", "dog"])
    with pytest.raises(ClassError, match=r"val part .*'cow' \(2 times, for example 1.jpg\).*'dog'"):
        classes.encode(["cat", "cow", "cow"], part="val", ids=IDS[:3])


def test_labels_become_positions():
    classes = Classes.learn([7, 3, 7])
    assert classes.names == ("3", "7")
    positions = classes.encode([7, 3], part="train", ids=IDS[:2])
    assert positions.tolist() == [1, 0]
    assert positions.dtype == torch.int64


def test_text_and_integers_do_not_mix():
    with pytest.raises(ClassError, match="text in 1 rows and integers in 2"):
        Classes.learn([1, "1", 2])
    with pytest.raises(
        ClassError, match=r"training part are integers and those of the test part text \('1'\)"
    ):
        Classes.learn([1, 2]).encode(["1"], part="test", ids=IDS[:1])


def test_names_alone_accept_both_types():
    classes = Classes(("0", "1"))
    assert classes.encode([1, 0], part="test", ids=IDS[:2]).tolist() == [1, 0]
    assert classes.encode(["1"], part="test", ids=IDS[:1]).tolist() == [1]


def test_one_class_is_too_few():
    with pytest.raises(ClassError, match=r"has 1 class: \['a'\].*at least two"):
        Classes.learn(["a", "a"])
