"""StreamLoader: batches of a stream, in an order that can be repeated and gone on with."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from ..errors import UnreadableError
from .ahead import read_ahead
from .stream_samples import Failure, Raw, StreamSamples
from .streams import Order

if TYPE_CHECKING:
    from ..specs import Batch
    from .report import Report

Read = tuple["Batch", list[Failure]]


class StreamLoader:
    """Batches of a stream for one process; what `Loader` is to samples.

    An epoch is a pure function of (seed, epoch), with any number of worker processes: each of them
    reads everything and decodes its share of the batches. All of several processes make as many
    batches. One that runs out of pictures, because its shards hold fewer, makes batches up from its
    last one that count for nothing; one whose shards hold more leaves the rest to other epochs.

    It is no ``DataLoader``: Lightning would doubt its length and put another sampler in.

    Args:
        samples: The stream, prepared.
        batch_size: Pictures in a batch.
        order: Whose pictures, and how they are shuffled.
        num_workers: Loader processes; 0 decodes in threads.
        report: Where pictures that cannot be read are entered.
    """

    def __init__(
        self,
        samples: StreamSamples,
        *,
        batch_size: int,
        order: Order,
        num_workers: int = 0,
        report: Report | None = None,
    ) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.report = report
        self._order = order
        self._position = 0
        self._resume: tuple[int, int] | None = None  # (epoch, batches already seen)

    batch_sampler = None
    """None: Lightning asks everything that has a `sampler` for it."""

    @property
    def sampler(self) -> StreamLoader:
        """Itself: Lightning tells the sampler of a loader which epoch it is."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Take the order of another epoch, counted from 0."""
        self._order = replace(self._order, epoch=epoch)

    def __len__(self) -> int:
        first = replace(self._order, rank=0)  # which has as many pictures as any
        return math.ceil(self.samples.num_rows(first) / self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        self._position = 0
        resume, self._resume = self._resume, None
        if resume is not None and resume[0] == self._order.epoch and resume[1] < len(self):
            self._position = resume[1]
        last: Batch | None = None
        for batch, failures in self._batches(self._position):
            self._position += 1
            self._note(failures)
            if len(batch["index"]):
                last = batch
                yield batch
            elif self._order.num_processes > 1:
                raise UnreadableError(
                    "Not one picture of a batch can be read. It would be passed over, but the "
                    "other processes would wait for this one. The report of the data names them."
                )
        if self._order.num_processes > 1 and self._position < len(self):
            # A run that goes on in the midst of such batches has none to make them from yet.
            last = next(self._batches(0))[0] if last is None else last
        while last is not None and self._order.num_processes > 1 and self._position < len(self):
            self._position += 1
            yield _filler(last)

    def _batches(self, skip: int) -> Iterator[Read]:
        batches = _Batches(self.samples, self._order, self.batch_size, skip)
        if not self.num_workers:
            return read_ahead(iter(batches))
        loader: DataLoader[Any] = DataLoader(  # Any: batches come ready
            batches,
            batch_size=None,
            num_workers=self.num_workers,
            generator=torch.Generator(),  # else every epoch draws from the global generator
        )
        return iter(loader)

    def _note(self, failures: list[Failure]) -> None:
        self.samples.remember(failures)
        if self.report is not None:
            for _, id, why in failures:
                self.report.add(id, why)

    def state_dict(self) -> dict[str, int]:
        """Answer with the epoch and the number of batches that were handed out in it."""
        return {"epoch": self._order.epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that were handed out before the state was taken."""
        self._resume = (state["epoch"], state["position"])


class _Batches(IterableDataset[Read]):
    """The batches of an epoch from one on; of several workers each yields every n-th."""

    def __init__(self, samples: StreamSamples, order: Order, batch_size: int, skip: int) -> None:
        self._samples, self._order = samples, order
        self._batch_size, self._skip = batch_size, skip

    def __iter__(self) -> Iterator[Read]:
        worker = get_worker_info()
        number, of = (0, 1) if worker is None else (worker.id, worker.num_workers)
        # torch asks the workers in turns, so the batches come in the order of one process.
        for place, rows in enumerate(_cut(self._samples.read(self._order), self._batch_size)):
            if place >= self._skip and (place - self._skip) % of == number:
                yield self._samples.load(rows)


def _cut(rows: Iterator[Raw], size: int) -> Iterator[list[Raw]]:
    while batch := list(islice(rows, size)):
        yield batch


def _filler(batch: Batch) -> Batch:
    """Make a batch that counts for nothing: processes wait for each other in every step."""
    marked = {**batch, "padding": torch.ones(1, dtype=torch.bool)}
    return {**marked, "weight": torch.zeros(len(batch["index"]))}
