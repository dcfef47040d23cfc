"""Objectives: what a training step asks of a task.

An objective owns its loss, the modules that exist only for it, and what follows a step. Supervised
training is one; contrastive pairs, masked modelling or consistency on ``batch["unlabelled"]`` are
others, each a class here and nothing anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.nn import functional

from .probe import fit_probe

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import STEP_OUTPUT

    from ..specs import Batch
    from .task import Task


@dataclass(frozen=True)
class Step:
    """What a step came to.

    Args:
        loss: The mean over the batch, a scalar.
        output: What the head said, one row per input; None where there is no head.
    """

    loss: Tensor
    output: Tensor | None


class Objective(nn.Module):
    """One step of training or of its validation. Extra modules are its attributes."""

    solves: ClassVar[bool] = False
    """Whether `solve` can fit a fresh head to the features of a frozen backbone."""

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Turn a batch into a loss."""
        raise NotImplementedError

    def after_step(self, task: Task) -> None:
        """Do what follows an optimiser step: move a teacher, fill a queue. By default nothing."""

    def solve(self, task: Task, features: Tensor, targets: Tensor) -> str:
        """Fit the head in closed form or to convergence, and say in words what came of it.

        Asked only where `solves` is true.

        Args:
            task: Whose head is fitted.
            features: (N, F), on the task's device.
            targets: (N,), on the task's device.
        """
        raise NotImplementedError


class FollowUp(pl.Callback):
    """Let the objective follow up on optimiser steps, not on every accumulated batch.

    A callback and no hook of the task: those come last, after a checkpoint may have been written.

    Args:
        task: Whose objective it is.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._num_steps = 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps from where this run starts."""
        self._num_steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,  # Any: Lightning's
        batch_idx: int,
    ) -> None:
        """Follow up where a step was taken."""
        if trainer.global_step > self._num_steps:
            self._task.objective.after_step(self._task)
        self._num_steps = trainer.global_step


class Supervised(Objective):
    """Cross-entropy of the head's logits against the class positions in ``batch["target"]``.

    The loss that is validated is never smoothed, so that it stays comparable. A fresh head over a
    frozen backbone is solved: logistic regression with a cross-validated penalty.
    """

    solves = True

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Classify the batch and compare."""
        logits = task(batch)
        smoothing = task.plan.training.label_smoothing if training else 0.0
        loss = functional.cross_entropy(logits, batch["target"], label_smoothing=smoothing)
        return Step(loss, logits)

    def solve(self, task: Task, features: Tensor, targets: Tensor) -> str:
        """Solve the linear head by `fit_probe`."""
        num_classes = len(task.spec.classes)
        seed = task.plan.training.seed
        probe = fit_probe(features, targets, num_classes=num_classes, seed=seed)
        task.set_head(probe.weight, probe.bias)
        return f"cross-validated accuracy {probe.accuracy:.3f} with penalty {probe.penalty:g}"
