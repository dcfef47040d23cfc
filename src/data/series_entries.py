"""Datasets of series: one entry a series, as GluonTS, Hugging Face and torch hold them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas

from ..errors import DataError, InvalidValueError, NoDataError, unknown_name
from .frames import is_frame, is_missing
from .series_columns import Roles, Rows
from .series_stamps import to_times
from .series_time import Array, Frequency, keeps_wall_time, local, with_zone

_log = logging.getLogger("mealkit")

_TIMES = ("start", "timestamp")
_IDS = ("item_id", "id", "unique_id", "series_id")

Entry = Mapping[str, Any]
"""One series: its values, where it starts or when each value was, its name. (Any: as they come.)"""


@dataclass(frozen=True)
class _Series:
    """One series, as it was read.

    Args:
        id: Its name.
        values: (T,).
        start: The first time, as the entry has it; None where the entry has none.
        times: All times, as the entry has them; None where it has only the first.
    """

    id: str
    values: Array
    start: object
    times: Sequence[object] | None


def is_dataset(value: object) -> bool:
    """Whether a value holds entries, and is no frame, array, path or dict of arrays."""
    if is_frame(value) or isinstance(value, (str, dict)) or hasattr(value, "__array__"):
        return False
    if isinstance(value, (list, tuple)):
        return bool(value) and isinstance(value[0], Mapping)
    return hasattr(value, "__getitem__") or hasattr(value, "__iter__")


def rows_of_dataset(
    dataset: Any,  # Any: whatever answers with entries
    *,
    time: str | None,
    target: str,
    series: str | None,
    frequency: str | int | None,
) -> tuple[Roles, Rows, str | int | None]:
    """Read every entry of a dataset.

    Args:
        dataset: A list, a Hugging Face dataset or a torch dataset of dicts; or of arrays (T,),
            which have no times.
        time: The entry's first time, or its times; None for ``start`` or ``timestamp``.
        target: Its values, (T,), or (C, T) for C series.
        series: Its name; None for ``item_id``, ``id``, ``unique_id`` or ``series_id``, and numbers
            where there is none of them.
        frequency: The grid, needed with a first time that is no pandas Period.

    Returns:
        What the fields are, the rows, and the frequency, None where it is to be found.

    Raises:
        DataError: An entry has no such field, or one that cannot be read; it is named.
        NoDataError: There are no entries.
        InvalidValueError: The frequency is unknown and cannot be told.
    """
    entries = list(_entries(dataset))
    if not entries:
        raise NoDataError("The dataset has no entries; expected one per series.")
    first = entries[0]
    time = time if time is not None else next((name for name in _TIMES if name in first), None)
    series = series if series is not None else next((name for name in _IDS if name in first), None)
    found = [
        one
        for number, entry in enumerate(entries)
        for one in _read(number, entry, time=time, target=target, series=series)
    ]
    _refuse_equal_names(found)
    unused = sorted({name for entry in entries for name in entry} - {time, target, series})
    if unused:
        _log.info(f"Of the entries, these fields are not used: {', '.join(unused)}.")
    lengths = [len(one.values) for one in found]
    times, zone, grid = _times(found, frequency, name=time or "")
    rows = Rows(
        tuple(one.id for one in found),
        np.repeat(np.arange(len(found)), lengths),
        times,
        np.concatenate([one.values for one in found]),
        np.concatenate([np.arange(length) for length in lengths]),
        zone,
    )
    return Roles(time, (target,), series), rows, grid


def _entries(dataset: Any) -> Iterator[Entry]:
    # A torch dataset has no end to an iteration over it, only a length.
    has_length = hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")
    items = (dataset[number] for number in range(len(dataset))) if has_length else iter(dataset)
    for number, item in enumerate(items):
        if isinstance(item, Mapping):
            yield item
        elif hasattr(item, "__array__") or isinstance(item, (list, tuple)):
            yield {"target": item}
        else:
            raise DataError(
                f"Entry {number} of the dataset is a {type(item).__name__}; expected a dict with "
                "'target' and, where there are times, 'start' or 'timestamp', or an array (T,)."
            )


def _read(
    number: int, entry: Entry, *, time: str | None, target: str, series: str | None
) -> list[_Series]:
    for name in (target, time, series):
        if name is not None and name not in entry:
            raise DataError(
                f"Entry {number} of the dataset: {unknown_name('field', name, map(str, entry))}"
            )
    try:
        values = np.asarray(entry[target], dtype=float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"Entry {number} of the dataset: {target!r} holds no numbers ({error})."
        ) from error
    if values.ndim not in (1, 2):
        raise DataError(
            f"Entry {number} of the dataset: {target!r} has the shape {values.shape}; expected "
            "(T,) or (C, T)."
        )
    id = str(number) if series is None else str(entry[series])
    stamp = None if time is None else entry[time]
    times = _many(stamp)
    if times is not None and len(times) != values.shape[-1]:
        raise DataError(
            f"Entry {number} of the dataset has {values.shape[-1]:,} values and {len(times):,} "
            "times."
        )
    if time is not None and times is None and is_missing(stamp):
        raise DataError(f"Entry {number} of the dataset has no {time!r}.")
    if values.ndim == 1:
        return [_Series(id, values, stamp, times)]
    return [_Series(f"{id}/{place}", row, stamp, times) for place, row in enumerate(values)]


def _many(stamp: Any) -> list[object] | None:  # Any: one time, or many in whatever holds them
    if hasattr(stamp, "__array__") and np.ndim(stamp) == 1:
        return list(np.asarray(stamp))
    return list(stamp) if isinstance(stamp, (list, tuple)) else None


def _refuse_equal_names(found: Sequence[_Series]) -> None:
    name, count = Counter(one.id for one in found).most_common(1)[0]
    if count > 1:
        raise DataError(
            f"{count:,} entries of the dataset are called {name!r}; give each series its own name."
        )


def _times(
    found: Sequence[_Series], frequency: str | int | None, *, name: str
) -> tuple[Array | None, str | None, str | int | None]:
    """Answer with the times of all values, their zone and their grid."""
    if found[0].times is not None:
        cells = [stamp for one in found for stamp in one.times or ()]
        return *to_times(cells, name=name), frequency
    if found[0].start is None:
        return None, None, frequency
    frequency = frequency or _of_periods(found)
    starts = [
        one.start.to_timestamp() if isinstance(one.start, pandas.Period) else one.start
        for one in found
    ]
    stamps, zone = to_times(starts, name=name)
    if frequency is None and stamps.dtype.kind == "i":
        frequency = "1"
    if frequency is None:
        raise InvalidValueError(
            f"The entries say when their series start ({starts[0]}), but not how long a step is. "
            "Give it: frequency='h' (or 'D', 'W', 'MS', ...)."
        )
    grid = Frequency.parse(frequency)
    wall = zone is not None and keeps_wall_time(grid)
    if wall:
        stamps = local(stamps, zone)
    if grid.unit == "month":  # "M" is any grid of months; its day is that of the first start
        day = int(str(stamps[0])[8:10])
        grid = grid if day > 28 and grid.day == 31 else replace(grid, day=day)
    parts = [
        np.concatenate([[stamp], grid.times(stamp, len(one.values) - 1)]).astype(stamps.dtype)
        for stamp, one in zip(stamps, found, strict=True)
    ]
    joint = np.concatenate(parts)
    if wall:
        index = pandas.DatetimeIndex(with_zone(joint, zone, grid))
        joint = index.tz_convert("UTC").tz_localize(None).to_numpy().astype("datetime64[s]")
    return joint, zone, str(grid)


def _of_periods(found: Sequence[_Series]) -> str | None:
    """Tell the frequency of starts that carry one, as pandas Periods do."""
    names = {str(getattr(one.start, "freqstr", "")) for one in found} - {""}
    if len(names) > 1:
        raise DataError(
            f"The series of the dataset have different frequencies: {', '.join(sorted(names))}. "
            "Forecast those of one frequency at a time."
        )
    return names.pop() if names else None
