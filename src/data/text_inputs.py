"""What `predict`, `embed` and `evaluate` take for texts, as samples."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import DataError, InvalidValueError, NoDataError
from ..specs import TextDataSpec
from . import text_sources
from .frames import FrameKind, frame_kind, is_frame
from .inputs import Inputs
from .label_columns import LabelColumns
from .labels import Classes, as_texts
from .sources import Table, with_empty_labels
from .text_samples import TextSamples
from .text_sources import READERS, Columns, columns_of, read_table, read_text, texts_of, to_id

_log = logging.getLogger("mealkit")


def samples_of_texts(inputs: Any, spec: TextDataSpec, *, text: Columns | None = None) -> Inputs:
    """Turn what a user wants predicted into samples.

    Missing and empty texts stay in; their rows stand in ``failed``.

    Args:
        inputs: A text, or a pair of them; a list of these, or of ``Path`` of text files; a
            DataFrame of pandas or polars; a ``Path`` of a table (CSV, TSV, JSON, parquet) or of one
            text file. A str is a text, unless ``text`` is given: then it is the path of a table.
            (Any: all of these.)
        spec: What the task was trained on; it names the columns of tables.
        text: The column of a table, or the two of pairs; None for those of the spec.

    Raises:
        NoDataError: There is no text among the inputs.
        DataError: The inputs are of a type that holds no texts, or a table has no such column.
        InvalidValueError: ``text`` was given without a table.
    """
    columns = spec.text if text is None else columns_of(text)
    _check_form(columns, spec)
    kind = frame_kind(inputs)
    if kind is not None:
        return _from_frame(inputs, columns, kind)
    is_path = isinstance(inputs, Path) or (isinstance(inputs, str) and text is not None)
    if is_path and (text is not None or Path(inputs).suffix.lower() in READERS):
        return _from_frame(read_table(inputs), columns, "pandas")
    if text is not None:
        raise InvalidValueError(f"text={text!r} names a column, and the inputs are no table.")
    if isinstance(inputs, Path):
        return Inputs(TextSamples([read_text(inputs)], ids=[str(inputs)]), single=True)
    if isinstance(inputs, str):
        _warn_of_file(inputs)
        return _several([inputs], pairs=spec.pairs, single=True)
    if spec.pairs and isinstance(inputs, tuple) and _is_pair(inputs):
        return _several([inputs], pairs=True, single=True)
    if not isinstance(inputs, Iterable) or isinstance(inputs, dict | bytes):
        raise DataError(
            f"Got {type(inputs).__name__}; expected a text, a list of texts, a DataFrame, or the "
            "pathlib.Path of a table."
        )
    return _several(list(inputs), pairs=spec.pairs, single=False)


def labelled_texts(
    source: Any,  # Any: a path of a table or folder, or a DataFrame
    spec: TextDataSpec,
    *,
    text: Columns | None = None,
    label: LabelColumns | None = None,
    label_delimiter: str | None = None,
) -> TextSamples:
    """Turn a labelled table or folder into samples to score.

    Args:
        source: A table (CSV, TSV, JSON, parquet), a folder with one subfolder of text files per
            class, or a DataFrame of pandas or polars.
        spec: What the task was trained on; it names the columns and classes.
        text: The column of texts, or the two of pairs; None for those of the spec.
        label: The column of labels, or the columns of 0 and 1; None for those of the spec, with its
            delimiter.
        label_delimiter: What stands between the labels of one cell of the column that is named.

    Raises:
        NoDataError: The source is absent or empty.
        DataError: A column is missing.
        ClassError: A label is no class of the task.
    """
    if label is None and label_delimiter is None:
        label, label_delimiter = spec.label, spec.label_delimiter
    elif label is None:
        raise InvalidValueError("label_delimiter= divides the texts of a column; name it: label=.")
    table = _table(source, spec, text, label, label_delimiter)
    classes = Classes(spec.classes, multi_label=spec.multi_label)
    targets = classes.encode(as_texts(table.labels), part="test", ids=table.ids)
    return TextSamples(table.inputs, ids=table.ids, targets=targets)


def _table(
    source: Any,
    spec: TextDataSpec,
    text: Columns | None,
    label: LabelColumns,
    label_delimiter: str | None,
) -> Table:
    if isinstance(source, str | Path) and Path(source).is_dir():
        if spec.multi_label:
            raise InvalidValueError(
                f"{source} is a folder with a subfolder per class, which says one label of each "
                "text; this task gives any number of them. Score a table."
            )
        if text is not None or label != spec.label:
            raise InvalidValueError("text= and label= name columns, and the source is a folder.")
        return text_sources.from_folders(source)
    if text is not None:
        _check_form(columns_of(text), spec)
    if not isinstance(source, str | Path) and not is_frame(source):
        raise DataError(
            f"Got {type(source).__name__}; expected the path of a table or of a folder with one "
            "subfolder of text files per class, a DataFrame, or TextData. Texts and labels in "
            "lists become a table: pandas.DataFrame({'text': texts, 'label': labels})."
        )
    frame = read_table(source) if isinstance(source, str | Path) else source
    own: Columns = (spec.text[0], spec.text[1]) if spec.pairs else spec.text[0]
    columns = own if text is None else text
    if isinstance(source, str | Path) and Path(source).suffix.lower() in (".csv", ".tsv"):
        frame = with_empty_labels(frame, label, label_delimiter)
    return text_sources.from_data_frame(
        frame, text=columns, label=label, label_delimiter=label_delimiter
    )


def _check_form(columns: tuple[str, ...], spec: TextDataSpec) -> None:
    if (len(columns) == 2) is not spec.pairs:
        wanted = "two columns of pairs" if spec.pairs else "one column"
        raise InvalidValueError(
            f"text={columns}: the task was trained on {'pairs' if spec.pairs else 'single texts'}; "
            f"expected {wanted}."
        )


def _from_frame(frame: object, columns: tuple[str, ...], kind: FrameKind) -> Inputs:
    wanted: Columns = (columns[0], columns[1]) if len(columns) == 2 else columns[0]
    texts = texts_of(frame, wanted)
    if not texts:
        raise NoDataError("There are no texts: the table is empty.")
    samples = TextSamples(texts, ids=[to_id(text) for text in texts])
    return Inputs(samples, single=False, frame_kind=kind)


def _several(items: Sequence[Any], *, pairs: bool, single: bool) -> Inputs:
    if not items:
        raise NoDataError("There are no texts: the inputs are empty.")
    for row, item in enumerate(items):
        if _is_pair(item) is not pairs and (isinstance(item, str) or _is_pair(item)):
            wanted, got = ("a pair of texts", "one") if pairs else ("one text", "a pair")
            raise DataError(
                f"The task was trained on {wanted} per input; the input at position {row} is {got}."
            )
    texts = [_text_of(item) for item in items]
    ids = [to_id(tuple(item) if _is_pair(item) else item) for item in items]
    return Inputs(TextSamples(texts, ids=ids), single=single)


def _text_of(item: Any) -> Any:
    """Read a file that is named by a path; a pair becomes a tuple. Any: what is no text is left."""
    if isinstance(item, Path):
        return read_text(item)
    return tuple(item) if _is_pair(item) else item


def _warn_of_file(text: str) -> None:
    """Say so where a text is the name of a file that could have been meant."""
    try:
        named = Path(text).suffix.lower() in (*READERS, ".txt") and Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or a null character in it
        return
    if named:
        _log.warning(
            f"{text!r} is read as a text, and there is a file of that name. For what is in it pass "
            f"pathlib.Path({text!r})."
        )


def _is_pair(item: object) -> bool:
    if not isinstance(item, tuple | list) or len(item) != 2:
        return False
    return all(isinstance(part, str) for part in item)
