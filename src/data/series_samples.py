"""SeriesSamples: windows of series, gathered from one buffer a whole batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from ..errors import InvalidValueError
from ..specs import SeriesSpec
from .series_beside import BesideWindows
from .series_table import SeriesTable
from .series_time import Array

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec

MOST_FILLED = 0.5
"""Share of filled values in a window above which nothing is learnt from it."""


@dataclass(frozen=True)
class Scale:
    """How the values of each series become numbers of the size of 1, learnt from its train part.

    Args:
        center: Mean of each series, (N,).
        spread: Standard deviation of each, or 1 where it is constant, (N,).
    """

    center: Array
    spread: Array

    @classmethod
    def learn(cls, table: SeriesTable, lengths: Array) -> Scale:
        """Learn from the first steps of each series."""
        center, spread = np.zeros(len(table)), np.ones(len(table))
        for number, length in enumerate(lengths):
            start = table.offsets[number]
            part = table.values[start : start + max(1, length)]
            seen = part[table.observed[start : start + max(1, length)]]
            seen = seen if len(seen) else part
            center[number] = seen.mean()
            deviation = seen.std()
            # What rounding leaves of a constant is no spread.
            if deviation > 1e-9 * max(1e-300, np.abs(seen).max()):
                spread[number] = deviation
        return cls(center, spread)


@dataclass(frozen=True)
class Origins:
    """Where forecasts start: the first steps that are not known yet.

    Args:
        series: Which series each is of, (W,).
        steps: How many steps of the series precede it, (W,).
    """

    series: Array
    steps: Array

    @classmethod
    def lay_out(cls, first: Array, last: Array, *, stride: int = 1) -> Self:
        """Put origins on each series, a stride apart.

        Args:
            first: The first origin of each series, (N,); none precedes step 1.
            last: The last one that is allowed, (N,).
            stride: Steps from one to the next.
        """
        first = np.maximum(first, 1)
        counts = np.maximum(0, (last - first) // stride + 1)
        series = np.repeat(np.arange(len(first)), counts)
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return cls(series, np.repeat(first, counts) + within * stride)

    def __len__(self) -> int:
        return len(self.series)


class SeriesSamples:
    """Windows of series: what came before an origin, and what came from it on.

    Nothing is cut out before it is asked for: a batch is one gather from a strided view of the
    buffer. (neuralforecast copies all windows at each step, other libraries make them one by one.)
    A window at the start of a series, with less before it than the backbone wants to see, holds
    what stands there in the buffer; ``history`` tells such windows.

    Args:
        table: The series.
        scale: How their values are scaled.
        origins: Where the windows are.
        horizon: Steps of a target.
        complete: Whether only windows that can be learnt from are kept: with a whole context that
            was mostly observed, and a target that was wholly observed.
        ahead: Steps of future covariates behind the origin; None for the horizon.
    """

    lengths = None
    is_quick = True

    def __init__(
        self,
        table: SeriesTable,
        scale: Scale,
        origins: Origins,
        *,
        horizon: int,
        complete: bool = False,
        ahead: int | None = None,
    ) -> None:
        self.table, self.scale, self.horizon = table, scale, horizon
        self.ahead = horizon if ahead is None else ahead
        self._all, self._complete = origins, complete
        self.origins = origins
        self._spec: SeriesSpec | None = None

    @property
    def input_spec(self) -> SeriesSpec | None:
        """What the backbone wants to see; None before `prepare`."""
        return self._spec

    @property
    def history(self) -> Array:
        """How many steps precede each window's target, (W,)."""
        return self.origins.steps

    @property
    def ids(self) -> Sequence[str]:
        """The series of each window."""
        return [self.table.ids[number] for number in self.origins.series]

    @property
    def targets(self) -> Tensor | None:
        """Windows hold their targets; there is no table of them."""
        return None

    def part(self, rows: slice | Array) -> SeriesSamples:
        """Answer with some of the windows."""
        origins = Origins(self.origins.series[rows], self.origins.steps[rows])
        return SeriesSamples(
            self.table, self.scale, origins, horizon=self.horizon, ahead=self.ahead
        )

    def prepare(self, input_spec: InputSpec) -> None:
        """Learn how much of a series the backbone wants to see.

        Raises:
            InvalidValueError: The spec is of another kind, or for another horizon, or wants to see
                covariates that there are not.
        """
        if not isinstance(input_spec, SeriesSpec):
            raise InvalidValueError(f"Series need a SeriesSpec, got {input_spec}.")
        if input_spec.horizon_steps != self.horizon:
            raise InvalidValueError(
                f"The backbone forecasts {input_spec.horizon_steps} steps, and the data ask for "
                f"{self.horizon}. Build both with the same horizon=."
            )
        if input_spec == self._spec:
            return
        self._spec = input_spec
        context = input_spec.context_steps
        if self._complete:
            self.origins = self._learnable(max(1, context))
        table = self.table
        values = table.values
        if input_spec.scaled:
            center, spread = self.scale.center, self.scale.spread
            numbers = np.repeat(np.arange(len(table)), table.lengths)
            values = ((values - center[numbers]) / spread[numbers]).astype(np.float32)
        # Room at both ends, so that every origin has a window.
        room = ((context, self.horizon),)
        self._buffer = torch.from_numpy(np.pad(values, room))
        self._observed = torch.from_numpy(np.pad(table.observed, room))
        starts = table.offsets[:-1][self.origins.series] + context
        self._places = torch.from_numpy(starts + self.origins.steps)
        self._history = torch.from_numpy(self.origins.steps)
        self._series = torch.from_numpy(self.origins.series)
        levels = (
            self.scale.center / self.scale.spread if input_spec.scaled else np.zeros(len(table))
        )
        self._levels = torch.from_numpy(levels.astype(np.float32))
        self._beside = BesideWindows.of(table, self.origins, input_spec, ahead=self.ahead)

    def _learnable(self, context: int) -> Origins:
        seen = np.concatenate([[0], np.cumsum(self.table.observed)])
        long = self._all.steps >= context
        series, steps = self._all.series[long], self._all.steps[long]
        places = self.table.offsets[:-1][series] + steps
        targets = seen[places + self.horizon] - seen[places]
        contexts = seen[places] - seen[places - context]
        good = (targets == self.horizon) & (contexts >= (1 - MOST_FILLED) * context)
        return Origins(series[good], steps[good])

    def __len__(self) -> int:
        return len(self.origins)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gather windows.

        Returns:
            ``past`` (B, L), ``target`` and ``observed`` (B, horizon); ``history`` (how many steps
            precede the target), ``series``, ``level`` (what zero stands for, in the scale of
            ``past``) and ``index``, (B,) each. Where all there is was asked for, ``past`` is flush
            right with zeros in front. Of covariates that the backbone uses, ``static`` (B, S),
            ``past_covariates`` (B, L, P), and ``future_covariates`` (B, L + horizon, D) over
            context and horizon.
        """
        if self._spec is None:
            raise InvalidValueError("Windows were asked for before prepare() was called.")
        index = torch.as_tensor(indices, dtype=torch.int64)
        places, context = self._places[index], self._spec.context_steps
        batch = {
            "index": index,
            "series": self._series[index],
            "history": self._history[index],
            "level": self._levels[self._series[index]],
        }
        windows = self._buffer.unfold(0, context + self.horizon, 1)[places - context]
        batch["past"], batch["target"] = windows[:, :context], windows[:, context:]
        batch["observed"] = self._observed.unfold(0, self.horizon, 1)[places]
        if not context:
            batch["past"] = flush_right(self._buffer, places, batch["history"])
        batch |= self._beside.gather(index)
        return batch

    def why(self, index: int) -> str:
        """Say why a window cannot be read; all can."""
        return ""


def flush_right(buffer: Tensor, ends: Tensor, lengths: Tensor) -> Tensor:
    """Gather what precedes each end, (B, longest), with zeros in front of shorter ones."""
    longest = int(lengths.max()) if len(lengths) else 0
    places = ends[:, None] - torch.arange(longest, 0, -1)
    inside = places >= (ends - lengths)[:, None]
    return buffer[places.clamp(min=0)] * inside
