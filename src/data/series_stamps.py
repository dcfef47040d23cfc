"""Stamps of time from cells: dates of any common form, or integers; never a guess."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas

from ..errors import DataError
from .series_time import Array

LEAST_DATES = 3
"""Integers such as 20241231 that are taken as dates: of fewer, chance could make some."""

_MOST = 2.0**53  # whole numbers from there on are no longer told apart

_SHAPE = r"\s*\d{1,4}([-/.])\d{1,2}\1\d{1,4}(?:[ T].*)?"
_DAY_AND_MONTH = r"\s*(\d{1,2})([-/.])(\d{1,2})\2\d{2,4}(?:\D|$)"


def looks_dated(cells: Sequence[object]) -> bool:
    """Whether most cells are texts with the shape of a date, readable or not, or like 20241231.

    The others are no names of series: `to_times` says what is wrong with them.
    """
    shaped = [isinstance(cell, str) and bool(re.fullmatch(_SHAPE, cell)) for cell in cells]
    if sum(shaped) > len(shaped) / 2:
        return True
    numbers = _integers(pandas.Series(list(cells)))
    return numbers is not None and _compact(numbers) is not None


def to_times(values: Sequence[Any], *, name: str) -> tuple[Array, str | None]:  # Any: raw cells
    """Turn the cells of a time column into stamps.

    Args:
        values: Dates of any common type, texts of dates, or integers.
        name: Of the column, for messages.

    Returns:
        datetime64[s] (or int64 where the column holds integers), and the time zone, or None. Daily
        and longer steps keep their wall-clock time; the zone is put back on by `with_zone`.

    Raises:
        DataError: A cell is missing or no time, or may be two; the row is named.
    """
    cells = pandas.Series(list(values))
    numbers = _integers(cells)
    if numbers is not None:
        dates = _compact(numbers)
        return numbers if dates is None else dates, None
    dated = pandas.api.types.is_datetime64_any_dtype(cells)
    if not dated and cells.map(lambda cell: isinstance(cell, (int, float, bool))).any():
        wrong = next(row for row, cell in enumerate(values) if isinstance(cell, (int, float, bool)))
        raise DataError(
            f"Row {wrong} of the time column {name!r} holds {values[wrong]!r}; expected dates, or "
            "whole numbers in every row."
        )
    stamps = cells if dated else _parse(cells, name)
    bad = np.flatnonzero(stamps.isna().to_numpy())
    if len(bad):
        shown = ", ".join(f"row {row}: {values[row]!r}" for row in bad[:5])
        raise DataError(
            f"{len(bad):,} rows of the time column {name!r} hold no time ({shown}; counted from "
            "0). Mend or remove them; dates are best written as 2024-12-31."
        )
    zone = getattr(stamps.dt, "tz", None)
    if zone is not None:
        stamps = stamps.dt.tz_convert("UTC").dt.tz_localize(None)
    return _whole_seconds(stamps.to_numpy(), name), None if zone is None else str(zone)


def _parse(cells: pandas.Series[Any], name: str) -> pandas.Series[Any]:
    """Read dates; what is none becomes NaT. Several zones in one column are put into UTC."""
    if isinstance(cells.dtype, pandas.PeriodDtype):
        return pandas.Series(pandas.PeriodIndex(cells).to_timestamp())
    first = next((cell for cell in cells if isinstance(cell, str)), None)
    form: str | None = None
    if first is not None and re.match(r"\d{4}-?\d\d", first):
        form = "ISO8601"  # of any length; pandas wants one form in all others
    day_first = _day_first(cells, name)
    if first is not None and (short := re.fullmatch(r"\s*\d{1,2}([-/.])\d{1,2}\1\d\d\s*", first)):
        order = "%d{0}%m{0}%y" if day_first else "%m{0}%d{0}%y"
        form = order.format(short[1])
    try:
        stamps = pandas.to_datetime(cells, errors="coerce", dayfirst=day_first, format=form)
    except ValueError:  # several zones in one column
        stamps = pandas.to_datetime(cells, errors="coerce", utc=True, format=form)
    if stamps.dtype == object:
        stamps = pandas.to_datetime(cells, errors="coerce", utc=True)
    return stamps


def _day_first(cells: pandas.Series[Any], name: str) -> bool:
    """Say whether dates such as 31/12/2024 begin with the day.

    Raises:
        DataError: All of them may be read in both ways, or some in one way only and some in the
            other.
    """
    texts = cells[cells.map(lambda cell: isinstance(cell, str))].astype(str)
    found = texts.str.extract(f"^{_DAY_AND_MONTH}").dropna()
    if found.empty:
        return False
    first, second = found[0].astype(int), found[2].astype(int)
    beyond = [int((part > 12).to_numpy().argmax()) for part in (first, second)]
    by_day, by_month = bool((first > 12).any()), bool((second > 12).any())
    if by_day and by_month:
        rows = " and ".join(f"{texts[found.index[place]]!r}" for place in beyond)
        raise DataError(
            f"The time column {name!r} has dates that begin with the day and with the month: "
            f"{rows}. Write them as 2024-12-31."
        )
    dots = bool((found[1] == ".").all())  # nobody begins with the month there
    if not (by_day or by_month or dots or (first == second).all()):
        one = texts[found.index[int((first != second).to_numpy().argmax())]]
        raise DataError(
            f"The time column {name!r} may begin with the day or with the month: {one!r}, and no "
            "row tells. Write dates as 2024-12-31, or read them with pandas.to_datetime(..., "
            "dayfirst=...) before."
        )
    return by_day or (dots and not by_month)


def _whole_seconds(stamps: Array, name: str) -> Array:
    """Answer with datetime64[s].

    Raises:
        DataError: Something would be lost.
    """
    seconds = stamps.astype("datetime64[s]")
    finer = np.flatnonzero(seconds != stamps)
    if len(finer):
        raise DataError(
            f"{len(finer):,} rows of the time column {name!r} lie between two seconds (row "
            f"{finer[0]}: {stamps[finer[0]]}; counted from 0), and grids have steps of whole "
            "seconds. Number the steps by integers instead."
        )
    return seconds


def _compact(numbers: Array) -> Array | None:
    """Answer with dates where all integers are some, such as 20241231."""
    if len(numbers) < LEAST_DATES or not ((numbers > 19_000_000) & (numbers < 22_000_000)).all():
        return None
    texts = pandas.Series(numbers).astype(str)
    stamps = pandas.to_datetime(texts, format="%Y%m%d", errors="coerce")
    return None if stamps.isna().any() else stamps.to_numpy().astype("datetime64[s]")


def _integers(cells: pandas.Series[Any]) -> Array | None:
    """Answer with the cells as int64 where all of them are whole numbers or texts of them."""
    if pandas.api.types.is_datetime64_any_dtype(cells) or not len(cells):
        return None
    if cells.map(lambda cell: isinstance(cell, str)).all():
        if not cells.str.fullmatch(r"\s*-?\d{1,8}\s*").all():
            return None
        return cells.astype(np.int64).to_numpy()
    if not pandas.api.types.is_numeric_dtype(cells) or cells.isna().any():
        return None
    numbers = cells.to_numpy(dtype=float)
    whole = (numbers == np.round(numbers)) & (np.abs(numbers) < _MOST)
    return numbers.astype(np.int64) if whole.all() else None
