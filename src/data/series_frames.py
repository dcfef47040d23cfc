"""Frames of series: what counts as one, its index as columns, and an answer in kind."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
import pandas

from .frames import FrameKind, frame_kind, like
from .series_columns import Roles
from .series_time import is_dated_index

_NAME = "value"
"""What a series without a name is called."""


def as_frame(value: Any, *, target: str | None = None) -> Any:
    """Make a data frame of what holds one: a series of pandas or polars, a LazyFrame.

    A series becomes a frame of one column, a LazyFrame is collected, all else passes.

    Any in the types: of pandas or polars.

    Args:
        value: What was given.
        target: What a series without a name is called; None for ``"value"``.
    """
    if isinstance(value, pandas.Series):
        return value.to_frame(value.name if value.name is not None else target or _NAME)
    # Whoever holds something of polars has imported it; we must not.
    polars = sys.modules.get("polars")
    if isinstance(value, _classes(polars, "LazyFrame")):
        return value.collect()
    if isinstance(value, _classes(polars, "Series")):
        return value.to_frame(value.name or target or _NAME)
    return value


def is_series(value: object) -> bool:
    """Whether a value is a series of pandas or polars."""
    polars = sys.modules.get("polars")
    return isinstance(value, (pandas.Series, *_classes(polars, "Series")))


def _classes(module: object, name: str) -> tuple[type, ...]:
    found = getattr(module, name, None)
    return () if found is None else (found,)


def with_index(frame: Any, *, time: str | None = None) -> Any:  # Any: of pandas or polars
    """Turn an index that says something into columns: times, names of series, several levels.

    They are called by their names; times without one as ``time`` says, or else ``time``.
    """
    if not isinstance(frame, pandas.DataFrame):
        return frame
    index = frame.index
    if is_dated_index(index) and index.name is None:
        index = index.rename("time" if time is None else time)
    numbered = index.nlevels == 1 and pandas.api.types.is_integer_dtype(index.dtype)
    if numbered and index.name is None:  # rows that were counted, sorted or left out
        return frame
    known = set(map(str, frame.columns))
    if known.intersection(map(str, index.names)):
        return frame
    return frame.set_axis(index).reset_index()


@dataclass(frozen=True)
class FrameForm:
    """What a frame of series looked like, so that the answer looks alike.

    Args:
        kind: Whose frame it was.
        names: The cell that each series was named by.
        series: The type of the column of series, as its library has it; None for plain texts.
        time: The type of the column of times; None where it says nothing.
        days: Whether times were ``datetime.date`` in a column of objects.
    """

    kind: FrameKind = "pandas"
    # Any: whatever a user names series by, and the types of pandas and polars.
    names: Mapping[str, Any] = field(default_factory=dict)
    series: Any = None
    time: Any = None
    days: bool = False

    @classmethod
    def of(cls, frame: Any, roles: Roles) -> Self:  # Any: of pandas or polars
        """Look at a frame whose columns are known."""
        kind = frame_kind(frame) or "pandas"
        columns = {str(name): name for name in frame.columns}
        names: dict[str, Any] = {}
        series, time, days = None, None, False
        if roles.series is not None and (len(roles.target) < 2 or roles.rows):
            cells = frame[columns[roles.series]]
            series = getattr(cells, "dtype", None)
            for cell in dict.fromkeys(cells):
                names.setdefault(str(cell), cell)
        if roles.time is not None:
            cells = frame[columns[roles.time]]
            time = getattr(cells, "dtype", None)
            days = time == np.dtype(object) and all(type(cell) is datetime.date for cell in cells)
        return cls(kind, names, series, time, days)

    def and_names(self, other: FrameForm) -> Self:
        """Answer with the same form, which knows the series of another one too."""
        if self.series is None or other.series is None:
            return self
        return replace(self, names={**other.names, **self.names})

    def frame(self, columns: Mapping[str, list[Any]]) -> Any:  # Any: cells; of pandas or polars
        """Build a frame of the same kind; ``series``, ``time`` and ``cutoff`` get their types."""
        made = dict(columns)
        typed = _polars_column if self.kind == "polars" else _pandas_column
        for name in ("time", "cutoff"):
            if name in made and self.days and isinstance(made[name][0], pandas.Timestamp):
                made[name] = [time.date() for time in made[name]]
            elif name in made and self.time is not None:
                made[name] = typed(made[name], self.time)
        if "series" in made and self.series is not None:
            known = all(name in self.names for name in made["series"])
            cells = [self.names[name] for name in made["series"]] if known else made["series"]
            made["series"] = typed(cells, self.series) if known else cells
        return like(self.kind, made)

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what a saved task keeps: names of the types that pandas can have anew."""
        series = self.series if _is_integer(self.series) else None
        # A frame of polars may be answered where there is no polars.
        time = None if self.kind == "polars" and not _is_integer(self.time) else self.time
        return {
            "series": None if series is None else _name_of(series),
            "time": _name_of(time) if _has_times(time) else None,
            "days": self.days,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], names: tuple[str, ...]) -> Self:
        """Build what was saved, for series of these names.

        Any: plain JSON values.
        """
        series, time = (
            None if settings[key] is None else pandas.api.types.pandas_dtype(settings[key])
            for key in ("series", "time")
        )
        cells = {} if series is None else {name: int(name) for name in names}
        return cls("pandas", cells, series, time, bool(settings["days"]))


