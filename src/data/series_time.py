"""Time of series: which grid the stamps stand on, and what follows the last of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas

from ..errors import DataError, InvalidValueError

Array = np.ndarray[Any, np.dtype[Any]]  # Any: shapes and types are said in docstrings
Unit = Literal["second", "month", "business", "index"]

_SECONDS = {"s": 1, "min": 60, "h": 3600, "D": 86_400, "W": 604_800}
_MONTHS = {"M": 1, "Q": 3, "Y": 12}
_SPELLINGS = {  # pandas of all ages and polars
    "s": "s", "S": "s", "sec": "s", "m": "min", "min": "min", "T": "min", "h": "h", "H": "h",
    "d": "D", "D": "D", "w": "W", "W": "W", "mo": "MS", "M": "ME", "ME": "ME", "MS": "MS",
    "q": "QS", "Q": "QE", "QE": "QE", "QS": "QS", "y": "YS", "Y": "YE", "A": "YE", "YE": "YE",
    "YS": "YS", "AS": "YS", "B": "B",
}  # fmt: skip
_SEASONS = {"s": 60, "min": 1440, "h": 24, "D": 7, "W": 52, "M": 12, "Q": 4, "Y": 1, "B": 5}


@dataclass(frozen=True)
class Frequency:
    """A regular grid of time.

    Args:
        unit: What a step is counted in; ``"index"`` is no calendar time but plain integers.
        steps: How many of these units one step has.
        day: Of the month, where steps are months; 31 is the last one of any month.

    Example:
        >>> Frequency.parse("15min"), Frequency.parse("1mo").season
        (Frequency('15min'), 12)
    """

    unit: Unit
    steps: int = 1
    day: int = 1

    @classmethod
    def parse(cls, text: str | int) -> Frequency:
        """Read the spellings of pandas and of polars: ``"h"``, ``"15min"``, ``"MS"``, ``"1mo"``.

        An integer is a step of integers.

        Raises:
            InvalidValueError: It is none of them.
        """
        if isinstance(text, int) and not isinstance(text, bool):
            text = str(text)
        if not isinstance(text, str):
            raise InvalidValueError(f"frequency={text!r}: expected a text such as 'D', or an int.")
        match = re.fullmatch(r"(\d*)([A-Za-z]*)(-[A-Z]{3}|@\d+)?", text.strip())
        count = int(match[1] or 1) if match else 0
        name = _SPELLINGS.get(match[2]) if match and match[2] else None
        if match and match[1] and count and not match[2] and not match[3]:
            return cls("index", count)
        if name is None or count < 1:
            raise InvalidValueError(
                f"frequency={text!r}: expected a number and one of s, min, h, D, B, W, MS, ME, QS, "
                "QE, YS, YE as pandas spells them, or '1mo', '1q', '1y'."
            )
        if name == "B":
            return cls("business", count)
        if name in _SECONDS:
            return cls("second", count * _SECONDS[name])
        own = int(match[3][1:]) if match and (match[3] or "").startswith("@") else 1
        return cls("month", count * _MONTHS[name[0]], day=31 if name.endswith("E") else own)

    def __str__(self) -> str:
        """Answer with the pandas spelling; integers with their step, ``MS@15`` with the day."""
        if self.unit == "index":
            return str(self.steps)
        if self.unit == "business":
            name, count = "B", self.steps
        elif self.unit == "month":
            months = next(n for n in (12, 3, 1) if self.steps % n == 0)
            name = {12: "Y", 3: "Q", 1: "M"}[months] + ("E" if self.day == 31 else "S")
            name += f"@{self.day}" if 1 < self.day < 31 else ""
            count = self.steps // months
        else:
            name, seconds = next(
                (n, s) for n, s in reversed(_SECONDS.items()) if self.steps % s == 0
            )
            count = self.steps // seconds
        return name if count == 1 else f"{count}{name}"

    def __repr__(self) -> str:
        return f"Frequency({str(self)!r})"

    @property
    def season(self) -> int:
        """Steps of the season that such a grid usually has: a day of hours, a week of days."""
        if self.unit == "index":
            return 1
        name = str(self).lstrip("0123456789")
        if name == "B":
            return max(1, 5 // self.steps)
        if self.unit == "month":
            return max(1, 12 // self.steps)
        usual = _SEASONS[name] * _SECONDS[name]
        if name == "min":
            usual = 86_400
        return max(1, usual // self.steps)

    def positions(self, times: Array) -> tuple[Array, Array]:
        """Place stamps on the grid that starts at the first of them.

        Args:
            times: Sorted stamps of one series (datetime64[s], or int64 on an integer grid), (T,).

        Returns:
            Their positions, (T,) of int64, and which of them stand off the grid, (T,) of bool.
        """
        if self.unit == "index":
            steps, rest = np.divmod(times - times[0], self.steps)
            return steps, rest != 0
        if self.unit == "second":
            seconds = (times - times[0]).astype(np.int64)
            steps, rest = np.divmod(seconds, self.steps)
            return steps, rest != 0
        days = times.astype("datetime64[D]")
        off = (times - days) != (times[0] - days[0])
        if self.unit == "business":
            steps, rest = np.divmod(np.busday_count(days[0], days), self.steps)
            return steps, off | (rest != 0) | ~np.is_busday(days)
        months = times.astype("datetime64[M]")
        day, length = _day_and_length(days)
        right = day == np.minimum(self.day, length)
        steps, rest = np.divmod((months - months[0]).astype(np.int64), self.steps)
        return steps, off | (rest != 0) | ~right

    def times(self, last: Any, count: int) -> Array:  # Any: a datetime64[s] or an int
        """Answer with the stamps that follow a last one, (count,)."""
        steps: Array = np.arange(1, count + 1)
        answer: Array
        if self.unit == "index":
            answer = int(last) + steps * self.steps
            return answer
        start = np.datetime64(last, "s")
        if self.unit == "second":
            answer = start + (steps * self.steps).astype("timedelta64[s]")
            return answer
        day = start.astype("datetime64[D]")
        if self.unit == "business":
            days = np.busday_offset(day, steps * self.steps, roll="backward")
            answer = days.astype("datetime64[s]") + (start - day)
            return answer
        firsts = day.astype("datetime64[M]") + steps * self.steps
        lengths = (firsts + 1).astype("datetime64[D]") - firsts.astype("datetime64[D]")
        number = np.minimum(lengths.astype(np.int64), self.day)
        days = firsts.astype("datetime64[D]") + (number - 1)
        answer = days.astype("datetime64[s]") + (start - day)
        return answer


def is_dated_index(index: object) -> bool:
    """Whether an index of pandas holds times."""
    return isinstance(index, (pandas.DatetimeIndex, pandas.PeriodIndex))


def _day_and_length(days: Array) -> tuple[Array, Array]:
    """Answer with the day of the month (from 1), and how many days that month has."""
    months = days.astype("datetime64[M]")
    firsts = months.astype("datetime64[D]")
    return (days - firsts).astype(np.int64) + 1, (
        (months + 1).astype("datetime64[D]") - firsts
    ).astype(np.int64)


def infer_frequency(times: Sequence[Array]) -> Frequency:
    """Find the grid that the stamps of all series stand on.

    The most frequent difference of neighbours is the step; holes of whole steps may be in between.

    Args:
        times: Sorted stamps of each series, without duplicates.

    Raises:
        DataError: There is no such grid, or no series has two stamps.
    """
    several = [stamps for stamps in times if len(stamps) > 1]
    if not several:
        raise DataError(
            "The frequency cannot be told: no series has two different times. Give it: "
            "frequency='D' (or 'h', 'W', 'MS', ...)."
        )
    steps = np.concatenate([np.diff(stamps).astype(np.int64) for stamps in several])
    found, counts = np.unique(steps, return_counts=True)
    mode = int(found[counts.argmax()])
    if several[0].dtype.kind == "i":
        return Frequency("index", mode)
    for candidate in _candidates(mode, several):
        if not any(candidate.positions(stamps)[1].any() for stamps in several):
            return candidate
    return Frequency("second", mode)


def _candidates(mode: int, times: Sequence[Array]) -> list[Frequency]:
    """List the calendar grids to try, the strictest first."""
    days = mode / 86_400
    if days >= 28:
        months = max(1, round(days / 30.44))
        every = [_day_and_length(stamps.astype("datetime64[D]"))[0].max() for stamps in times]
        return [Frequency("month", months, day=int(max(every))), Frequency("month", months, day=31)]
    if days == 1:
        long = any((stamps[-1] - stamps[0]).astype(np.int64) > 14 * 86_400 for stamps in times)
        return [Frequency("business")] if long else []
    return []


def local(stamps: Array, zone: str | None) -> Array:
    """Turn stamps of UTC into those of the clock on the wall."""
    if zone is None or stamps.dtype.kind != "M":
        return stamps
    index = pandas.DatetimeIndex(stamps).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    return index.to_numpy().astype("datetime64[s]")


def with_zone(stamps: Array, zone: str | None, frequency: Frequency) -> list[Any]:
    """Answer with what a frame shows: pandas timestamps with their zone, or integers."""
    if frequency.unit == "index":
        return list(map(int, stamps))
    fine = stamps.astype("datetime64[ns]")
    # Nanoseconds end in 2262, and would go on in 1677.
    whole = bool((fine.astype(stamps.dtype) == stamps).all())
    index = pandas.DatetimeIndex(fine if whole else stamps)
    if zone is not None and keeps_wall_time(frequency):
        index = index.tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    elif zone is not None:
        index = index.tz_localize("UTC").tz_convert(zone)
    return list(index)


def keeps_wall_time(frequency: Frequency) -> bool:
    """Whether steps are days or longer, which last 23 or 25 hours when clocks change."""
    if frequency.unit == "second":
        return frequency.steps % 86_400 == 0
    return frequency.unit in ("month", "business")
