"""New rows of series that are known already: put behind what is known, or refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import DataError
from ..specs import COVARIATES
from .report import Report
from .series_build import build_table
from .series_columns import Rows
from .series_covariates import Covariates, filled_forward
from .series_table import SeriesTable, filled, offsets_of
from .series_time import Array, keeps_wall_time, local

_Part = tuple[str, Array, Array, Any]
"""Name of a series, values (NaN where they are to be filled), what was observed, last time."""


def append(table: SeriesTable, rows: Rows, *, report: Report) -> SeriesTable:
    """Put rows behind the series they belong to; those of other names are new series.

    They are checked like the rows of a source: sorted, doubled times and times off the grid
    refused, holes masked and reported, that between the known end and the first new row too.

    Args:
        table: What is known.
        rows: What is new; those without times follow in their order.
        report: Takes what was found wrong.

    Raises:
        DataError: A row stands at a time that is known already or off the grid of its series, or
            is dated otherwise than the series are.
        NoDataError: The rows hold no number.
        InvalidValueError: The times are of another kind than those of the series.
    """
    rows = _timed(table, rows)
    _refuse_known_times(table, rows)
    new = build_table(rows, frequency=str(table.frequency), season=table.season, report=report)
    tails = {id: number for number, id in enumerate(new.ids)}
    parts = [_extended(table, number, new, tails.get(id), report) for number, id in _named(table)]
    parts += [_part(new, number) for number, id in _named(new) if id not in table.ids]
    lengths = [len(values) for _, values, _, _ in parts]
    joint = replace(
        table,
        ids=tuple(id for id, *_ in parts),
        values=np.concatenate([values for _, values, _, _ in parts]),
        observed=np.concatenate([observed for _, _, observed, _ in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        last=np.array([last for *_, last in parts], dtype=table.last.dtype),
    )
    beside = _beside(table, new, joint, report)
    return filled(replace(joint, covariates=beside))


def _beside(
    table: SeriesTable, new: SeriesTable, joint: SeriesTable, report: Report
) -> Covariates | None:
    """Put what is new of covariates behind what is known; what is new counts where both say it."""
    old, late = table.covariates, new.covariates
    if old is None or late is None:
        return old
    named = {kind: old.named.get(kind, ()) for kind in COVARIATES}
    places = [{id: n for n, id in enumerate(each.ids)} for each in (table, new)]
    static, past, future = [], [], []
    for number, id in enumerate(joint.ids):
        length, (first, second) = int(joint.lengths[number]), (each.get(id, -1) for each in places)
        if second < 0:
            static.append(old.static[first])
            past.append(old.past[table.offsets[first] : table.offsets[first + 1]])
            future.append(old.future_of(first))
            continue
        static.append(late.static[second] if first < 0 else old.static[first])
        behind = late.past[new.offsets[second] : new.offsets[second + 1]]
        ahead = late.future_of(second)
        start = length - len(behind)
        steps = np.full((length, behind.shape[1]), np.nan)
        known = old.future_of(first) if first >= 0 else ahead[:0]
        reach = max(start + len(ahead), len(known))
        further = np.full((reach, ahead.shape[1]), np.nan)
        further[: len(known)] = known
        if first >= 0:
            own = old.past[table.offsets[first] : table.offsets[first + 1]]
            steps[: len(own)] = own
        steps[start:], further[start : start + len(ahead)] = behind, ahead
        past.append(filled_forward(id, steps, named["past"], report))
        future.append(filled_forward(id, further, named["future"], report))
    return Covariates(
        old.named,
        static=np.stack(static),
        past=np.concatenate(past),
        future=np.concatenate(future),
        offsets=offsets_of([len(part) for part in future]),
    )


def _named(table: SeriesTable) -> list[tuple[int, str]]:
    return list(enumerate(table.ids))


def _timed(table: SeriesTable, rows: Rows) -> Rows:
    """Give rows without times those that follow what is known, and compare zones."""
    if rows.times is not None:
        if rows.zone != table.zone:
            raise DataError(
                f"The times of the new rows are {_zoned(rows.zone)}, those of the series "
                f"{_zoned(table.zone)}. Convert them (in pandas: dt.tz_convert or dt.tz_localize)."
            )
        return rows
    if table.last.dtype.kind == "M":
        raise DataError(
            "The new rows have no times, and the series have dates. Bring the column of times too."
        )
    step, known = table.frequency.steps, dict(zip(table.ids, table.last, strict=True))
    times = np.zeros(len(rows.codes), dtype=np.int64)
    for code, id in enumerate(rows.ids):
        mine = rows.codes == code
        times[mine] = known.get(id, -step) + step * np.arange(1, mine.sum() + 1)
    return replace(rows, times=times)


def _zoned(zone: str | None) -> str:
    return "without a time zone" if zone is None else f"in the time zone {zone}"


def _refuse_known_times(table: SeriesTable, rows: Rows) -> None:
    if rows.times is None or rows.times.dtype.kind != table.last.dtype.kind:
        return  # build_table says what is wrong with them
    wall = rows.zone is not None and keeps_wall_time(table.frequency)
    stamps = local(rows.times, rows.zone) if wall else rows.times
    known = dict(zip(table.ids, table.last, strict=True))
    for code, id in enumerate(rows.ids):
        if id not in known:
            continue
        early = np.flatnonzero((rows.codes == code) & (stamps <= known[id]))
        if len(early):
            shown = ", ".join(f"{stamps[row]} in row {rows.numbers[row]}" for row in early[:5])
            raise DataError(
                f"The series {id!r} is known up to {known[id]}, and {len(early):,} of the new rows "
                f"are not later: {shown} (counted from 0). Bring only rows that are new; values "
                "that were corrected need a task that is fitted again."
            )


def _part(table: SeriesTable, number: int) -> _Part:
    """Take a series out, as it was before anything was filled."""
    part = slice(table.offsets[number], table.offsets[number + 1])
    observed = table.observed[part]
    values = np.where(observed, table.values[part], np.nan)
    return table.ids[number], values, observed, table.last[number]


def _extended(
    table: SeriesTable, number: int, new: SeriesTable, tail: int | None, report: Report
) -> _Part:
    """Put what is new of a series behind it. What was filled before stays as it is."""
    part = slice(table.offsets[number], table.offsets[number + 1])
    id, last = table.ids[number], table.last[number]
    values, observed = table.values[part], table.observed[part]
    if tail is None:
        return id, values, observed, last
    _, late, seen, end = _part(new, tail)
    first = new.time_before(tail, len(late) - 1)
    steps, off = table.frequency.positions(np.array([last, first], dtype=table.last.dtype))
    if off.any():
        raise DataError(
            f"The new rows of the series {id!r} start at {first}, which is no whole number of "
            f"steps of {table.frequency} after {last}, the last time that is known. Bring them "
            "onto the grid of the series (in pandas: resample)."
        )
    missing = int(steps[1]) - 1
    if missing:
        report.add(id, f"{missing:,} steps before its new rows are missing; masked")
    return (
        id,
        np.concatenate([values, np.full(missing, np.nan), late]),
        np.concatenate([observed, np.zeros(missing, dtype=bool), seen]),
        end,
    )
