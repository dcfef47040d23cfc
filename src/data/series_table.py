"""SeriesTable: many series of unequal length in one flat buffer, on a grid without holes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from .series_covariates import Covariates
from .series_time import Array, Frequency, with_zone


@dataclass(frozen=True)
class SeriesTable:
    """Series on a grid, their values behind each other in one buffer.

    Args:
        ids: Names of the series, N of them.
        values: Their values, float64; gaps are filled from earlier values only, so that nothing
            that came later reaches a window before it.
        observed: Which of the values were in the data; the others were filled.
        offsets: Where each series starts in the buffer, (N + 1,).
        last: The time of each series' last value: datetime64[s], or int64, (N,).
        frequency: The grid.
        season: Steps of the season; 1 where there is none.
        zone: Time zone, or None.
        covariates: What is known beside them, or None.
    """

    ids: tuple[str, ...]
    values: Array
    observed: Array
    offsets: Array
    last: Array
    frequency: Frequency
    season: int
    zone: str | None = None
    covariates: Covariates | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lengths(self) -> Array:
        """Steps of each series, (N,)."""
        return np.diff(self.offsets)

    def series(self, number: int) -> Array:
        """Answer with the values of one series, (T,)."""
        return self.values[self.offsets[number] : self.offsets[number + 1]]

    def cut(self, lengths: Array) -> Self:
        """Answer with the first steps of each series, as if the later ones were not known yet.

        Args:
            lengths: How many steps stay, (N,); series of which none stay are left out.
        """
        kept = np.flatnonzero(lengths > 0)
        places = np.concatenate(
            [np.arange(self.offsets[n], self.offsets[n] + lengths[n]) for n in kept]
            or [np.zeros(0, dtype=np.int64)]
        )
        dropped = (self.lengths - lengths)[kept]
        last = [self.time_before(int(n), int(d)) for n, d in zip(kept, dropped, strict=True)]
        return replace(
            self,
            ids=tuple(self.ids[n] for n in kept),
            values=self.values[places],
            observed=self.observed[places],
            offsets=offsets_of(lengths[kept]),
            last=np.array(last, dtype=self.last.dtype),
            covariates=None if self.covariates is None else self.covariates.cut(kept, places),
        )

    def time_before(self, number: int, steps: int) -> Any:  # Any: datetime64[s] or int
        """Answer with the time some steps before a series' last one."""
        if steps == 0:
            return self.last[number]
        frequency = self.frequency
        if frequency.unit in ("index", "second"):
            delta = steps * frequency.steps
            return self.last[number] - (
                delta if frequency.unit == "index" else np.timedelta64(delta, "s")
            )
        backwards = replace(frequency, steps=-frequency.steps)
        return backwards.times(self.last[number], steps)[-1]

    def times_after(self, number: int, *, back: int, count: int) -> list[Any]:  # Any: as in a frame
        """Answer with the times that follow the step that is ``back`` before the last one."""
        stamps = self.frequency.times(self.time_before(number, back), count)
        return with_zone(stamps, self.zone, self.frequency)


@dataclass(frozen=True)
class RunningErrors:
    """Sums of |x_t - x_(t - season)| ** power over each series, from its start on.

    Each series has sums of its own: a large one would leave nothing of a small one behind it.

    Args:
        sums: (sum T + N,).
        counts: How many errors each sum is of, (sum T + N,).
        starts: Where the sums of each series start, (N,).
    """

    sums: Array
    counts: Array
    starts: Array

    @classmethod
    def of(cls, table: SeriesTable, season: int, *, power: int = 1) -> Self:
        """Add up; errors of values that were filled count for nothing."""
        num_series = len(table)
        starts = table.offsets[:-1] + np.arange(num_series)
        sums = np.zeros(len(table.values) + num_series)
        counts = np.zeros(len(sums), dtype=np.int64)
        for number, start in enumerate(starts):
            part = slice(table.offsets[number], table.offsets[number + 1])
            values, observed = table.values[part], table.observed[part]
            if len(values) <= season:
                continue
            valid = observed[season:] & observed[:-season]
            errors = np.where(valid, np.abs(values[season:] - values[:-season]) ** power, 0.0)
            after = slice(start + season + 1, start + len(values) + 1)
            sums[after], counts[after] = np.cumsum(errors), np.cumsum(valid)
        return cls(sums, counts, starts)

    def mean(self, series: Array, first: Array | int, last: Array) -> Array:
        """Average over steps of series, NaN where there is no error to average.

        Args:
            series: Numbers of series, (W,).
            first: The first step of each that counts, (W,).
            last: The first step that does not count any more, (W,).
        """
        start, end = self.starts[series] + first, self.starts[series] + last
        total, count = self.sums[end] - self.sums[start], self.counts[end] - self.counts[start]
        # Differences of running sums leave rounding where nothing changed at all.
        total = np.where(total > 1e-12 * self.sums[end], total, 0.0)
        answer: Array = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return answer


def filled(table: SeriesTable) -> SeriesTable:
    """Fill gaps with the value a season earlier, or else with the one before: never from later."""
    values = table.values.copy()
    for start, end in zip(table.offsets[:-1], table.offsets[1:], strict=True):
        series = values[start:end]
        for place in np.flatnonzero(np.isnan(series)):
            earlier = place - table.season
            series[place] = series[earlier if earlier >= 0 else place - 1]
    return replace(table, values=values)


def infer_season(table: SeriesTable, lengths: Array) -> int:
    """Take the usual season of the grid, if the values repeat with it.

    Asked of the autocorrelation of the differences, over as many as 100 series of two seasons and
    more; the limit is that of Naive2 in the M competitions (90 %, one-sided 1.645).

    Args:
        table: The series.
        lengths: How many steps of each may be looked at, (N,).
    """
    season = table.frequency.season
    if season == 1:
        return 1
    found = []
    for number in np.flatnonzero(lengths >= 2 * season + 1)[:100]:
        part = slice(table.offsets[number], table.offsets[number] + lengths[number])
        series = np.diff(np.where(table.observed[part], table.values[part], np.nan))
        series = series[np.isfinite(series)]
        correlation = autocorrelations(series, season)
        if correlation is not None:
            limit = 1.645 * np.sqrt((1 + 2 * np.square(correlation[:-1]).sum()) / len(series))
            found.append(bool(correlation[-1] > limit))
    return season if found and np.mean(found) >= 0.5 else 1


def autocorrelations(series: Array, lags: int) -> Array | None:
    """Answer with the autocorrelations at 1 .. lags; None where they are not defined."""
    if len(series) <= lags:
        return None
    centred = series - series.mean()
    power = float(np.square(centred).sum())
    if power <= 0 or not np.isfinite(power):
        return None
    return np.array(
        [float((centred[lag:] * centred[:-lag]).sum()) / power for lag in range(1, lags + 1)]
    )


def offsets_of(lengths: Sequence[int] | Array) -> Array:
    """Say where each of several parts starts, one behind the other, and where the last ends."""
    answer: Array = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return answer


def names_of(ids: Sequence[str]) -> str:
    """Name a few of many series in a line."""
    shown = ", ".join(map(repr, ids[:5]))
    return f"{shown}, ... ({len(ids):,} in all)" if len(ids) > 5 else shown
