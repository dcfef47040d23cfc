"""SeriesTable: many series of unequal length in one flat buffer, on a grid without holes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from ..errors import DataError, InvalidValueError, NoDataError
from .report import Report
from .series_columns import Rows
from .series_time import Array, Frequency, infer_frequency, keeps_wall_time, local, with_zone

Duplicates = Literal["raise", "mean", "last"]
MOST_GAPS = 20
"""A grid may be at most this many times as long as the rows that stand on it."""


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
    """

    ids: tuple[str, ...]
    values: Array
    observed: Array
    offsets: Array
    last: Array
    frequency: Frequency
    season: int
    zone: str | None = None

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
            offsets=np.concatenate([[0], np.cumsum(lengths[kept])]).astype(np.int64),
            last=np.array(last, dtype=self.last.dtype),
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


def build_table(
    rows: Rows,
    *,
    frequency: str | None = None,
    season: int | None = None,
    duplicates: Duplicates = "raise",
    held_back: int = 0,
    report: Report,
) -> SeriesTable:
    """Sort rows, put them on their grid, fill what is missing, and report all of that.

    The season is told without the last ``held_back`` steps of each series.

    Raises:
        DataError: Times are doubled, or stand off the grid; the series and the row are named.
        NoDataError: No series holds a number.
        InvalidValueError: The frequency, the season or ``duplicates`` cannot be meant.
    """
    if duplicates not in ("raise", "mean", "last"):
        raise InvalidValueError(f"duplicates={duplicates!r}: expected 'raise', 'mean' or 'last'.")
    if season is not None and season < 1:
        raise InvalidValueError(f"season={season}: expected at least 1 step.")
    parts = _parts(rows, duplicates, report)
    declared = None if frequency is None else Frequency.parse(frequency)
    grid = declared or Frequency("index")
    if rows.times is not None:
        parts, grid = _on_one_clock(parts, rows.zone, declared)
    kept: list[tuple[str, Array, Array, Any]] = []
    for id, (stamps, values, numbers) in parts.items():
        found = _on_grid(id, stamps, values, numbers, grid, report)
        if found is not None:
            kept.append((id, *found))
    if not kept:
        raise NoDataError("No series holds a number; expected at least one value to go on from.")
    lengths = [len(values) for _, values, _, _ in kept]
    table = SeriesTable(
        ids=tuple(id for id, *_ in kept),
        values=np.concatenate([values for _, values, _, _ in kept]),
        observed=np.concatenate([observed for _, _, observed, _ in kept]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        last=np.array([last for *_, last in kept]),
        frequency=grid,
        season=1 if season is None else season,
        zone=rows.zone,
    )
    if season is None:
        table = replace(table, season=infer_season(table, table.lengths - held_back))
    return filled(table)


def _parts(
    rows: Rows, duplicates: Duplicates, report: Report
) -> dict[str, tuple[Array, Array, Array]]:
    """Take rows apart by series, sorted by time: stamps, values, numbers of rows."""
    order = np.argsort(rows.codes, kind="stable")
    bounds = np.searchsorted(rows.codes[order], np.arange(len(rows.ids) + 1))
    parts = {}
    for code, id in enumerate(rows.ids):
        mine = order[bounds[code] : bounds[code + 1]]
        if not len(mine):
            continue
        stamps = np.arange(len(mine)) if rows.times is None else rows.times[mine]
        values, numbers = rows.values[mine], rows.numbers[mine]
        if (np.diff(stamps.astype(np.int64)) < 0).any():
            report.add(id, "rows were not in the order of time and were sorted")
            by_time = np.argsort(stamps, kind="stable")
            stamps, values, numbers = stamps[by_time], values[by_time], numbers[by_time]
        parts[id] = _single(id, stamps, values, numbers, duplicates, report)
    return parts


def _single(
    id: str, stamps: Array, values: Array, numbers: Array, duplicates: Duplicates, report: Report
) -> tuple[Array, Array, Array]:
    """Leave one row per time."""
    first = np.concatenate([[True], stamps[1:] != stamps[:-1]])
    if first.all():
        return stamps, values, numbers
    doubled = np.flatnonzero(~first)
    if duplicates == "raise":
        shown = ", ".join(
            f"{stamps[place]} in rows {numbers[place - 1]} and {numbers[place]}"
            for place in doubled[:5]
        )
        raise DataError(
            f"The series {id!r} has {len(doubled):,} doubled times: {shown} (counted from 0). "
            "Remove them, name the column that tells series apart (series=), or pass "
            "duplicates='mean' or 'last'."
        )
    report.add(id, f"{len(doubled):,} doubled times; took the {duplicates} of their values")
    starts = np.flatnonzero(first)
    if duplicates == "last":
        ends = np.concatenate([starts[1:], [len(stamps)]]) - 1
        return stamps[starts], values[ends], numbers[ends]
    finite = np.where(np.isfinite(values), values, 0.0)
    counts = np.add.reduceat(np.isfinite(values).astype(float), starts)
    sums = np.add.reduceat(finite, starts)
    means = np.divide(sums, counts, out=np.full(len(starts), np.nan), where=counts > 0)
    return stamps[starts], means, numbers[starts]


_Part = tuple[Array, Array, Array]


def _on_one_clock(
    parts: Mapping[str, _Part], zone: str | None, declared: Frequency | None
) -> tuple[dict[str, _Part], Frequency]:
    """Settle the grid; where its steps are days or longer, the clock on the wall counts."""
    walls = {id: (local(part[0], zone), part[1], part[2]) for id, part in parts.items()}
    grid = declared or _infer(walls)
    dated = next(iter(parts.values()))[0].dtype.kind == "M"
    if dated == (grid.unit == "index"):
        kinds = ("dates", "a step of time: 'D', 'h', ...") if dated else ("integers", "an integer")
        raise InvalidValueError(
            f"frequency={str(grid)!r} does not fit the time column, which holds {kinds[0]}. Give "
            f"{kinds[1]}, or leave frequency= out."
        )
    if zone is None or keeps_wall_time(grid):
        return walls, grid
    if declared is None:
        grid = _infer(parts)
    return dict(parts), grid


def _infer(parts: Mapping[str, _Part]) -> Frequency:
    """Tell the grid; single values stand on any."""
    stamps = [stamps for stamps, *_ in parts.values()]
    if stamps[0].dtype.kind == "i" and all(len(each) == 1 for each in stamps):
        return Frequency("index")
    return infer_frequency(stamps)


def _on_grid(
    id: str, stamps: Array, values: Array, numbers: Array, grid: Frequency, report: Report
) -> tuple[Array, Array, Any] | None:
    """Lay one series on the grid: values with NaN in gaps, what was observed, the last time."""
    endless = np.isinf(values)
    if endless.any():
        report.add(id, f"{int(endless.sum()):,} infinite values, counted as missing")
        values = np.where(endless, np.nan, values)
    present = np.flatnonzero(np.isfinite(values))
    if not len(present):
        report.add(id, "no value at all; left out")
        return None
    positions, off = grid.positions(stamps)
    if off.any():
        _refuse_off_grid(id, stamps, numbers, off, grid)
    first, last = positions[present[0]], positions[present[-1]]
    length = int(last - first) + 1
    if length > MOST_GAPS * len(values) + 1000:
        raise DataError(
            f"The series {id!r} has {len(values):,} rows on a grid of {length:,} steps of "
            f"{grid}: nearly all would be missing. Check its times, or give the right frequency=."
        )
    laid = np.full(length, np.nan)
    inside = slice(present[0], present[-1] + 1)
    laid[positions[inside] - first] = values[inside]
    _tell_defects(id, laid, len(values) - 1 - int(present[-1]), report)
    return laid, np.isfinite(laid), stamps[present[-1]]


def _tell_defects(id: str, laid: Array, after: int, report: Report) -> None:
    """Report what is missing from a series, and one that says little."""
    if after:
        report.add(id, f"ends with {after:,} missing values; forecasts start behind the last one")
    observed = np.isfinite(laid)
    missing = len(laid) - int(observed.sum())
    if missing:
        report.add(id, f"{missing:,} of {len(laid):,} steps are missing; masked, never a target")
    if len(laid) == 1:
        report.add(id, "a single value; forecast as it is, without a model")
    elif len(np.unique(laid[observed])) == 1:
        report.add(id, "constant")


def _refuse_off_grid(id: str, stamps: Array, numbers: Array, off: Array, grid: Frequency) -> None:
    places = np.flatnonzero(off)
    shown = ", ".join(f"{stamps[place]} in row {numbers[place]}" for place in places[:5])
    raise DataError(
        f"{len(places):,} times of the series {id!r} do not stand on a grid of steps of {grid} "
        f"from {stamps[0]} on: {shown} (counted from 0). Give the right frequency=, or bring the "
        "rows onto a regular grid (in pandas: resample)."
    )


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


def names_of(ids: Sequence[str]) -> str:
    """Name a few of many series in a line."""
    shown = ", ".join(map(repr, ids[:5]))
    return f"{shown}, ... ({len(ids):,} in all)" if len(ids) > 5 else shown
