"""Where pictures and their labels come from: folders, files, tables, arrays and datasets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas
import torch
from torch.utils.data import IterableDataset

from ..errors import DataError, NoDataError, can_be_called, shown
from .arrays import split_stack
from .frames import check_no_missing, column, is_frame, is_missing, read_csv
from .label_columns import LabelColumns, read_labels
from .labels import Labels, natural, plain_labels

OnError = Literal["skip", "raise"]
Noun = Literal["image", "text"]
Labelled = tuple[Any, Sequence[Any]]
"""Pictures in the form of the source, and their labels. Any: both are checked when read."""

LAYOUT = "Expected one subfolder per class, with its pictures: photos/cat/1.jpg, photos/dog/2.jpg."


@dataclass(frozen=True)
class Table:
    """Labelled inputs of any kind that nobody has looked at yet.

    Args:
        inputs: Paths, bytes, PIL images or arrays of pictures; texts, or pairs of texts.
        ids: Names that the user recognises.
        labels: One per input, or one set of labels per input.
        groups: Inputs of one group stay on one side of a split; None for no groups.
        remarks: What is wrong with the source: pairs of an input and a problem.
        classes: Names of the labels, where the source names them; None to collect them.
    """

    inputs: Sequence[Any]  # Any: see Args, or what a dataset keeps
    ids: list[str]
    labels: Labels
    groups: list[str] | None = None
    remarks: list[tuple[str, str]] = field(default_factory=list)
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, values in (("labels", self.labels), ("groups", self.groups)):
            if values is not None and len(values) != len(self.inputs):
                raise DataError(
                    f"Got {len(self.inputs):,} inputs and {len(values):,} {name}; expected as many "
                    "of one as of the other."
                )
        if not len(self.inputs):
            raise NoDataError("There are no inputs: the source is empty.")

    def __len__(self) -> int:
        return len(self.ids)


def from_folders(
    folder: str | Path, *, group: Callable[[str], str] | None = None, layout: str = LAYOUT
) -> Table:
    """Read ``<folder>/<class>/**/<picture>``; hidden files are passed over.

    Args:
        folder: Its subfolders are the classes; symbolic links are followed.
        group: Turns the path of a picture, relative to the folder, into its group.
        layout: What was expected, in words for messages.

    Raises:
        NoDataError: The folder is absent, or has no files in it.
        DataError: It has no subfolders.
    """
    root = _existing_folder(folder, layout)
    if group is not None and not (callable(group) and can_be_called(group, "cat/1.jpg")):
        raise DataError(
            f"group={group!r}: expected a function that turns a path ('cat/1.jpg') into a group."
        )
    relative = sorted(walk(root), key=natural)
    loose = [path for path in relative if os.sep not in path]
    inside = [path for path in relative if os.sep in path]
    if not relative:
        raise NoDataError(f"The folder {root} has no files in it. {layout}")
    if not inside:
        raise DataError(
            f"The folder {root} has {len(loose):,} files and no class folders. {layout} With "
            "labels in a table use from_csv."
        )
    classes = [Path(path).parts[0] for path in inside]
    remarks = [(str(root / path), "not in a class folder; left out") for path in loose]
    for child in sorted(root.iterdir()):
        if child.is_dir() and not child.name.startswith(".") and child.name not in set(classes):
            remarks.append((str(child), "a class folder without files; left out"))
    return Table(
        inputs=[str(root / path) for path in inside],
        ids=[str(root / path) for path in inside],
        labels=list(classes),
        groups=None if group is None else [_group_of(path, group) for path in inside],
        remarks=remarks,
    )


def _group_of(path: str, group: Callable[[str], object]) -> str:
    """Ask a function of the user's for the group of a path.

    Raises:
        DataError: It fails, or has no answer.
    """
    name = Path(path).as_posix()
    try:
        found = group(name)
    except Exception as error:  # whatever the function may raise
        raise DataError(
            f"group= failed on the path {name!r} ({type(error).__name__}: {error}): expected a "
            "function that has a group for every path."
        ) from error
    if is_missing(found):
        raise DataError(
            f"group= answered {found!r} for the path {name!r}: expected the name of its group. "
            "For a picture that belongs to no other, answer with the path."
        )
    return str(found)


def check_pair(name: str, part: object) -> None:
    """Refuse a part that is no pair of inputs and labels.

    Raises:
        DataError: It is not.
    """
    if part is not None and not (isinstance(part, tuple | list) and len(part) == 2):
        count = f" of {len(part)}" if isinstance(part, tuple | list) else ""
        raise DataError(
            f"{name}= is {type(part).__name__}{count}: expected a pair, (inputs, labels)."
        )


def walk(root: Path) -> Iterator[str]:
    """Find the files below a folder, relative to it; links are followed, hidden names are not."""
    seen: set[str] = set()
    for place, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:  # a link to a folder above, or a second one to the same
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield os.path.relpath(Path(place) / name, root)


def from_files(
    paths: Sequence[str | Path], labels: Sequence[Any], *, group: Sequence[Any] | None = None
) -> Table:
    """Read files from a list of paths.

    Any in the types: labels and groups are checked where they are read.
    """
    if isinstance(paths, str | Path) or not isinstance(paths, Iterable):
        raise DataError(
            f"paths={paths if paths is None else str(paths)!r}: expected a list of paths; a "
            "folder: from_folders."
        )
    ids = [str(path) for path in paths]
    return Table(ids, list(ids), plain_labels(labels, ids=ids), plain_groups(group))


def from_data_frame(
    frame: Any,  # Any: a DataFrame of pandas or polars
    *,
    image: str,
    label: LabelColumns,
    root: str | Path | None = None,
    group: str | None = None,
    label_delimiter: str | None = None,
) -> Table:
    """Read files whose paths stand in a column of a data frame."""
    _check_columns_differ(image, label)
    folder = None if root is None else _existing_root(root)
    given = column(frame, image)
    check_no_missing(given, what=f"{image!r}", ids=[])
    ids = [str(value) for value in given]
    images = [str(value if folder is None else folder / str(value)) for value in given]
    labels, classes = read_labels(frame, label, delimiter=label_delimiter, ids=ids)
    groups = None if group is None else plain_groups(column(frame, group))
    return Table(images, ids, labels, groups, classes=classes)


def _check_columns_differ(image: str, label: LabelColumns) -> None:
    """Refuse a column that is asked for as pictures and as labels."""
    if isinstance(label, str) and image == label:
        raise DataError(
            f"image={image!r} and label={label!r} are one column: expected one of pictures, and "
            "another of labels."
        )


def _existing_root(root: object) -> Path:
    if not isinstance(root, str | Path):
        raise DataError(f"root={root!r}: expected the folder that paths are relative to.")
    if not Path(root).is_dir():
        raise NoDataError(
            f"There is no folder root={str(root)!r} (looked in {Path.cwd()}), which paths are to "
            "be relative to."
        )
    return Path(root)


def from_csv(
    path: str | Path,
    *,
    image: str,
    label: LabelColumns,
    root: str | Path | None = None,
    group: str | None = None,
    label_delimiter: str | None = None,
) -> Table:
    """Read files whose paths stand in a CSV file. Labels are texts, and only "" is a missing one.

    With a delimiter, "" is a row without labels: there is no other way to write it.

    Raises:
        NoDataError: The file is absent or empty.
        DataError: It cannot be parsed, or lacks a column.
    """
    frame = with_empty_labels(read_csv(path), label, label_delimiter)
    root = Path(path).parent if root is None else root
    return from_data_frame(
        frame, image=image, label=label, root=root, group=group, label_delimiter=label_delimiter
    )


def with_empty_labels(
    frame: pandas.DataFrame, label: LabelColumns, delimiter: str | None
) -> pandas.DataFrame:
    """Take empty cells of a CSV file for rows without labels, where a delimiter is named."""
    if delimiter is None or not isinstance(label, str) or label not in frame.columns:
        return frame
    return frame.assign(**{label: frame[label].fillna("")})


def from_arrays(
    images: Any,  # Any: an array, a tensor, or a list of arrays or PIL images
    labels: Sequence[Any],
    *,
    group: Sequence[Any] | None = None,
) -> Table:
    """Look at pictures in memory: a stack, or a list of arrays, tensors or PIL images."""
    stack = split_stack(images)
    ids = [str(number) for number in range(len(stack))]
    return Table(stack, ids, plain_labels(labels, ids=ids), plain_groups(group))


def from_dataset(
    dataset: Any,  # Any: a torch Dataset, or one of Hugging Face, which we must not import
    *,
    image: str = "image",
    label: str = "label",
    group: str | None = None,
    noun: Noun = "image",
) -> Table:
    """Look at a dataset that somebody else made.

    Args:
        dataset: With a length; its items are dicts, or tuples with the input first.
        image: Column of inputs.
        label: Column of labels.
        group: Column of groups.
        noun: What the inputs are called in messages.

    Raises:
        DataError: It is a stream, a dict of several datasets, or lacks a column.
    """
    _check_columns_differ(image, label)
    if isinstance(dataset, dict):
        raise DataError(
            f"Got a dict of datasets ({', '.join(map(repr, dataset))}). Pass one of them as train "
            "and others as val= and test=."
        )
    if is_frame(dataset):
        raise DataError(f"Got {type(dataset).__name__} as a dataset; tables: from_data_frame.")
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        raise DataError(
            f"{type(dataset).__name__} is a stream: its items cannot be counted, split or fetched "
            "by position. Write them to files and use from_folders, or wrap them in a Dataset with "
            "__len__ and __getitem__."
        )
    if hasattr(dataset, "column_names"):
        return _from_hugging_face(dataset, image, label, group)
    ids = [str(number) for number in range(len(dataset))]
    if not ids:
        raise NoDataError("There are no inputs: the dataset is empty.")
    groups = (
        None
        if group is None
        else plain_groups([column_of(dataset[n], group, 2, noun) for n in range(len(ids))])
    )
    labels = plain_labels(_torch_labels(dataset, label, noun), ids=ids)
    return Table(DatasetImages(dataset, image, noun), ids, labels, groups)


def _from_hugging_face(dataset: Any, image: str, label: str, group: str | None) -> Table:
    names = list(dataset.column_names)
    empty = pandas.DataFrame(columns=names)
    for name in (image, label, *([] if group is None else [group])):
        column(empty, name)  # raises with the real columns
    ids = [str(number) for number in range(len(dataset))]
    values = _named(list(dataset[label]), dataset.features[label])
    labels = plain_labels(values, ids=ids)
    groups = None if group is None else plain_groups(list(dataset[group]))
    only = dataset.select_columns([image]) if hasattr(dataset, "select_columns") else dataset
    return Table(DatasetImages(only, image), ids, labels, groups)


def _named(values: list[Any], feature: Any) -> list[Any]:
    """Put names in place of positions where the feature is a ClassLabel, or a list of them."""
    names = getattr(feature, "names", None)
    if names is not None:  # -1 is its word for "no label"
        return [None if value in (None, -1) else names[value] for value in values]
    names = getattr(getattr(feature, "feature", None), "names", None)
    if names is not None:
        return [None if row is None else [names[value] for value in row] for row in values]
    return values


def _torch_labels(dataset: Any, label: str, noun: Noun) -> Sequence[Any]:
    targets: Any = getattr(dataset, "targets", None)
    if targets is None or len(targets) != len(dataset):
        return [column_of(dataset[number], label, 1, noun) for number in range(len(dataset))]
    if getattr(targets, "ndim", 1) > 1:
        rows: Sequence[Any] = targets  # which is refused, with words on what to do
        return rows
    names: Any = getattr(dataset, "classes", None)
    values = targets.tolist() if hasattr(targets, "tolist") else list(targets)
    named = isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    if named and all(type(value) is int and 0 <= value < len(names) for value in values):
        return [names[value] for value in values]
    return values


class DatasetImages(Sequence[Any]):
    """The pictures of a dataset whose items are dicts, or tuples with the picture first.

    Any: what a dataset keeps. An item that fails comes back as its exception, because one broken
    picture must not stop a run.
    """

    def __init__(self, dataset: Any, image: str, noun: Noun = "image") -> None:
        self._dataset = dataset
        self._image = image
        self._noun: Noun = noun

    def __len__(self) -> int:
        return len(self._dataset)

    def fingerprint(self) -> str | None:
        """Answer with what tells a Hugging Face dataset from others; None for any other kind."""
        made = getattr(self._dataset, "_fingerprint", None)
        return f"{made} {self._image}" if isinstance(made, str) else None

    def __getitem__(self, index: Any) -> Any:
        try:
            value = column_of(self._dataset[index], self._image, 0, self._noun)
        except DataError:
            raise
        except Exception as error:  # a dataset of somebody else may raise anything
            return error
        if isinstance(value, dict) and {"bytes", "path"} <= set(value):  # undecoded Hugging Face
            return value["bytes"] if value["bytes"] is not None else value["path"]
        return value


def column_of(item: Any, name: str, position: int, noun: Noun = "image") -> Any:
    """Take a column out of an item of a dataset, which is a dict or a tuple in this order.

    Raises:
        DataError: The item has no such column, or is neither.
    """
    if isinstance(item, dict):
        if name not in item:
            raise DataError(
                f"The items of the dataset have no {name!r} but {', '.join(map(repr, item))}. "
                f"Name the columns with {noun}= and label=."
            )
        return item[name]
    if isinstance(item, tuple | list) and len(item) > position:
        return item[position]
    raise DataError(
        f"An item of the dataset is {type(item).__name__}; expected a tuple ({noun}, label) or a "
        "dict of columns."
    )


def plain_groups(values: Any) -> list[str] | None:
    """Turn groups of any container into texts.

    Any in the type: a list, an array, a tensor, or what is refused here.

    Raises:
        DataError: They are no groups, or one is missing.
    """
    if values is None:
        return None
    if isinstance(values, str) or callable(values) or not isinstance(values, Iterable):
        raise DataError(f"group={values!r}: expected one group per input.")
    groups = values.tolist() if isinstance(values, np.ndarray | torch.Tensor) else list(values)
    check_no_missing(groups, what="group", ids=[])
    return [str(value) for value in groups]


def _existing_folder(folder: str | Path, layout: str) -> Path:
    if not isinstance(folder, str | Path):
        raise DataError(f"Got {shown(folder)}: expected the path of a folder. {layout}")
    root = Path(folder)
    if not root.exists():
        raise NoDataError(f"There is no folder {root} (looked in {Path.cwd()}). {layout}")
    if not root.is_dir():
        raise DataError(f"{root} is a file, not a folder. {layout}")
    return root
