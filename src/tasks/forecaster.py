"""Forecaster: from a table of dates and numbers to forecasts that stand beside the naive one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from torch import nn

from ..backbones import Backbone
from ..data.series import SeriesData
from ..data.series_frames import FrameForm
from ..data.series_samples import Scale
from ..errors import InvalidValueError, check_count
from ..specs import DataSpec, SeriesDataSpec
from .backtest import backtest, evaluate
from .choosing import Quality
from .decomposition import Decomposition, decompose
from .error_quantiles import ErrorQuantiles
from .fitted_task import FittedTask
from .forecast_results import ForecastEvaluation, Forecasts, probabilities_of
from .forecasting import forecast, samples_at, seasonal_naive, units_at
from .leaderboard import Leaderboard, compare
from .memory import Memory
from .residuals import Anomalies, Residuals, find_anomalies, find_residuals
from .series_inputs import read_future, read_table
from .updating import update

_log = logging.getLogger("mealkit")


class Forecaster(FittedTask):
    """Forecast numbers over time, with intervals, always beside the seasonal naive method.

    Args:
        backbone: A name from ``mealkit.backbones.find(kind="series")``; a module from windows
            (B, L) to forecasts (B, horizon), which sees each window minus its last value over its
            standard deviation, and a dict of covariates if its forward takes ``covariates``; None
            to let validation windows decide between ``ridge``, ``resmlp``, the naive methods and an
            ensemble of them.
        horizon: How many steps are to be forecast.
        season: Steps of the season, 1 where there is none.
        quality: How long to look for a model where none is named: ``"fast"`` tries ``ridge`` and
            two ``resmlp``, ``"best"`` six of these, which see more and less of the past.
        context: How many steps a method that sees windows sees; None for a choice by the data.

    Raises:
        UnknownNameError: There is no such backbone.
        InvalidValueError: A value that cannot be meant.

    Example:
        >>> task = Forecaster.from_arrays([[3.0, 1.0, 2.0] * 30], horizon=3, season=3)
        >>> _ = task.finetune()
        >>> task.predict().mean.round().tolist()
        [[3.0, 1.0, 2.0]]
    """

    def __init__(
        self,
        backbone: str | Path | nn.Module | None = None,
        *,
        horizon: int,
        season: int = 1,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> None:
        spec = SeriesDataSpec(horizon_steps=horizon, season=season)
        self._build(backbone, spec, context, quality)

    def predict(
        self,
        inputs: Any = None,  # Any: see Args
        *,
        horizon: int | None = None,
        level: float | Sequence[float] = (80, 95),
        future: Any = None,  # Any: see Args
        batch_size: int = 1024,
    ) -> Forecasts:
        """Forecast what follows the last value of each series.

        Args:
            inputs: Newer values of the same series or other series: a table (path or data frame)
                with the columns that were learnt from, arrays as in `from_arrays`, or `SeriesData`.
                None for the series this task was fitted to.
            horizon: How many steps; None for those it was built for. Further ones are forecast from
                the forecasts, with intervals that widen with the square root and are not
                calibrated.
            level: Intervals, in percent: one or several.
            future: What is known of the steps that are forecast, where the data had ``future=``
                columns: a table (path or data frame) with a row per series and step. Rows of the
                inputs that lie behind the last value count as well.
            batch_size: Series computed at a time.

        Raises:
            NoDataError: The task keeps no series, or the inputs hold none.
            DataError: The inputs lack a column, or cannot be put on the grid; or of ``future``
                something is missing, or is of no step that is forecast.
        """
        self.check_fitted()
        probabilities = probabilities_of(level)
        self.look(inputs)
        table, form = read_table(self, inputs)
        steps = self.spec.horizon_steps if horizon is None else horizon
        check_count("horizon", steps)
        table = read_future(self, table, future, steps=steps)
        samples = samples_at(
            table,
            table.lengths,
            self.spec.horizon_steps,
            scale=self.memory.scale_of(table.ids, Scale.learn(table, table.lengths)),
            ahead=max(steps, self.spec.horizon_steps),
        )
        mean, model = forecast(self.net, samples, horizon=steps, batch_size=batch_size)
        season = self.spec.season
        naive, _ = seasonal_naive(samples, season=season, horizon=steps)
        calibration = self.calibration("model")
        quantiles = calibration.quantiles(
            mean, units_at(samples, self.units(table), season), table.ids, np.array(probabilities)
        )
        return Forecasts(
            series=table.ids,
            mean=mean,
            probabilities=probabilities,
            quantiles=quantiles,
            naive=naive,
            model=tuple(model),
            table=table,
            numbers=np.arange(len(table)),
            back=np.zeros(len(table), dtype=np.int64),
            form=form,
        )

    def look(self, inputs: Any = None) -> None:  # Any: see `predict`
        """Let a net that was trained elsewhere see the task's data before its first forecast.

        Nothing is trained: intervals are calibrated on validation windows, and the ends of the
        series are remembered. A net that was fitted here has done so.

        Args:
            inputs: What is to be forecast; data without validation windows calibrate nothing.
        """
        if not self.zero_shot or self.calibration("model").calibrated:
            return
        data = inputs if isinstance(inputs, SeriesData) else self.data
        if data is None or (inputs is not None and data.val is None):
            _log.warning(
                f"{self.model} was not fitted and has no data to calibrate on: the intervals are "
                "normal guesses. Make the task from data (from_*), or call finetune."
            )
            return
        self.check_data(data)
        self._settle(data)

    def evaluate(
        self,
        data: Any = None,  # Any: see Args
        *,
        step: int | None = None,
    ) -> ForecastEvaluation:
        """Score forecasts of values that were not learnt from.

        Args:
            data: `SeriesData` with a test part; or inputs as in `predict`, whose last steps, as
                many as the horizon, are compared with what the rest of them lets expect. None for
                the data this task was made from.
            step: Steps from one forecast of the test part to the next; None for the horizon.

        Raises:
            NoDataError: Nothing was held back.
        """
        self.check_fitted()
        self.look(data)
        return evaluate(self, data, step=step)

    def backtest(
        self,
        data: SeriesData | None = None,
        *,
        windows: int = 5,
        step: int | None = None,
        refit: bool | int = False,
    ) -> ForecastEvaluation:
        """Fit to what was known at a time in the past, and score the forecasts from then on.

        A fresh copy of the task learns, chooses and calibrates before the first cutoff. Each
        forecast sees the values before its own cutoff only. This task stays as it is.

        Args:
            data: The series; None for the data this task was made from. What they hold back as test
                is not used.
            windows: How many forecasts of each series; fewer where it is too short.
            step: Steps from one to the next; None for the horizon.
            refit: Whether another fresh copy learns before each window; a number for one before
                every so many windows. A season that was found stays that of the first cutoff.

        Raises:
            NoDataError: There are no series that are long enough.
            InvalidValueError: A count is none.
        """
        return backtest(self, data, windows=windows, step=step, refit=refit)

    def leaderboard(
        self,
        models: Sequence[str] | None = None,
        *,
        data: SeriesData | None = None,
        windows: int = 5,
        step: int | None = None,
    ) -> Leaderboard:
        """Test several models on the same windows of the past, like `backtest`; the best first.

        This task's own model and the seasonal naive method are always among them.

        Args:
            models: Names of backbones; None for the naive methods, ``theta`` and ``ridge``.
            data: See `backtest`, like all below.
            windows: How many forecasts of each series.
            step: Steps from one to the next; None for the horizon.

        Raises:
            UnknownNameError: There is no such backbone.
            NoDataError: There are no series that are long enough.
        """
        return compare(self, models, data, windows=windows, step=step)

    def residuals(
        self,
        data: Any = None,  # Any: see Args
        *,
        step: int = 1,
        last: int | None = None,
    ) -> Residuals:
        """Forecast values that are known, each from what precedes it, and compare.

        No value reaches its own forecast; but the weights of a model have seen those that it was
        fitted to.

        Args:
            data: What to look back on, as the inputs of `predict`; None for the data this task was
                made from, or what a loaded task keeps.
            step: How many steps are forecast at a time, from the values before the first of them.
            last: How many steps at the end of each series; None for all before which there is
                enough to forecast from.

        Raises:
            NoDataError: No series is long enough.
        """
        self.check_fitted()
        return find_residuals(self, data, step=step, last=last)

    def anomalies(
        self,
        data: Any = None,  # Any: see `residuals`
        *,
        level: float = 99,
        step: int = 1,
        last: int | None = None,
    ) -> Anomalies:
        """Say which values lie outside of the interval that was forecast for them.

        Args:
            data: See `residuals`, like ``step`` and ``last``.
            level: Of the interval, in percent: of usual values 100 - level % lie outside, as far
                as the coverage goes that `finetune` measures and says.
            step: With 1, a level that stays shifted is flagged once; with the horizon, as long as
                forecasts from before the shift reach.
            last: How many steps at the end of each series.

        Raises:
            NoDataError: No series is long enough.
        """
        self.check_fitted()
        return find_anomalies(self, data, level=level, step=step, last=last)

    def decompose(self, inputs: Any = None, *, future: Any = None) -> Decomposition:
        """Take forecasts apart into what they are the sum of.

        A linear model forecasts trend, season and rest of the past one by one, which add up to its
        forecast; ``nbeats`` adds up the answers of its stacks.

        Args:
            inputs: As in `predict`.
            future: As in `predict`.

        Raises:
            InvalidValueError: The model is of another kind.
        """
        self.check_fitted()
        return decompose(self, inputs, future)

    def update(self, new: Any) -> Self:  # Any: see Args
        """Take up new rows behind the series that the task keeps, and go on from them.

        Nothing is fitted again: the model, its intervals and the usual size of each series' errors
        stay, and intervals still widen in restless times, since the latest errors count. What has
        no size yet, a new series, gets it from its own values. The data this task was made from
        grow as well, so that the next `finetune` learns from the new rows.

        Args:
            new: A table (path or data frame) with the columns that were learnt from and rows that
                are later than what is known, or arrays as in `from_arrays` where there are no
                times. Names that are not known are new series.

        Raises:
            NoDataError: The task keeps no series, or the rows hold no number.
            DataError: Rows are doubled, not later than what is known, or off the grid; or there is
                a column that the task was not fitted with.
        """
        update(self, new)
        return self

    def save(self, folder: str | Path, *, history: bool = True) -> Path:
        """Write the task to a folder: ``task.json`` and ``model.safetensors``, no pickle.

        Args:
            folder: Absent, empty, or an earlier saved task, which is replaced as a whole.
            history: Whether the last values of each series are kept; without them, `predict` asks
                for data, and forecasts from the same data the same. Names of series, their scales
                and the usual size of their errors are kept in any case.

        Raises:
            SavedTaskError: The folder holds something else.
        """
        kept = self.memory
        if not history:
            self.memory = kept.without_values()
        try:
            return super().save(folder)
        finally:
            self.memory = kept

    def take_settings(self, settings: Mapping[str, Any]) -> None:  # Any: plain JSON values
        """Make room for what a finished run calibrated and remembered."""
        for name, values in settings["calibrations"].items():
            self.head[name] = ErrorQuantiles.from_settings(values)
        self.memory = Memory.from_settings(settings["memory"])
        if self.data is None and "form" in settings:  # absent from the first saved tasks
            self._form = FrameForm.from_settings(settings["form"], self.memory.ids)
        self.needs_fit = not settings.get("fitted", True)  # absent from the first saved tasks
        if not self.needs_fit:
            self.net.note_head(is_fresh=False)

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside backbone and data."""
        return {
            "context": self.context,
            "own_context": self.own_context,
            "chooses": self.chooses,
            "quality": self.quality,
            "calibrations": {n: self.calibration(n).settings() for n in ("model", "naive")},
            "memory": self.memory.settings(),
            "form": self._form.settings(),
            "zero_shot": self.zero_shot,
            "came_pretrained": self.came_pretrained,
            "fitted": not self.needs_fit,
        }

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the task that was saved with these settings."""
        if not isinstance(spec, SeriesDataSpec):
            raise InvalidValueError(f"Expected what series tell, got {spec}.")
        task = cls.__new__(cls)
        task._build(backbone, spec, None, "fast")
        task.context, task.chooses = settings["context"], settings["chooses"]
        task.quality = settings.get("quality", "fast")  # absent from the first saved tasks
        task.zero_shot = bool(settings.get("zero_shot"))
        task.came_pretrained = bool(settings.get("came_pretrained"))  # absent from the first, too
        task.own_context = settings.get("own_context", task.own_context)  # absent, too
        task.take_settings(settings)
        return task
