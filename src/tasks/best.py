"""The callback that keeps the best weights of a run and puts them back at its end."""

from __future__ import annotations

import logging
import math
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor

_log = logging.getLogger("mealkit")


class BestWeights(pl.Callback):
    """Keep the weights of the epoch with the best validation metric; restore them at the end.

    Ties go to the lower validation loss. Without validation the last weights stay.

    Args:
        monitor: Name of the metric.
        mode: Whether the higher ("max") or the lower ("min") value of it is better.
    """

    def __init__(self, monitor: str, *, mode: Literal["max", "min"] = "max") -> None:
        self.monitor = monitor
        self._sign = 1.0 if mode == "max" else -1.0
        self.epoch: int | None = None
        self._score = (-math.inf, -math.inf)
        self._weights: dict[str, Tensor] = {}
        self._diverged = False

    @property
    def value(self) -> float | None:
        """The metric of that epoch; None where none was chosen."""
        return None if self.epoch is None else self._sign * self._score[0]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights when this epoch is the best so far."""
        metrics = trainer.callback_metrics
        in_fit = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
        if not in_fit or self.monitor not in metrics:
            return
        loss = float(metrics.get("val/loss", torch.tensor(0.0)))
        value = self._sign * float(metrics[self.monitor])
        if not (math.isfinite(value) and math.isfinite(loss)):
            self._diverged = True  # a net of NaN may still be right, by naming the largest class
            return
        score = (value, -loss)
        if score > self._score:
            self._score, self.epoch = score, trainer.current_epoch
            # clone, not .cpu(): on the CPU that would be the live weights themselves
            self._weights = {
                name: value.detach().to("cpu", copy=True)
                for name, value in pl_module.state_dict().items()
            }

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the best weights back."""
        if self._weights:
            pl_module.load_state_dict(self._weights)
            self._weights = {}
        elif self._diverged and trainer.is_global_zero:
            _log.warning(
                "No epoch had a finite validation loss: training diverged, and the task holds the "
                "weights it ended with. Start again from new weights, with a lower lr=."
            )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Put the best weights back when the user stops a run."""
        if isinstance(exception, KeyboardInterrupt):
            self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:  # Any: tensors and plain values, for Lightning
        """Answer with what a resumed run needs to know of the epochs before it."""
        return {"score": self._score, "epoch": self.epoch, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the epochs before a resumed run."""
        score, loss = state_dict["score"]
        self._score, self.epoch = (float(score), float(loss)), state_dict["epoch"]
        self._weights = state_dict["weights"]
