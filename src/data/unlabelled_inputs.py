"""What ``finetune(unlabelled=...)`` takes, as samples, looked at before the first batch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ..errors import DataError, InvalidValueError, NoDataError, UnreadableError
from ..specs import Kind, TextDataSpec
from .arrays import split_stack
from .frames import is_frame, is_missing
from .inputs import samples_from
from .labels import natural
from .module import Data
from .samples import Samples, Subset
from .sources import walk
from .stream_samples import StreamSamples
from .text_samples import TextSamples
from .text_sources import READERS, Columns, read_table, read_text, texts_of
from .web import is_url

_log = logging.getLogger("mealkit")

_PICTURES = (
    "a folder of pictures (searched to any depth, whatever its subfolders are called), a list of "
    "paths, arrays or PIL images, a stack of pictures, a data frame with a column of paths, or "
    "data whose training part is meant"
)
_TEXTS = (
    "a list of texts, a table (CSV, TSV, JSON, parquet), a folder of text files, a data frame, or "
    "data whose training part is meant"
)


@runtime_checkable
class Examined(Protocol):
    """Samples that can say of every input what tells it from others, and whether it is usable."""

    def contents(self) -> list[tuple[str, str | None]]:
        """Answer with a fingerprint of each input, and with why it cannot be used (or None)."""

    def same(self, row: int, other: Any, other_row: int) -> bool:  # Any: samples of this kind
        """Whether two inputs of one fingerprint are the same to the last byte."""


def unlabelled_pictures(source: Any) -> Samples:  # Any: see Args
    """Turn what holds unlabelled pictures into samples.

    Args:
        source: A folder, a list of paths, arrays or PIL images, a stack, a data frame, samples, or
            data whose training part is meant.

    Raises:
        NoDataError: There is no such folder, or there are no pictures in it.
        InvalidValueError: It is one file.
        DataError: It holds no pictures.
    """
    if (samples := _samples_in(source, "image")) is not None:
        return samples
    if isinstance(source, torch.Tensor | np.ndarray):
        # To predict, three axes are one picture; unlabelled pictures are many, as in from_arrays.
        source = list(split_stack(source))
    if isinstance(source, str | Path) and not is_url(source):
        _check_there(source, _PICTURES)
        if not Path(source).is_dir():
            raise InvalidValueError(
                f"unlabelled={str(source)!r} is one file. Expected {_PICTURES}. For a table of "
                "paths, pass the data frame; for one picture, [path]."
            )
    return samples_from(source).samples


def unlabelled_texts(source: Any, spec: TextDataSpec) -> Samples:  # Any: see Args
    """Turn what holds unlabelled texts into samples; missing and empty ones stay in, for now.

    Args:
        source: A list of texts or of pairs, the path of a table or of a folder of text files, a
            data frame, samples, or data whose training part is meant. Tables are read by the
            columns that are trained on; others are not looked at.
        spec: Of the labelled texts.

    Raises:
        NoDataError: There is no such file, or nothing in it.
        DataError: It holds something else than texts, or lacks the column.
    """
    if (samples := _samples_in(source, "text")) is not None:
        return samples
    if isinstance(source, str | Path):
        _check_there(source, _TEXTS)
        if Path(source).is_dir():
            return _folder_of_texts(Path(source))
        if Path(source).suffix.lower() not in READERS:
            raise DataError(
                f"unlabelled={str(source)!r} is no table: its ending is none of "
                f"{', '.join(READERS)}. Expected {_TEXTS}."
            )
        source = read_table(source)
    texts = _column_of(source, spec) if is_frame(source) else _items(source)
    _check_texts(texts, pairs=spec.pairs)
    return TextSamples(texts, ids=[f"unlabelled row {row}" for row in range(len(texts))])


def _samples_in(source: Any, kind: Kind) -> Samples | None:
    """Answer with samples that are there already; None where they are to be made."""
    if isinstance(source, Data):
        if source.spec.kind != kind:
            raise InvalidValueError(
                f"unlabelled= holds data of kind {source.spec.kind!r}; expected kind {kind!r}, as "
                "the labelled data are."
            )
        if source.train is None:
            raise NoDataError("unlabelled= has no training part, which is what is taken of data.")
        if isinstance(source.train, StreamSamples):
            raise InvalidValueError(
                "unlabelled= is a stream, and batches of both kinds are drawn by position. "
                "Expected inputs that have a length, such as a folder."
            )
        return source.train
    if hasattr(source, "__getitems__") and hasattr(source, "prepare"):
        samples: Samples = source
        return samples
    return None


def _check_there(source: str | Path, expected: str) -> None:
    if not Path(source).exists():
        raise NoDataError(
            f"unlabelled={str(source)!r}: there is no such file or folder (looked in "
            f"{Path.cwd()}). Expected {expected}. Check the path."
        )


def _folder_of_texts(folder: Path) -> TextSamples:
    names = sorted(walk(folder), key=natural)
    if not names:
        raise NoDataError(f"unlabelled={str(folder)!r} is an empty folder. Expected {_TEXTS}.")
    paths = [str(folder / name) for name in names]
    return TextSamples([read_text(path) for path in paths], ids=paths)


def _column_of(frame: Any, spec: TextDataSpec) -> list[Any]:
    columns: Columns = (spec.text[0], spec.text[1]) if spec.pairs else spec.text[0]
    try:
        return texts_of(frame, columns)
    except DataError as error:
        raise DataError(
            f"unlabelled= lacks a column that is trained on. {error} Rename it, or pass the texts "
            "as a list."
        ) from error


def _items(source: Any) -> list[Any]:
    if not isinstance(source, Iterable) or isinstance(source, dict | bytes):
        raise DataError(f"unlabelled= is {type(source).__name__}. Expected {_TEXTS}.")
    return [tuple(item) if isinstance(item, list) else item for item in source]


def _check_texts(texts: Sequence[Any], *, pairs: bool) -> None:
    """Refuse what is neither a text nor the lack of one: a label beside it, a number."""
    wanted = "a pair of texts" if pairs else "one text, without its label"
    for row, item in enumerate(texts):
        parts = item if isinstance(item, tuple) and len(item) == 2 else (item,)
        whole = all(isinstance(part, str) or is_missing(part) for part in parts)
        if not whole or ((len(parts) == 2) is not pairs and not is_missing(item)):
            raise DataError(
                f"unlabelled= holds {type(item).__name__} at position {row}: {str(item)[:60]!r}. "
                f"Expected {wanted}."
            )


def check_unlabelled(samples: Samples, data: Data) -> Samples:
    """Look at every unlabelled input before the first batch; answer with those to be read.

    What cannot be read, and exact copies of inputs that are scored, are reported in the data.

    Args:
        samples: The unlabelled inputs.
        data: Whose validation and test parts must not be among them.

    Raises:
        NoDataError: There are none.
        UnreadableError: Not one can be read.
    """
    noun = "texts" if data.spec.kind == "text" else "pictures"
    if not len(samples):
        raise NoDataError(f"unlabelled= holds no {noun}: it is empty.")
    if not isinstance(samples, Examined):
        return samples
    found = samples.contents()
    broken = [row for row, (_, reason) in enumerate(found) if reason is not None]
    for row in broken:
        data.report.add(samples.ids[row], str(found[row][1]))
    if len(broken) == len(found):
        raise UnreadableError(
            f"None of the {len(found):,} unlabelled {noun} can be read; the first is "
            f"{samples.ids[0]}: {found[0][1]}. Give others, or leave unlabelled= out."
        )
    if broken:
        _log.warning(
            f"Left out {len(broken):,} of {len(found):,} unlabelled {noun} that cannot be read; "
            f"data.report lists them ({samples.ids[broken[0]]}: {found[broken[0]][1]})."
        )
    _report_leaks(samples, [key for key, _ in found], data, noun)
    if not broken:
        return samples
    unread = set(broken)
    return Subset(samples, [row for row in range(len(found)) if row not in unread])


def _report_leaks(samples: Any, keys: Sequence[str], data: Data, noun: str) -> None:
    """Report unlabelled inputs that are scored: the net must not see those at all.

    Any in the type: samples that were examined.
    """
    num_leaks = 0
    for name, part in (("val", data.val), ("test", data.test)):
        if not isinstance(part, Examined) or type(part) is not type(samples):
            continue
        ids: Sequence[str] = part.ids
        rows = {key: row for row, (key, reason) in enumerate(part.contents()) if reason is None}
        for place, key in enumerate(keys):
            if key in rows and samples.same(place, part, rows[key]):
                num_leaks += 1
                copied = f"an exact copy, unlabelled, of {ids[rows[key]]} in the {name} part"
                data.report.add(samples.ids[place], copied)
    if num_leaks:
        _log.warning(
            f"{num_leaks:,} of the unlabelled {noun} are in the validation or test part, which "
            "makes scores too good; data.report lists them. Leave them out."
        )
