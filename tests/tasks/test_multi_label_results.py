"""Answers with any number of labels, against scikit-learn and by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import metrics

from mealkit.errors import InvalidValueError
from mealkit.tasks import MultiLabelEvaluation, MultiLabelPredictions
from mealkit.tasks.classification import to_evaluation

CLASSES = ("ant", "bee", "cow", "none")
THRESHOLDS = (0.3, 0.6, 0.5, 0.5)


def answers(num: int = 60, *, seed: int = 0) -> tuple[MultiLabelPredictions, torch.Tensor]:
    rng = np.random.default_rng(seed)
    targets = (rng.random((num, 4)) < (0.5, 0.3, 0.1, 0.0)).astype(np.uint8)
    probabilities = np.clip(0.4 * targets + 0.7 * rng.random((num, 4)), 0, 1).astype(np.float32)
    ids = tuple(f"{number}.jpg" for number in range(num))
    predictions = MultiLabelPredictions(ids, CLASSES, probabilities, thresholds=THRESHOLDS)
    return predictions, torch.from_numpy(targets)


@pytest.fixture
def evaluation() -> MultiLabelEvaluation:
    made = to_evaluation(*answers())
    assert isinstance(made, MultiLabelEvaluation)
    return made


def test_labels_are_those_that_reach_their_threshold_the_most_probable_first() -> None:
    probabilities = np.array([[0.3, 0.59, 0.9, 0.1], [0.2, 0.1, 0.1, 0.1], [np.nan] * 4])
    made = MultiLabelPredictions(
        ("a", "b", "c"), CLASSES, probabilities, {2: "empty"}, thresholds=THRESHOLDS
    )
    assert made.labels == [("cow", "ant"), (), None]
    assert made[0].probabilities == pytest.approx(
        {"ant": 0.3, "bee": 0.59, "cow": 0.9, "none": 0.1}
    )
    assert made[2].error == "empty"
    assert made.decisions.tolist() == [[True, False, True, False], [False] * 4, [False] * 4]
    assert [row.input for row in made] == ["a", "b", "c"]
    assert made[-1:][0] is not None
    assert "a: cow (0.900), ant (0.300)" in repr(made)
    assert "b: no label" in repr(made)
    assert "c: not readable, empty" in repr(made)


def test_the_frame_has_lists_of_labels_and_a_column_per_class() -> None:
    predictions, _ = answers(2)
    frame = predictions.to_frame()
    assert list(frame.columns) == ["input", "labels", *CLASSES]
    assert frame["labels"].tolist() == [list(one) for one in predictions.labels]
    assert frame["bee"].tolist() == pytest.approx(predictions.probabilities[:, 1].tolist())
    renamed = MultiLabelPredictions(
        ("a",), ("labels", "bee"), np.array([[0.9, 0.1]]), {0: "empty"}, thresholds=(0.5, 0.5)
    )
    assert list(renamed.to_frame().columns) == ["input", "labels", "labels (class)", "bee", "error"]
    assert renamed.to_frame()["labels"].tolist() == [None]
    assert "labels" in renamed._repr_html_()


def test_a_polars_frame_comes_back_as_one() -> None:
    polars = pytest.importorskip("polars")
    made = MultiLabelPredictions(
        ("a",), ("x", "y"), np.array([[0.9, 0.8]]), frame_kind="polars", thresholds=(0.5, 0.5)
    )
    assert isinstance(made.to_frame(), polars.DataFrame)


def test_top_k_names_the_most_probable_whether_given_or_not() -> None:
    made = MultiLabelPredictions(
        ("a",), CLASSES, np.array([[0.2, 0.4, 0.3, 0.1]]), thresholds=THRESHOLDS
    )
    frame = made.top_k(2)
    assert frame["label_1"].tolist() == ["bee"]
    assert frame["label_2"].tolist() == ["cow"]


def test_metrics_agree_with_scikit_learn(evaluation: MultiLabelEvaluation) -> None:
    true, given = evaluation.targets, evaluation.decisions
    sure = np.clip(evaluation.probabilities.astype(float), 1e-7, 1 - 1e-7)
    columns = zip(true.T, sure.T, strict=True)
    expected = {
        "macro_f1": metrics.f1_score(true, given, average="macro", zero_division=0),
        "micro_f1": metrics.f1_score(true, given, average="micro"),
        "accuracy": metrics.accuracy_score(true, given),
        "hamming": metrics.hamming_loss(true, given),
        "map": metrics.average_precision_score(true[:, :3], evaluation.probabilities[:, :3]),
        "loss": np.mean([metrics.log_loss(*one, labels=[0, 1]) for one in columns]),
    }
    for name, value in expected.items():
        assert evaluation.metrics[name] == pytest.approx(value, abs=2e-3), name
    assert len(evaluation) == 60


def test_counts_agree_with_scikit_learn(evaluation: MultiLabelEvaluation) -> None:
    expected = metrics.multilabel_confusion_matrix(evaluation.targets, evaluation.decisions)
    assert np.array_equal(evaluation.confusion, expected)
    frame = evaluation.confusion_frame()
    assert frame.loc["ant", "true_positive"] == expected[0, 1, 1]
    assert frame.loc["bee", "false_positive"] == expected[1, 0, 1]
    assert (frame.sum(axis=1) == 60).all()


def test_the_table_agrees_with_scikit_learn(evaluation: MultiLabelEvaluation) -> None:
    frame = evaluation.to_frame()
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        evaluation.targets, evaluation.decisions, zero_division=0
    )
    assert frame["precision"].tolist() == pytest.approx(precision.tolist())
    assert frame["recall"].tolist()[:3] == pytest.approx(recall.tolist()[:3])
    assert np.isnan(frame["recall"].iloc[3])
    assert np.isnan(frame["average_precision"].iloc[3])
    assert frame["f1"].tolist() == pytest.approx(f1.tolist())
    assert frame["support"].tolist() == support.tolist()
    assert frame["threshold"].tolist() == list(THRESHOLDS)
    assert "accuracy at 95 %" in repr(evaluation)


def made_by_hand() -> MultiLabelEvaluation:
    targets = torch.tensor([[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 1, 0]])
    probabilities = np.array([[0.1, 0.9, 0.1, 0.1], [0.2, 0.7, 0.1, 0.1], [0.1, 0.9, 0.9, 0.1]])
    predictions = MultiLabelPredictions(
        ("a", "b", "c"), CLASSES, probabilities.astype(np.float32), thresholds=THRESHOLDS
    )
    made = to_evaluation(predictions, targets)
    assert isinstance(made, MultiLabelEvaluation)
    return made


def test_confused_pairs_are_labels_missed_and_given_instead() -> None:
    frame = made_by_hand().most_confused()
    assert frame.to_dict("records") == [{"true": "ant", "predicted": "bee", "count": 2}]
    with pytest.raises(InvalidValueError, match="n=0"):
        made_by_hand().most_confused(0)


def test_top_losses_name_the_worst_class() -> None:
    frame = made_by_hand().top_losses(2)
    assert frame["input"].tolist() == ["a", "b"]
    assert frame["true"].tolist() == [("ant",), ("ant",)]
    assert frame["predicted"].tolist() == [("bee",), ("bee",)]
    assert frame["worst"].tolist() == ["ant", "ant"]
    expected = -np.log([0.1, 0.1, 0.9, 0.9]).mean()
    assert frame["loss"].tolist()[0] == pytest.approx(expected, rel=1e-5)
    assert made_by_hand().correct.tolist() == [False, False, True]


def test_reliability_compares_every_probability_with_its_share(evaluation) -> None:
    frame = evaluation.reliability_frame()
    assert frame["count"].sum() == 60 * 4
    flat, known = evaluation.probabilities.flatten(), evaluation.targets.flatten()
    row = frame.iloc[7]
    inside = (flat > row["lower"]) & (flat <= row["upper"])
    assert row["accuracy"] == pytest.approx(known[inside].mean())
    assert row["confidence"] == pytest.approx(flat[inside].mean(), rel=1e-5)
    gaps = ((frame["confidence"] - frame["accuracy"]).abs() * frame["count"]).sum() / 240
    assert evaluation.metrics["ece"] == pytest.approx(gaps)


def test_pictures_show_classes_and_not_a_matrix(evaluation) -> None:
    pytest.importorskip("matplotlib")
    (axes,) = evaluation.plot().axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "precision",
        "recall",
        "f1",
    ]
    heights = [bar.get_height() for bar in axes.containers[2]]
    assert heights == pytest.approx(evaluation.to_frame()["f1"].tolist())
    above, below = evaluation.plot_reliability().axes
    assert above.get_ylabel() == "share that has the class"
    assert below.get_xlabel() == "probability of a class"


def test_unreadable_inputs_are_counted_and_not_scored() -> None:
    predictions, targets = answers(10)
    broken = MultiLabelPredictions(
        predictions.inputs,
        CLASSES,
        np.where(np.arange(10)[:, None] == 3, np.nan, predictions.probabilities),
        {3: "empty"},
        thresholds=THRESHOLDS,
    )
    made = to_evaluation(broken, targets)
    assert made.num_unreadable == 1
    assert len(made) == 9
    assert isinstance(made.to_frame(), pd.DataFrame)
