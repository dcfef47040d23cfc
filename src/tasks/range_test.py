"""The callback that finds a learning rate: raise it step by step, and see where the loss falls."""

from __future__ import annotations

import itertools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch.optim.lr_scheduler import LambdaLR

from ..data.module import Data, EpochSampler, Loader
from ..data.stream_loader import StreamLoader
from ..errors import InvalidValueError
from .optim import make_optimizer, parameter_groups
from .running import restored

if TYPE_CHECKING:
    from ..specs import Batch
    from .phases import Phases
    from .task import Task

_log = logging.getLogger("mealkit")
Floats = np.ndarray[Any, np.dtype[np.float64]]  # Any: numpy's word for a shape

RATES = tuple(10 ** (step / 10 - 6) for step in range(61))
"""What is tried, from 1e-6 to 1, a tenth of a decade apart."""

_WINDOW = 7  # steps that are averaged: over half a decade
_DIVERGED = 2.0  # a loss that has become this many times the first one will not come back


class RangeTest(pl.Callback):
    """Find the learning rate before the first epoch that is stepped (Smith 2017, arXiv:1506.01186).

    Some dozens of steps are done at the rates of `RATES`; the one at which the smoothed loss falls
    fastest is taken. Weights, buffers and random states are put back bit by bit; optimiser and
    loader are others than those of the run.
    Where head and backbone are trained one after the other, all is tested that is trained at the
    end of the first phase.

    Args:
        task: Whose rate is found.
        phases: Opens the blocks that are trained; it must stand behind this callback.
    """

    def __init__(self, task: Task, phases: Phases) -> None:
        self._task = task
        self._phases = phases
        self._solves = False
        self._found: float | None = None

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Find out whether the head will be solved, as long as it is fresh."""
        self._solves = self._task.solves_head(trainer)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do the test, once."""
        schedule, epoch = self._task.schedule(trainer), trainer.current_epoch
        num_frozen = schedule.num_frozen_epochs
        if self._found is not None or (self._solves and epoch < num_frozen):
            return
        started = time.perf_counter()
        opened = max(epoch, num_frozen) if num_frozen < schedule.num_epochs else epoch
        self._phases.apply(opened)
        try:
            with isolate_rng(), restored(self._task):
                torch.manual_seed(self._task.plan.training.seed)
                losses = self._climb(trainer, schedule.row(opened))
        finally:
            self._phases.apply(epoch)
        chosen = trainer.strategy.broadcast(choose_rate(losses))
        seconds = f"{len(losses)} steps, {time.perf_counter() - started:.1f} s"
        if chosen is None:
            chosen = self._task.plan.lr
            words = f"no rate made the loss fall ({seconds}); going on with {chosen:.2g}"
        else:
            words = f"{chosen:.2g}, where the loss fell fastest ({seconds})"
        if trainer.is_global_zero:
            _log.info(f"Looked for the learning rate: {words}.")
        self._found = chosen
        self._task.plan = replace(self._task.plan, lr=chosen, finds_lr=False)
        _set_rate(trainer, chosen)

    def _climb(self, trainer: pl.Trainer, row: Sequence[float]) -> list[float]:
        task = self._task
        groups = parameter_groups(
            task.backbone, task, lr=RATES[0], weight_decay=task.plan.training.weight_decay
        )
        optimizer = make_optimizer(groups)
        # fp16 gradients are too small to be written down unless the loss is scaled up, as it will
        # be in the run; a scaler that does nothing stands for every other precision.
        scaled = trainer.precision == "16-mixed"
        scaler = torch.amp.GradScaler(task.device.type, enabled=scaled)
        losses: list[float] = []
        for rate, batch in zip(RATES, _batches(trainer), strict=False):
            for group in optimizer.param_groups:
                part = group["part"]
                group["lr"] = rate * (1.0 if isinstance(part, str) else row[part])
            with trainer.precision_plugin.forward_context():
                loss = task.objective.step(task, batch, training=True).loss
            losses.append(loss.item())
            if _diverged(losses):
                break
            optimizer.zero_grad()
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            if trainer.gradient_clip_val:
                torch.nn.utils.clip_grad_norm_(task.parameters(), float(trainer.gradient_clip_val))
            scaler.step(optimizer)
            scaler.update()
        return losses

    def state_dict(self) -> dict[str, Any]:  # Any: plain values, for Lightning
        """Answer with the rate that was found."""
        return {"found": self._found}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the rate of a resumed run; its optimiser has it already."""
        self._found = state_dict["found"]
        if self._found is not None:
            self._task.plan = replace(self._task.plan, lr=self._found, finds_lr=False)


def choose_rate(losses: Sequence[float]) -> float | None:
    """Answer with the rate at which the smoothed loss falls fastest, before it is lowest.

    Args:
        losses: One for each of the first of `RATES`.

    Returns:
        One of `RATES`; None where the loss does not fall by more than it jumps.
    """
    if len(losses) < 2 * _WINDOW:
        return None
    smooth, half = _smooth(losses), _WINDOW // 2
    lowest = int(smooth.argmin())
    rough = np.abs(np.asarray(losses)[half:-half] - smooth)[: lowest + 1]
    if lowest == 0 or smooth[0] - smooth[lowest] <= rough.mean():
        return None
    slopes = np.gradient(smooth)[: lowest + 1]
    return RATES[int(slopes.argmin()) + half]


def _smooth(losses: Sequence[float]) -> Floats:
    """Average around each step, not behind it, which would choose rates too high."""
    return np.convolve(np.asarray(losses), np.ones(_WINDOW) / _WINDOW, mode="valid")


def _diverged(losses: Sequence[float]) -> bool:
    if not math.isfinite(losses[-1]):
        return True
    return float(np.mean(losses[-_WINDOW:])) > _DIVERGED * float(np.mean(losses[:_WINDOW]))


def _batches(trainer: pl.Trainer) -> Iterator[Batch]:
    """Go over training batches without end, through a loader of their own."""
    data, loader = getattr(trainer, "datamodule", None), trainer.train_dataloader
    if (
        not isinstance(data, Data)
        or not isinstance(loader, Loader | StreamLoader)
        or data.train is None
    ):
        raise InvalidValueError(
            "lr='auto' needs data of mealkit (datamodule=, or task.finetune(data)): other loaders "
            "cannot be set back. Give a number."
        )
    own = data.loader(data.train, batch_size=loader.batch_size, shuffle=True)
    for epoch in itertools.count():
        if isinstance(own.sampler, EpochSampler | StreamLoader):
            own.sampler.set_epoch(epoch)
        for batch in own:
            yield trainer.strategy.batch_to_device(batch)


def _set_rate(trainer: pl.Trainer, rate: float) -> None:
    """Put a peak rate into optimiser and schedule, as if they had been made with it."""
    for config in trainer.lr_scheduler_configs:
        scheduler = config.scheduler
        if not isinstance(scheduler, LambdaLR):
            raise InvalidValueError("lr='auto' needs the schedule of mealkit. Give a number.")
        scheduler.base_lrs = [rate] * len(scheduler.base_lrs)
        factors = [factor(scheduler.last_epoch) for factor in scheduler.lr_lambdas]
        for group, factor in zip(scheduler.optimizer.param_groups, factors, strict=True):
            group["initial_lr"], group["lr"] = rate, rate * factor
