"""Futures of covariates: what is known of the steps that are to be forecast, checked row by row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..errors import DataError
from ..specs import Covariate, SeriesDataSpec
from .report import Report
from .series_cells import Cells
from .series_columns import check_column, ids_of, read_cells
from .series_covariates import Wanted, encode
from .series_stamps import to_times
from .series_table import SeriesTable, names_of, offsets_of
from .series_time import Array, keeps_wall_time, local

_SHOWN = 3


def with_future(
    table: SeriesTable,
    frame: object | None,
    *,
    spec: SeriesDataSpec,
    steps: int,
    needed: bool,
    report: Report,
) -> SeriesTable:
    """Answer with a table whose future covariates reach over the steps that are to be forecast.

    What the table itself knows of them counts, where the frame does not say otherwise. Behind the
    steps that were asked for, down to the horizon of the net, they stay as they are last.

    Args:
        table: What is known.
        frame: A row per series and step; None for none.
        spec: Says which columns are what.
        steps: How many steps are to be forecast.
        needed: Whether it is an error that something is not known.
        report: Takes texts that were not learnt from.

    Raises:
        DataError: A column, a row or a value is missing, or a row is of no step that is forecast.
    """
    beside = table.covariates
    if not spec.future or beside is None:
        if frame is not None:
            raise DataError(
                "future= was given, but the data had no covariates that are known ahead of time. "
                "Name them when the data are read, from_*(..., future=[...]), or leave it out."
            )
        return table
    given = None if frame is None else _read(table, frame, spec, steps, report)
    parts = []
    for number in range(len(table)):
        own = beside.future_of(number)
        length = int(table.lengths[number])
        ahead = np.full((steps, own.shape[1]), np.nan)
        known = own[length : length + steps]
        ahead[: len(known)] = known
        has = np.arange(steps) < len(known)
        if given is not None:
            rows = given.rows[number]
            ahead[rows >= 0], has = given.numbers[rows[rows >= 0]], has | (rows >= 0)
        if needed and not has.all():
            _refuse_missing(table, number, np.flatnonzero(~has), spec, frame is None)
        if needed and given is not None:
            _refuse_blank(table, number, ahead, given.rows[number] >= 0, spec.future)
        last = ahead[-1:] if has.all() else own[length - 1 : length]
        ahead[~has] = own[length - 1]
        more = np.repeat(last, max(0, spec.horizon_steps - steps), axis=0)
        parts.append(np.concatenate([own[:length], ahead, more]))
    future = replace(
        beside, future=np.concatenate(parts), offsets=offsets_of([len(part) for part in parts])
    )
    return replace(table, covariates=future)


@dataclass(frozen=True)
class _Given:
    """What a frame says of the steps ahead.

    Args:
        rows: Which row of the frame each step of each series has, -1 for none, (N, steps).
        numbers: The covariates of each row, (R, D).
    """

    rows: Array
    numbers: Array


def _read(
    table: SeriesTable, frame: object, spec: SeriesDataSpec, steps: int, report: Report
) -> _Given:
    cells = read_cells(frame)
    wanted = Wanted.as_in(SeriesDataSpec(horizon_steps=1, future=spec.future))
    for name in (spec.time, spec.series, *wanted):
        if name is not None:
            check_column(cells, name, where="In future=: ")
    _, numbers = encode(cells, wanted, report)
    rows = np.full((len(table), steps), -1)
    names = _names(cells, spec)
    stamps = _stamps(cells, spec, table)
    places = {id: number for number, id in enumerate(table.ids)}
    for name, places_in_frame in names.items():
        mine = np.array(places_in_frame)
        shared = [places[id] for id in ids_of(name, spec.target, spec.series) if id in places]
        if spec.series is None:
            shared = list(range(len(table)))
        if not shared:
            raise DataError(
                f"future= has rows of {name!r}, which is no series that is forecast: "
                f"{names_of(table.ids)}. Leave them out."
            )
        used = np.zeros(len(mine), dtype=bool)
        for number in shared:
            expected = table.frequency.times(table.last[number], steps)
            own = expected[: len(mine)] if stamps is None else stamps[mine]
            order = np.argsort(own, kind="stable")
            _refuse_doubled(name, own[order])
            found = order[np.minimum(np.searchsorted(own[order], expected), len(own) - 1)]
            hit = own[found] == expected
            rows[number, hit] = mine[found[hit]]
            used[found[hit]] = True
        if not used.all():
            _refuse_extra(table, shared, mine, used, stamps, steps)
    return _Given(rows, numbers)


def _names(cells: Cells, spec: SeriesDataSpec) -> dict[str, list[int]]:
    """List the rows of each series in the frame."""
    count = len(next(iter(cells.values())))
    found: dict[str, list[int]] = {}
    for row in range(count):
        name = "" if spec.series is None else str(cells[spec.series][row])
        found.setdefault(name, []).append(row)
    return found


def _stamps(cells: Cells, spec: SeriesDataSpec, table: SeriesTable) -> Array | None:
    """Read the times of rows, on the clock of the table; None where rows follow each other."""
    if spec.time is None:
        return None
    stamps, zone = to_times(cells[spec.time], name=spec.time)
    if (zone is None) != (table.zone is None) or stamps.dtype.kind != table.last.dtype.kind:
        kinds = [f"times of the zone {z}" if z else "no time zone" for z in (table.zone, zone)]
        raise DataError(
            f"The times in future= ({spec.time!r}) are of another kind than those of the series: "
            f"expected {table.times_after(0, back=0, count=1)[0]} ({kinds[0]}), got "
            f"{cells[spec.time][0]!s} ({kinds[1]})."
        )
    return local(stamps, table.zone) if keeps_wall_time(table.frequency) else stamps


def _refuse_doubled(name: str, stamps: Array) -> None:
    doubled = np.flatnonzero(stamps[1:] == stamps[:-1])
    if len(doubled):
        of = f" of the series {name!r}" if name else ""
        raise DataError(f"future= has several rows{of} at {stamps[doubled[0]]}; expected one.")


def _refuse_extra(
    table: SeriesTable,
    shared: Sequence[int],
    mine: Array,
    used: Array,
    stamps: Array | None,
    steps: int,
) -> None:
    number = shared[0]
    first, last = _ends(table, number, steps)
    extra = mine[~used]
    if stamps is None:
        what = f"{len(mine):,} rows"
    else:
        shown = ", ".join(f"{stamps[row]} in row {row}" for row in extra[:_SHOWN])
        what = f"{len(extra):,} rows at other times ({shown}; counted from 0)"
    raise DataError(
        f"future= has {what} for the series {table.ids[number]!r}; expected those of the {steps} "
        f"steps that are forecast, from {first} to {last}. Leave the others out, or ask for "
        "another horizon=."
    )


def _refuse_missing(
    table: SeriesTable, number: int, missing: Array, spec: SeriesDataSpec, nothing: bool
) -> None:
    times = table.times_after(number, back=0, count=int(missing[-1]) + 1)
    shown = ", ".join(str(times[step]) for step in missing[:_SHOWN])
    more = f" and {len(missing) - _SHOWN:,} more" if len(missing) > _SHOWN else ""
    columns = ", ".join(dict.fromkeys(repr(c.column) for c in spec.future))
    what = "future= is needed" if nothing else "future= lacks rows"
    named = [repr(name) for name in (spec.series, spec.time) if name is not None]
    raise DataError(
        f"{what}: {columns} of the series {table.ids[number]!r} is not known at {shown}{more}. "
        f"Expected a table with the columns {', '.join([*named, columns])} and a row per step: "
        "predict(..., future=table)."
    )


def _refuse_blank(
    table: SeriesTable, number: int, ahead: Array, given: Array, columns: Sequence[Covariate]
) -> None:
    blank = np.isnan(ahead) & given[:, None]
    if not blank.any():
        return
    step, place = (int(found[0]) for found in np.nonzero(blank))
    time = table.times_after(number, back=0, count=step + 1)[step]
    raise DataError(
        f"future= holds no number in {columns[place].column!r} for the series "
        f"{table.ids[number]!r} at {time}. Fill it in."
    )


def _ends(table: SeriesTable, number: int, steps: int) -> tuple[Any, Any]:  # Any: as in a frame
    times = table.times_after(number, back=0, count=steps)
    return times[0], times[-1]
