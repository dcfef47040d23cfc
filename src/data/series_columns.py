"""From a table to series: which column is the time, which the target, which tells series apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas

from ..errors import DataError, InvalidValueError, NoDataError, unknown_name
from .frames import is_frame, is_missing
from .report import Report
from .series_cells import Cells, kind_of, to_numbers
from .series_covariates import Named, Wanted, encode, several_names
from .series_stamps import to_times
from .series_time import Array, is_dated_index

Target = str | Sequence[str]
"""The column to forecast, or several of them, each of which is a series of its own."""

_TIMES = ("time", "date", "datetime", "timestamp", "ds", "month", "week", "day", "year", "step")
_IDS = ("series", "unique_id", "item_id", "series_id", "id", "item", "store", "shop")


@dataclass(frozen=True)
class Roles:
    """Which column is what.

    Args:
        time: The column of times; None where rows simply follow each other.
        target: The columns of numbers to forecast.
        series: The column that tells series apart; None for one series a target.
        rows: Whether each row is a whole series, its numbers in the target columns.
    """

    time: str | None
    target: tuple[str, ...]
    series: str | None
    rows: bool = False


@dataclass(frozen=True)
class Rows:
    """The rows of a table, as long as they are in the order of the table.

    Args:
        ids: The names of the series; those of the first target, then those of the second, ...
        codes: Which of them each row belongs to, (R,).
        times: datetime64[s] or int64, (R,); None where rows simply follow each other.
        values: The target, (R,), NaN where missing.
        numbers: Where each row stands in the user's table, counted from 0, (R,).
        zone: Of the times, or None.
        named: The covariates, by kind.
        beside: The covariates in that order, (R, S + P + D); None where there are none.
    """

    ids: tuple[str, ...]
    codes: Array
    times: Array | None
    values: Array
    numbers: Array
    zone: str | None = None
    named: Named = field(default_factory=dict)
    beside: Array | None = None


def read_rows(
    frame: object,
    *,
    time: str | None,
    target: Target | None,
    series: str | None,
    covariates: Wanted | None = None,
    report: Report | None = None,
) -> tuple[Roles, Rows]:
    """Find out which column is what, and read the columns that matter.

    Raises:
        DataError: A column is absent, or it is not clear which one is meant.
        NoDataError: The table has no rows.
    """
    cells = read_cells(frame)
    beside = covariates or Wanted({})
    given = () if target is None else several_names("target", target)
    for role, column in (("time", time), ("series", series)):
        if not isinstance(column, str | None):
            raise InvalidValueError(f"{role}={column!r}: expected the name of a column, or None.")
    if target is not None and len(set(given)) != max(1, len(given)):
        raise InvalidValueError(f"target={target!r}: expected one or several different columns.")
    for name in (time, series, *given, *beside):
        if name is not None:
            check_column(cells, name)
    roles = _infer(cells, time=time, target=given, series=series, others=tuple(beside))
    _refuse_two_roles(roles, beside)
    named, numbers = encode(cells, beside, Report() if report is None else report)
    rows = _of_rows(cells, roles) if roles.rows else _of_table(cells, roles)
    if named:
        rows = replace(rows, named=named, beside=numbers[rows.numbers])
    return roles, rows


def read_cells(frame: object) -> Cells:
    """Take a data frame apart.

    Raises:
        DataError: It is none, or two columns have one name.
        NoDataError: It has no rows.
    """
    if not is_frame(frame):
        raise DataError(
            f"Expected a pandas or polars DataFrame and got {type(frame).__name__}. Tables in "
            "files are read by from_csv and from_parquet."
        )
    names = [str(name) for name in frame.columns]
    if not len(frame) or not names:
        raise NoDataError("The table has no rows; expected one per time of a series.")
    twice = (
        sorted({name for name in names if names.count(name) > 1})
        if len(set(names)) < len(names)
        else []
    )
    if twice:
        raise DataError(f"Several columns are called {twice[0]!r}; rename all but one.")
    return {str(name): list(frame[name]) for name in frame.columns}


def check_column(cells: Cells, name: str, *, where: str = "") -> None:
    """Refuse a table without a column.

    Raises:
        DataError: It has none of this name; those that it has are listed.
    """
    if name not in cells:
        raise DataError(
            f"{where}{unknown_name('column', name, cells)} The columns are: "
            f"{', '.join(map(repr, list(cells)[:20]))}."
        )


def _refuse_two_roles(roles: Roles, covariates: Wanted) -> None:
    both = next((n for n in covariates if n in (roles.time, roles.series, *roles.target)), None)
    if both is not None:
        raise DataError(
            f"The column {both!r} is a covariate and also the time, the series or the target. Name "
            "it once."
        )
    changing = [*covariates.columns.get("past", ()), *covariates.columns.get("future", ())]
    if roles.rows and changing:
        raise DataError(
            f"{changing[0]!r} changes over time, but each row of this table is a whole series. "
            "Bring a row per series and time, or name the column as static=."
        )


def _infer(
    cells: Cells,
    *,
    time: str | None,
    target: tuple[str, ...],
    series: str | None,
    others: tuple[str, ...] = (),
) -> Roles:
    left = [name for name in cells if name not in (time, series, *target, *others)]
    kinds = {name: kind_of(cells[name]) for name in left}
    if time is None:
        time = _one("time", [n for n in left if kinds[n] == "time"])
        named = [n for n in left if n.lower() in _TIMES and kinds[n] == "number"]
        if time is None and len(named) == 1:
            time = named[0]
        left = [name for name in left if name != time]
    if series is None:
        texts = [name for name in left if kinds[name] == "text"]
        series = _one("series", texts)
        named = [name for name in left if name.lower() in _IDS]
        if series is None and len(named) == 1 and len(left) > 1:
            series = named[0]
        left = [name for name in left if name != series]
    if target:
        return Roles(time, target, series)
    numbers = [name for name in left if kinds[name] == "number"]
    return _targets(cells, numbers, time=time, series=series)


def _targets(
    cells: Cells, numbers: Sequence[str], *, time: str | None, series: str | None
) -> Roles:
    if not numbers:
        raise DataError(
            f"No column holds numbers to forecast. Name it: target=. The columns are: "
            f"{', '.join(map(repr, list(cells)[:20]))}."
        )
    if series is None or len(numbers) == 1:
        return Roles(time, tuple(numbers), series)
    if time is None and len(set(map(str, cells[series]))) == len(cells[series]):
        return Roles(None, tuple(numbers), series, rows=True)
    raise DataError(
        f"It is not clear which column to forecast; these hold numbers: "
        f"{', '.join(map(repr, numbers[:20]))}. Name one, or several: target={numbers[0]!r}."
    )


def _one(role: str, candidates: Sequence[str]) -> str | None:
    if len(candidates) > 1:
        raise DataError(
            f"It is not clear which column is the {role}; it may be each of "
            f"{', '.join(map(repr, candidates[:20]))}. Name it: {role}={candidates[0]!r}."
        )
    return candidates[0] if candidates else None


def _of_table(cells: Cells, roles: Roles) -> Rows:
    names, codes = _codes(cells, roles.series)
    count = len(codes)
    times, zone = None, None
    if roles.time is not None:
        times, zone = to_times(cells[roles.time], name=roles.time)
    each = [ids_of(name, roles.target, roles.series) for name in names]
    ids = [id for several in zip(*each, strict=True) for id in several]
    repeats = len(roles.target)
    values = [to_numbers(cells[name], name=name) for name in roles.target]
    return Rows(
        tuple(ids),
        np.concatenate([codes + number * len(names) for number in range(repeats)]),
        None if times is None else np.tile(times, repeats),
        np.concatenate(values),
        np.tile(np.arange(count), repeats),
        zone,
    )


def ids_of(name: str, target: Sequence[str], series: str | None) -> list[str]:
    """Answer with what the series of a name are called, one per target."""
    if series is None:
        return list(target)
    return [f"{name}/{one}" for one in target] if len(target) > 1 else [name]


def _codes(cells: Cells, series: str | None) -> tuple[list[str], Array]:
    if series is None:
        return [""], np.zeros(len(next(iter(cells.values()))), dtype=np.int64)
    for row, cell in enumerate(cells[series]):
        if is_missing(cell):
            raise DataError(
                f"Row {row} has no name in the series column {series!r} (counted from 0). Fill it "
                "in or leave the row out."
            )
    codes, names = pandas.factorize(pandas.Series([str(cell) for cell in cells[series]]))
    return [str(name) for name in names], codes.astype(np.int64)


def _of_rows(cells: Cells, roles: Roles) -> Rows:
    names, codes = _codes(cells, roles.series)
    columns = [to_numbers(cells[name], name=name) for name in roles.target]
    values = np.stack(columns, axis=1)  # (N, most steps)
    present = np.isfinite(values)
    # What is blank behind the last number of a row is no missing value: the series has ended.
    ends = np.where(present.any(1), values.shape[1] - present[:, ::-1].argmax(1), 0)
    inside = np.arange(values.shape[1])[None] < ends[:, None]
    rows = np.repeat(np.arange(len(values)), ends)
    return Rows(tuple(names), codes[rows], None, values[inside], rows)


def rows_of_arrays(arrays: Any, *, ids: Sequence[str] | None) -> Rows:  # Any: see from_arrays
    """Take series in memory: a (T, N) array, one of (T,), a list of arrays, or a dict of them.

    Raises:
        DataError: They are no numbers, or have other names than series.
        NoDataError: There are none.
    """
    _refuse_dates(arrays)
    if isinstance(arrays, dict):
        names, parts = list(map(str, arrays)), [_floats(array) for array in arrays.values()]
    elif isinstance(arrays, (list, tuple)) and len(arrays) and np.ndim(arrays[0]) == 1:
        parts = [_floats(array) for array in arrays]
        names = [f"series {number}" for number in range(len(parts))]
    else:
        whole = _floats(arrays)
        parts = [whole] if whole.ndim == 1 else list(whole.T)
        names = [f"series {number}" for number in range(len(parts))]
    if not parts or not sum(map(len, parts)):
        raise NoDataError("The arrays are empty; expected at least one series of numbers.")
    if any(part.ndim != 1 for part in parts):
        raise DataError(
            f"Expected series of one dimension or an array (T, N), got {parts[0].shape} each."
        )
    if ids is not None and (len(ids) != len(parts) or len(set(ids)) != len(ids)):
        raise DataError(f"ids= has {len(set(ids))} different names for {len(parts)} series.")
    lengths = [len(part) for part in parts]
    return Rows(
        tuple(map(str, ids)) if ids is not None else tuple(names),
        np.repeat(np.arange(len(parts)), lengths),
        None,
        np.concatenate(parts),
        np.concatenate([np.arange(length) for length in lengths]),
    )


def _refuse_dates(arrays: Any) -> None:  # Any: see `rows_of_arrays`
    """Refuse series and frames of pandas whose index holds dates, which would be lost.

    Raises:
        DataError: One of them does.
    """
    several: Iterable[Any] = arrays.values() if isinstance(arrays, dict) else (arrays,)
    several = arrays if isinstance(arrays, (list, tuple)) else several
    if any(is_dated_index(getattr(array, "index", None)) for array in several):
        raise DataError(
            "The index holds dates, and arrays have none: they would be lost. Use from_data_frame, "
            "which keeps them (several series: pandas.concat(series, axis=1)), or pass "
            "series.to_numpy()."
        )


def _floats(values: Any) -> Array:  # Any: what numpy makes an array of
    """Make an array of numbers.

    Raises:
        DataError: It holds something else, or a single number.
    """
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Expected series of numbers, got {type(values).__name__} ({error}). Tables are read "
            "by from_data_frame, files by from_csv."
        ) from error
    if array.ndim == 0:
        raise DataError(f"Expected series of numbers, got {values!r}; a series is [1.0, 2.0, ...].")
    return array
