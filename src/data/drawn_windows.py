"""DrawnWindows: an endless order of windows, in which each series comes as often as any other."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from .module import Data, EpochSampler, Loader
from .samples import Fetch
from .series_samples import SeriesSamples


class DrawnWindows(EpochSampler):
    """Draw windows with replacement: first a series, then one of its windows.

    Drawn by windows, a few long series would decide what is learnt about all. An epoch is a number
    of batches, the draws are a pure function of (seed, epoch), and processes share them.

    Args:
        samples: Prepared windows, those of a series behind each other.
        batch_size: Windows of a batch.
        num_steps: Batches of an epoch, on each process.
        seed: Decides the draws.
        num_processes: How many processes share them.
        rank: Which of them this one is.
    """

    def __init__(
        self,
        samples: SeriesSamples,
        *,
        batch_size: int,
        num_steps: int,
        seed: int = 0,
        num_processes: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(
            samples,
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
            num_processes=num_processes,
            rank=rank,
        )
        self.num_samples = num_steps * batch_size
        self.total_size = self.num_samples * num_processes
        _, first, counts = np.unique(samples.origins.series, return_index=True, return_counts=True)
        self._first, self._counts = torch.from_numpy(first), torch.from_numpy(counts)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        series = torch.randint(len(self._first), (self.total_size,), generator=generator)
        # float64, because float32 has fewer numbers than a long series has windows
        share = torch.rand(self.total_size, generator=generator, dtype=torch.float64)
        drawn = self._first[series] + (share * self._counts[series]).long()
        start, self.start = self.start, 0
        return iter(drawn[self.rank :: self.num_replicas].tolist()[start:])


def drawn_loader(data: Data, samples: SeriesSamples, *, batch_size: int, num_steps: int) -> Loader:
    """Build a loader over drawn windows of data, whose seed and processes decide the draws.

    Args:
        data: Whose windows they are.
        samples: Prepared windows.
        batch_size: Windows of a batch.
        num_steps: Batches of an epoch, on each process.
    """
    num_processes, rank = data.processes
    sampler = DrawnWindows(
        samples,
        batch_size=batch_size,
        num_steps=num_steps,
        seed=data.seed,
        num_processes=num_processes,
        rank=rank,
    )
    return Loader(Fetch(samples), batch_size=batch_size, sampler=sampler, report=data.report)
