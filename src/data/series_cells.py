"""Cells of tables of series: which are times, numbers, texts or blank."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas

from ..errors import DataError
from .frames import is_missing
from .series_stamps import looks_dated, to_times
from .series_time import Array

Cells = Mapping[str, list[Any]]  # Any: whatever a table holds
"""The columns of a table by name, as raw cells."""

_BLANK = ("", "na", "nan", "null", "none", "n/a", "nat")


def kind_of(cells: Sequence[Any]) -> str:
    """Say whether cells are times, numbers, or texts; a few of them tell."""
    present = list(islice((cell for cell in cells if not is_blank(cell)), 100))
    if not present:
        return "number"
    values = pandas.Series(present)
    dated = isinstance(values.dtype, pandas.PeriodDtype)
    if dated or pandas.api.types.is_datetime64_any_dtype(values) or looks_dated(present):
        return "time"
    if pandas.to_numeric(values, errors="coerce").notna().mean() > 0.5:
        return "number"
    if not all(isinstance(cell, str) for cell in present):
        # datetime.date is no str and no number
        return "time" if all(hasattr(cell, "year") for cell in present) else "text"
    if not re.search(r"\d[-/.: ]\d|\d{8}", present[0]):
        return "text"
    try:
        to_times(present, name="")
    except (DataError, ValueError):
        return "text"
    return "time"


def is_blank(cell: object) -> bool:
    """Whether a cell holds nothing, or a text that says so."""
    return is_missing(cell) or (isinstance(cell, str) and cell.strip().lower() in _BLANK)


def to_numbers(cells: Sequence[Any], *, name: str) -> Array:  # Any: raw cells
    """Turn the cells of a column into numbers, float64; missing ones are NaN.

    Raises:
        DataError: A cell holds something that is no number; the row is named.
    """
    values = pandas.Series(
        [str(cell) if isinstance(cell, complex) else cell for cell in cells], dtype=object
    )
    numbers = pandas.to_numeric(values, errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    doubtful = np.flatnonzero(np.isnan(numbers)).tolist()
    wrong = [row for row in doubtful if not is_blank(cells[row])]
    if wrong:
        shown = ", ".join(f"row {row}: {cells[row]!r}" for row in wrong[:5])
        raise DataError(
            f"{len(wrong):,} rows of the column {name!r} hold no number ({shown}; counted from 0). "
            "Mend them, or leave them empty: a missing value is masked."
        )
    return numbers
