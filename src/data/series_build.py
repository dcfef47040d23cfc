"""From rows to a SeriesTable: sorted, on their grid, filled where something is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import numpy as np

from ..errors import DataError, InvalidValueError, NoDataError, check_count
from ..specs import COVARIATES
from .report import Report
from .series_columns import Rows
from .series_covariates import Covariates, filled_forward, single_static
from .series_table import SeriesTable, filled, infer_season, offsets_of
from .series_time import Array, Frequency, infer_frequency, keeps_wall_time, local

Duplicates = Literal["raise", "mean", "last"]
SINGLE = "a single value; forecast as it is, without a model"
CONSTANT = "constant"
"""What the report says of series that say little."""
MOST_GAPS = 20
"""A grid may be at most this many times as long as the rows that stand on it."""
LARGEST = 1e100
"""Larger values are refused: their squares, and sums of these, would be no numbers any more."""
LEAST_STEPS = 8
"""Steps from row to row that tell whether a grid is finer than its rows."""


def build_table(
    rows: Rows,
    *,
    frequency: str | int | None = None,
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
    if season is not None:
        check_count("season", season)
    check_count("test", held_back, least=0)
    parts = _parts(rows, duplicates, report)
    declared = None if frequency is None else Frequency.parse(frequency)
    grid = declared or Frequency("index")
    if rows.times is not None:
        parts, grid = _on_one_clock(parts, rows.zone, declared)
        if declared is not None:
            _refuse_finer(parts, grid)
    laid = [_on_grid(id, part, grid, rows, report) for id, part in parts.items()]
    kept = [series for series in laid if series is not None]
    if not kept:
        raise NoDataError("No series holds a number; expected at least one value to go on from.")
    values = np.concatenate([series.values for series in kept])
    table = SeriesTable(
        ids=tuple(series.id for series in kept),
        values=values,
        observed=np.isfinite(values),
        offsets=offsets_of([len(series.values) for series in kept]),
        last=np.array([series.last for series in kept]),
        frequency=grid,
        season=1 if season is None else season,
        zone=rows.zone,
        covariates=_beside(kept, rows),
    )
    if season is None:
        table = replace(table, season=infer_season(table, table.lengths - held_back))
    return filled(table)


@dataclass(frozen=True)
class _Part:
    """The rows of one series, with stamps, values, numbers in the user's table, covariates."""

    stamps: Array
    values: Array
    numbers: Array
    beside: Array

    def take(self, rows: Array) -> Self:
        """Answer with some of the rows, or all in another order."""
        return replace(
            self,
            stamps=self.stamps[rows],
            values=self.values[rows],
            numbers=self.numbers[rows],
            beside=self.beside[rows],
        )


def _parts(rows: Rows, duplicates: Duplicates, report: Report) -> dict[str, _Part]:
    """Take rows apart by series, sorted by time."""
    order = np.argsort(rows.codes, kind="stable")
    bounds = np.searchsorted(rows.codes[order], np.arange(len(rows.ids) + 1))
    beside = np.zeros((len(rows.values), 0)) if rows.beside is None else rows.beside
    parts = {}
    for code, id in enumerate(rows.ids):
        mine = order[bounds[code] : bounds[code + 1]]
        if not len(mine):
            continue
        stamps = np.arange(len(mine)) if rows.times is None else rows.times[mine]
        part = _Part(stamps, rows.values[mine], rows.numbers[mine], beside[mine])
        if (np.diff(stamps.astype(np.int64)) < 0).any():
            report.add(id, "rows were not in the order of time and were sorted")
            part = part.take(np.argsort(stamps, kind="stable"))
        parts[id] = _single(id, part, duplicates, report)
    return parts


def _single(id: str, part: _Part, duplicates: Duplicates, report: Report) -> _Part:
    """Leave one row per time."""
    stamps, numbers = part.stamps, part.numbers
    first = np.concatenate([[True], stamps[1:] != stamps[:-1]])
    if first.all():
        return part
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
        return part.take(np.concatenate([starts[1:], [len(stamps)]]) - 1)
    return replace(
        part.take(starts),
        values=_means(part.values, starts),
        beside=_means(part.beside, starts),
    )


def _means(values: Array, starts: Array) -> Array:
    """Average the rows from each start to the next, as far as they are known."""
    finite = np.isfinite(values)
    counts = np.add.reduceat(finite.astype(float), starts, axis=0)
    sums = np.add.reduceat(np.where(finite, values, 0.0), starts, axis=0)
    means: Array = np.divide(sums, counts, out=np.full(sums.shape, np.nan), where=counts > 0)
    return means


def _on_one_clock(
    parts: Mapping[str, _Part], zone: str | None, declared: Frequency | None
) -> tuple[dict[str, _Part], Frequency]:
    """Settle the grid; where its steps are days or longer, the clock on the wall counts."""
    walls = {id: replace(part, stamps=local(part.stamps, zone)) for id, part in parts.items()}
    grid = declared or _infer(walls)
    dated = next(iter(parts.values())).stamps.dtype.kind == "M"
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


