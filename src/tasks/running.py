"""Running a trained task over inputs: the loop below predict, evaluate and embed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.module import BATCH_SIZE, EpochSampler, Loader
from ..data.samples import Fetch, Samples
from ..errors import InvalidValueError
from .processes import share_rows
from .training import best_device, resolve_precision

if TYPE_CHECKING:
    from ..data.report import Report
    from ..specs import Batch
    from .task import Task


def plain_loader(
    samples: Samples,
    *,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 0,
    report: Report | None = None,
    num_processes: int = 1,
    rank: int = 0,
) -> Loader:
    """Build a loader over prepared samples, or a share of them; batches name their rows."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise InvalidValueError(f"batch_size={batch_size!r}: expected a number of at least 1.")
    sampler = EpochSampler(
        samples, batch_size=batch_size, shuffle=False, num_processes=num_processes, rank=rank
    )
    return Loader(
        Fetch(samples),
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        report=report,
    )


def autocast(task: Task, device: torch.device) -> AbstractContextManager[object]:
    """Enter the precision of a task on a device; fp32 needs nothing."""
    precision = resolve_precision(task.precision)
    if precision == "32-true":
        return nullcontext()
    dtype = torch.bfloat16 if precision.startswith("bf16") else torch.float16
    return torch.autocast(device.type, dtype=dtype)


def run(
    task: Task,
    samples: Samples,
    compute: Callable[[Batch], dict[str, Tensor]],
    *,
    batch_size: int,
    num_workers: int = 0,
) -> Iterator[dict[str, Tensor]]:
    """Compute something of every readable input, in eval mode on the best device.

    Yields:
        What ``compute`` answers for each batch, on the CPU.
    """
    samples.prepare(task.input_spec)
    device = best_device()
    task.to(device)
    task.eval()
    loader = plain_loader(samples, batch_size=batch_size, num_workers=num_workers)
    for batch in loader:
        with torch.inference_mode(), autocast(task, device):
            values = compute(move(batch, device))
        yield {name: value.cpu() for name, value in values.items()}


def encode(
    task: Task, loader: Loader, *, num_processes: int = 1, rank: int = 0
) -> tuple[Tensor, Tensor]:
    """Run the backbone once over everything that a training loader has, in eval mode.

    Its order and batch size do not matter: rows are gathered by position. The caller decides the
    precision; train and eval modes are as before afterwards. Of several processes each computes a
    share, and all have everything afterwards.

    Args:
        task: Whose backbone runs.
        loader: Whose samples it runs over.
        num_processes: How many share the work.
        rank: Which of them this one is.

    Returns:
        Features in fp32 on the CPU, (N, F), and which rows were readable, (N,) of bool.
    """
    samples = loader.fetch.samples
    features = torch.zeros(len(samples), task.backbone.num_features)
    present = torch.zeros(len(samples), dtype=torch.int64)  # no process exchanges bools
    modes = {module: module.training for module in task.modules()}
    task.eval()
    plain = plain_loader(
        samples,
        num_workers=loader.num_workers,
        report=loader.report,
        num_processes=num_processes,
        rank=rank,
    )
    try:
        with torch.no_grad():
            for batch in plain:
                if "padding" in batch:
                    continue
                values = task.features(move(batch, task.device))
                features[batch["index"]] = values.float().cpu()
                present[batch["index"]] = 1
    finally:
        for module, mode in modes.items():
            module.training = mode
    if num_processes > 1:
        share_rows(features, device=task.device)
        share_rows(present, device=task.device)
    return features, present.bool()


@contextmanager
def restored(task: Task) -> Iterator[None]:
    """Put weights and buffers back afterwards, those that are not saved included."""
    values = [*task.parameters(), *task.buffers()]
    copies = [value.detach().clone() for value in values]
    try:
        yield
    finally:
        with torch.no_grad():
            for value, copy in zip(values, copies, strict=True):
                value.copy_(copy)
        for parameter in task.parameters():
            parameter.grad = None


def move(batch: Batch, device: torch.device) -> Batch:
    """Answer with the batch on a device, and with one that is in it."""
    return {
        name: move(value, device)  # unlabelled inputs are a batch of their own
        if isinstance(value, dict)
        else value.to(device, non_blocking=True)
        for name, value in batch.items()
    }
