"""Covariates of windows: gathered like the windows themselves, from buffers on the same grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from ..errors import InvalidValueError
from ..specs import SeriesSpec
from .series_covariates import Covariates
from .series_table import SeriesTable, offsets_of
from .series_time import Array

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch
    from .series_samples import Origins


@dataclass(frozen=True)
class BesideWindows:
    """What is known beside windows, W of them, by entry of a batch.

    Args:
        static: One row per window's series, (W, S), or None.
        strips: By entry, a buffer (C, T), where each window starts in it, (W,), and its length.
    """

    static: Tensor | None
    strips: dict[str, tuple[Tensor, Tensor, int]]

    @classmethod
    def of(cls, table: SeriesTable, origins: Origins, spec: SeriesSpec, *, ahead: int) -> Self:
        """Lay out what a backbone wants to see.

        Args:
            table: The series.
            origins: Where the windows are.
            spec: What is wanted, and how it is centred and scaled.
            ahead: Steps of future covariates behind each origin.

        Raises:
            InvalidValueError: The table has no such covariates.
        """
        wanted = spec.covariates
        beside = table.covariates
        if not wanted:
            return cls(None, {})
        if beside is None:
            several = next(iter(wanted.values()))
            raise InvalidValueError(
                f"The net was built with the covariate {several[0].name!r}, and the data have "
                "none. Build both from the same data."
            )
        static, strips, context = None, {}, spec.context_steps
        if "static" in wanted:
            static = torch.from_numpy(beside.scaled("static", spec.static)[origins.series])
        if "past" in wanted:
            buffer = _strip(beside.scaled("past", spec.past), context, 0)
            starts = table.offsets[:-1][origins.series] + origins.steps
            strips["past_covariates"] = (buffer, torch.from_numpy(starts), context)
        if "future" in wanted:
            rows, offsets = _reaching(beside, origins, ahead)
            buffer = _strip(beside.scaled("future", spec.future)[rows], context, 0)
            starts = offsets[:-1][origins.series] + origins.steps
            strips["future_covariates"] = (buffer, torch.from_numpy(starts), context + ahead)
        return cls(static, strips)

    def gather(self, index: Tensor) -> Batch:
        """Answer with the entries of some windows."""
        batch = {} if self.static is None else {"static": self.static[index]}
        for name, (buffer, starts, steps) in self.strips.items():
            windows = buffer.unfold(1, steps, 1)[:, starts[index]]  # (C, B, steps)
            batch[name] = windows.permute(1, 2, 0).contiguous()
        return batch


def _reaching(beside: Covariates, origins: Origins, ahead: int) -> tuple[Array, Array]:
    """Say which rows hold the futures of all series, so that every window finds all of its steps.

    Where a horizon reaches beyond what is known, the last row that is known goes on.
    """
    counts = np.diff(beside.offsets)
    wanted = counts.copy()
    np.maximum.at(wanted, origins.series, origins.steps + ahead)
    offsets = offsets_of(wanted)
    steps = np.arange(offsets[-1]) - np.repeat(offsets[:-1], wanted)
    rows = np.repeat(beside.offsets[:-1], wanted) + np.minimum(steps, np.repeat(counts, wanted) - 1)
    return rows, offsets


def _strip(rows: Array, before: int, after: int) -> Tensor:
    """Turn rows (T, C) into a buffer (C, T) with room at both ends."""
    return torch.from_numpy(np.pad(rows.T, ((0, 0), (before, after))))
