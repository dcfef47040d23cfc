"""What an evaluation says, by hand and by second opinions."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import precision_recall_fscore_support
from torchmetrics.functional.classification import multiclass_calibration_error

from mealkit.errors import InvalidValueError, NoDataError
from mealkit.tasks import Evaluation, Predictions
from mealkit.tasks.classification import to_evaluation

NAMES = ("a", "b", "c", "d")


def drawn(num: int, *, seed: int = 0) -> tuple[Evaluation, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    probabilities = generator.dirichlet(np.ones(4), size=num).astype(np.float32)
    targets = generator.integers(0, 4, num)
    ids = tuple(f"{row}.jpg" for row in range(num))
    predictions = Predictions(ids, NAMES, probabilities)
    return to_evaluation(predictions, torch.from_numpy(targets)), probabilities, targets


def scored(right: int, num: int) -> Evaluation:
    probabilities = np.tile(np.array([[0.9, 0.1]]), (num, 1))
    targets = (np.arange(num) >= right).astype(int)
    ids = tuple(map(str, range(num)))
    return Evaluation({"accuracy": right / num}, ("ant", "bee"), ids, targets, probabilities)


def test_evaluation_agrees_with_scikit_learn() -> None:
    evaluation, probabilities, targets = drawn(60)
    guessed = probabilities.argmax(1)
    expected = precision_recall_fscore_support(targets, guessed)
    frame = evaluation.to_frame()
    for name, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        assert np.allclose(frame[name], values), name
    assert evaluation.metrics["accuracy"] == pytest.approx((guessed == targets).mean())
    assert evaluation.metrics["macro_f1"] == pytest.approx(expected[2].mean(), abs=1e-6)
    right = probabilities[np.arange(60), targets]
    assert evaluation.metrics["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-5)
    assert evaluation.confusion[1, 2] == ((targets == 1) & (guessed == 2)).sum()


def test_calibration_error_agrees_with_torchmetrics() -> None:
    evaluation, probabilities, targets = drawn(500)
    expected = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(targets), 4, n_bins=15, norm="l1"
    )
    assert evaluation.metrics["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_reliability_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6], [1.0, 0.0]])
    predictions = Predictions(tuple("wxyz"), ("ant", "bee"), probabilities)
    evaluation = to_evaluation(predictions, torch.tensor([0, 1, 1, 0]))
    frame = evaluation.reliability_frame()
    assert len(frame) == 15
    filled = frame[frame["count"] > 0]
    assert filled["lower"].tolist() == pytest.approx([8 / 15, 13 / 15, 14 / 15])
    assert filled["upper"].tolist() == pytest.approx([9 / 15, 14 / 15, 1.0])
    assert filled["count"].tolist() == [1, 2, 1]
    assert filled["confidence"].tolist() == pytest.approx([0.6, 0.91, 1.0])
    assert filled["accuracy"].tolist() == [1.0, 0.5, 1.0]
    # a quarter of 0.4, half of 0.41 and a quarter of nothing
    assert evaluation.metrics["ece"] == pytest.approx(0.305)


@pytest.mark.parametrize(
    ("right", "num", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_accuracy_interval_agrees_with_a_published_table(
    right: int, num: int, low: float, high: float
) -> None:
    assert scored(right, num).accuracy_interval == pytest.approx((low, high), abs=5e-5)


def test_most_confused_pairs_come_first_and_right_ones_never() -> None:
    probabilities = np.eye(3)[[0, 1, 1, 2, 1, 2, 0]]
    targets = np.array([0, 0, 0, 0, 1, 1, 2])
    evaluation = Evaluation({}, ("x", "y", "z"), tuple("abcdefg"), targets, probabilities)
    frame = evaluation.most_confused()
    assert frame.to_numpy().tolist() == [["x", "y", 2], ["x", "z", 1], ["y", "z", 1], ["z", "x", 1]]
    assert evaluation.most_confused(1).to_numpy().tolist() == [["x", "y", 2]]
    assert list(scored(3, 3).most_confused().columns) == ["true", "predicted", "count"]
    assert len(scored(3, 3).most_confused()) == 0


def test_top_losses_name_the_inputs() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]])
    targets = np.array([0, 1, 1, 0])
    evaluation = Evaluation({}, ("ant", "bee"), tuple("abcd"), targets, probabilities)
    frame = evaluation.top_losses(3)
    assert frame["input"].tolist() == ["d", "b", "c"]
    assert frame["true"].tolist() == ["ant", "bee", "bee"]
    assert frame["predicted"].tolist() == ["bee", "ant", "bee"]
    assert frame["probability"].tolist() == [1.0, 0.8, 0.7]
    assert frame["loss"].tolist()[1:] == pytest.approx([-math.log(0.2), -math.log(0.7)])
    assert math.isfinite(frame["loss"][0])
    assert len(evaluation.top_losses(100)) == 4
    for ask in (evaluation.top_losses, evaluation.most_confused):
        with pytest.raises(InvalidValueError, match="n=0: expected at least 1"):
            ask(0)


def test_unreadable_rows_are_in_no_number() -> None:
    probabilities = np.array([[0.7, 0.3], [np.nan, np.nan], [0.1, 0.9]], dtype=np.float32)
    some = Predictions(("x.jpg", "y.jpg", "z.jpg"), ("ant", "bee"), probabilities, {1: "empty"})
    evaluation = to_evaluation(some, torch.tensor([0, 0, 1]))
    assert evaluation.metrics["accuracy"] == 1.0
    assert evaluation.confusion.sum() == 2
    assert evaluation.num_unreadable == 1
    assert evaluation.ids == ("x.jpg", "z.jpg")
    assert evaluation.reliability_frame()["count"].sum() == 2
    nothing = np.full((1, 2), np.nan, dtype=np.float32)
    unread = Predictions(("x",), ("a", "b"), nothing, {0: "gone"})
    with pytest.raises(NoDataError, match="Not one"):
        to_evaluation(unread, torch.tensor([0]))


def test_an_evaluation_prints_and_shows_in_notebooks() -> None:
    evaluation, _, _ = drawn(60)
    low, high = evaluation.accuracy_interval
    for words in (repr(evaluation), evaluation._repr_html_()):
        assert "Evaluation of 60 inputs: accuracy" in words
        assert f"(accuracy at 95 %: {low:.3f} to {high:.3f})" in words
    assert "<table" in evaluation._repr_html_()


def test_the_confusion_matrix_is_drawn() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    evaluation = Evaluation(
        {"accuracy": 0.75}, ("ant", "bee"), tuple("abcd"), np.array([0, 0, 0, 1]), probabilities
    )
    figure = evaluation.plot()
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "1", "1"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["ant", "bee"]


def test_reliability_is_drawn() -> None:
    evaluation, _, _ = drawn(60)
    frame = evaluation.reliability_frame()
    above, below = evaluation.plot_reliability().axes
    assert above.get_title() == f"expected calibration error {evaluation.metrics['ece']:.3f}"
    heights = [bar.get_height() for bar in above.patches]
    assert heights == pytest.approx(frame["accuracy"].dropna().tolist())
    assert [bar.get_height() for bar in below.patches] == frame["count"].tolist()
