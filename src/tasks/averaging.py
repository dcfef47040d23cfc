"""The callback that averages the weights of a run over its steps."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn

from .best import BestWeights


class Averaging(pl.Callback):
    """Validate and keep an exponential moving average of the weights.

    After every optimiser step the average moves towards the weights by ``1 - decay`` of the way
    (Polyak and Juditsky 1992, doi:10.1137/0330046; for nets, Tarvainen and Valpola 2017,
    arXiv:1703.01780). In the first steps it moves faster, by ``9 / (10 + step)``, so that it
    forgets where the run began.

    Lightning's own `EMAWeightAveraging` does not fit frozen phases: it starts from weights before
    the head is solved, rounds weights that do not move, and copies the whole task with its data.

    Args:
        decay: How much of the average stays at a step, in (0, 1).
        best: The callback that keeps the best weights; it must stand before this one.
    """

    def __init__(self, decay: float, *, best: BestWeights) -> None:
        self._decay = decay
        self._best = best
        self._average: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}  # those of the run, while the average is in place
        self._num_updates = 0
        self._num_steps = 0
        self._moves = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps from where this run starts."""
        self._num_steps = trainer.global_step

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # Any: as in Lightning
        batch_idx: int,
    ) -> None:
        """Note whether a step will move anything: while a head is solved, none does."""
        groups = [group for one in trainer.optimizers for group in one.param_groups]
        self._moves = any(group["lr"] > 0 for group in groups)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # Any: as in Lightning
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Move the average after an optimiser step, not after every accumulated batch."""
        if trainer.global_step > self._num_steps and self._moves:
            self._update(pl_module)
        self._num_steps = trainer.global_step

    def _update(self, task: pl.LightningModule) -> None:
        fixed = {name for name, value in task.named_parameters() if not value.requires_grad}
        share = max(1 - self._decay, 9 / (10 + self._num_updates))
        self._num_updates += 1
        for name, value in task.state_dict().items():
            if name in fixed:
                continue
            if name not in self._average or not value.is_floating_point():
                self._average[name] = value.detach().clone()
            else:
                average = self._average[name].to(value.device)
                self._average[name] = move_towards(average, value, share)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the average in the place of the weights."""
        if trainer.state.fn == TrainerFn.FITTING:
            state = pl_module.state_dict()
            self._weights = {name: state[name].detach().clone() for name in self._average}
            _copy(self._average, pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Put the weights back, after the best ones were copied."""
        _copy(self._weights, pl_module)
        self._weights = {}

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the task where no validation chose the best one."""
        if self._best.epoch is None:
            _copy(self._average, pl_module)
        self._average, self._weights = {}, {}

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the average in the task when the user stops a run."""
        if isinstance(exception, KeyboardInterrupt):
            self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:  # Any: tensors and plain values, for Lightning
        """Answer with what a resumed run needs to know of the steps before it."""
        return {"average": self._average, "num_updates": self._num_updates}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the steps before a resumed run."""
        self._average = dict(state_dict["average"])
        self._num_updates = state_dict["num_updates"]


def move_towards(average: Tensor, value: Tensor, share: float) -> Tensor:
    """Move an average by a share of the way to a value, in place; equal bits stay as they are."""
    return average.lerp_(value.detach(), share)  # which is why it is no sum of two products


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, share: float) -> None:
    """Move a teacher's weights by a share of the way to a student's, and copy its statistics.

    Args:
        teacher: A copy of the student, made earlier.
        student: Whose weights have moved.
        share: 1 minus the momentum.
    """
    for own, other in zip(teacher.parameters(), student.parameters(), strict=True):
        move_towards(own, other, share)
    for held, given in zip(teacher.buffers(), student.buffers(), strict=True):
        held.copy_(given)


def _copy(values: dict[str, Tensor], task: pl.LightningModule) -> None:
    state = task.state_dict()
    with torch.no_grad():
        for name, value in values.items():
            state[name].copy_(value)
