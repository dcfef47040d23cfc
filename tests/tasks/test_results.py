"""Results, by hand."""

import sys
import types

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support

from mealkit.errors import InvalidValueError, NoDataError
from mealkit.tasks import Embeddings, Evaluation, History, Predictions
from mealkit.tasks.classification import to_evaluation


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


def test_evaluation_agrees_with_scikit_learn() -> None:
    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(4), size=60).astype(np.float32)
    targets = torch.from_numpy(generator.integers(0, 4, 60))
    names = ("a", "b", "c", "d")
    evaluation = to_evaluation(Predictions(("",) * 60, names, probabilities), targets)
    guessed = probabilities.argmax(1)
    expected = precision_recall_fscore_support(targets.numpy(), guessed)
    frame = evaluation.to_frame()
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert np.allclose(frame[name], values), name
    assert evaluation.metrics["accuracy"] == pytest.approx((guessed == targets.numpy()).mean())
    assert evaluation.metrics["macro_f1"] == pytest.approx(expected[2].mean(), abs=1e-6)
    right = probabilities[np.arange(60), targets.numpy()]
    assert evaluation.metrics["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert evaluation.confusion[1, 2] == ((targets.numpy() == 1) & (guessed == 2)).sum()


def test_unreadable_rows_are_in_no_number(predictions: Predictions) -> None:
    evaluation = to_evaluation(predictions, torch.tensor([0, 0, 1]))
    assert evaluation.metrics["accuracy"] == 1.0
    assert evaluation.confusion.sum() == 2
    assert evaluation.num_unreadable == 1
    nothing = np.full((1, 2), np.nan, dtype=np.float32)
    unread = Predictions(("x",), ("a", "b"), nothing, {0: "gone"})
    with pytest.raises(NoDataError, match="Not one"):
        to_evaluation(unread, torch.tensor([0]))


def test_pictures_of_results_are_drawn() -> None:
    evaluation = Evaluation({"accuracy": 0.75}, ("ant", "bee"), np.array([[2, 1], [0, 1]]))
    figure = evaluation.plot()
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "1", "1"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["ant", "bee"]
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
