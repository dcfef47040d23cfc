"""Answers about inputs that have any number of labels: predictions and their evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from ..errors import check_count
from .evaluation import Evaluation, expected_gap, reliability
from .results import Predictions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .evaluation import Array


@dataclass(frozen=True)
class MultiLabelPrediction:
    """What a task says about one input that has any number of labels.

    Args:
        input: Its id.
        labels: The classes whose probability reaches their threshold, the most probable first; none
            is an answer, too. None where the input could not be read.
        probabilities: One per class, each by itself: they do not add up to 1.
        error: Why the input could not be read.
    """

    input: str
    labels: tuple[str, ...] | None
    probabilities: Mapping[str, float]
    error: str | None = None


@dataclass(frozen=True, repr=False)
class MultiLabelPredictions(Predictions):
    """One row per input, in input order; each has any number of labels.

    Args:
        inputs: Ids of the inputs, N of them.
        classes: Names of the classes, K of them.
        probabilities: (N, K), float32, each by itself; rows of unreadable inputs are NaN.
        errors: Why inputs could not be read, by position; empty where all could.
        frame_kind: The kind of data frame that came in and goes out.
        abstain: Always None: an input without labels is an answer already.
        set_score: Always None: there is no single true class for a set to hold.
        thresholds: From which probability on a label is given, one per class.

    Example:
        >>> import numpy as np
        >>> probabilities = np.array([[0.6, 0.8], [0.1, 0.2]])
        >>> predictions = MultiLabelPredictions(
        ...     ("a.jpg", "b.jpg"), ("ant", "bee"), probabilities, thresholds=(0.5, 0.5)
        ... )
        >>> predictions.labels
        [('bee', 'ant'), ()]
    """

    thresholds: tuple[float, ...] = ()

    @property
    def decisions(self) -> Array:
        """Whether each input has each label, (N, K) of bool; False where it could not be read."""
        return decide(self.probabilities, self.thresholds)

    @property
    def labels(self) -> list[tuple[str, ...] | None]:  # type: ignore[override]  # several, or none
        """The labels of every input; None where it could not be read."""
        return [row.labels for row in self]

    @overload  # type: ignore[override]  # rows have several labels
    def __getitem__(self, index: int) -> MultiLabelPrediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[MultiLabelPrediction]: ...
    def __getitem__(self, index: int | slice) -> MultiLabelPrediction | list[MultiLabelPrediction]:
        """Answer with one row, or with a list of rows."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        values = self.probabilities[position]
        named = dict(zip(self.classes, map(float, values), strict=True))
        error = self.errors.get(position)
        given = decide(values, self.thresholds)
        order = [place for place in np.argsort(-values, kind="stable") if given[place]]
        labels = None if error is not None else tuple(self.classes[place] for place in order)
        return MultiLabelPrediction(self.inputs[position], labels, named, error)

    def __iter__(self) -> Iterator[MultiLabelPrediction]:  # type: ignore[override]  # as above
        return (self[position] for position in range(len(self)))

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with the columns input, labels (a list) and one per class, its probability.

        A column ``error`` follows where an input could not be read. The frame is of the kind that
        was predicted on, pandas for everything else.
        """
        return super().to_frame()

    def _columns(self) -> dict[str, list[Any]]:
        rows = list(self)
        first: dict[str, list[Any]] = {
            "input": [row.input for row in rows],
            "labels": [None if row.labels is None else list(row.labels) for row in rows],
        }
        return self._with_classes(first)

    def _lines(self) -> list[str]:
        return [f"{row.input}: {_in_words(row)}" for row in self[:10]]


def decide(probabilities: Array, thresholds: tuple[float, ...]) -> Array:
    """Say which labels are given: those whose probability, (..., K), reaches its threshold."""
    with np.errstate(invalid="ignore"):  # NaN, of unreadable inputs, reaches none
        decisions: Array = probabilities >= np.array(thresholds, dtype=np.float64)
    return decisions


def _in_words(row: MultiLabelPrediction) -> str:
    if row.labels is None:
        return f"not readable, {row.error}"
    given = [f"{label} ({row.probabilities[label]:.3f})" for label in row.labels]
    return ", ".join(given) or "no label"


@dataclass(frozen=True, repr=False, eq=False)
class MultiLabelEvaluation(Evaluation):
    """How well a task does on labelled inputs that have any number of labels.

    Args:
        metrics: Plain names to plain numbers: ``map`` (average precision, the mean over classes),
            ``macro_f1`` (the mean over classes), ``micro_f1`` (over all decisions), ``accuracy``
            (inputs of which every label is right), ``hamming`` (share of wrong decisions), ``loss``
            (mean binary cross-entropy) and ``ece`` (see `reliability_frame`).
        classes: Names of the classes, K of them.
        ids: Ids of the inputs that could be read, N of them.
        targets: 0 and 1, (N, K).
        probabilities: (N, K).
        num_unreadable: Inputs that could not be read and are in no number above.
        thresholds: From which probability on a label is given, one per class.
        average_precision: Of each class, (K,); NaN for a class that no input has.
    """

    thresholds: tuple[float, ...] = ()
    average_precision: tuple[float, ...] = ()

    @property
    def decisions(self) -> Array:
        """Whether each label was given, (N, K) of bool."""
        return decide(self.probabilities, self.thresholds)

    @property
    def correct(self) -> Array:
        """Whether all labels of an input are right, and no other was given, (N,) of bool."""
        right: Array = (self.decisions == (self.targets == 1)).all(1)
        return right

    @property
    def confusion(self) -> Array:
        """Counts by class, (K, 2, 2): rows are without and with the label, columns not and given.

        The form of scikit-learn's ``multilabel_confusion_matrix``: with several labels at once,
        there is no one label that was taken for another.
        """
        given, true = self.decisions, self.targets == 1
        cells = [[(~true & ~given), (~true & given)], [(true & ~given), (true & given)]]
        counts: Array = np.array([[cell.sum(0) for cell in row] for row in cells])
        return counts.transpose(2, 0, 1)

    def to_frame(self) -> pd.DataFrame:
        """Answer with one row per class.

        Returns:
            ``precision`` (0 for a class that was never given), ``recall`` and ``average_precision``
            (NaN for one that no input has), ``f1``, ``threshold`` and ``support``.
        """
        confusion = self.confusion
        right = confusion[:, 1, 1].astype(float)
        predicted, true = confusion[:, :, 1].sum(1), confusion[:, 1, :].sum(1)
        recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
        columns = {
            "precision": right / np.maximum(predicted, 1),
            "recall": recall,
            "f1": 2 * right / np.maximum(predicted + true, 1),
            "average_precision": self.average_precision,
            "threshold": self.thresholds,
            "support": true,
        }
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"))

    def confusion_frame(self) -> pd.DataFrame:
        """Answer with the counts of `confusion` under their names, one row per class."""
        names = ["true_negative", "false_positive", "false_negative", "true_positive"]
        flat = self.confusion.reshape(len(self.classes), 4)
        return pd.DataFrame(flat, pd.Index(self.classes, name="class"), names)

    def reliability_frame(self) -> pd.DataFrame:
        """Compare the probabilities of all classes with how often inputs had them.

        Returns:
            One row per bin of the probability of a class, of equal width: ``lower``, ``upper``,
            mean ``confidence`` (that probability), ``accuracy`` (share that has the class) and
            ``count`` of inputs times classes. The metric ``ece`` is the gap between the two,
            averaged.
        """
        return label_reliability(self.probabilities, self.targets)

    def most_confused(self, n: int = 10) -> pd.DataFrame:
        """Answer with the pairs where one label is missed and another is given instead, most often.

        Returns:
            ``true`` (missed), ``predicted`` (given wrongly) and the ``count`` of inputs with both.
        """
        true, given = self.targets == 1, self.decisions
        missed, wrong = (true & ~given).astype(np.int64), (given & ~true).astype(np.int64)
        return self._pairs(missed.T @ wrong, n)

    def top_losses(self, n: int = 10) -> pd.DataFrame:
        """Answer with the inputs whose labels surprised the task most: hard, or labelled wrongly.

        Returns:
            One row per input, the worst first: ``input``, ``true`` and ``predicted`` (tuples),
            ``worst`` (the class that surprised most), its ``probability``, and the mean ``loss``
            over classes.
        """
        check_count("n", n)
        losses = label_losses(self.probabilities, self.targets)
        rows = np.argsort(-losses.mean(1), kind="stable")[:n]
        worst = losses[rows].argmax(1)
        return pd.DataFrame(
            {
                "input": [self.ids[row] for row in rows],
                "true": [self._named(self.targets[row]) for row in rows],
                "predicted": [self._named(given) for given in self.decisions[rows]],
                "worst": [self.classes[place] for place in worst],
                "probability": self.probabilities[rows, worst],
                "loss": losses[rows].mean(1),
            }
        )

    def plot(self) -> Figure:
        """Draw precision, recall and F1 of each class (needs ``mealkit[plots]``)."""
        from ..plots import plot_classes

        return plot_classes(self)

    def _named(self, chosen: Array) -> tuple[str, ...]:
        return tuple(name for name, one in zip(self.classes, chosen, strict=True) if one)


def label_losses(probabilities: Array, targets: Array) -> Array:
    """Answer with the binary cross-entropy of each input and class, (N, K)."""
    right = np.where(targets == 1, probabilities, 1 - probabilities).astype(np.float64)
    tiny = np.finfo(np.float32).tiny  # a probability of 0 would be an infinite loss
    losses: Array = -np.log(np.maximum(right, tiny))
    return losses


def label_reliability(probabilities: Array, targets: Array) -> pd.DataFrame:
    """Build the table that `MultiLabelEvaluation.reliability_frame` answers with."""
    return reliability(probabilities.flatten(), targets.flatten() == 1)


def label_calibration_error(probabilities: Array, targets: Array) -> float:
    """Answer with the expected calibration error over inputs and classes, in [0, 1]."""
    return expected_gap(label_reliability(probabilities, targets))
