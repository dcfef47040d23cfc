"""Forecaster: from a table of dates and numbers to forecasts that stand beside the naive one."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from torch import nn

from ..backbones import Backbone, create
from ..backbones.series_base import SeriesBackbone
from ..data.frames import FrameKind
from ..data.module import Data
from ..data.series import SeriesData
from ..data.series_build import Duplicates
from ..data.series_columns import Target
from ..data.series_covariates import Columns
from ..data.series_samples import Scale
from ..data.series_table import SeriesTable
from ..errors import DataError, InvalidValueError, NoDataError
from ..specs import DataSpec, SeriesDataSpec
from .backtest import backtest, evaluate, read_future, read_table
from .error_quantiles import ErrorQuantiles
from .forecast_results import ForecastEvaluation, Forecasts, probabilities_of
from .forecasting import forecast, samples_at, seasonal_naive, units_at, units_of
from .memory import Memory
from .record import Recorder
from .results import History
from .runs import Run
from .settling import settle
from .solved import SolvedTask, objective_of, warn_of_unused
from .strategies import Strategy
from .training import Training, refuse_beside_trainer

if TYPE_CHECKING:
    pass

_log = logging.getLogger("mealkit")

NUM_SHOWN = 4
"""Horizons of the past that pictures show and saved tasks keep, at least."""


class Forecaster(SolvedTask):
    """Forecast numbers over time, with intervals, always beside the seasonal naive method.

    Args:
        backbone: A name from ``mealkit.backbones.find(kind="series")``; None to let validation
            windows decide between ``ridge`` and the naive methods.
        horizon: How many steps are to be forecast.
        season: Steps of the season, 1 where there is none.
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

    head: nn.ModuleDict

    def __init__(
        self,
        backbone: str | Backbone | None = None,
        *,
        horizon: int,
        season: int = 1,
        context: int | None = None,
    ) -> None:
        self.__build(backbone, SeriesDataSpec(horizon_steps=horizon, season=season), context)

    def __build(
        self, backbone: str | Backbone | None, spec: SeriesDataSpec, context: int | None
    ) -> None:
        seen = None if context is None else {"context_steps": context}
        net = create(backbone or "ridge", spec, preprocessing=seen)
        if not isinstance(net, SeriesBackbone):
            raise InvalidValueError(
                f"Forecaster needs a backbone for series, got one for {net.input_spec.kind}."
            )
        horizon = spec.horizon_steps
        calibrations = {
            name: ErrorQuantiles(horizon, season=spec.season) for name in ("model", "naive")
        }
        super().__init__(backbone=net, head=nn.ModuleDict(calibrations), spec=spec, context=context)
        self.memory = Memory()
        self.chooses = backbone is None
        self._context = context
        self._frame_kind: FrameKind = "pandas"

    # Sources.

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        horizon: int,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        static: Columns = (),
        past: Columns = (),
        future: Columns = (),
        frequency: str | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
        backbone: str | Backbone | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a task from a CSV table (or one with tabs: .tsv) of dates and numbers.

        See `SeriesData.from_csv` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_csv(
            path,
            horizon=horizon,
            time=time,
            target=target,
            series=series,
            static=static,
            past=past,
            future=future,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            val=val,
            test=test,
            seed=seed,
        )
        return cls.from_data(data, backbone=backbone, context=context)

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        horizon: int,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        static: Columns = (),
        past: Columns = (),
        future: Columns = (),
        frequency: str | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
        backbone: str | Backbone | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a task from a parquet table of dates and numbers (needs ``mealkit[parquet]``).

        See `SeriesData.from_csv` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_parquet(
            path,
            horizon=horizon,
            time=time,
            target=target,
            series=series,
            static=static,
            past=past,
            future=future,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            val=val,
            test=test,
            seed=seed,
        )
        return cls.from_data(data, backbone=backbone, context=context)

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        horizon: int,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        static: Columns = (),
        past: Columns = (),
        future: Columns = (),
        frequency: str | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
        backbone: str | Backbone | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a task from a data frame of dates and numbers, pandas or polars.

        See `SeriesData.from_csv` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_data_frame(
            frame,
            horizon=horizon,
            time=time,
            target=target,
            series=series,
            static=static,
            past=past,
            future=future,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            val=val,
            test=test,
            seed=seed,
        )
        return cls.from_data(data, backbone=backbone, context=context)

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,  # Any: an array (T,) or (T, N), a list of arrays (T,), or a dict of them
        *,
        horizon: int,
        ids: Sequence[str] | None = None,
        season: int = 1,
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
        backbone: str | Backbone | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a task from series in memory, without times.

        See `SeriesData.from_arrays` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_arrays(
            arrays, horizon=horizon, ids=ids, season=season, val=val, test=test, seed=seed
        )
        return cls.from_data(data, backbone=backbone, context=context)

    @classmethod
    def from_data(
        cls,
        data: SeriesData,
        *,
        backbone: str | Backbone | None = None,
        context: int | None = None,
    ) -> Self:
        """Make a task from series that are read already."""
        task = cls.__new__(cls)
        task.__build(backbone, data.spec, context)
        task.data = data
        warn_of_unused(task.net, data.spec)
        return task

    # What follows a fit.

    def check_data(self, data: Data) -> None:
        """Refuse data of another kind, horizon or season; remember their columns and their grid."""
        super().check_data(data)
        self._frame_kind = data.frame_kind if isinstance(data, SeriesData) else "pandas"

    def on_fit_end(self) -> None:
        """Choose, calibrate and remember, from the data that were fitted."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SeriesData) and not self._adds:
            self._settle(data)

    def _settle(self, data: SeriesData) -> None:
        settle(self, data)
        self._remember(data)

    def _remember(self, data: SeriesData) -> None:
        """Keep the ends of the series, up to what is held back."""
        known = data.table.cut(data.known)
        units = units_of(known, self.spec.season, known.lengths)
        steps = self.net.input_spec.context_steps
        if steps:
            horizon, season = self.spec.horizon_steps, self.spec.season
            steps = max(steps, NUM_SHOWN * horizon, horizon + 3 * season)
        scale = data.scale_of(known.ids)
        self.memory = Memory.of(known, units, steps=steps, scale=scale)

    def use(self, name: str) -> None:
        """Take another backbone in place of the one that lost to it."""
        net = create(name, self.spec)
        self.backbone = net
        self.objective = objective_of(self.net, None)

    # Verbs.

    def finetune(
        self,
        data: Data | None = None,
        *,
        epochs: int | None = None,
        strategy: str | Strategy | None = None,
        lr: float | Literal["auto"] | None = None,
        batch_size: int | Literal["auto"] | None = None,
        run: str | Path | None = None,
        resume: bool = False,
        precision: str | None = None,
        training: Training | None = None,
        trainer: pl.Trainer | None = None,
        logger: Logger | None = None,
        callbacks: Sequence[pl.Callback] = (),
        refit: bool = True,
    ) -> History:
        """Fit to series: solve, choose and calibrate on validation windows.

        Args:
            data: What to learn from; None for the data this task was made from.
            epochs: Nothing here is trained in epochs; like ``strategy``, ``lr``, ``resume``,
                ``precision`` and ``training`` an error when given, and so is
                ``batch_size="auto"``.
            strategy: See ``epochs``.
            lr: See ``epochs``.
            batch_size: Windows added up at a time; None for the data's own.
            run: Folder for settings, history and the saved task. Never overwritten.
            resume: See ``epochs``: a fit that was stopped is fitted again.
            precision: See ``epochs``; series run in fp32.
            training: See ``epochs``.
            trainer: Your own Trainer, in place of ours.
            logger: Added to our Trainer.
            callbacks: Added to our Trainer.
            refit: Whether the values that validated are learnt from at last.

        Returns:
            One row, with the error of validation; none where nothing had to be learnt.

        Raises:
            NoDataError: There is nothing to learn from.
            InvalidValueError: Arguments contradict each other or the data.
        """
        num_rows = _number(batch_size)
        _refuse_training(epochs, strategy, lr, resume or None, precision, training)
        if run is not None and not (self.net.solved or self.chooses):
            raise InvalidValueError(
                f"run= records how a model was fitted, and {self.model!r} has nothing to fit. "
                "Leave it out, and use task.save()."
            )
        if trainer is not None:
            refuse_beside_trainer({"logger": logger, "callbacks": callbacks or None})
        series = self._resolve_data(data)
        if not isinstance(series, SeriesData) or series.train is None:
            raise NoDataError("Expected series to learn from.")
        begun = self._run_folder(run, trainer)
        self._begin(series)
        recorder = Recorder()
        series.prepare(self.input_spec)
        if self.net.solved and len(series.train):
            own: list[pl.Callback] = [recorder]
            if begun is not None:
                own += begun.callbacks(task=self, data=series, recorder=recorder)
            self._fit_once(series, num_rows, trainer, logger, [*own, *callbacks])
            if refit and self.net.solved and len(series.rest()):
                self._fit_rest(series, num_rows)
        else:
            self._without_windows(series)
            self._settle(series)
        history = History(recorder.rows)
        if begun is not None and len(history) and (trainer is None or trainer.is_global_zero):
            begun.finish(self, history)
        return history

    def _run_folder(self, run: str | Path | None, trainer: pl.Trainer | None) -> Run | None:
        if run is None:
            return None
        is_first = trainer is None or trainer.is_global_zero
        return Run(Path(run), fingerprint={"model": self.model}, resume=False, is_first=is_first)

    def _begin(self, data: SeriesData) -> None:
        """Start from a fresh backbone, of a size that fits the data."""
        if self.chooses or self.net.solved:
            name = "ridge" if self.chooses else self.net.name
            own = self._context or (None if self.chooses else self.net.input_spec.context_steps)
            seen = None if own is None else {"context_steps": own}
            self.backbone = create(name, data.spec, preprocessing=seen)
            self.objective = objective_of(self.net, self._context)

    def _without_windows(self, data: SeriesData) -> None:
        if not self.net.solved:
            return
        context, horizon = self.net.needs_steps, self.spec.horizon_steps
        if not self.chooses:
            raise DataError(
                f"No series has the {context} + {horizon} steps that {self.model!r} learns from, "
                "observed and beside those that validate. Give context= fewer steps, bring more "
                "history, or use backbone='seasonal-naive'."
            )
        _log.warning("The series are too short to learn from: the seasonal naive method answers.")
        self.use("seasonal-naive")

    def _fit_rest(self, data: SeriesData, batch_size: int | None) -> None:
        """Add the windows that validated, and solve again with the setting they chose."""
        rest = SeriesData(data.table, spec=data.spec, val=0, seed=data.seed)
        rest.train = data.rest()
        self._adds = True
        try:
            self._fit_once(rest, batch_size, None, None, [])
        finally:
            self._adds = False

    def predict(
        self,
        inputs: Any = None,  # Any: see Args
        *,
        horizon: int | None = None,
        level: Sequence[float] = (80, 95),
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
            level: Intervals, in percent.
            future: What is known of the steps that are forecast, where the data had ``future=``
                columns: a table (path or data frame) with a row per series and step. Rows of the
                inputs that lie behind the last value count as well.
            batch_size: Series computed at a time.

        Raises:
            NoDataError: The task keeps no series, or the inputs hold none.
            DataError: The inputs lack a column, or cannot be put on the grid; or of ``future``
                something is missing, or is of no step that is forecast.
        """
        probabilities = probabilities_of(level)
        table, kind = read_table(self, inputs)
        steps = self.spec.horizon_steps if horizon is None else horizon
        if steps < 1:
            raise InvalidValueError(f"horizon={horizon}: expected at least 1 step.")
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
            frame_kind=kind,
        )

    def fresh(self, data: SeriesData) -> Self:
        """Answer with a task that has learnt nothing yet and is asked the same of other data."""
        name = None if self.chooses else self.model
        context = self._context
        if context is None and not self.chooses and self.net.solved:
            context = self.net.input_spec.context_steps
        return type(self).from_data(data, backbone=name, context=context)

    def calibration(self, name: str) -> ErrorQuantiles:
        """Answer with what says how far off the ``"model"`` or the ``"naive"`` method is."""
        found = self.head[name]
        if not isinstance(found, ErrorQuantiles):
            raise InvalidValueError(f"Expected a calibration, got {found}.")
        return found

    def units(self, table: SeriesTable) -> np.ndarray[Any, Any]:
        """Answer with the size of errors of series: as learnt, or from new ones' own past."""
        known = dict(zip(self.memory.ids, self.memory.units.cpu().tolist(), strict=True))
        fresh = units_of(table, self.spec.season, table.lengths)
        return np.array([known.get(id, own) for id, own in zip(table.ids, fresh, strict=True)])

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
        return evaluate(self, data, step=step)

    def backtest(
        self,
        data: SeriesData | None = None,
        *,
        windows: int = 5,
        step: int | None = None,
    ) -> ForecastEvaluation:
        """Fit to what was known at a time in the past, and score the forecasts from then on.

        A fresh copy of the task learns, chooses and calibrates before the first cutoff. Each
        forecast sees the values before its own cutoff only. This task stays as it is.

        Args:
            data: The series; None for the data this task was made from. What they hold back as test
                is not used.
            windows: How many forecasts of each series; fewer where it is too short.
            step: Steps from one to the next; None for the horizon.

        Raises:
            NoDataError: There are no series that are long enough.
        """
        return backtest(self, data, windows=windows, step=step)

    def save(self, folder: str | Path, *, history: bool = True) -> Path:
        """Write the task to a folder: ``task.json`` and ``model.safetensors``, no pickle.

        Args:
            folder: Absent, empty, or an earlier saved task, which is replaced as a whole.
            history: Whether the last values of each series are kept; without them, `predict` asks
                for data.

        Raises:
            SavedTaskError: The folder holds something else.
        """
        kept = self.memory
        if not history:
            self.memory = Memory()
        try:
            return super().save(folder)
        finally:
            self.memory = kept

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside backbone and data."""
        return {
            "context": self._context,
            "chooses": self.chooses,
            "calibrations": {n: self.calibration(n).settings() for n in ("model", "naive")},
            "memory": self.memory.settings(),
        }

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the task that was saved with these settings."""
        if not isinstance(spec, SeriesDataSpec):
            raise InvalidValueError(f"Expected what series tell, got {spec}.")
        task = cls.__new__(cls)
        task.__build(backbone, spec, None)
        task._context, task.chooses = settings["context"], settings["chooses"]
        for name, values in settings["calibrations"].items():
            task.head[name] = ErrorQuantiles.from_settings(values)
        task.memory = Memory.from_settings(settings["memory"])
        return task


def _number(batch_size: int | str | None) -> int | None:
    if isinstance(batch_size, str):
        raise InvalidValueError(
            f"batch_size={batch_size!r}: nothing is trained in steps, so no size has to be found. "
            "Give a number or None."
        )
    return batch_size


def _refuse_training(*given: object) -> None:
    names = ("epochs", "strategy", "lr", "resume", "precision", "training")
    found = [f"{n}=" for n, value in zip(names, given, strict=True) if value is not None]
    if found:
        raise InvalidValueError(
            f"{', '.join(found)}: the backbones for series are solved in one pass in fp32, so this "
            "would change nothing. Leave it out."
        )
