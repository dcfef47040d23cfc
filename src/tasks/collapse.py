"""The collapse alarm: whether what is compared still differs from input to input."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Literal

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from .pretext import Pretext
from .training import count_epochs

if TYPE_CHECKING:
    from .task import Task

_log = logging.getLogger("mealkit")

OnCollapse = Literal["warn", "stop"]

EVERY_STEPS = 10
"""Optimiser steps from one look to the next."""

PATIENCE = 3
"""Looks in a row that find a collapse before the alarm is raised."""

_FEW = 8  # rows of which nothing can be said
_MOST = 256  # rows that are looked at
_ROWS_PER_RANK = 8  # fewer rows fill fewer dimensions, however healthy they are


def spread_of(rows: Tensor) -> float:
    """Answer with the deviation of a dimension of rows at length 1, times the root of their number.

    It is 1 for directions that are evenly spread, and 0 where all rows are the same (Chen and He
    2020, arXiv:2011.10566, section 4.1).

    Args:
        rows: (B, D).
    """
    unit = functional.normalize(rows.float(), dim=1)
    return float(unit.std(0, correction=0).mean()) * math.sqrt(rows.shape[1])


def effective_rank(rows: Tensor) -> float:
    """Answer with how many dimensions centred rows fill, from 1 to the lesser of B and D.

    It is the exponential of the entropy of the singular values (Roy and Vetterli 2007,
    doi:10.5281/zenodo.40328).

    Args:
        rows: (B, D).
    """
    centred = (rows - rows.mean(0)).double()
    products = centred @ centred.T if len(rows) <= rows.shape[1] else centred.T @ centred
    values = torch.linalg.eigvalsh(products).clamp_min(0).sqrt()
    shares = values / values.sum().clamp_min(1e-30)
    return float(torch.special.entr(shares).sum().exp())


class CollapseAlarm(pl.Callback):
    """Measure spread and effective rank of the embeddings, and warn where they collapse.

    Both are in the history of every run, labels or not, as ``embedding/spread`` and
    ``embedding/rank``.

    An untrained net may say nearly the same of all inputs, and needs steps until it does not. So
    nothing is judged while the rate is warmed up, and what is low but higher than ever is well.

    Args:
        task: What is trained.
        on_collapse: ``"warn"``, or ``"stop"`` to end the run as well.
    """

    def __init__(self, task: Task, on_collapse: OnCollapse) -> None:
        self._task = task
        self._on_collapse = on_collapse
        self._num_steps = 0
        self._num_strikes = 0
        self._raised = False
        self._highest = (-math.inf, -math.inf)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps from where this run starts."""
        self._num_steps = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # Any: as in Lightning
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Look after every few optimiser steps, and at the end of an epoch."""
        stepped = trainer.global_step > self._num_steps
        self._num_steps = trainer.global_step
        is_last = batch_idx + 1 >= trainer.num_training_batches
        objective = self._task.objective
        if not (stepped and isinstance(objective, Pretext)) or objective.embedding is None:
            return
        if is_last or trainer.global_step % EVERY_STEPS == 0:
            self._look(trainer, objective, objective.embedding[:_MOST])

    def _look(self, trainer: pl.Trainer, objective: Pretext, rows: Tensor) -> None:
        if len(rows) < _FEW:
            return
        spread, rank = spread_of(rows), effective_rank(rows)
        found = {"embedding/spread": spread, "embedding/rank": rank}
        self._task.measured |= found
        for logger in trainer.loggers:
            logger.log_metrics(found, step=trainer.global_step)
        method = objective.method
        lowest = (method.lowest_spread, min(method.lowest_rank, len(rows) / _ROWS_PER_RANK))
        values, highest = (spread, rank), self._highest
        # NaN is no collapse, but no healthy embedding either.
        well = [
            value >= low or value > before
            for value, low, before in zip(values, lowest, highest, strict=True)
        ]
        self._highest = (max(highest[0], spread), max(highest[1], rank))
        if self._is_warm(trainer):
            self._num_strikes = 0 if all(well) else self._num_strikes + 1
        if self._num_strikes >= PATIENCE and not self._raised:
            self._raise(trainer, objective, spread, rank, rows.shape[1])

    def _is_warm(self, trainer: pl.Trainer) -> bool:
        num_epochs, steps_per_epoch = count_epochs(trainer)
        num_warmup = num_epochs * steps_per_epoch * self._task.plan.training.warmup
        return trainer.global_step > num_warmup

    def _raise(
        self, trainer: pl.Trainer, objective: Pretext, spread: float, rank: float, width: int
    ) -> None:
        self._raised = True
        method = objective.method
        stops = self._on_collapse == "stop"
        if trainer.is_global_zero:
            _log.warning(
                f"The embeddings of {method.name} have collapsed by step {trainer.global_step}: "
                f"spread {spread:.3f} (1 is healthy), effective rank {rank:.1f} of {width}. All "
                "inputs look alike to it, and the features will be of little use. Try "
                f"{method.remedy}. "
                + ("The run ends here." if stops else "on_collapse='stop' would end the run.")
            )
        if stops:
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:  # Any: plain values, for Lightning
        """Answer with what a resumed run needs to know of the steps before it."""
        return {
            "num_strikes": self._num_strikes,
            "raised": self._raised,
            "highest": self._highest,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the steps before a resumed run."""
        self._num_strikes, self._raised = state_dict["num_strikes"], state_dict["raised"]
        self._highest = state_dict["highest"]
