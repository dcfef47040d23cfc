"""Cross-validation: every training input is scored once, by a task that has not seen it."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from ..data.module import Data
from ..data.samples import Samples, Subset
from ..data.split import classes_of, folds_by_hash
from ..errors import InvalidValueError, NoDataError, unknown_name
from .evaluation import Evaluation

if TYPE_CHECKING:
    from .classifier import Classifier

_log = logging.getLogger("mealkit")


@dataclass(frozen=True, repr=False, eq=False)
class CrossValidation:
    """How well tasks do that were trained alike, each on all folds but the one it is scored on.

    Args:
        folds: One evaluation per fold.
    """

    folds: tuple[Evaluation, ...]

    @property
    def metrics(self) -> Mapping[str, float]:
        """The mean of each metric over the folds."""
        means = self.to_frame().drop(columns="inputs").mean()
        return {str(name): float(mean) for name, mean in means.items()}

    def interval(self, metric: str = "accuracy") -> tuple[float, float]:
        """Say where the mean of a metric lies at 95 %, given how much the folds differ.

        Student's interval with the correction of Nadeau and Bengio 2003
        (doi:10.1023/A:1024068626366): folds share most of what they train on, and the plain
        interval, which takes them for independent, is too narrow.

        Raises:
            UnknownNameError: There is no such metric.
        """
        frame = self.to_frame().drop(columns="inputs")
        if metric not in frame.columns:
            raise unknown_name("metric", metric, frame.columns)
        num = len(self.folds)
        # 1 / num alone would be the plain interval; the rest is scored over trained-on inputs.
        variance = frame[metric].var(ddof=1) * (1 / num + 1 / (num - 1))
        half = t_quantile(num - 1) * math.sqrt(variance)
        mean = float(frame[metric].mean())
        highest = math.inf if metric == "loss" else 1.0
        return max(0.0, mean - half), min(highest, mean + half)

    def to_frame(self) -> pd.DataFrame:
        """Answer with one row per fold: its metrics and its number of inputs."""
        rows = [{**fold.metrics, "inputs": len(fold)} for fold in self.folds]
        return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="fold"))

    def _numbers(self) -> str:
        said = []
        for name, mean in self.metrics.items():
            low, high = self.interval(name)
            said.append(f"{name} {mean:.4f} ({low:.3f} to {high:.3f})")
        return f"Cross-validation in {len(self.folds)} folds: {', '.join(said)}"

    def __repr__(self) -> str:
        return f"{self._numbers()}\n{self.to_frame().round(4)}"

    def _repr_html_(self) -> str:
        return f"<p>{self._numbers()}</p>{self.to_frame().round(4).to_html()}"


def t_quantile(degrees: int) -> float:
    """Answer with the value that Student's t stays within, to both sides, 95 % of the time.

    The distribution has a closed form for whole degrees of freedom (Abramowitz and Stegun 1964,
    26.7.3 and 26.7.4), which is inverted by bisection; scipy is no dependency.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, degrees) < 0.95 else (low, middle)
    return math.sqrt(degrees) * math.tan(low)


def _within(angle: float, degrees: int) -> float:
    """Answer with the probability that abs(t) is below sqrt(degrees) * tan(angle)."""
    odd, cosine = degrees % 2, math.cos(angle)
    term, total = cosine if odd else 1.0, 0.0
    for number in range(1 + odd, degrees, 2):
        total += term
        term *= cosine**2 * number / (number + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def make_folds(data: Data, k: int) -> Iterator[tuple[Data, Samples]]:
    """Yield for each fold the data to train on, and the samples that were held out of them.

    Raises:
        NoDataError: There is no training part with labels.
        InvalidValueError: The data do not say what belongs together, or are too few for k folds.
    """
    train = data.train
    if train is None or train.targets is None:
        raise NoDataError("These data have no training part with labels to cross-validate on.")
    if data.keys is None:
        raise InvalidValueError(
            f"This {type(data).__name__} does not say which of its training inputs belong "
            "together (data.keys is None), so folds could share groups or copies. Set data.keys to "
            "one text per training input, equal for those that must stay together."
        )
    of_row = classes_of(train.targets)
    fold_of = np.array(folds_by_hash(data.keys, of_row, k=k, seed=data.seed))
    if num := int((fold_of < 0).sum()):
        _log.warning(
            f"{num:,} inputs are the only ones of their class, or its only group: they are trained "
            "on in every fold and scored in none."
        )
    for fold in range(k):
        held = fold_of == fold
        rest = Subset(train, _rows(~held))
        yield data.with_train(rest), Subset(train, _rows(held))


def _rows(chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Sequence[int]:
    rows: Sequence[int] = chosen.nonzero()[0].tolist()
    return rows


def fresh_copy(task: Classifier) -> Classifier:
    """Build the same task again, with the same weights and none of its data or calibration."""
    settings = {"temperature": 1.0, "conformal": None, "thresholds": None}
    made = type(task).from_settings(
        deepcopy(task.backbone), task.spec, {**task.settings(), **settings}
    )
    made.load_state_dict(task.state_dict())
    made.precision = task.precision
    return made
