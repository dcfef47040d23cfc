from __future__ import annotations

import numpy as np
import pandas
import pytest
import torch

from mealkit.data.labels import Classes, in_words, is_multi_label, plain_labels
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
        ([1], "type list, and row 0 has 'a', which is one label, not several"),
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


# Any number of labels per input.


@pytest.mark.parametrize(
    "labels",
    [
        [["b", "a"], [], ["b"]],
        [("a", "b"), (), ("b",)],
        [{"a", "b"}, set(), frozenset("b")],
        [np.array(["b", "a"]), np.array([]), ["b"]],
        pandas.Series([["a", "b"], [], ["b"]]),
    ],
)
def test_lists_of_labels_of_any_container_are_read(labels):
    plain = plain_labels(labels, ids=IDS)
    assert plain == [("a", "b"), (), ("b",)]
    assert is_multi_label(plain)
    assert not is_multi_label(plain_labels(["a", "b"], ids=IDS))


def test_lists_of_integers_are_labels_and_ordered_by_value():
    plain = plain_labels([torch.tensor([10, 9]), [], [np.int64(2)]], ids=IDS)
    assert plain == [(9, 10), (), (2,)]
    classes = Classes.learn(plain)
    assert classes == Classes(("2", "9", "10"), integers=True, multi_label=True)


def test_sets_of_labels_become_rows_of_zeros_and_ones():
    classes = Classes.learn([("cat", "dog"), (), ("cow",)])
    assert classes.names == ("cat", "cow", "dog")
    targets = classes.encode([("dog",), (), ("cat", "cow")], part="train", ids=IDS[:3])
    assert targets.tolist() == [[0, 0, 1], [0, 0, 0], [1, 1, 0]]
    assert targets.dtype == torch.uint8


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([["a"], "b"], r"Row 0 has the label \['a'\] of type list, and row 1 has 'b'"),
        ([["a"], ["b", "a", "b"]], r"Row 1 has the label 'b' 2 times.*Name each label once"),
        ([[0, 1, 1], [1, 0, 0]], "values of 0 and 1 per class, turn them into names"),
        ([["a"], [None]], "Row 1 has the label None"),
        ([["a"], [["b"]]], "Row 1 has the label .*type list"),
        (np.eye(3), "array of 2 axes, which does not name its classes"),
    ],
)
def test_lists_that_are_no_sets_of_labels_are_refused(labels, words):
    with pytest.raises(ClassError, match=words):
        plain_labels(labels, ids=IDS)


def test_a_missing_list_is_not_an_empty_one():
    with pytest.raises(DataError, match=r"1 of the rows have no label: row 1"):
        plain_labels([["a"], None, []], ids=IDS)


def test_sets_and_single_labels_do_not_mix_between_parts():
    classes = Classes.learn([("a", "b"), ()])
    with pytest.raises(ClassError, match="has lists of labels, and the val part has one label per"):
        classes.encode(["a"], part="val", ids=IDS)
    with pytest.raises(ClassError, match="has one label per input, and the val part has lists"):
        Classes.learn(["a", "b"]).encode([("a",)], part="val", ids=IDS)


def test_unseen_labels_within_sets_are_refused_with_count_and_example():
    classes = Classes.learn([("cat", "dog"), ()])
    with pytest.raises(ClassError, match=r"'cow' \(2 times, for example 1.jpg\)"):
        classes.encode([(), ("cow", "cat"), ("cow",)], part="val", ids=IDS)


@pytest.mark.parametrize("labels", [[("a",), ("a",)], [(), ()]])
def test_fewer_than_two_classes_within_sets_are_refused(labels):
    with pytest.raises(ClassError, match=r"has [01] class.*at least two"):
        Classes.learn(labels)


def test_named_classes_keep_their_order_and_must_occur():
    assert Classes.learn([("a", "b"), ()], names=("b", "a")).names == ("b", "a")
    with pytest.raises(ClassError, match=r"No training input has the label 'c': .*Leave it out"):
        Classes.learn([("a", "b"), ()], names=("b", "a", "c"))


def test_labels_are_written_for_people():
    assert in_words(("a", "b")) == "'a', 'b'"
    assert in_words(()) == "no label"
    assert in_words("a") == "'a'"
