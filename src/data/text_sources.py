"""Where texts and their labels come from: tables, JSON, lists, folders and datasets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas

from ..errors import DataError, InvalidValueError, NoDataError, UnreadableError, require, shown
from . import sources
from .decode import read_bytes
from .frames import column, is_frame, is_missing, read_csv
from .label_columns import LabelColumns, plain_columns, read_labels
from .labels import plain_labels
from .sources import Table

LAYOUT = "Expected one subfolder per class, with its texts: mail/spam/1.txt, mail/ham/2.txt."

Columns = str | tuple[str, str]
"""The column of texts, or the two columns of pairs of texts."""


def columns_of(text: Columns) -> tuple[str, ...]:
    """Answer with the names of one or two columns.

    Raises:
        InvalidValueError: They are more, or none, or one of them twice.
    """
    names = (text,) if isinstance(text, str) else text
    several = isinstance(names, tuple | list) and all(isinstance(name, str) for name in names)
    if not several or len(names) not in (1, 2):
        raise InvalidValueError(
            f"text={shown(text)}: expected one column, or the two of pairs of texts."
        )
    if len(set(names)) < len(names):
        raise InvalidValueError(
            f"text={shown(text)}: both texts of a pair are the same. Name another column, or one."
        )
    return tuple(names)


def texts_of(frame: object, text: Columns) -> list[Any]:
    """Answer with the texts of a column, or with pairs of the texts of two.

    Any in the type: what is no text is found when it is examined.
    """
    parts = [column(frame, name) for name in columns_of(text)]
    return list(parts[0]) if len(parts) == 1 else list(zip(*parts, strict=True))


def from_data_frame(
    frame: Any,  # Any: a DataFrame of pandas or polars
    *,
    text: Columns,
    label: LabelColumns,
    group: str | None = None,
    label_delimiter: str | None = None,
) -> Table:
    """Read texts and labels from columns of a data frame; rows are counted from 0."""
    texts = texts_of(frame, text)
    _refuse_labels_as_texts(text, label)
    ids = [f"row {row}" for row in range(len(texts))]
    labels, classes = read_labels(frame, label, delimiter=label_delimiter, ids=ids)
    groups = None if group is None else sources.plain_groups(column(frame, group))
    return Table(texts, ids, labels, groups, classes=classes)


def _refuse_labels_as_texts(text: Columns, label: LabelColumns) -> None:
    """Refuse a column that is both: a net would read off what it is to find."""
    labels = plain_columns(label)
    taken = (labels,) if isinstance(labels, str) else labels
    both = [name for name in columns_of(text) if name in taken]
    if both:
        raise InvalidValueError(
            f"text={text!r} and label={label!r}: the column {both[0]!r} cannot be both, a net "
            "would read off what it is to find. Name the column of texts and that of labels."
        )


def read_table(path: str | Path) -> pandas.DataFrame:
    """Read a table from a file: CSV, TSV, JSON (an array or lines) or parquet, by its ending.

    Raises:
        NoDataError: The file is absent or empty.
        DataError: It cannot be read, or has another ending.
    """
    ending = Path(path).suffix.lower()
    if ending not in READERS:
        raise DataError(
            f"The file {path} ends in {ending or 'nothing'}; expected {', '.join(READERS)}. Read "
            "it yourself and use from_data_frame."
        )
    return READERS[ending](path)


def read_json(path: str | Path) -> pandas.DataFrame:
    """Read an array of JSON objects, or one object a line.

    Raises:
        NoDataError: The file is absent or empty.
        DataError: It is not JSON of that form; the message names the line.
    """
    if not isinstance(path, str | Path):
        raise DataError(f"Got {shown(path)}: expected the path of a table.")
    try:
        data = read_bytes(path)
        content = data.decode("utf-8-sig")
    except UnreadableError as error:
        raise NoDataError(f"The file {path} cannot be read: {error.reason}.") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"The file {path} is not in UTF-8: line {line} has the byte {data[error.start]:#04x}. "
            "Save it as UTF-8, or read it yourself and use from_data_frame."
        ) from error
    _refuse_one_object(path, content)
    rows = _array(path, content) if content.lstrip().startswith("[") else _lines(path, content)
    if not rows:
        raise NoDataError(f"The file {path} has no rows.")
    return pandas.DataFrame(rows)


def _refuse_one_object(path: str | Path, content: str) -> None:
    """Refuse an object that holds the table: columns as lists, or rows below a name."""
    if not content.lstrip().startswith("{"):
        return
    try:
        held = json.loads(content)
    except json.JSONDecodeError:  # several objects, one a line, or no JSON, which is said later
        return
    over_lines = "\n" in content.strip()
    lists = [name for name, value in held.items() if isinstance(value, list)]
    if over_lines or (lists and len(lists) == len(held)):
        raise DataError(
            f"The file {path} is one object, with {', '.join(map(repr, list(held)[:5]))}; expected "
            "an array of objects, or one object a line, each a row. Read it yourself and use "
            "from_data_frame."
        )


def _array(path: str | Path, content: str) -> list[dict[str, Any]]:  # Any: what JSON holds
    try:
        rows = json.loads(content)
    except json.JSONDecodeError as error:
        raise DataError(f"The file {path} is not JSON: {error}.") from error
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise DataError(f"Item {number} of {path} is {row!r}; expected an object.")
    return list(rows)


def _lines(path: str | Path, content: str) -> list[dict[str, Any]]:  # Any: what JSON holds
    rows = []
    for number, line in enumerate(content.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(
                f"Line {number} of {path} is not JSON: {error.msg} at character {error.colno}."
            ) from error
        if not isinstance(row, dict):
            raise DataError(f"Line {number} of {path} is {line[:40]!r}; expected an object.")
        rows.append(row)
    return rows


def read_parquet(path: str | Path) -> pandas.DataFrame:
    """Read a parquet file (needs ``mealkit[parquet]``).

    Raises:
        NoDataError: The file is absent.
        DataError: It is no parquet file.
    """
    require("pyarrow", extra="parquet", purpose="parquet files")
    if not Path(path).is_file():
        raise NoDataError(f"There is no file {path}.")
    try:
        return pandas.read_parquet(path, engine="pyarrow")
    except Exception as error:  # pyarrow raises its own classes
        raise DataError(f"The file {path} cannot be read as parquet: {error}.") from error


READERS: dict[str, Callable[[str | Path], pandas.DataFrame]] = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".json": read_json,
    ".jsonl": read_json,
    ".parquet": read_parquet,
}
"""How tables are read, by the ending of the file."""


def from_lists(
    texts: Sequence[Any],  # Any: checked to be texts, or pairs of them
    labels: Sequence[Any],
    *,
    group: Sequence[Any] | None = None,
) -> Table:
    """Look at texts in memory, or at pairs of them."""
    if is_frame(texts) or isinstance(texts, str | bytes | dict) or not isinstance(texts, Iterable):
        raise DataError(
            f"Got {type(texts).__name__} as texts; expected a list of texts. Tables: from_csv, "
            "from_data_frame."
        )
    items = [tuple(text) if isinstance(text, list) else text for text in texts]
    ids = [f"row {row}" for row in range(len(items))]
    groups = sources.plain_groups(group)
    return Table(items, ids, plain_labels(labels, ids=ids), groups)


def from_folders(folder: str | Path, *, group: Callable[[str], str] | None = None) -> Table:
    """Read ``<folder>/<class>/**/<text file>``, in UTF-8; what is none is found when examined."""
    table = sources.from_folders(folder, group=group, layout=LAYOUT)
    texts = [read_text(path) for path in table.ids]
    return Table(texts, table.ids, table.labels, table.groups, table.remarks)


def read_text(path: str | Path) -> str | UnreadableError:
    """Answer with the text of a file, or with why there is none."""
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnreadableError as error:
        return error
    except UnicodeDecodeError as error:
        reason = f"not text in UTF-8 ({error.reason} at byte {error.start:,})"
        return UnreadableError(f"{path}: {reason}", reason=reason)


def from_dataset(
    dataset: Any,  # Any: a torch Dataset, or one of Hugging Face
    *,
    text: Columns = "text",
    label: str = "label",
    group: str | None = None,
) -> Table:
    """Look at a dataset that somebody else made; its texts are read once."""
    names = columns_of(text)
    plain = not hasattr(dataset, "column_names") and hasattr(dataset, "__getitem__")
    if len(names) == 2 and plain and len(dataset) and isinstance(dataset[0], tuple | list):
        raise DataError(
            "The items of the dataset are tuples, in which two columns of texts have no names. Let "
            "it answer with dicts, or use from_lists."
        )
    parts = [
        sources.from_dataset(dataset, image=name, label=label, group=group, noun="text")
        for name in names
    ]
    first = parts[0]
    inputs = [part.inputs for part in parts]
    rows = range(len(first))
    texts = [inputs[0][row] for row in rows]
    if len(inputs) == 2:
        texts = [(inputs[0][row], inputs[1][row]) for row in rows]
    ids = [f"row {row}" for row in rows]
    return Table(texts, ids, first.labels, first.groups)


def to_id(text: object) -> str:
    """Name a text to predict on: by itself, and a pair by both with a bar between them."""
    if isinstance(text, tuple):
        return " | ".join(map(to_id, text))
    return "" if is_missing(text) else str(text)
