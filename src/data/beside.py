"""Unlabelled inputs beside labelled ones, as samples of one kind, and the order they come in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch

from .module import EpochSampler

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec
    from .samples import Samples


class Beside:
    """Labelled samples, and unlabelled ones behind them, as samples of one kind.

    A position stands for a *draw* of an input: position ``turn * len(samples) + row`` is the row in
    its ``turn``-th pass of an epoch, so that an input which comes several times in an epoch is
    changed by chance in another way each time. A batch has ``draw`` (B,) beside ``index`` (B,), and
    under ``unlabelled`` a batch of its own with ``index``, ``draw`` and what the samples answer.

    Args:
        labelled: With targets.
        unlabelled: Whose targets, if they have any, are not looked at; None for none.
    """

    def __init__(self, labelled: Samples, unlabelled: Samples | None) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled

    @property
    def ids(self) -> Sequence[str]:
        """Names of the labelled inputs, then of the others."""
        return [*self.labelled.ids, *(() if self.unlabelled is None else self.unlabelled.ids)]

    @property
    def targets(self) -> Tensor | None:
        """What is to be predicted of the labelled inputs."""
        return self.labelled.targets

    @property
    def lengths(self) -> None:
        """None: inputs of one length may be of one class, and a batch should have all of them."""

    def prepare(self, input_spec: InputSpec) -> None:
        """Tell both what the backbone wants to see."""
        self.labelled.prepare(input_spec)
        if self.unlabelled is not None:
            self.unlabelled.prepare(input_spec)

    def __len__(self) -> int:
        return len(self.labelled) + (0 if self.unlabelled is None else len(self.unlabelled))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch the labelled rows, and the others beside them."""
        total, count = len(self), len(self.labelled)
        own = [index for index in indices if index % total < count]
        others = [index for index in indices if index % total >= count]
        batch = _drawn(self.labelled, own, total=total, first=0)
        if self.unlabelled is None:
            return batch
        beside = _drawn(self.unlabelled, others, total=total, first=count)
        beside.pop("target", None)
        failed = [part.pop("failed") for part in (batch, beside) if "failed" in part]
        batch["unlabelled"] = beside  # type: ignore[assignment]  # the one batch in a batch
        if failed:
            batch["failed"] = torch.cat(failed)
        return batch

    def why(self, index: int) -> str:
        """Say why an input listed in ``failed`` cannot be read."""
        count = len(self.labelled)
        if index < count or self.unlabelled is None:
            return self.labelled.why(index)
        return self.unlabelled.why(index - count)


def _drawn(samples: Samples, draws: Sequence[int], *, total: int, first: int) -> Batch:
    """Fetch draws as a batch; positions in ``failed`` count from the first of all samples."""
    batch = samples.__getitems__([draw % total - first for draw in draws])
    failed = set(batch["failed"].tolist()) if "failed" in batch else set()
    read = [draw for draw in draws if draw % total - first not in failed]
    batch["draw"] = torch.tensor(read, dtype=torch.int64)
    if failed:
        batch["failed"] = batch["failed"] + first
    return batch


class PairedBatches(EpochSampler):
    """Whole batches of labelled and unlabelled draws, as a pure function of (seed, epoch).

    Both are dealt in orders of their own, and dealt anew when they have all come. Processes get
    batches in turn, and as many.

    Args:
        samples: What is dealt.
        num_rows: Labelled rows of a batch.
        ratio: Unlabelled rows for each labelled one.
        num_batches: Of an epoch, on all processes together.
        seed: Decides the orders.
        num_processes: How many processes share the samples.
        rank: Which of them this one is.
    """

    def __init__(
        self,
        samples: Beside,
        *,
        num_rows: int,
        ratio: int,
        num_batches: int,
        seed: int = 0,
        num_processes: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(
            samples,
            batch_size=1,
            shuffle=True,
            seed=seed,
            num_processes=num_processes,
            rank=rank,
        )
        count = len(samples.labelled)
        self._num_rows, self._ratio = num_rows, ratio
        self._counts = (count, len(samples) - count)
        self._num_batches = math.ceil(num_batches / num_processes)

    def __len__(self) -> int:
        """Batches of an epoch of this process."""
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:  # type: ignore[override]  # batches, not positions
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        count = self._num_batches * self.num_replicas
        total = sum(self._counts)
        parts = []
        for rows, first, size in (
            (self._num_rows, 0, self._counts[0]),
            (self._num_rows * self._ratio, self._counts[0], self._counts[1]),
        ):
            turns = -(-count * rows // size) if size else 0
            dealt = [
                torch.randperm(size, generator=generator) + first + turn * total
                for turn in range(turns)
            ]
            every = torch.cat(dealt)[: count * rows] if dealt else torch.empty(0, dtype=torch.int64)
            parts.append(every.view(count, -1))
        batches = torch.cat(parts, 1)[self.rank :: self.num_replicas]
        start, self.start = self.start, 0
        return iter(batches[start:].tolist())
