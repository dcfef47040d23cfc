"""What `predict` and `embed` take, as samples."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ..errors import DataError, InvalidValueError, NoDataError
from ..specs import DataSpec, ImageDataSpec
from .arrays import split_stack
from .frames import FrameKind, column, frame_kind, is_frame, is_missing
from .image_samples import ImageSamples
from .label_columns import LabelColumns
from .labels import Classes, as_texts, natural
from .samples import Samples
from .sources import Table, from_csv, from_data_frame, from_folders, walk
from .web import Address, is_url

_log = logging.getLogger("mealkit")

_MORE_SUFFIXES = {".heic", ".heif"}
# Pillow has plugins for these as well; beside photos they are no photos.
_NO_PICTURES = {".pdf", ".mpg", ".mpeg", ".ps", ".eps", ".h5", ".hdf", ".grib", ".bufr"}


@dataclass(frozen=True)
class Inputs:
    """What to predict on, of any kind.

    Args:
        samples: One per input, in input order.
        single: Whether one input was given, and not a list, folder or table.
        frame_kind: The kind of frame that came in, and that answers should be; pandas otherwise.
    """

    samples: Samples
    single: bool
    frame_kind: FrameKind = "pandas"


def samples_from(inputs: Any, *, image: str | None = None, usual: str | None = None) -> Inputs:
    """Turn what a user wants predicted into samples.

    Unreadable pictures are found when they are fetched; their rows stand in ``failed``.

    Args:
        inputs: A path, URL, PIL image, array, tensor or the bytes of a file; a list of these; a
            folder, of which all pictures are taken in natural order; a DataFrame of pandas or
            polars. An array of four axes is a stack of pictures. (Any: all of these.)
        image: The column of a frame that has the paths; None for the usual one, or to find it.
        usual: The column that the task was trained on; None where that was no table.

    Raises:
        NoDataError: There is no picture among the inputs.
        DataError: The inputs are of a type that holds no pictures, or a frame has no such column.
        InvalidValueError: ``image`` was given without a frame.
    """
    kind = frame_kind(inputs)
    if kind is not None:
        return _from_frame(inputs, kind, image, usual)
    if image is not None:
        raise InvalidValueError(f"image={image!r} names a column, and the inputs are no DataFrame.")
    if isinstance(inputs, str) and not inputs.strip():
        raise NoDataError("There are no pictures: the path is empty.")
    if isinstance(inputs, str | Path) and not is_url(inputs) and Path(inputs).is_dir():
        paths = [str(Path(inputs) / path) for path in images_below(Path(inputs))]
        return Inputs(_samples(paths, inputs), single=False)
    if _is_one(inputs):
        return Inputs(_samples([inputs], inputs), single=True)
    return Inputs(_samples(_several(inputs), "the inputs"), single=False)


def _several(inputs: Any) -> Sequence[Any]:
    if isinstance(inputs, torch.Tensor | np.ndarray):
        if inputs.ndim == 4:
            return split_stack(inputs)
        raise _no_picture(inputs, "")
    if not isinstance(inputs, Iterable) or isinstance(inputs, dict):
        raise _no_picture(inputs, "")
    items = list(inputs)
    for row, item in enumerate(items):
        if not _is_one(item):
            raise _no_picture(item, f" at position {row}")
    return items


def labelled_from(
    source: Any,  # Any: a path, or a DataFrame of pandas or polars
    *,
    spec: ImageDataSpec,
    image: str | None = None,
    label: LabelColumns | None = None,
    label_delimiter: str | None = None,
) -> ImageSamples:
    """Turn a folder with one subfolder per class, or a labelled table, into samples to score.

    Unreadable pictures stay in: they are found when they are fetched, and stand in ``failed``.

    Args:
        source: A folder, whose subfolders are classes of the task, not necessarily all of them; a
            CSV file, or a DataFrame.
        spec: Of the task; it names the classes, and the columns where it was trained on a table.
        image: The column of paths of a table; None for the one trained on.
        label: Its column of labels, or its columns of 0 and 1; None for those trained on, with
            their delimiter.
        label_delimiter: What stands between the labels of one cell of the column that is named.

    Raises:
        NoDataError: The source is absent or empty.
        DataError: A table lacks a column, or a value in it.
        ClassError: A label is no class of the task.
        InvalidValueError: Columns are named and the source is a folder, or the reverse; or a folder
            is to be scored by a task that gives several labels.
    """
    columns = (image, label, label_delimiter)
    if is_frame(source):
        table = _labelled_table(from_data_frame, source, spec, *columns)
    elif not isinstance(source, str | Path):
        raise InvalidValueError(
            f"Got {type(source).__name__}; expected a folder, a CSV file, a data frame, or "
            "ImageData."
        )
    elif Path(source).suffix.lower() in (".csv", ".tsv"):
        table = _labelled_table(from_csv, source, spec, *columns)
    else:
        table = _labelled_folder(source, spec, columns)
    classes = Classes(spec.classes, multi_label=spec.multi_label)
    targets = classes.encode(as_texts(table.labels), part="test", ids=table.ids)
    return ImageSamples(table.inputs, ids=table.ids, targets=targets, allow_none=True)


def _labelled_table(
    read: Callable[..., Table],
    source: object,
    spec: ImageDataSpec,
    image: str | None,
    label: LabelColumns | None,
    label_delimiter: str | None,
) -> Table:
    image = spec.image if image is None else image
    if label is None and label_delimiter is not None:
        raise InvalidValueError("label_delimiter= divides the texts of a column; name it: label=.")
    if label is None:
        label, label_delimiter = spec.label, spec.label_delimiter
    if image is None or label is None:
        raise InvalidValueError(
            "Name the columns of the table with image= and label=: the task was not trained on "
            "one, so it knows none."
        )
    return read(source, image=image, label=label, label_delimiter=label_delimiter)


def _labelled_folder(
    folder: str | Path, spec: DataSpec, columns: tuple[object, object, object]
) -> Table:
    if columns != (None, None, None):
        raise InvalidValueError("image= and label= name columns, and the source is no table.")
    if spec.multi_label:
        raise InvalidValueError(
            f"{folder} would be a folder with a subfolder per class, which says one label of each "
            "picture; this task gives any number of them. Score a table: "
            "task.evaluate('test.csv', image=..., label=...)."
        )
    table = from_folders(folder)
    for id, problem in table.remarks:
        _log.warning("%s: %s.", id, problem)
    return table


def images_below(folder: Path) -> list[str]:
    """Find the files with the ending of a picture below a folder, in natural order.

    Raises:
        NoDataError: There are none.
    """
    files = list(walk(folder))
    known = suffixes()
    found = sorted((path for path in files if Path(path).suffix.lower() in known), key=natural)
    if not found:
        raise NoDataError(f"The folder {folder} has {len(files):,} files and no pictures in it.")
    return found


def _from_frame(frame: Any, kind: FrameKind, image: str | None, usual: str | None) -> Inputs:
    name = image
    if name is None and usual is not None and usual in map(str, frame.columns):
        name = usual
    if name is None:
        name = _image_column(frame)
    values = column(frame, name)
    # A missing path is an input, too: its row says that there is no such file.
    items = ["" if is_missing(value) else value for value in values]
    for row, item in enumerate(items):
        if not _is_one(item):
            raise _no_picture(item, f" in row {row} of column {name!r}")
    return Inputs(_samples(items, "the frame"), single=False, frame_kind=kind)


def _image_column(frame: Any) -> str:
    names = [str(name) for name in frame.columns]
    found = [name for name in names if _looks_like_paths(column(frame, name))]
    if len(found) != 1:
        what = f"{len(found)} columns hold" if found else "no column holds"
        raise DataError(
            f"Of the columns {', '.join(map(repr, names))} {what} paths of pictures. Name the one "
            "to read with image=."
        )
    return found[0]


def _looks_like_paths(values: Sequence[Any]) -> bool:
    given = [value for value in values[:100] if not is_missing(value)]
    return bool(given) and all(
        isinstance(value, Path)
        or (isinstance(value, str) and (is_url(value) or Path(value).suffix.lower() in suffixes()))
        for value in given
    )


def suffixes() -> set[str]:
    """Answer with the endings of picture files, in lower case."""
    return {*Image.registered_extensions(), *_MORE_SUFFIXES} - _NO_PICTURES


def _samples(items: Sequence[Any], name: object) -> ImageSamples:
    if not len(items):
        raise NoDataError(f"There are no pictures in {name!r}: it is empty.")
    ids = [_id(item, row) for row, item in enumerate(items)]
    images = [Address(item) if is_url(item) else item for item in items]
    return ImageSamples(images, ids=ids, allow_none=True)


def _id(item: object, row: int) -> str:
    """Name an input: by its path or address, or else by its position."""
    if isinstance(item, str | Path):
        return str(item)
    return str(getattr(item, "filename", "") or row)


def _is_one(item: object) -> bool:
    if isinstance(item, torch.Tensor | np.ndarray):
        return item.ndim in (2, 3)
    return isinstance(item, str | Path | bytes | Image.Image)


def _no_picture(item: object, where: str) -> DataError:
    shape = f" of shape {tuple(item.shape)}" if isinstance(item, torch.Tensor | np.ndarray) else ""
    return DataError(
        f"Got {type(item).__name__}{shape}{where}; expected a path, a web address, a PIL image, an "
        "array of 2 or 3 axes, the bytes of a file, a list of these, a folder, or a DataFrame."
    )
