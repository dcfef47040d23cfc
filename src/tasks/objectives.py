"""Objectives: what a training step asks of a task.

An objective owns its loss, the modules that exist only for it, and what follows a step. Supervised
training is one; contrast of classes, masked modelling or consistency on ``batch["unlabelled"]`` are
others, each a class here and nothing anywhere else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from .probe import fit_probe

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import STEP_OUTPUT

    from ..specs import Batch
    from .task import Task


SMOOTHING = 0.1
"""Share of a target that is spread over all classes, where nobody says otherwise."""


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

    times: Mapping[str, float] = MappingProxyType({})
    """Of its modules, by name: how many times the learning rate is theirs."""

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Turn a batch into a loss."""
        raise NotImplementedError

    def after_step(self, task: Task) -> None:
        """Do what follows an optimiser step: move a teacher, fill a queue. By default nothing."""

    def solve(
        self,
        task: Task,
        features: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None,
        num_views: int = 1,
    ) -> str:
        """Fit the head in closed form or to convergence, and say in words what came of it.

        Asked only where `solves` is true.

        Args:
            task: Whose head is fitted.
            features: (N, F), on the task's device, or on the CPU where there are many.
            targets: (N,), on the task's device.
            weights: How much each row counts, (N,); None for all the same.
            num_views: Rows that follow each other and are versions of one input.
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

    In training, rows count as ``batch["weight"]`` says where the data are balanced, and mixed rows
    have the target of their ``batch["partner"]``, too. The loss that is validated is neither
    weighted nor smoothed, so that it stays comparable. A fresh head over a frozen backbone is
    solved: logistic regression with a cross-validated penalty.
    """

    solves = True

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Classify the batch and compare."""
        logits = task(batch)
        if not training:
            return Step(functional.cross_entropy(logits, batch["target"]), logits)
        return Step(self.training_loss(task, logits, batch), logits)

    def training_loss(self, task: Task, logits: Tensor, batch: Batch) -> Tensor:
        """Compare logits (B, K) with the targets of a training batch; a scalar."""
        given = task.plan.training.label_smoothing
        smoothing = SMOOTHING if given is None else given

        def losses(rows: Tensor | slice) -> Tensor:
            """Compare the logits with the targets of these rows, each as much as it weighs."""
            values = functional.cross_entropy(
                logits, batch["target"][rows], label_smoothing=smoothing, reduction="none"
            )
            return values * batch["weight"][rows] if "weight" in batch else values

        own = losses(slice(None))
        if "partner" in batch:  # cross-entropy is linear in a target that is shared by two
            share = batch["share"]
            own = share * own + (1 - share) * losses(batch["partner"])
        # Over the number of rows, not the sum of weights: that would undo them in small batches.
        return own.mean()

    def solve(
        self,
        task: Task,
        features: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None,
        num_views: int = 1,
    ) -> str:
        """Solve the linear head by `fit_probe`."""
        num_classes = len(task.spec.classes)
        seed = task.plan.training.seed
        probe = fit_probe(
            features,
            targets,
            num_classes=num_classes,
            weights=weights,
            num_views=num_views,
            seed=seed,
            penalty=task.plan.penalty,
        )
        task.set_head(probe.weight, probe.bias)
        if probe.accuracy is None:
            return f"penalty {probe.penalty:g}, chosen ahead of the stage before"
        return f"cross-validated accuracy {probe.accuracy:.3f} with penalty {probe.penalty:g}"


class SupervisedContrast(Objective):
    """Tell inputs of a class from all others of the batch (Khosla et al. 2020, arXiv:2004.11362).

    For each input, the cosines with all others are the logits of a softmax, whose target is shared
    by those of its own class (their equation 2). The head is not asked.

    Args:
        temperature: Cosines are divided by it.
    """

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare all inputs of a batch with all others."""
        features = _features_by_length(task, batch)
        with torch.autocast(features.device.type, enabled=False):
            unit = functional.normalize(features.float(), dim=1)
            return Step(contrast_loss(unit @ unit.T / self._temperature, batch["target"]), None)


def contrast_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Answer with the mean cross-entropy of finding the others of the own class; a scalar.

    Rows without another of their class have nothing to find and do not count.

    Args:
        logits: Of all inputs with all, (B, B); the diagonal is not looked at.
        targets: Positions of their classes, (B,).
    """
    itself = torch.eye(len(targets), dtype=torch.bool, device=targets.device)
    same = (targets[:, None] == targets[None]) & ~itself
    found = logits.masked_fill(itself, -torch.inf).log_softmax(1)
    count = same.sum(1)
    losses = -found.masked_fill(~same, 0.0).sum(1) / count.clamp_min(1)
    return losses.sum() / (count > 0).sum().clamp_min(1)


_ROWS_OF_LIKE_LENGTH = 16


def _features_by_length(task: Task, batch: Batch) -> Tensor:
    """Answer with the features of a batch, (B, F), on a CPU computed in pieces of like length.

    What is drawn together for its classes is of any length, and padded to the longest text of 64
    it would be two thirds padding. A GPU computes that faster than several small batches.
    """
    mask = batch.get("attention_mask")
    if mask is None or mask.device.type != "cpu" or "piece_of" in batch:
        return task.features(batch)
    lengths = mask.sum(1)
    order = lengths.argsort(stable=True)
    pieces = []
    for first in range(0, len(order), _ROWS_OF_LIKE_LENGTH):
        rows = order[first : first + _ROWS_OF_LIKE_LENGTH]
        width = int(lengths[rows].max())
        pieces.append(task.features({n: batch[n][rows, :width] for n in task.backbone.inputs}))
    return torch.cat(pieces)[order.argsort()]
