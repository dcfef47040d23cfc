"""Objectives: what a training step asks of a task.

An objective owns its loss, the modules that exist only for it, and what follows a step. Supervised
training is one; contrastive pairs, masked modelling or consistency on ``batch["unlabelled"]`` are
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
        )
        task.set_head(probe.weight, probe.bias)
        return f"cross-validated accuracy {probe.accuracy:.3f} with penalty {probe.penalty:g}"


class PairCosines(Objective):
    """Squared distance of the cosine of each pair from 1 (same class) or 0 (different classes).

    Pairs of either sort weigh the same, however many there are of them.
    """

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare all pairs of a batch; the head is not asked."""
        features = task.features(batch)
        with torch.autocast(features.device.type, enabled=False):
            unit = functional.normalize(features.float(), dim=1)
            return Step(pair_loss(unit @ unit.T, batch["target"]), None)


def pair_loss(cosines: Tensor, targets: Tensor) -> Tensor:
    """Answer with the mean over pairs of one class plus that over pairs of two, halved.

    Args:
        cosines: Of all inputs with all, (B, B).
        targets: Positions of their classes, (B,).
    """
    pairs = torch.ones_like(cosines).triu(1).bool()
    same = targets[:, None] == targets[None]
    parts = [(1 - cosines[pairs & same]).square(), cosines[pairs & ~same].square()]
    found = [part.mean() for part in parts if part.numel()]
    return torch.stack(found).mean() if found else cosines.sum() * 0
