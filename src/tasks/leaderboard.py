"""Leaderboard: several models on the same windows of the past, the best first."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..backbones import find
from ..data.series_frames import FrameForm
from ..errors import DataError, InvalidValueError, NoDataError, unknown_name
from .backtest import backtest
from .forecast_results import ForecastEvaluation

if TYPE_CHECKING:
    from ..data.series import SeriesData
    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")

BASELINE = "seasonal-naive"
_CHOSEN = "chosen"
USUAL = (BASELINE, "naive", "drift", "theta", "ridge")
"""What is compared where nobody says what: all that needs seconds."""


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """How well models did on the same windows of the past, the best first.

    Args:
        evaluations: By the name of the model, sorted by MASE (by WQL where MASE is not defined).
        seconds: What fitting and forecasting took, by name.
        form: What the data frame that came in looks like; answers look alike.
    """

    evaluations: Mapping[str, ForecastEvaluation]
    seconds: Mapping[str, float]
    form: FrameForm = field(default_factory=FrameForm)

    @property
    def best(self) -> str:
        """The name of the first model."""
        return next(iter(self.evaluations))

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with a row per model.

        The columns are model, the metrics, skill (by which share its MASE is below that of the
        seasonal naive method) and seconds.
        """
        return self.form.frame(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        every = self.evaluations.values()
        names = list(dict.fromkeys(name for each in every for name in each.metrics))
        columns: dict[str, list[Any]] = {"model": list(self.evaluations)}
        for name in names:
            columns[name] = [each.metrics.get(name, np.nan) for each in every]
        columns["skill"] = [each.skill.get("mase", np.nan) for each in every]
        columns["seconds"] = [self.seconds[name] for name in self.evaluations]
        return columns

    def __repr__(self) -> str:
        count = len(next(iter(self.evaluations.values())).forecasts)
        table = pd.DataFrame(self._columns()).round(4).to_string(index=False)
        return f"Leaderboard on {count:,} windows\n{table}"

    def _repr_html_(self) -> str:
        return str(pd.DataFrame(self._columns()).round(4).to_html(index=False))


def compare(
    task: Forecaster,
    models: Sequence[str] | None,
    data: SeriesData | None,
    *,
    windows: int,
    step: int | None,
) -> Leaderboard:
    """Test models on the past; see `Forecaster.leaderboard`."""
    names = _checked(USUAL if models is None else models)
    series = task.data if data is None else data
    if series is None:
        raise NoDataError("This task has no data to go back in. Pass them: data=...")
    asked: dict[str, Forecaster] = {}
    for name in dict.fromkeys([BASELINE, *names]):
        asked[name] = type(task).from_data(series, backbone=name)
    own = _CHOSEN if task.chooses else task.model
    asked[own] = task  # with the settings of its last fit, also where its name was asked for
    found, seconds = {}, {}
    for name, one in asked.items():
        begun = time.perf_counter()
        try:
            evaluation = backtest(one, series, windows=windows, step=step, warns=False)
        except DataError as error:
            if name == BASELINE:  # then there are no windows at all
                raise
            _log.warning(f"{name} is left out: {error}")
            continue
        label = f"{evaluation.model} ({_CHOSEN})" if name == _CHOSEN else name
        found[label], seconds[label] = evaluation, time.perf_counter() - begun
    ordered = sorted(found, key=lambda name: _rank(found[name]))
    return Leaderboard({name: found[name] for name in ordered}, seconds, series.form)


def _checked(models: Sequence[str]) -> Sequence[str]:
    if isinstance(models, str):
        raise InvalidValueError(f"models={models!r}: expected several names, models=[{models!r}].")
    known = find(kind="series")
    for name in models:
        if name not in known:
            raise unknown_name("backbone", name, known)
    return models


def _rank(evaluation: ForecastEvaluation) -> tuple[float, float]:
    metrics = evaluation.metrics
    return metrics.get("mase", np.inf), metrics.get("wql", np.inf)
