"""What tasks answer with: small frozen objects that print well and become data frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, overload

import pandas as pd

from ..data.frames import FrameKind, like
from ..errors import InvalidValueError
from .evaluation import Array
from .evaluation import Evaluation as Evaluation  # it is a result, too

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Prediction:
    """What was predicted for one input.

    Args:
        input: The id of the input: its path, its row, its position.
        label: The most probable class; None where the input could not be read.
        probability: Of that class, in [0, 1]; NaN where the input could not be read.
        probabilities: Of every class, by name.
        error: Why the input could not be read; None where it could.
    """

    input: str
    label: str | None
    probability: float
    probabilities: Mapping[str, float]
    error: str | None = None


@dataclass(frozen=True, repr=False)
class Predictions:
    """One row per input, in input order.

    Args:
        inputs: Ids of the inputs, N of them.
        classes: Names of the classes, K of them.
        probabilities: (N, K), float32; rows of unreadable inputs are NaN.
        errors: Why inputs could not be read, by position; empty where all could.
        frame_kind: The kind of data frame that came in and goes out.

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

    @property
    def labels(self) -> list[str | None]:
        """The most probable class of every input; None where it could not be read."""
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
        return Prediction(self.inputs[position], self.classes[best], float(values[best]), named)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[position] for position in range(len(self)))

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with the columns input, label, probability and one per class.

        A column ``error`` follows where an input could not be read. The frame is of the kind that
        was predicted on, pandas for everything else.
        """
        return like(self.frame_kind, self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        rows = list(self)
        columns: dict[str, list[Any]] = {
            "input": [row.input for row in rows],
            "label": [row.label for row in rows],
            "probability": [row.probability for row in rows],
        }
        for position, name in enumerate(self.classes):
            # A class called like one of the columns keeps its name with a mark behind it.
            unique = f"{name} (class)" if name in (*columns, "error") else name
            columns[unique] = self.probabilities[:, position].tolist()
        if self.errors:
            columns["error"] = [row.error for row in rows]
        return columns

    def __repr__(self) -> str:
        shown = [
            f"  {row.input}: {row.label} ({row.probability:.3f})"
            if row.error is None
            else f"  {row.input}: not readable, {row.error}"
            for row in self[:10]
        ]
        more = [f"  ... {len(self) - 10:,} more"] if len(self) > 10 else []
        return "\n".join([f"Predictions of {len(self):,} inputs:", *shown, *more])

    def _repr_html_(self) -> str:
        return str(pd.DataFrame(self._columns()).head(20).to_html(index=False, max_cols=8))


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
        table = self.to_frame().round(4).to_string(index=False)
        return f"History of {len(self)} epochs{best}\n{table}"

    def _repr_html_(self) -> str:
        return str(self.to_frame().round(4).to_html(index=False))
