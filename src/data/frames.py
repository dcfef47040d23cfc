"""Tables of pandas and of polars: columns in, and an answer in kind out."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeGuard

import pandas

from ..errors import DataError, NoDataError, shown, unknown_name

_log = logging.getLogger("mealkit")

FrameKind = Literal["pandas", "polars"]


def frame_kind(value: object) -> FrameKind | None:
    """Say which library's DataFrame a value is; None for everything else."""
    if isinstance(value, pandas.DataFrame):
        return "pandas"
    # Whoever holds a polars frame has imported polars; we must not.
    polars = sys.modules.get("polars")
    if polars is not None and isinstance(value, polars.DataFrame):
        return "polars"
    return None


def read_csv(path: str | Path) -> pandas.DataFrame:
    """Read a table of texts from a CSV file, or from one with tabs that ends in .tsv.

    Every value is a text, and only "" is a missing one: "NA" and "007" are names.

    Raises:
        NoDataError: The file is absent or empty.
        DataError: It cannot be parsed; the message names the line.
    """
    _check_path(path)
    separator = "\t" if Path(path).suffix.lower() == ".tsv" else ","
    try:
        frame = pandas.read_csv(
            path, sep=separator, dtype=str, keep_default_na=False, na_values=[""]
        )
    except pandas.errors.EmptyDataError as error:
        raise NoDataError(f"The file {path} is empty; expected a header line and rows.") from error
    except UnicodeDecodeError as error:
        raise _not_utf8(Path(path)) from error
    except OSError as error:
        raise _not_opened(path, error) from error
    except pandas.errors.ParserError as error:
        reason = str(error).removeprefix("Error tokenizing data. C error: ").strip()
        raise DataError(
            f"The file {path} cannot be read as CSV in UTF-8: {reason}. Mend that line (a text "
            "with a comma stands in quotes), or read it with pandas and use from_data_frame."
        ) from error
    if not isinstance(frame.index, pandas.RangeIndex):  # pandas took the first column as names
        raise DataError(
            f"The file {path} cannot be read as CSV: its first row has more fields than the header "
            f"({len(frame.columns)}). Put texts with commas in quotes, or name every column."
        )
    if (row := _row_with_rows_in_it(frame, separator)) is not None:
        _log.warning(
            f"{path}: row {row} (counted from 0) has a text with whole rows in it. A quotation "
            "mark that was meant as a character swallows rows up to the next one; double it if so."
        )
    return frame


def _check_path(path: object) -> None:
    """Refuse what is no path of a file."""
    if is_frame(path):
        raise DataError(
            "Got a data frame: expected the path of a table. Frames are read by from_data_frame."
        )
    if not isinstance(path, str | Path):
        raise DataError(f"Got {shown(path)}: expected the path of a table.")
    if Path(path).is_dir():
        raise DataError(f"{path} is a folder: expected the path of a table, a CSV file.")


def _row_with_rows_in_it(frame: pandas.DataFrame, separator: str) -> int | None:
    """Find a text with a line that looks like a row: it has a value of another row in its place."""
    columns = [list(frame.iloc[:, place]) for place in range(len(frame.columns))]
    broken = [
        (row, place, value)
        for place, values in enumerate(columns)
        for row, value in enumerate(values)
        if isinstance(value, str) and "\n" in value
    ]
    counts = [Counter(values) for values in columns] if broken else []
    for row, place, text in broken:
        first, *others = text.splitlines()
        # The first line is the end of a row: values of the columns before stand in front of it.
        begun: list[str | None] = [*[None] * place, *first.split(separator)]
        lines: list[Sequence[str | None]] = [begun, *(line.split(separator) for line in others)]
        for fields in lines:
            found = [
                counts[column][value] - (columns[column][row] == value)
                for column, value in enumerate(fields[: len(columns)])
                if value and column != place
            ]
            if len(fields) == len(columns) and any(found):
                return row
    return None


def _not_opened(path: str | Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return NoDataError(f"There is no file {path}.")
    return DataError(f"The file {path} cannot be opened: {error.strerror or error}.")


def _not_utf8(path: Path) -> DataError:
    data = path.read_bytes()
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return DataError(
            f"The file {path} cannot be read as CSV in UTF-8: line {line} has the byte "
            f"{data[error.start]:#04x}. Save it as UTF-8, or read it with pandas.read_csv(path, "
            "encoding=...) and use from_data_frame."
        )
    return DataError(f"The file {path} cannot be read as CSV in UTF-8.")


def is_frame(value: object) -> TypeGuard[pandas.DataFrame]:
    """Whether a value is a DataFrame of a known library (typed as the one that is always there)."""
    return frame_kind(value) is not None


def column(frame: object, name: str) -> list[Any]:  # Any: whatever the user keeps in a table
    """Answer with the values of a column.

    Raises:
        DataError: The frame has no such column, or several; or it is no frame.
    """
    if not is_frame(frame):
        raise DataError(
            f"Expected a pandas or polars DataFrame and got {type(frame).__name__}. Tables in "
            "files are read by from_csv."
        )
    names = [str(known) for known in frame.columns]
    if name not in names:
        hint = unknown_name("column", name, names) if names else "The table has no columns."
        raise DataError(f"{hint} The columns are: {', '.join(map(repr, names))}.")
    if names.count(name) > 1:
        raise DataError(
            f"There are {names.count(name)} columns called {name!r}; rename all but one."
        )
    position = names.index(name)
    if frame_kind(frame) == "pandas":
        return list(frame.iloc[:, position])
    return list(frame[frame.columns[position]])


def like(kind: FrameKind, columns: dict[str, list[Any]]) -> Any:
    """Build a DataFrame of a kind from columns.

    Any in the types: values may be of any type, and the kind decides which library's frame it is.
    """
    if kind == "polars":  # whoever got this kind in has imported it
        return sys.modules["polars"].DataFrame(columns)
    return pandas.DataFrame(columns)


def is_missing(value: object) -> bool:
    """Whether a value stands for none: None, NaN, pandas.NA or pandas.NaT."""
    if value is None or value is pandas.NA or value is pandas.NaT:
        return True
    return isinstance(value, float) and value != value


def check_no_missing(values: Iterable[object], *, what: str, ids: Sequence[str]) -> None:
    """Refuse missing values, and say in which rows they are.

    Raises:
        DataError: A value is missing.
    """
    rows = [row for row, value in enumerate(values) if is_missing(value)]
    if rows:
        first = ", ".join(_row(row, ids) for row in rows[:5])
        more = f" and {len(rows) - 5:,} more" if len(rows) > 5 else ""
        raise DataError(
            f"{len(rows):,} of the rows have no {what}: row {first}{more} (counted from 0). Fill "
            "them in or leave these rows out."
        )


def _row(row: int, ids: Sequence[str]) -> str:
    """Name a row, and what stands in it where that says more than its number."""
    named = row < len(ids) and ids[row] not in (str(row), f"row {row}")
    return f"{row} ({ids[row]})" if named else str(row)
