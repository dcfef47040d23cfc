"""FittedTask: how a forecaster is built, fitted, chosen and calibrated."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from ..backbones import create, rebuild
from ..backbones.series_base import SeriesBackbone
from ..data.module import Data
from ..data.series import SeriesData
from ..data.series_frames import FrameForm
from ..data.series_samples import Scale
from ..data.series_table import SeriesTable
from ..errors import DataError, InvalidValueError, NoDataError
from ..specs import SeriesDataSpec
from .choosing import (
    Quality,
    check_quality,
    choose,
    mixed,
    naive_methods,
    num_epochs,
    try_candidates,
)
from .error_quantiles import ErrorQuantiles
from .finetuning import fit_task
from .forecasting import units_of
from .memory import Memory
from .record import Recorder
from .results import History
from .runs import Run
from .series_task import objective_of, refuse_forks, warn_of_unused
from .settling import calibrate, settle, validate
from .sourced_task import SourcedTask
from .strategies import Strategy
from .training import Training, fit_quietly, refuse_beside_trainer

_log = logging.getLogger("mealkit")

EPOCHS = 10
"""Epochs of 100 steps in which a net is trained where nobody says how many: 1,000 steps, after
which the tiny nets here gain nothing; see the page on forecasting."""

WEIGHT_DECAY = 0.01
"""Of AdamW where no `Training` is given; as in the runs that the page on forecasting measures."""

PATIENCE = 3
"""Epochs without improvement after which a model that is only tried is not trained further."""

NUM_SHOWN = 4
"""Horizons of the past that pictures show and saved tasks keep, at least."""


class FittedTask(SourcedTask):
    """A backbone for series between its data and its forecasts: solved, trained or chosen."""

    head: nn.ModuleDict

    def _build(
        self,
        backbone: str | Path | nn.Module | None,
        spec: SeriesDataSpec,
        context: int | None,
        quality: Quality,
    ) -> None:
        check_quality(quality, backbone)
        spec.check_horizon()
        seen = None if context is None else {"context_steps": context}
        net = create("ridge" if backbone is None else backbone, spec, preprocessing=seen)
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
        self.chooses, self.quality = backbone is None, quality
        self._is_fresh = isinstance(backbone, str)  # a net of ours that has not been fitted yet
        learns = backbone is None or net.solved or net.trained
        untrained = (backbone is None or self._is_fresh) and not net.pretrained
        self.needs_fit = learns and (untrained or net.head_is_fresh)
        self._initial: dict[str, Tensor] | None = None  # of the net, before it was ever fitted
        self._start: dict[str, Tensor] = {}  # of the net, before the last fit
        self._was_pretrained = False
        self.came_pretrained = False  # whether the net was trained before it was ever fitted here
        self._came_fresh = net.head_is_fresh
        self._refits = False
        self._is_tried = False  # as a candidate: it neither calibrates nor remembers
        self._validated: np.ndarray[Any, Any] | None = None
        # Whether it forecasts as it came.
        self.zero_shot = net.trained and net.pretrained and not net.head_is_fresh
        self.fitting: dict[str, Any] = {}  # Any: arguments of the last `finetune`, for backtests
        self.context = context
        # Of a net that came as one; a name takes what fits the data.
        named = backbone is None or isinstance(backbone, str)
        self.own_context = None if named else net.input_spec.context_steps or None
        self._form = FrameForm()

    @classmethod
    def from_data(
        cls,
        data: SeriesData,
        *,
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from series that are read already."""
        task = cls._of(data, backbone, quality, context)
        warn_of_unused(task.net, data.spec)
        return task

    @classmethod
    def _of(
        cls,
        data: SeriesData,
        backbone: str | Path | nn.Module | None,
        quality: Quality,
        context: int | None,
    ) -> Self:
        task = cls.__new__(cls)
        task._build(backbone, data.spec, context, quality)
        task.data = data
        return task

    def candidate(self, data: SeriesData, backbone: SeriesBackbone) -> Self:
        """Answer with a task for a backbone that is tried; what it cannot use needs no warning."""
        return self._of(data, backbone, "fast", self.context)

    # What follows a fit.

    def check_data(self, data: Data) -> None:
        """Refuse data of another kind, horizon or season; remember their columns and their grid."""
        super().check_data(data)
        self._form = data.form if isinstance(data, SeriesData) else FrameForm()

    def on_fit_end(self) -> None:
        """Choose, calibrate and remember, from the data that were fitted."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SeriesData) and not self._adds:
            self._settle(data)

    def _settle(self, data: SeriesData) -> None:
        if self._is_tried:
            self._validated = None if data.val is None else validate(self, data.val)
            return
        settle(self, data)
        self._remember(data)

    def try_on(
        self,
        data: SeriesData,
        *,
        batch_size: int | None,
        seed: int,
        logger: Logger | None,
        callbacks: Sequence[pl.Callback],
    ) -> tuple[np.ndarray[Any, Any], History]:
        """Learn from what precedes the validation windows, and forecast these, (W, H).

        Raises:
            DataError: No series is long enough for a window.
        """
        self._is_tried = True
        if self.net.trained:
            data.prepare(self.input_spec)  # which says how many windows can be learnt from
            training = Training(weight_decay=WEIGHT_DECAY, seed=seed, patience=PATIENCE)
            epochs = num_epochs(data, EPOCHS)
            history = self.finetune(
                data,
                epochs=epochs,
                refit=False,
                training=training,
                logger=logger,
                callbacks=callbacks,
            )
        else:
            history = self.finetune(
                data, batch_size=batch_size, refit=False, logger=logger, callbacks=callbacks
            )
        if self._validated is None:
            raise NoDataError("Expected validation windows to try a model on.")
        return self._validated, history

    def learn_rest(self, data: SeriesData, *, batch_size: int | None) -> None:
        """Learn from what validated as well, with what validation has chosen."""
        if self.net.trained:
            self._refits = True
            self.conclude(data, batch_size)
        elif self.net.solved and len(data.rest()):
            self._fit_rest(data, batch_size)

    def check_fitted(self) -> None:
        """Refuse to forecast with a net that learns from series, and has not been fitted to any.

        Raises:
            InvalidValueError: It has not.
        """
        if self.needs_fit:
            raise InvalidValueError(
                f"{self.model} is not fitted yet and would answer with guesses. Call "
                "task.finetune() first."
            )

    def _remember(self, data: SeriesData) -> None:
        """Keep the ends of the series, up to what is held back."""
        self.needs_fit = False
        self.net.note_head(is_fresh=False)
        known = data.table.cut(data.known)
        units = units_of(known, self.spec.season, known.lengths)
        self.keep(known, units, data.scale_of(known.ids))

    def keep(self, table: SeriesTable, units: np.ndarray[Any, Any], scale: Scale) -> None:
        """Keep the ends of series, as far as forecasts and pictures need them.

        Args:
            table: The series, up to what is known.
            units: The size of each series' errors, (N,).
            scale: How each was scaled when it was learnt from; NaN where it was not.
        """
        steps = self.net.input_spec.context_steps
        if steps:
            horizon, season = self.spec.horizon_steps, self.spec.season
            steps = max(steps, NUM_SHOWN * horizon, horizon + 3 * season)
        self.memory = Memory.of(table, units, steps=steps, scale=scale)

    def use(self, name: str) -> None:
        """Take another backbone in place of the one that lost to it."""
        net = create(name, self.spec)
        self.backbone = net
        self.objective = objective_of(self.net, None)

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
        """Fit to series: solve or train, choose and calibrate on validation windows.

        What is trained step by step draws windows: an epoch is 100 batches. The epoch with the
        lowest loss on validation windows is kept, intervals are calibrated there, and then a net
        with the same start learns for as many epochs from all windows, those that validated too.
        A second call goes on from the current weights. What is solved in closed form takes
        ``batch_size`` and what follows ``training``, and refuses the others.

        Args:
            data: What to learn from; None for the data this task was made from.
            epochs: How often 100 batches are drawn; None for `EPOCHS`.
            strategy: Which part of the backbone trains when; None for ``full``, and for
                ``freeze_unfreeze`` of one that was trained before. The last layer trains in each.
            lr: Peak learning rate; None for the backbone's own, ``"auto"`` to look for it.
            batch_size: Windows of a batch; None for the data's own, else 256 to train a net and
                1,024 to add sums up. ``"auto"`` as in `Task.finetune`, for nets.
            run: Folder for settings, history and the saved task. Never overwritten.
            resume: Whether a run of a net that was stopped goes on; what is solved is solved again.
            precision: Series run in fp32: an error unless None or ``"32-true"``.
            training: The settings changed once in a while. Where a net learns twice, each time has
                half of a time limit.
            trainer: Your own Trainer, in place of ours; a net is then fitted once.
            logger: Added to our Trainer.
            callbacks: Added to our Trainer.
            refit: Whether the values that validated are learnt from at last.

        Returns:
            One row per epoch, with the loss of validation; none where nothing had to be learnt.

        Raises:
            NoDataError: There is nothing to learn from.
            DataError: No series is long enough for a window.
            InvalidValueError: Arguments contradict each other or the data.
            RunError: The run folder is in use, or its run was made with other settings or data.
        """
        if precision not in (None, "32-true"):
            raise InvalidValueError(f"precision={precision!r}: series run in fp32. Leave it out.")
        trains = self.net.trained and not self.chooses
        if not trains:
            _refuse_training(epochs, strategy, lr, resume or None, training)
        if run is not None and not (self.net.solved or self.chooses or trains):
            raise InvalidValueError(
                f"run= records how a model was fitted, and {self.model!r} has nothing to fit. "
                "Leave it out, and use task.save()."
            )
        if trainer is not None:
            refuse_beside_trainer({"logger": logger, "callbacks": callbacks or None})
            refuse_forks(trainer)
        series = self._resolve_data(data)
        if not isinstance(series, SeriesData) or series.train is None:
            raise NoDataError("Expected series to learn from.")
        self.fitting = {"batch_size": batch_size, "refit": refit}
        if trains:
            training = training or Training(weight_decay=WEIGHT_DECAY)
            how = {"epochs": epochs, "strategy": strategy, "lr": lr, "training": training}
            self.fitting |= how
            self._begin_training(series, training)
            self._refits = refit and trainer is None
            return super().finetune(
                series,
                epochs=EPOCHS if epochs is None and trainer is None else epochs,
                strategy=strategy,
                lr=lr,
                batch_size=batch_size,
                run=run,
                resume=resume,
                training=_half(training) if self._refits and series.val is not None else training,
                trainer=trainer,
                logger=logger,
                callbacks=callbacks,
            )
        rows = _number(batch_size)
        if self.chooses and trainer is None:
            return self._choose_all(series, run, rows, logger, callbacks, refit)
        return self._solve_all(series, run, rows, trainer, logger, callbacks, refit)

    def _choose_all(
        self,
        series: SeriesData,
        run: str | Path | None,
        batch_size: int | None,
        logger: Logger | None,
        callbacks: Sequence[pl.Callback],
        refit: bool,
    ) -> History:
        """Try models on validation windows, and take the best mix of them."""
        self._begin(series)
        series.prepare(self.input_spec)
        if series.val is None or not len(series.train):
            return self._solve_all(series, run, batch_size, None, logger, callbacks, refit)
        begun, recorder = self._run_folder(run, None), Recorder()
        follow: list[pl.Callback] = []
        if begun is not None:
            follow = [recorder, *begun.callbacks(task=self, data=series, recorder=recorder)]
        season = self.spec.season
        tried = try_candidates(
            self, series, batch_size, logger=logger, first=follow, callbacks=callbacks
        )
        tried += naive_methods(series, series.val)
        weights, said = choose(tried, series.val, season)
        _log.info(said)
        if refit:
            for one, weight in zip(tried, weights, strict=True):
                if weight and one.task is not None:
                    one.task.learn_rest(series, batch_size=batch_size)
        self.backbone = mixed(tried, weights, season)
        self.objective = objective_of(self.net, self.context)
        mean = sum(weight * one.mean for one, weight in zip(tried, weights, strict=True))
        calibrate(self, series, series.val, np.asarray(mean))
        self._remember(series)
        history = tried[int(np.argmax(weights))].history
        if begun is not None:
            begun.record(history)
            begun.finish(self, history)
        return history

    def _begin_training(self, data: SeriesData, training: Training) -> None:
        """Start from weights that the seed decides, where nobody brought others."""
        net = self.net
        if self._is_fresh and not net.pretrained:
            with isolate_rng():
                torch.manual_seed(training.seed)
                self.backbone = rebuild(net.config, net.input_spec, pretrained=False)
        self._is_fresh = self.zero_shot = self.needs_fit = False
        data.prepare(self.input_spec)
        if not len(data.train):
            self._without_windows(data)
        self._start, self._was_pretrained = _copy(self.net), self.net.pretrained
        if self._initial is None:
            self._initial, self.came_pretrained = self._start, self.net.pretrained
            self._came_fresh = self.net.head_is_fresh

    def conclude(self, data: Data, batch_size: int | None) -> None:
        """Let a net with the same start learn from what validated, too."""
        if not (self._refits and isinstance(data, SeriesData) and data.val is not None):
            return
        if self.best_epoch is None:
            return
        epochs, plan = self.best_epoch + 1, self.plan
        self.net.load_state_dict(self._start)
        self.net.pretrained = self._was_pretrained
        self.plan = replace(plan, training=replace(plan.training, patience=None))
        _log.info(f"Learning again, from what validated as well: {epochs} epochs from the start.")
        fit = fit_quietly(
            epochs=epochs,
            precision="32-true",
            training=self.plan.training,
            logger=None,
            callbacks=[],
        )
        self._adds = True
        try:
            fit_task(self, data.whole(), fit, num_epochs=epochs, batch_size=batch_size)
        finally:
            self._adds, self.plan = False, plan

    def _solve_all(
        self,
        series: SeriesData,
        run: str | Path | None,
        batch_size: int | None,
        trainer: pl.Trainer | None,
        logger: Logger | None,
        callbacks: Sequence[pl.Callback],
        refit: bool,
    ) -> History:
        begun = self._run_folder(run, trainer)
        self._begin(series)
        recorder = Recorder()
        series.prepare(self.input_spec)
        if self.net.solved and len(series.train):
            own: list[pl.Callback] = [recorder]
            if begun is not None:
                own += begun.callbacks(task=self, data=series, recorder=recorder)
            self._fit_once(series, batch_size, trainer, logger, [*own, *callbacks])
            if refit and self.net.solved and len(series.rest()):
                self._fit_rest(series, batch_size)
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
            # Not the context of the last fit: it would only ever become shorter.
            own = self.context or (None if self.chooses else self.own_context)
            seen = None if own is None else {"context_steps": own}
            self.backbone = create(name, data.spec, preprocessing=seen)
            self.objective = objective_of(self.net, self.context)

    def _without_windows(self, data: SeriesData) -> None:
        if not (self.net.solved or self.net.trained):
            return
        context, horizon = self.net.needs_steps, self.spec.horizon_steps
        if not self.chooses:
            raise DataError(
                f"No series has the {context} + {horizon} steps that {self.model!r} learns from, "
                "observed and beside those that validate. Give context= fewer steps, bring more "
                "history, or use backbone='seasonal-naive'."
            )
        _log.warning(
            f"No series has the {context} + {horizon} steps in a row to learn from, observed and "
            "beside those that validate: the seasonal naive method answers."
        )
        self.use("seasonal-naive")

    def _fit_rest(self, data: SeriesData, batch_size: int | None) -> None:
        """Add the windows that validated, and solve again with the setting they chose."""
        rest = data.whole()
        rest.train = data.rest()
        self._adds = True
        try:
            self._fit_once(rest, batch_size, None, None, [])
        finally:
            self._adds = False

    def fresh(self, data: SeriesData) -> Self:
        """Answer with a task that has learnt nothing yet and is asked the same of other data."""
        if self.net.trained and not self.chooses:
            net = self._untrained()
            # How covariates are scaled is part of what the data tell.
            used = {kind: data.spec.covariates[kind] for kind in net.input_spec.covariates}
            net.input_spec = net.input_spec.replace_covariates(used)
            return self._of(data, net, "fast", None)
        name = None if self.chooses else self.model
        # Not the context of the last fit, which was chosen by values that are not known yet.
        context = self.context
        if context is None and not self.chooses and self.net.solved:
            context = self.own_context
        quality: Quality = self.quality if self.chooses else "fast"
        return self._of(data, name, quality, context)

    def _untrained(self) -> SeriesBackbone:
        net = self.net
        if self._initial is not None or self._is_fresh or self.zero_shot or net.head_is_fresh:
            again = deepcopy(net)
            again.load_state_dict(self._initial or net.state_dict())
            again.note_head(is_fresh=self._came_fresh)
            return again
        if net.config["name"] is None:
            raise InvalidValueError(
                "This task was loaded with a module of yours, whose weights from before it was "
                "trained are not known. Make a new task from the data and the untrained module."
            )
        if self.came_pretrained:
            raise InvalidValueError(
                f"This task was loaded, and its {self.model!r} had been pretrained before it was "
                "fitted: a saved task does not hold those weights. Make a new task from the data "
                "and the pretrained backbone."
            )
        made = rebuild(net.config, net.input_spec, pretrained=False)
        if not isinstance(made, SeriesBackbone):
            raise InvalidValueError(f"Expected a backbone for series, got {made}.")
        return made

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


def _number(batch_size: int | str | None) -> int | None:
    if isinstance(batch_size, str):
        raise InvalidValueError(
            f"batch_size={batch_size!r}: nothing is trained in steps, so no size has to be found. "
            "Give a number or None."
        )
    return batch_size


def _half(training: Training) -> Training:
    """Leave the other half of a time limit to the fit that follows."""
    limit = training.time_limit_seconds
    return training if limit is None else replace(training, time_limit_seconds=limit / 2)


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.state_dict().items()}


def _refuse_training(*given: object) -> None:
    names = ("epochs", "strategy", "lr", "resume", "training")
    found = [f"{n}=" for n, value in zip(names, given, strict=True) if value is not None]
    if found:
        raise InvalidValueError(
            f"{', '.join(found)}: this backbone is solved in one pass or has nothing to learn, so "
            "that would change nothing. Leave it out, or name a backbone that is trained."
        )