def _pandas_column(cells: list[Any], dtype: Any) -> Any:
    """Put cells into a column of a type, as far as it can hold them.

    Any: cells, and types of pandas.
    """
    if isinstance(dtype, pandas.CategoricalDtype):
        new = [c for c in dict.fromkeys(cells) if c not in dtype.categories]
        values = [*dtype.categories, *new]
        dtype = pandas.CategoricalDtype(values, dtype.ordered) if new else dtype
        return pandas.Series(cells, dtype=dtype)
    stamped = isinstance(cells[0], pandas.Timestamp)
    if stamped and isinstance(dtype, pandas.PeriodDtype):
        return pandas.Series(pandas.DatetimeIndex(cells).tz_localize(None).to_period(dtype.freq))
    if stamped != pandas.api.types.is_datetime64_any_dtype(dtype) and _has_times(dtype):
        return cells  # dates that were written as integers
    if stamped and not _has_times(dtype):
        return cells  # dates that were texts
    if _is_integer(dtype) and not _fits(cells, np.iinfo(getattr(dtype, "numpy_dtype", dtype))):
        return cells
    return pandas.Series(cells).astype(dtype) if stamped else pandas.Series(cells, dtype=dtype)


def _polars_column(cells: list[Any], dtype: Any) -> Any:
    """Put cells into a column of a type, as far as it can hold them.

    Any: cells, and types of polars.
    """
    polars = sys.modules["polars"]
    if not isinstance(cells[0], pandas.Timestamp):
        column = polars.Series(cells).cast(dtype, strict=False)
        return cells if column.null_count() else column
    index = pandas.DatetimeIndex(cells)
    zone, plain = index.tz, index if index.tz is None else index.tz_convert("UTC")
    column = polars.Series(plain.tz_localize(None).to_numpy().astype("datetime64[us]"))
    if zone is not None:
        column = column.dt.replace_time_zone("UTC").dt.convert_time_zone(str(zone))
    return column.cast(dtype) if dtype.is_temporal() else column


def _is_integer(dtype: Any) -> bool:  # Any: of pandas or polars
    own = getattr(dtype, "is_integer", None)  # of polars
    return bool(own()) if callable(own) else pandas.api.types.is_integer_dtype(dtype)


def _has_times(dtype: Any) -> bool:  # Any: of pandas or polars
    """Whether a type of pandas can hold times: dates, periods or numbers."""
    if dtype is None:
        return False
    dated = pandas.api.types.is_datetime64_any_dtype(dtype)
    return dated or isinstance(dtype, pandas.PeriodDtype) or _is_integer(dtype)


def _name_of(dtype: Any) -> str:  # Any: of pandas or polars
    """Answer with the name that pandas has for a type."""
    own = getattr(dtype, "is_integer", None)
    return str(dtype).lower() if callable(own) else str(dtype)


def _fits(cells: list[Any], limits: Any) -> bool:  # Any: numbers; what numpy says of integers
    return bool(limits.min <= min(cells) and max(cells) <= limits.max)