def _refuse_finer(parts: Mapping[str, _Part], grid: Frequency) -> None:
    """Refuse a grid that was declared where nowhere two rows are one step of it apart.

    Raises:
        DataError: It is finer than the rows: most of it would be filled, and forecasts would be of
            steps that nobody has seen.
    """
    steps = np.concatenate([np.diff(grid.positions(part.stamps)[0]) for part in parts.values()])
    if len(steps) >= LEAST_STEPS and (nearest := int(steps.min())) > 1:
        id, part = next((id, part) for id, part in parts.items() if len(part.stamps) > 1)
        raise DataError(
            f"A step is {grid}, and no two rows are nearer than {nearest:,} steps: the series "
            f"{id!r} has {part.stamps[0]} and then {part.stamps[1]}. Give the frequency= of the "
            "rows, bring rows of the frequency that was learnt from, or fill them in."
        )


def _infer(parts: Mapping[str, _Part]) -> Frequency:
    """Tell the grid; single values stand on any."""
    stamps = [part.stamps for part in parts.values()]
    if stamps[0].dtype.kind == "i" and all(len(each) == 1 for each in stamps):
        return Frequency("index")
    return infer_frequency(stamps)


@dataclass(frozen=True)
class _Laid:
    """One series on the grid: values with NaN in gaps, the last time, covariates."""

    id: str
    values: Array
    last: Any  # datetime64[s] or int
    static: Array
    past: Array
    future: Array


def _on_grid(id: str, part: _Part, grid: Frequency, rows: Rows, report: Report) -> _Laid | None:
    """Lay one series on the grid; None where it has no value."""
    values = part.values
    endless = np.isinf(values)
    if endless.any():
        report.add(id, f"{int(endless.sum()):,} infinite values, counted as missing")
        values = np.where(endless, np.nan, values)
    huge = np.flatnonzero(np.abs(values) > LARGEST)
    if len(huge):
        raise DataError(
            f"The series {id!r} has {len(huge):,} values beyond {LARGEST:g}, which cannot be "
            f"computed with: {values[huge[0]]:g} in row {part.numbers[huge[0]]} (counted from 0). "
            "Leave them empty if they mark missing values, or scale the series."
        )
    present = np.flatnonzero(np.isfinite(values))
    if not len(present):
        report.add(id, "no value at all; left out")
        return None
    positions, off = grid.positions(part.stamps)
    if off.any():
        _refuse_off_grid(id, part, off, grid)
    first, last = present[0], present[-1]
    positions = positions - positions[first]
    length, reach = int(positions[last]) + 1, int(positions[-1]) + 1
    if reach > MOST_GAPS * len(values) + 1000:
        raise DataError(
            f"The series {id!r} has {len(values):,} rows on a grid of {reach:,} steps of "
            f"{grid}: nearly all would be missing. Check its times, or give the right frequency=."
        )
    laid = np.full(length, np.nan)
    laid[positions[first : last + 1]] = values[first : last + 1]
    _tell_defects(id, laid, len(values) - 1 - int(last), report)
    named = {kind: rows.named.get(kind, ()) for kind in COVARIATES}
    beside = np.full((reach, part.beside.shape[1]), np.nan)
    beside[positions[first:]] = part.beside[first:]
    split = np.cumsum([len(named["static"]), len(named["past"])])
    _, past, future = np.split(beside, split, axis=1)
    return _Laid(
        id,
        laid,
        part.stamps[last],
        single_static(id, part.beside[:, : split[0]], named["static"], report),
        filled_forward(id, past[:length], named["past"], report),
        filled_forward(id, future, named["future"], report),
    )


def _beside(kept: Sequence[_Laid], rows: Rows) -> Covariates | None:
    if not rows.named:
        return None
    return Covariates(
        rows.named,
        static=np.stack([series.static for series in kept]),
        past=np.concatenate([series.past for series in kept]),
        future=np.concatenate([series.future for series in kept]),
        offsets=offsets_of([len(series.future) for series in kept]),
    )


def _tell_defects(id: str, laid: Array, after: int, report: Report) -> None:
    """Report what is missing from a series, and one that says little."""
    if after:
        report.add(id, f"ends with {after:,} missing values; forecasts start behind the last one")
    observed = np.isfinite(laid)
    missing = len(laid) - int(observed.sum())
    if missing:
        report.add(id, f"{missing:,} of {len(laid):,} steps are missing; masked, never a target")
    if len(laid) == 1:
        report.add(id, SINGLE)
    elif len(np.unique(laid[observed])) == 1:
        report.add(id, CONSTANT)


def _refuse_off_grid(id: str, part: _Part, off: Array, grid: Frequency) -> None:
    stamps, numbers = part.stamps, part.numbers
    places = np.flatnonzero(off)
    shown = ", ".join(f"{stamps[place]} in row {numbers[place]}" for place in places[:5])
    raise DataError(
        f"{len(places):,} times of the series {id!r} do not stand on a grid of steps of {grid} "
        f"from {stamps[0]} on: {shown} (counted from 0). Give the right frequency=, or bring the "
        "rows onto a regular grid (in pandas: resample)."
    )
