"""Batches of about as many tokens, in place of as many texts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidValueError, check_count
from .module import EpochSampler

if TYPE_CHECKING:
    from torch import Tensor

    from .samples import Samples

STEPS = 8
"""Lengths are told apart to this share: texts that differ by less change places every epoch."""


class TokenBatches(EpochSampler):
    """An order of whole batches, none of more tokens than a budget, padding included.

    Texts are sorted by length, rounded up by at most an eighth, and cut where the next one would
    not fit. Lengths alone say where the cuts are, so that every epoch has as many batches and the
    schedule of the learning rate knows them; which texts of a length meet in a batch, and the order
    of the batches, are a pure function of (seed, epoch). Processes get whole batches in turn, and
    the first ones again where the last round is not full.

    Args:
        samples: Texts that were tokenised.
        batch_tokens: The budget.
        max_rows: Most texts in a batch; None for as many as the budget holds.
        seed: Decides the orders.
        num_processes: How many processes share the samples.
        rank: Which of them this one is.

    Raises:
        InvalidValueError: The budget is too small for the longest text.
    """

    def __init__(
        self,
        samples: Samples,
        *,
        batch_tokens: int,
        max_rows: int | None,
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
        check_count("batch_tokens", batch_tokens)
        lengths = samples.lengths
        if lengths is None:
            raise InvalidValueError("batch_tokens= counts tokens, and these inputs have none.")
        longest = int(lengths.max())
        if batch_tokens < longest:
            raise InvalidValueError(
                f"batch_tokens={batch_tokens}: the longest text has {longest} tokens by itself. "
                "Give at least that many, or cut texts with a smaller max_length=."
            )
        # Rounding up must not push out what fits by itself.
        self._rounded = _round_up(lengths.clamp_min(1)).clamp_max(batch_tokens)
        self._sizes = _cut(sorted(self._rounded.tolist(), reverse=True), batch_tokens, max_rows)

    def __len__(self) -> int:
        """Batches of an epoch of this process."""
        return math.ceil(len(self._sizes) / self.num_replicas)

    def __iter__(self) -> Iterator[list[int]]:  # type: ignore[override]  # batches, not positions
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        order = torch.randperm(len(self._rounded), generator=generator)
        order = order[torch.argsort(self._rounded[order], descending=True, stable=True)]
        batches = [part.tolist() for part in torch.split(order, self._sizes)]
        places = torch.randperm(len(batches), generator=generator).tolist()
        places += places[: len(self) * self.num_replicas - len(places)]
        own = places[self.rank :: self.num_replicas]
        start, self.start = self.start, 0
        return iter([batches[place] for place in own[start:]])


def _round_up(lengths: Tensor) -> Tensor:
    """Round up to a multiple of the power of two that is at most the `STEPS`-th part: 37 to 40."""
    powers = torch.log2(lengths / STEPS).floor().clamp_min(0)
    steps = (2**powers).long()
    return (lengths + steps - 1) // steps * steps


def _cut(longest_first: list[int], batch_tokens: int, max_rows: int | None) -> list[int]:
    """Answer with the number of texts of each batch."""
    sizes: list[int] = []
    rows = most = 0
    for length in longest_first:
        if rows == most:  # the first text of a batch is the longest: all are padded to it
            sizes += [rows] if rows else []
            rows, most = 0, batch_tokens // length
            most = most if max_rows is None else min(most, max_rows)
        rows += 1
    return [*sizes, rows] if rows else sizes
