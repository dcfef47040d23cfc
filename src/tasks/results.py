"""What tasks answer with: small frozen objects that print well and become data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd

from ..data.frames import FrameKind, like
from ..errors import InvalidValueError, check_count
from .evaluation import Array
from .evaluation import Evaluation as Evaluation  # it is a result, too

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MORE_COLUMNS = ("abstained", "set", "error")


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one input.

    Args:
        input: The id of the input: its path, its row, its position.
        label: The most probable class; None where the task abstained or could not read the input.
        probability: Of the most probable class, in [0, 1]; NaN where the input could not be read.
        probabilities: Of every class, by name.
        error: Why the input could not be read; None where it could.
        abstained: Whether no class was probable enough for ``predict(abstain=)``.
        labels_set: Classes that together hold the true one as often as ``predict(coverage=)`` asks,
            the most probable first; None where sets were not asked for, or without the input.
    """

    input: str
    label: str | None
    probability: float
    probabilities: Mapping[str, float]
    error: str | None = None
    abstained: bool = False
    labels_set: tuple[str, ...] | None = None


@dataclass(frozen=True, repr=False)
class Predictions:
    """One row per input, in input order.

    Args:
        inputs: Ids of the inputs, N of them.
        classes: Names of the classes, K of them.
        probabilities: (N, K), float32; rows of unreadable inputs are NaN.
        errors: Why inputs could not be read, by position; empty where all could.
        frame_kind: The kind of data frame that came in and goes out.
        abstain: Below which probability no label is given; None for always a label.
        set_score: Up to which score, 1 minus its probability, a class belongs to the set of an
            input; None for no sets.

    Example:
        >>> import numpy as np
        >>> predictions = Predictions(("a.jpg",), ("ant", "bee"), np.array([[0.2, 0.8]]))
        >>> predictions[0].label, predictions.labels
        ('bee', ['bee'])
    """

    inputs: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: Array
    errors: Mapping[int, str] = field(default_factory=dict)
    frame_kind: FrameKind = "pandas"
    abstain: float | None = None
    set_score: float | None = None

    @property
    def labels(self) -> list[str | None]:
        """The label of every input; None where the task abstained or could not read the input."""
        return [row.label for row in self]

    def __len__(self) -> int:
        return len(self.inputs)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | list[Prediction]:
        """Answer with one row, or with a list of rows."""
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        values = self.probabilities[position]
        named = dict(zip(self.classes, map(float, values), strict=True))
        if position in self.errors:
            error = self.errors[position]
            return Prediction(self.inputs[position], None, float("nan"), named, error)
        best = int(values.argmax())
        abstained = self.abstain is not None and bool(values[best] < self.abstain)
        return Prediction(
            self.inputs[position],
            None if abstained else self.classes[best],
            float(values[best]),
            named,
            abstained=abstained,
            labels_set=self._set(values),
        )

    def _set(self, values: Array) -> tuple[str, ...] | None:
        if self.set_score is None:
            return None
        order = np.argsort(-values, kind="stable")
        # The most probable class always belongs to it: a set of none would say nothing.
        num = max(1, int((1 - values <= np.float32(self.set_score)).sum()))
        return tuple(self.classes[place] for place in order[:num])

    def __iter__(self) -> Iterator[Prediction]:
        return (self[position] for position in range(len(self)))

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with the columns input, label, probability and one per class.

        Where asked for, ``abstained`` and ``set`` (a list of labels) stand before the classes. A
        column ``error`` follows where an input could not be read. The frame is of the kind that
        was predicted on, pandas for everything else.
        """
        return like(self.frame_kind, self._columns())

    def top_k(self, k: int) -> Any:  # Any: as in to_frame
        """Answer with the k most probable classes of each input, one row per input.

        Returns:
            A frame with the columns ``input``, ``label_1``, ``probability_1``, ``label_2`` and so
            on; an input that could not be read has neither labels nor probabilities.

        Raises:
            InvalidValueError: There are not that many classes.
        """
        check_count("k", k)
        if k > len(self.classes):
            raise InvalidValueError(f"k={k}: expected at most the {len(self.classes)} classes.")
        order = np.argsort(-self.probabilities, axis=1, kind="stable")
        columns: dict[str, list[Any]] = {"input": list(self.inputs)}
        for rank in range(k):
            best = order[:, rank]
            columns[f"label_{rank + 1}"] = [
                None if row in self.errors else self.classes[place]
                for row, place in enumerate(best)
            ]
            values = self.probabilities[np.arange(len(self)), best]
            columns[f"probability_{rank + 1}"] = values.tolist()
        return like(self.frame_kind, columns)

    def _columns(self) -> dict[str, list[Any]]:
        rows = list(self)
        columns: dict[str, list[Any]] = {
            "input": [row.input for row in rows],
            "label": [row.label for row in rows],
            "probability": [row.probability for row in rows],
        }
        if self.abstain is not None:
            columns["abstained"] = [row.abstained for row in rows]
        if self.set_score is not None:
            sets = [row.labels_set for row in rows]
            columns["set"] = [None if one is None else list(one) for one in sets]
        return self._with_classes(columns)

    def _with_classes(self, columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Put the probabilities of all classes behind columns, and errors behind these."""
        for position, name in enumerate(self.classes):
            # A class called like one of the columns keeps its name with a mark behind it.
            unique = f"{name} (class)" if name in (*columns, *_MORE_COLUMNS) else name
            columns[unique] = self.probabilities[:, position].tolist()
        if self.errors:
            columns["error"] = [self.errors.get(position) for position in range(len(self))]
        return columns

    def _lines(self) -> list[str]:
        return [f"{row.input}: {_in_words(row)}" for row in self[:10]]

    def __repr__(self) -> str:
        shown = [f"  {line}" for line in self._lines()]
        more = [f"  ... {len(self) - 10:,} more"] if len(self) > 10 else []
        return "\n".join([f"Predictions of {len(self):,} inputs:", *shown, *more])

    def _repr_html_(self) -> str:
        return str(pd.DataFrame(self._columns()).head(20).to_html(index=False, max_cols=8))


