"""Finding a batch size that fits into memory, by trying a step."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from pytorch_lightning.utilities.seed import isolate_rng

from .optim import make_optimizer, parameter_groups
from .running import autocast, move, plain_loader, restored
from .training import best_device

if TYPE_CHECKING:
    from ..data.module import Data
    from .task import Task

_log = logging.getLogger("mealkit")


def size_that_fits(task: Task, data: Data, *, start: int) -> int:
    """Halve a batch size until a training step of the whole net fits into memory.

    The step is done on the longest rows, with the optimiser's state; weights, buffers and random
    states are put back afterwards.

    Args:
        task: What is trained.
        data: What it is trained on.
        start: The size that is tried first.

    Raises:
        torch.OutOfMemoryError: A single row does not fit.
    """
    data.prepare(task.input_spec)
    size = start
    while True:
        problem = _try(task, data, size)
        if problem is None:
            return size
        if size == 1:
            problem.add_note(
                "mealkit tried batches down to a single row. Take a smaller net or a smaller size="
                ", or another device."
            )
            raise problem
        _log.info(f"Batches of {size} rows do not fit into memory.")
        size //= 2


def _try(task: Task, data: Data, size: int) -> torch.OutOfMemoryError | None:
    if data.train is None:
        return None
    device = best_device()
    task.to(device)
    modes = {module: module.training for module in task.modules()}
    task.train()
    batch = next(iter(plain_loader(data.train, batch_size=size)))
    try:
        with isolate_rng(), restored(task):
            batch = data.augment_batch(move(batch, device), epoch=0)
            with autocast(task, device):
                loss = task.objective.step(task, batch, training=True).loss
            loss.backward()  # type: ignore[no-untyped-call]
            groups = parameter_groups(task.backbone, task, lr=task.plan.lr, weight_decay=0.0)
            make_optimizer(groups).step()
    except torch.OutOfMemoryError as error:
        # Its frames hold the tensors that filled the memory.
        return torch.OutOfMemoryError(*error.args)
    finally:
        for module, mode in modes.items():
            module.training = mode
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return None
