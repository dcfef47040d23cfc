"""Objectives: what a training step asks of a task.

An objective owns its loss, the modules that exist only for it, and what follows a step. Supervised
training is one; contrastive pairs, masked modelling or consistency on ``batch["unlabelled"]`` are
others, each a class here and nothing anywhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
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

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Turn a batch into a loss."""
        raise NotImplementedError

    def after_step(self, task: Task) -> None:
        """Do what follows an optimiser step: move a teacher, fill a queue. By default nothing."""


class Supervised(Objective):
    """Cross-entropy of the head's logits against the class positions in ``batch["target"]``.

    The loss that is validated is never smoothed, so that it stays comparable.
    """

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Classify the batch and compare."""
        logits = task(batch)
        smoothing = task.plan.training.label_smoothing if training else 0.0
        loss = functional.cross_entropy(logits, batch["target"], label_smoothing=smoothing)
        return Step(loss, logits)
