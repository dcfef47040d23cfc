"""Results, by hand."""

import sys
import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mealkit.errors import InvalidValueError
from mealkit.tasks import Embeddings, History, Predictions


@pytest.fixture
def predictions() -> Predictions:
    probabilities = np.array([[0.7, 0.3], [np.nan, np.nan], [0.1, 0.9]], dtype=np.float32)
    return Predictions(("x.jpg", "y.jpg", "z.jpg"), ("ant", "bee"), probabilities, {1: "empty"})


def test_rows_say_label_probability_and_error(predictions: Predictions) -> None:
    assert [row.label for row in predictions] == ["ant", None, "bee"]
    assert predictions[0].probability == pytest.approx(0.7)
    assert predictions[-1].input == "z.jpg"
    assert predictions[1].error == "empty"
    assert np.isnan(predictions[1].probability)
    assert [row.input for row in predictions[1:]] == ["y.jpg", "z.jpg"]
    assert predictions[2].probabilities["bee"] == pytest.approx(0.9)
    with pytest.raises(IndexError):
        predictions[3]


def test_frame_has_one_column_per_class_and_an_error_where_there_is_one(
    predictions: Predictions,
) -> None:
    frame = predictions.to_frame()
    assert list(frame.columns) == ["input", "label", "probability", "ant", "bee", "error"]
    assert frame["label"].tolist()[0] == "ant"
    whole = Predictions(("x",), ("ant", "bee"), np.array([[0.7, 0.3]])).to_frame()
    assert list(whole.columns) == ["input", "label", "probability", "ant", "bee"]


def test_a_class_called_like_a_column_keeps_its_column() -> None:
    frame = Predictions(("x",), ("label", "input"), np.array([[0.25, 0.75]])).to_frame()
    assert list(frame.columns) == [
        "input",
        "label",
        "probability",
        "label (class)",
        "input (class)",
    ]
    assert frame["label"].tolist() == ["input"]


def test_an_unsure_task_gives_no_label(predictions: Predictions) -> None:
    unsure = replace(predictions, abstain=0.8)
    assert unsure.labels == [None, None, "bee"]
    assert [row.abstained for row in unsure] == [True, False, False]
    assert unsure[0].probability == pytest.approx(0.7)
    assert "x.jpg: unsure, ant at best (0.700)" in repr(unsure)
    assert "y.jpg: not readable, empty" in repr(unsure)
    frame = unsure.to_frame()
    assert list(frame.columns)[:4] == ["input", "label", "probability", "abstained"]
    assert frame["abstained"].tolist() == [True, False, False]
    assert frame["label"].isna().tolist() == [True, True, False]
    assert replace(predictions, abstain=0.7 - 1e-6).labels == ["ant", None, "bee"]


def test_sets_hold_the_classes_up_to_the_score() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.05, 0.05, 0.9], [0.25, 0.35, 0.4]])
    names = ("a", "b", "c")
    rows = Predictions(("x", "y", "z"), names, probabilities.astype(np.float32), set_score=0.7)
    assert [row.labels_set for row in rows] == [("b", "c"), ("c",), ("c", "b")]
    assert rows.to_frame()["set"].tolist() == [["b", "c"], ["c"], ["c", "b"]]
    assert "x: b (0.500), one of b, c" in repr(rows)
    small = replace(rows, set_score=0.3)
    assert [row.labels_set for row in small] == [("b",), ("c",), ("c",)], "never empty"
    assert replace(rows, set_score=None)[0].labels_set is None


def test_top_k_has_one_row_per_input(predictions: Predictions) -> None:
    frame = predictions.top_k(2)
    assert list(frame.columns) == ["input", "label_1", "probability_1", "label_2", "probability_2"]
    assert frame["label_1"].tolist()[::2] == ["ant", "bee"]
    assert frame["label_2"].tolist()[::2] == ["bee", "ant"]
    assert frame.loc[1].isna().tolist() == [False, True, True, True, True]
    assert frame["probability_2"].tolist()[::2] == pytest.approx([0.3, 0.1])
    assert predictions.top_k(1).shape == (3, 3)
    for k, words in ((0, "at least 1"), (3, "at most the 2"), ("2", "a whole number")):
        with pytest.raises(InvalidValueError, match=f"k={k!r}: expected {words}"):
            predictions.top_k(k)


def test_a_polars_frame_is_answered_in_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("polars")
    fake.DataFrame = lambda columns: ("polars frame", columns)
    monkeypatch.setitem(sys.modules, "polars", fake)
    one = Predictions(("x",), ("a", "b"), np.array([[0.25, 0.75]]), {}, "polars")
    assert one.to_frame()[0] == "polars frame"
    assert one.top_k(1)[1] == {"input": ["x"], "label_1": ["b"], "probability_1": [0.75]}


def test_results_print_and_show_in_notebooks(predictions: Predictions) -> None:
    assert "x.jpg: ant (0.700)" in repr(predictions)
    assert "y.jpg: not readable, empty" in repr(predictions)
    assert "<table" in predictions._repr_html_()


def test_history_is_drawn() -> None:
    rows = [{"epoch": 0, "train/loss": 1.0, "val/loss": 2.0, "val/accuracy": 0.5}]
    left, right = History(rows, best_epoch=0).plot().axes
    assert [line.get_label() for line in left.lines] == ["train/loss", "val/loss", "kept"]
    assert [line.get_label() for line in right.lines] == ["val/accuracy", "kept"]


def test_history_without_validation_is_drawn() -> None:
    left, right = History([{"epoch": 0, "train/loss": 1.0}]).plot().axes
    assert left.get_legend() is not None
    assert right.get_legend() is None


def test_history_knows_its_best_row() -> None:
    rows = [{"epoch": 0, "val/accuracy": 0.9}, {"epoch": 1, "val/accuracy": 0.8}]
    assert History(rows, best_epoch=0).best is rows[0]
    assert History(rows).best is rows[1]
    assert History(rows).to_frame()["epoch"].tolist() == [0, 1]
    with pytest.raises(InvalidValueError, match="No epoch was finished"):
        _ = History([]).best


def test_embeddings_become_a_frame() -> None:
    frame = Embeddings(np.arange(6.0).reshape(2, 3), ("a", "b")).to_frame()
    assert frame.shape == (2, 3)
    assert frame.loc["b"].tolist() == [3, 4, 5]
    assert isinstance(frame, pd.DataFrame)