def _in_words(row: Prediction) -> str:
    if row.error is not None:
        return f"not readable, {row.error}"
    best = max(row.probabilities, key=row.probabilities.__getitem__)
    words = f"unsure, {best} at best" if row.abstained else best
    one_of = "" if row.labels_set is None else f", one of {', '.join(row.labels_set)}"
    return f"{words} ({row.probability:.3f}){one_of}"


@dataclass(frozen=True, repr=False)
class Embeddings:
    """One feature vector per input, in input order.

    Args:
        values: (N, F), float32.
        ids: Ids of the inputs.
    """

    values: Array
    ids: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def to_frame(self) -> pd.DataFrame:
        """Answer with one row per input: its id as the index, one column per feature."""
        names = [f"f{position}" for position in range(self.values.shape[1])]
        return pd.DataFrame(self.values, index=pd.Index(self.ids, name="input"), columns=names)

    def __repr__(self) -> str:
        return f"Embeddings of {len(self):,} inputs, {self.values.shape[1]} features each"


@dataclass(frozen=True, repr=False)
class History:
    """What happened in a training run, one row per epoch.

    Args:
        rows: Epoch (from 0), losses, metrics, rate and seconds.
        best_epoch: The epoch whose weights the task holds now; None without validation.
    """

    rows: Sequence[Mapping[str, float]]
    best_epoch: int | None = None

    @property
    def best(self) -> Mapping[str, float]:
        """The row of the epoch whose weights the task holds now.

        Raises:
            InvalidValueError: No epoch was finished.
        """
        if not self.rows:
            raise InvalidValueError("No epoch was finished, so there is no best one.")
        if self.best_epoch is None:
            return self.rows[-1]
        return next(row for row in self.rows if row["epoch"] == self.best_epoch)

    def __len__(self) -> int:
        return len(self.rows)

    def to_frame(self) -> pd.DataFrame:
        """Answer with one row per epoch."""
        return pd.DataFrame([dict(row) for row in self.rows])

    def plot(self) -> Figure:
        """Draw losses and metrics over the epochs (needs ``mealkit[plots]``)."""
        from ..plots import plot_history

        return plot_history(self)

    def __repr__(self) -> str:
        best = "" if self.best_epoch is None else f", weights of epoch {self.best_epoch}"
        table = self.to_frame().to_string(index=False, float_format=lambda value: f"{value:.4g}")
        return f"History of {len(self)} epochs{best}\n{table}"

    def _repr_html_(self) -> str:
        return str(self.to_frame().round(4).to_html(index=False))
