"""One call of finetune: run folder, stage ahead, batch size, and the fit itself."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.seed import isolate_rng

from ..errors import InvalidValueError, check_count, check_switch
from .batch_trial import size_that_fits
from .processes import Messenger, OwnChance
from .record import Recorder
from .results import History
from .runs import FOUND, found_size, open_run
from .strategies import Schedule, Staged, Strategy, name_of
from .training import (
    Fit,
    Training,
    check_attached,
    check_trainer,
    fit_quietly,
    fit_with,
    refuse_beside_trainer,
    resolve_precision,
)

if TYPE_CHECKING:
    from ..data.module import Data
    from .objectives import Objective
    from .task import Task

_log = logging.getLogger("mealkit")

NUM_EPOCHS = 5
"""How often every training row is seen when nobody says otherwise."""

CACHED_BATCH_SIZE = 512
"""Rows in a batch of cached features, when only the head trains and no size was asked for."""

_MANY_EPOCHS = 1000

_LEAST_SECONDS = 1e-3  # a limit that ends a run after its first batch


def finetune(
    task: Task,
    data: Data,
    *,
    epochs: int | None,
    strategy: str | Strategy | None,
    lr: float | Literal["auto"] | None,
    batch_size: int | Literal["auto"] | None,
    run: str | Path | None,
    resume: bool,
    precision: str | None,
    training: Training | None,
    trainer: pl.Trainer | None,
    logger: Logger | None,
    callbacks: Sequence[pl.Callback],
) -> History:
    """Train a task as `Task.finetune` says, which has the meaning of the arguments."""
    check_attached(logger, callbacks)
    check_switch("resume", resume)
    batch_size = _plain_size(batch_size)
    if trainer is not None:
        check_trainer(trainer)
        given = {
            "epochs": epochs,
            "precision": precision,
            "batch_size": "auto" if batch_size == "auto" else None,
            "logger": logger,
            "callbacks": callbacks or None,
        }
        refuse_beside_trainer({**given, **_settings_of_trainer(training)})
    chosen = task.usual_strategy(data) if strategy is None else strategy
    task.plan_training(strategy=chosen, lr=lr, training=training)
    if precision is not None:
        resolve_precision(precision)  # which refuses a wrong one
        task.precision = precision
    asked = check_count("epochs", NUM_EPOCHS if epochs is None else epochs)
    num_epochs = asked if trainer is None else trainer.max_epochs or -1
    kept = found_size(run, resume=resume)
    num_rows = _num_rows(task, data, num_epochs, batch_size, kept)
    begun = open_run(
        run,
        resume=resume,
        task=task,
        data=data,
        asked={
            "epochs": num_epochs,
            "strategy": None if strategy is None else name_of(task.plan.strategy),
            "lr": lr if lr is None or lr == "auto" else task.plan.lr,
            "batch_size": batch_size,
            FOUND: num_rows if batch_size == "auto" else None,
        },
        trainer=trainer,
    )
    if begun is not None and begun.finished:
        return begun.take_over(task)
    recorder = Recorder()
    messenger = Messenger(task, recorder)
    own: list[pl.Callback] = [recorder, messenger, OwnChance(task.plan.training.seed)]
    if begun is not None:
        own += begun.callbacks(task=task, data=data, recorder=recorder)
    if trainer is None:
        fit = fit_quietly(
            epochs=num_epochs,
            precision=resolve_precision(task.precision),
            training=task.plan.training,
            logger=logger,
            callbacks=[*own, *callbacks],
        )
    else:
        fit = fit_with(trainer, own)
    checkpoint = None if begun is None else begun.checkpoint
    _run_stage(task, data, trainer=trainer, checkpoint=checkpoint, batch_size=num_rows)
    if _only_head_trains(task, data, num_epochs):
        _say_unused(task, data, lr)
    known = len(data.report)
    fit_task(task, data, fit, num_epochs=num_epochs, batch_size=num_rows, checkpoint=checkpoint)
    _say_lost(data, known)
    task.plan = replace(task.plan, stage_done=False, penalty=None)
    task.conclude(data, num_rows)
    history = messenger.history()
    if begun is not None and (trainer is None or trainer.is_global_zero):
        begun.finish(task, history)
    return history


def fit_task(
    task: Task,
    data: Data,
    fit: Fit,
    *,
    num_epochs: int,
    batch_size: int | None,
    checkpoint: Path | None = None,
) -> None:
    """Fit a task by its plan, with chance of its own, and leave it in eval mode.

    Args:
        task: What learns.
        data: What to train on; has its own batch size back afterwards.
        fit: The call that trains.
        num_epochs: How often every training row is seen; -1 where a Trainer counts steps.
        batch_size: Rows in a training batch; None for the data's own.
        checkpoint: Where to go on from.
    """
    before = data.batch_size
    if batch_size is not None:
        data.batch_size = batch_size
    elif before is None and _only_head_trains(task, data, num_epochs):
        data.batch_size = CACHED_BATCH_SIZE
    try:
        with isolate_rng():
            torch.manual_seed(task.plan.training.seed)
            fit(task, data, checkpoint=checkpoint)
    finally:
        data.batch_size = before
        task.eval()


def fit_stage(
    task: Task,
    data: Data,
    *,
    objective: Objective,
    lr: float,
    epochs: int,
    strategy: Strategy,
) -> History:
    """Train a task as `Task.fit_stage` says; it has its objective and its plan back afterwards."""
    before = task.objective, task.plan
    # There is no validation in it, so nothing chooses between averages or says when to stop.
    training = replace(task.plan.training, ema=None, patience=None)
    task.objective = objective
    task.plan = replace(task.plan, strategy=strategy, lr=lr, training=training, finds_lr=False)
    recorder = Recorder()
    fit = fit_quietly(
        epochs=epochs,
        precision=resolve_precision(task.precision),
        training=training,
        logger=None,
        callbacks=[recorder],
    )
    try:
        fit_task(task, data, fit, num_epochs=epochs, batch_size=data.batch_size)
    finally:
        task.objective, task.plan = before
    return History(recorder.rows)


def _settings_of_trainer(training: Training | None) -> dict[str, object]:
    """Answer with the settings that belong to a Trainer, where they were changed."""
    given, usual = training or Training(), Training()
    return {
        name: None if getattr(given, name) == getattr(usual, name) else True
        for name in ("accumulate", "clip_norm")
    }


def _run_stage(
    task: Task,
    data: Data,
    *,
    trainer: pl.Trainer | None,
    checkpoint: Path | None,
    batch_size: int | None,
) -> None:
    """Train the stage that some strategies have ahead of a run."""
    strategy = task.plan.strategy
    if not isinstance(strategy, Staged):
        return
    if trainer is not None:
        raise InvalidValueError(
            f"strategy={name_of(strategy)!r} beside trainer=: it trains in two stages with "
            "Trainers of its own. Leave trainer= out."
        )
    # What the run behind the stage would refuse is refused before the stage moves any weight.
    data.train_weights()
    if task.plan.training.patience is not None and data.val is None:
        raise InvalidValueError(
            "patience= needs a validation part. Give one with val=, or leave split= above 0."
        )
    if checkpoint is None:  # else its outcome is in the checkpoint
        started = time.perf_counter()
        strategy.before(task, data)
        _count_time(task, time.perf_counter() - started)
    task.plan = replace(task.plan, stage_done=True)


def _count_time(task: Task, seconds: float) -> None:
    """Take what a stage took off the time limit of the run behind it."""
    training = task.plan.training
    if training.time_limit_seconds is not None:
        left = max(training.time_limit_seconds - seconds, _LEAST_SECONDS)
        training = replace(training, time_limit_seconds=left)
        task.plan = replace(task.plan, training=training)


def _plain_size(batch_size: int | Literal["auto"] | None) -> int | Literal["auto"] | None:
    """Refuse what is no number of rows, nor a word; words are looked at where they are used."""
    if batch_size is None or isinstance(batch_size, str):
        return batch_size
    return check_count("batch_size", batch_size)


def _num_rows(
    task: Task,
    data: Data,
    num_epochs: int,
    batch_size: int | Literal["auto"] | None,
    kept: int | None,
) -> int | None:
    """Answer with a batch size that fits where one is to be found, and accumulate the rest.

    A run that goes on has kept the one it began with.
    """
    if not isinstance(batch_size, str):
        return batch_size
    if batch_size != "auto":
        raise InvalidValueError(f"batch_size={batch_size!r}: expected a number or 'auto'.")
    if _only_head_trains(task, data, num_epochs):
        _log.info("batch_size='auto': the head sees features; no size has to be found.")
        return None
    start = data.usual_batch_size if data.batch_size is None else data.batch_size
    size = size_that_fits(task, data, start=start) if kept is None else kept
    training = task.plan.training
    accumulate = training.accumulate * math.ceil(start / size)
    task.plan = replace(task.plan, training=replace(training, accumulate=accumulate))
    each = "each is a step" if accumulate == 1 else f"{accumulate} of them make a step"
    fit = "fit into memory" if kept is None else "are what this run began with"
    _log.info(f"Batches of {size} rows {fit}; {each}.")
    return size


def _only_head_trains(task: Task, data: Data, num_epochs: int) -> bool:
    # A Trainer that counts steps has no number of epochs: it may come to any.
    count = num_epochs if num_epochs > 0 else _MANY_EPOCHS
    schedule = Schedule(task.plan.strategy, count, len(task.backbone.blocks))
    return data.caches and schedule.num_frozen_epochs == schedule.num_epochs


def _say_lost(data: Data, known: int) -> None:
    """Say what could not be read during a run, of which the report has this much from before."""
    if lost := data.report.entries[known:]:
        _log.warning(
            f"{len(lost):,} problems with inputs came up in training; these inputs were left out "
            f"of their batches, and data.report lists them ({lost[0].input}: {lost[0].problem}"
            f"{', ...' if len(lost) > 1 else ''})."
        )


def _say_unused(task: Task, data: Data, lr: object) -> None:
    """Say what changes nothing in a run of the head on features that are computed once."""
    if lr is not None and task.objective.solves and task.head_is_fresh:
        _log.warning("lr= changes nothing in this run: the head is solved, not stepped.")
    if data.mixes:
        _log.warning("data.mix changes nothing in this run: features are computed once.")
