"""The callbacks that end a run before its last epoch: no improvement, or no time left."""

from __future__ import annotations

import logging
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.callbacks.early_stopping import EarlyStoppingReason

from ..errors import InvalidValueError

if TYPE_CHECKING:
    from .task import Task

_log = logging.getLogger("mealkit")


class Patience(pl.Callback):
    """End a run when its metric has not improved for some epochs.

    The method is Prechelt's (1998, doi:10.1007/3-540-49430-8_3). Frozen epochs in front of others
    do not count: after an unfreeze a metric may first fall below that of the solved head.

    It has Lightning's callback inside and is no subclass of it: of a class and its subclass,
    Lightning keeps only one, and the user may have brought the other.

    Args:
        task: Whose metric is watched.
        epochs: How many epochs may pass without improvement.
    """

    def __init__(self, task: Task, *, epochs: int) -> None:
        self._task = task
        self._stopping = EarlyStopping(
            task.monitor,
            mode=task.monitor_mode,
            patience=epochs,
            check_on_train_epoch_end=False,
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse a run without validation, in which nothing would ever improve."""
        if not sum(trainer.num_val_batches):
            raise InvalidValueError(
                f"Training(patience={self._stopping.patience}) waits for {self._task.monitor}, and "
                "these data have no validation part. Give one (val=, or split= above 0), or leave "
                "patience out."
            )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare this epoch's metric with the best one."""
        schedule = self._task.schedule(trainer)
        if trainer.current_epoch < schedule.num_frozen_epochs < schedule.num_epochs:
            return
        self._stopping.on_validation_end(trainer, pl_module)
        reason = self._stopping.stopping_reason
        if reason != EarlyStoppingReason.NOT_STOPPED and trainer.is_global_zero:
            value = float(trainer.callback_metrics[self._task.monitor])
            best = float(self._stopping.best_score)
            _log.info(
                f"Stopping: {self._task.monitor} is {value:.4f}, no improvement for "
                f"{self._stopping.wait_count} epochs over {best:.4f}."
                if math.isfinite(value)
                else f"Stopping: {self._task.monitor} is {value}; the best was {best:.4f}."
            )

    def state_dict(self) -> dict[str, Any]:  # Any: tensors and plain values, for Lightning
        """Answer with what a resumed run needs to know of the epochs before it."""
        return self._stopping.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the epochs before a resumed run."""
        self._stopping.load_state_dict(state_dict)


class TimeLimit(pl.Callback):
    """End a run when its time is over: after the running batch, validated and with best weights.

    Lightning's timer is inside, for the reason given at `Patience`.

    Args:
        seconds: How long training may take; what prepares it is not counted.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer = Timer(duration=timedelta(seconds=seconds), verbose=False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._timer.on_train_start(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # Any: as in Lightning
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look at the clock."""
        was_stopping = trainer.should_stop
        self._timer.on_train_batch_end(trainer)
        if trainer.should_stop and not was_stopping and trainer.is_global_zero:
            _log.info(
                f"Stopping in epoch {trainer.current_epoch + 1}: the time limit of "
                f"{self._seconds:g} s is reached."
            )

    def state_dict(self) -> dict[str, Any]:  # Any: plain values, for Lightning
        """Answer with the time that has passed."""
        return self._timer.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count the time before a resumed run as well."""
        self._timer.load_state_dict(state_dict)
