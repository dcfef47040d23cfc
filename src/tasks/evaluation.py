"""Evaluation: how well a classifier does on labelled inputs, where it errs and what to believe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..errors import check_count

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray[Any, np.dtype[Any]]  # Any: shapes are said in docstrings

NUM_BINS = 15
"""Bins of confidence, of equal width, as in Guo et al. 2017 (arXiv:1706.04599, section 4)."""

_Z95 = 1.959964  # the normal distribution has 95 % of its mass within so many deviations


@dataclass(frozen=True, repr=False, eq=False)
class Evaluation:
    """How well a task does on labelled inputs.

    Args:
        metrics: Plain names to plain numbers: ``accuracy``, ``macro_f1``, ``loss`` (mean negative
            log-likelihood) and ``ece`` (expected calibration error, see `reliability_frame`).
        classes: Names of the classes, K of them.
        ids: Ids of the inputs that could be read, N of them.
        targets: Positions of their true classes, (N,).
        probabilities: (N, K).
        num_unreadable: Inputs that could not be read and are in no number above.

    Example:
        >>> import numpy as np
        >>> evaluation = Evaluation(
        ...     {"accuracy": 0.5}, ("ant", "bee"), ("a.jpg", "b.jpg"), np.array([0, 0]),
        ...     np.array([[0.9, 0.1], [0.2, 0.8]]),
        ... )
        >>> evaluation.confusion.tolist()
        [[1, 1], [0, 0]]
    """

    metrics: Mapping[str, float]
    classes: tuple[str, ...]
    ids: tuple[str, ...]
    targets: Array
    probabilities: Array
    num_unreadable: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def correct(self) -> Array:
        """Whether the most probable class of each input is the true one, (N,) of bool."""
        right: Array = self.probabilities.argmax(1) == self.targets
        return right

    @property
    def confusion(self) -> Array:
        """Counts, (K, K); rows are the true classes, columns the predicted ones."""
        num_classes = len(self.classes)
        flat = self.targets * num_classes + self.probabilities.argmax(1)
        return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """Where the accuracy on inputs of this kind lies, at 95 %, given how few were scored.

        The score interval of Wilson 1927 (doi:10.1080/01621459.1927.10502953); unlike the usual
        one it holds for few inputs and for accuracies near 0 and 1. It counts inputs as drawn
        independently.
        """
        num = len(self)
        share = float(self.correct.mean())
        middle = share + _Z95**2 / (2 * num)
        half = _Z95 * math.sqrt(share * (1 - share) / num + (_Z95 / (2 * num)) ** 2)
        scale = 1 + _Z95**2 / num
        return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)

    def to_frame(self) -> pd.DataFrame:
        """Answer with precision, recall, F1 and number of inputs, one row per class.

        A class that was never predicted has precision 0, one without inputs has recall NaN.
        """
        confusion = self.confusion
        right = np.diag(confusion).astype(float)
        predicted, true = confusion.sum(0), confusion.sum(1)
        with np.errstate(invalid="ignore"):
            precision = np.where(predicted > 0, right / np.maximum(predicted, 1), 0.0)
            recall = np.where(true > 0, right / np.maximum(true, 1), np.nan)
        f1 = 2 * right / np.maximum(predicted + true, 1)
        columns = {"precision": precision, "recall": recall, "f1": f1, "support": true}
        return pd.DataFrame(columns, index=pd.Index(self.classes, name="class"))

    def confusion_frame(self) -> pd.DataFrame:
        """Answer with the confusion matrix under its names, true classes down, predicted across."""
        across = pd.Index(self.classes, name="predicted")
        return pd.DataFrame(self.confusion, pd.Index(self.classes, name="true"), across)

    def reliability_frame(self) -> pd.DataFrame:
        """Compare how sure the task was with how often it was right.

        Returns:
            One row per bin of the highest probability, `NUM_BINS` of equal width: ``lower``,
            ``upper``, mean ``confidence``, ``accuracy`` and ``count``; the means of an empty bin
            are NaN. The metric ``ece`` is the gap between the two, averaged over inputs
            (Naeini et al. 2015, doi:10.1609/aaai.v29i1.9602).
        """
        return reliability(self.probabilities.max(1), self.correct)

    def most_confused(self, n: int = 10) -> pd.DataFrame:
        """Answer with the pairs of classes that are mixed up most: true, predicted and count."""
        wrong = self.confusion
        np.fill_diagonal(wrong, 0)
        return self._pairs(wrong, n)

    def _pairs(self, wrong: Array, n: int) -> pd.DataFrame:
        """List the pairs of classes with the highest counts, (K, K)."""
        check_count("n", n)
        pairs = np.argsort(-wrong, axis=None, kind="stable")[:n]
        pairs = pairs[wrong.flat[pairs] > 0]
        true, predicted = np.unravel_index(pairs, wrong.shape)
        names = np.array(self.classes, dtype=object)
        columns = {"true": names[true], "predicted": names[predicted], "count": wrong.flat[pairs]}
        return pd.DataFrame(columns)

    def top_losses(self, n: int = 10) -> pd.DataFrame:
        """Answer with the inputs whose label surprised the task most: hard, or labelled wrongly.

        Returns:
            One row per input, the worst first: ``input``, ``true``, ``predicted``, ``probability``
            of the predicted class, and ``loss``.
        """
        check_count("n", n)
        losses = log_losses(self.probabilities, self.targets)
        rows = np.argsort(-losses, kind="stable")[:n]
        guessed = self.probabilities[rows].argmax(1)
        return pd.DataFrame(
            {
                "input": [self.ids[row] for row in rows],
                "true": [self.classes[target] for target in self.targets[rows]],
                "predicted": [self.classes[guess] for guess in guessed],
                "probability": self.probabilities[rows, guessed],
                "loss": losses[rows],
            }
        )

    def plot(self) -> Figure:
        """Draw the confusion matrix with names (needs ``mealkit[plots]``)."""
        from ..plots import plot_confusion

        return plot_confusion(self)

    def plot_reliability(self) -> Figure:
        """Draw accuracy over confidence, and how many inputs are behind it (``mealkit[plots]``)."""
        from ..plots import plot_reliability

        return plot_reliability(self)

    def _numbers(self) -> str:
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in self.metrics.items())
        low, high = self.accuracy_interval
        left = f", {self.num_unreadable} not readable" if self.num_unreadable else ""
        return (
            f"Evaluation of {len(self):,} inputs{left}: {numbers} "
            f"(accuracy at 95 %: {low:.3f} to {high:.3f})"
        )

    def __repr__(self) -> str:
        return f"{self._numbers()}\n{self.to_frame().round(3)}"

    def _repr_html_(self) -> str:
        return f"<p>{self._numbers()}</p>{self.to_frame().round(3).to_html()}"


def log_losses(probabilities: Array, targets: Array) -> Array:
    """Answer with the negative log-likelihood of each true class, (N,)."""
    right = probabilities[np.arange(len(targets)), targets].astype(np.float64)
    tiny = np.finfo(np.float32).tiny  # a probability of 0 would be an infinite loss
    losses: Array = -np.log(np.maximum(right, tiny))
    return losses


def reliability(probabilities: Array, true: Array) -> pd.DataFrame:
    """Build the table that `Evaluation.reliability_frame` answers with.

    Args:
        probabilities: How sure the task was of something, (M,).
        true: Whether that was so, (M,).
    """
    confidence, right = probabilities.astype(np.float64), true.astype(np.float64)
    bins = np.clip(np.ceil(confidence * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    count = np.bincount(bins, minlength=NUM_BINS)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(bins, value, NUM_BINS) / count for value in (confidence, right)]
    edges = np.linspace(0, 1, NUM_BINS + 1)
    columns = {"lower": edges[:-1], "upper": edges[1:]}
    return pd.DataFrame({**columns, "confidence": means[0], "accuracy": means[1], "count": count})


def calibration_error(probabilities: Array, targets: Array) -> float:
    """Answer with the expected calibration error, in [0, 1]."""
    return expected_gap(reliability(probabilities.max(1), probabilities.argmax(1) == targets))


def expected_gap(frame: pd.DataFrame) -> float:
    """Average the gap between confidence and accuracy of a table of `reliability`."""
    gaps = (frame["confidence"] - frame["accuracy"]).abs().fillna(0.0)
    return float((gaps * frame["count"]).sum() / frame["count"].sum())
