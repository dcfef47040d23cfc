"""Labels in tables: a column of labels, one with a delimiter, or a column of 0 and 1 per class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ClassError, InvalidValueError
from .frames import check_no_missing, column, is_missing
from .labels import Labels, LabelSet, in_words, members, plain_labels, to_set

if TYPE_CHECKING:
    from .sources import Table

LabelColumns = str | Sequence[str]
"""The column of labels, or one column of 0 and 1 per class."""

_YES = {"1", "1.0", "true"}
_NO = {"0", "0.0", "false"}


def plain_columns(label: LabelColumns) -> str | tuple[str, ...]:
    """Answer with the name of one column, or with those of several.

    Raises:
        InvalidValueError: They are fewer than two, or one stands twice.
    """
    if isinstance(label, str):
        return label
    names = tuple(label) if isinstance(label, Iterable) else (label,)
    if (
        not all(isinstance(name, str) for name in names)
        or len(names) < 2
        or len(set(names)) < len(names)
    ):
        raise InvalidValueError(
            f"label={list(names)}: expected one column of labels (a text), or at least two "
            "different columns of 0 and 1, which are the classes."
        )
    return names


def read_labels(
    frame: object, label: LabelColumns, *, delimiter: str | None, ids: Sequence[str]
) -> tuple[Labels, tuple[str, ...] | None]:
    """Read the labels of a frame.

    Args:
        frame: Of pandas or polars.
        label: The column of labels (each one label or a list), or a column of 0 and 1 per class.
        delimiter: What stands between the labels of a text; None where a text is one label.
        ids: Names of the rows, for messages.

    Returns:
        One label, or one set of labels, per row; and the names of the classes where the columns
        are these.

    Raises:
        InvalidValueError: Arguments contradict each other.
        DataError: A column is missing, or a value in it.
        ClassError: A value is no label.
    """
    names = plain_columns(label)
    if not isinstance(names, str):
        if delimiter is not None:
            raise InvalidValueError(
                f"label_delimiter={delimiter!r} beside several columns: it divides the texts of "
                "one column. Leave one of them out."
            )
        return _of_columns(frame, names, ids), names
    values = column(frame, names)
    if delimiter is None:
        return plain_labels(values, ids=ids), None
    return split_labels(values, delimiter, ids=ids), None


def split_labels(values: Sequence[Any], delimiter: str, *, ids: Sequence[str]) -> list[LabelSet]:
    """Cut texts into labels; an empty text has none, and spaces around a label are not its own.

    Any in the type: what is no text is refused here.

    Raises:
        InvalidValueError: The delimiter is empty.
        DataError: A value is missing.
        ClassError: A value is no text, has an empty label, or one twice.
    """
    if not isinstance(delimiter, str) or not delimiter:
        raise InvalidValueError(f"label_delimiter={delimiter!r}: expected a text such as '|'.")
    check_no_missing(values, what="label (an empty text is none)", ids=ids)
    sets = []
    for row, value in enumerate(values):
        if not isinstance(value, str):
            raise ClassError(
                f"Row {row} has the label {value!r} of type {type(value).__name__}; expected a "
                f"text to cut at {delimiter!r}. Leave label_delimiter= out."
            )
        parts = [part.strip() for part in value.split(delimiter)] if value.strip() else []
        if not all(parts):
            raise ClassError(
                f"Row {row} has an empty label between delimiters: {value!r} is cut at "
                f"{delimiter!r}. Take the extra delimiter out."
            )
        sets.append(to_set(parts, row))
    return sets


def check_delimiter(train: Table | None, label: LabelColumns, delimiter: str | None) -> None:
    """Refuse a delimiter that divides no training row: it is not the one that they have.

    Raises:
        ClassError: Not one row has two labels.
    """
    if train is None or delimiter is None or any(len(members(one)) > 1 for one in train.labels):
        return
    example = next((one for one in train.labels if one), "")
    raise ClassError(
        f"label_delimiter={delimiter!r} divides none of the {len(train):,} training rows of the "
        f"column {label!r}; one of them is {in_words(example)}. Name the delimiter that they have, "
        "or leave it out where every row has one label."
    )


def _of_columns(frame: object, names: Sequence[str], ids: Sequence[str]) -> list[LabelSet]:
    by_class = {}
    for name in names:
        values = column(frame, name)
        check_no_missing(values, what=f"value in column {name!r}", ids=ids)
        by_class[name] = [_is_one(value, name, row) for row, value in enumerate(values)]
    rows = range(len(by_class[names[0]]))
    return [to_set([name for name in names if by_class[name][row]], row) for row in rows]


def _is_one(value: object, name: str, row: int) -> bool:
    written = str(value).strip().lower()
    if written in _YES:
        return True
    if written in _NO and not is_missing(value):
        return False
    raise ClassError(
        f"Row {row} of column {name!r} holds {value!r}; expected 0 or 1, since label= names "
        "several columns. A column with the names of labels is given by itself: label='...'."
    )
