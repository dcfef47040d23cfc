"""Running a trained task over inputs: the loop below predict, evaluate and embed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.module import BATCH_SIZE, EpochSampler, Loader
from ..data.samples import Fetch, Samples
from ..data.stream_loader import StreamLoader
from ..data.stream_samples import StreamSamples
from ..data.streams import Order
from ..errors import check_count
from .training import best_device, resolve_precision

if TYPE_CHECKING:
    from ..data.module import Views
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
) -> Loader | StreamLoader:
    """Build a loader over prepared samples, or a share of them; batches name their rows."""
    batch_size = check_count("batch_size", batch_size)
    if isinstance(samples, StreamSamples):
        return StreamLoader(
            samples,
            batch_size=batch_size,
            order=Order(shuffle=False, num_processes=num_processes, rank=rank),
            num_workers=num_workers,
            report=report,
        )
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
    task: Task,
    loader: Loader,
    *,
    views: Views | None = None,
    into: Tensor | None = None,
    num_processes: int = 1,
    rank: int = 0,
) -> tuple[Tensor, Tensor]:
    """Run the backbone once over what a training loader has, or a share of it, in eval mode.

    Its order and batch size do not matter: rows are gathered by position. The caller decides the
    precision; train and eval modes are as before afterwards.

    Args:
        task: Whose backbone runs.
        loader: Whose samples it runs over.
        views: The versions of each sample, one after the other; None for samples as they are.
        into: Where the features are written, (N * views, F); None for new memory.
        num_processes: How many share the work.
        rank: Which of them this one is.

    Returns:
        Features in fp32 on the CPU, (N * views, F), and which samples were read here, (N,) of bool;
        rows of other processes are left as they were, or zero.
    """
    count, num_samples = 1 if views is None else views.count, len(loader.fetch.samples)
    shape = (num_samples * count, task.backbone.num_features)
    features = torch.zeros(shape) if into is None else into
    present = torch.zeros(num_samples, dtype=torch.bool)
    plain = own_loader(loader, num_processes=num_processes, rank=rank)
    with in_eval_mode(task):
        for batch in plain:
            if "padding" in batch:
                continue
            for number in range(count):
                rows = batch["index"] * count + number
                features[rows] = view_features(task, batch, views=views, number=number)
            present[batch["index"]] = True
    return features, present


def own_loader(loader: Loader, *, num_processes: int, rank: int) -> Loader | StreamLoader:
    """Build a loader over the share of a process in the samples of a training loader, in order."""
    return plain_loader(
        loader.fetch.samples,
        num_workers=loader.num_workers,
        report=loader.report,
        num_processes=num_processes,
        rank=rank,
    )


def view_features(task: Task, batch: Batch, *, views: Views | None, number: int) -> Tensor:
    """Answer with the features of one view of a batch, (B, F) in fp32 on the CPU."""
    moved = move(batch, task.device)
    return task.features(moved if views is None else views.make(moved, number)).float().cpu()


@contextmanager
def in_eval_mode(task: Task) -> Iterator[None]:
    """Compute without chance and without gradients, and put the modes back afterwards."""
    modes = {module: module.training for module in task.modules()}
    task.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


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
