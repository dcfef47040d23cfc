"""Results, by hand."""

import sys
import types

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


def test_a_polars_frame_is_answered_in_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = types.ModuleType("polars")
    fake.DataFrame = lambda columns: ("polars frame", columns)
    monkeypatch.setitem(sys.modules, "polars", fake)
    one = Predictions(("x",), ("a", "b"), np.array([[0.25, 0.75]]), {}, "polars")
    assert one.to_frame()[0] == "polars frame"


def test_results_print_and_show_in_notebooks(predictions: Predictions) -> None:
    assert "x.jpg: ant (0.700)" in repr(predictions)
    assert "y.jpg: not readable, empty" in repr(predictions)
    assert "<table" in predictions._repr_html_()


def test_history_is_drawn() -> None:
    rows = [{"epoch": 0, "train/loss": 1.0, "val/loss": 2.0, "val/accuracy": 0.5}]
    left, right = History(rows, best_epoch=0).plot().axes
    assert [line.get_label() for line in left.lines] == ["train/loss", "val/loss", "kept"]
    assert [line.get_label() for line in right.lines] == ["val/accuracy", "kept"]


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
