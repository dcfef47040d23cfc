"""Classes are learnt from the training part and checked in every other."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import ClassError
from .frames import check_no_missing

if TYPE_CHECKING:
    from torch import Tensor

Label = str | int
LabelSet = tuple[Label, ...]
"""The labels of an input that may have several, or none; in natural order, no two alike."""

Labels = Sequence[Label | LabelSet]
"""One label per input, or one set of labels per input; never some of each."""


def plain_labels(labels: Iterable[Any], *, ids: Sequence[str]) -> Labels:
    """Turn labels of any container (list, array, tensor, Series) into plain str or int, or sets.

    Where every value is a list of labels (or a tuple, a set, an array of one axis), inputs have
    several labels each. A text is one label, whatever is in it.

    Any in the type: everything that is no label is refused here.

    Raises:
        DataError: A label is missing.
        ClassError: A label is neither text nor an integer, or stands twice in a row.
    """
    if isinstance(labels, str | bytes):
        raise ClassError(f"labels={labels!r}: expected one label per input, not one text.")
    if (num_axes := getattr(labels, "ndim", 1)) > 1:
        raise ClassError(
            f"The labels are an array of {num_axes} axes, which does not name its classes. "
            "Expected one label per input, or a list of labels per input: [[name for name, one in "
            "zip(names, row) if one] for row in labels]."
        )
    if not isinstance(labels, Iterable):
        raise ClassError(f"labels={labels!r}: expected one label per input.")
    values: list[Any] = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    check_no_missing(values, what="label", ids=ids)
    sets = [_several(value) for value in values]
    if all(one is None for one in sets):
        return [_plain(value, row) for row, value in enumerate(values)]
    if any(one is None for one in sets):
        _refuse_mixed(values, sets)
    return [to_set(one or (), row) for row, one in enumerate(sets)]


def is_multi_label(labels: Labels) -> bool:
    """Whether inputs have sets of labels, and not one label each."""
    return bool(labels) and isinstance(labels[0], tuple)


def members(label: Label | LabelSet) -> LabelSet:
    """Answer with the labels of a set, and with a single one as a set of one."""
    return label if isinstance(label, tuple) else (label,)


def as_texts(labels: Labels) -> Labels:
    """Answer with the same labels as texts: "3" of a CSV file and 3 of a frame become one."""
    return [tuple(map(str, one)) if isinstance(one, tuple) else str(one) for one in labels]


def in_words(label: Label | LabelSet) -> str:
    """Write a label, or a set of them, for a message."""
    return ", ".join(repr(str(one)) for one in members(label)) or "no label"


def to_set(values: Iterable[object], row: int) -> LabelSet:
    """Turn the labels of one input into a set.

    Raises:
        ClassError: One is no label, or stands twice.
    """
    labels = [_plain(value, row) for value in values]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ClassError(
            f"Row {row} has the label {twice!r} {labels.count(twice)} times: {labels}. Name each "
            "label once. If these are values of 0 and 1 per class, turn them into names, or use a "
            "table with a column per class."
        )
    return tuple(sorted(labels, key=lambda label: natural(str(label))))


def _several(value: Any) -> list[Any] | None:  # Any: what stands in a cell
    """Answer with the labels of a cell that holds several; None for one that does not."""
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if isinstance(value, np.ndarray | torch.Tensor) and value.ndim == 1:
        return list(value.tolist())
    if hasattr(value, "to_list"):  # a list in a frame of polars
        return list(value.to_list())
    return None


def _refuse_mixed(values: Sequence[object], sets: Sequence[list[Any] | None]) -> None:
    row = next(row for row, one in enumerate(sets) if one is not None)
    other = next(row for row, one in enumerate(sets) if one is None)
    raise ClassError(
        f"Row {row} has the label {values[row]!r} of type {type(values[row]).__name__}, and row "
        f"{other} has {values[other]!r}, which is one label, not several. Give a list of labels in "
        "every row (an empty one for none), or one label in every row."
    )


def _plain(value: object, row: int) -> Label:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, torch.Tensor) and value.ndim == 0:
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    hint = {
        "bool": "name the two classes: ['no', 'yes'][label]",
        "float": "turn whole numbers into int; other numbers are no classes",
    }.get(type(value).__name__, "use text or integers")
    raise ClassError(
        f"Row {row} has the label {value!r} of type {type(value).__name__}; expected str or int. "
        f"To go on, {hint}."
    )


@dataclass(frozen=True)
class Classes:
    """The labels that can be predicted.

    Args:
        names: Of the labels, in the order of the logits.
        integers: Whether the labels came as integers; None where that is not known.
        multi_label: Whether an input has any number of them, and not one.
    """

    names: tuple[str, ...]
    integers: bool | None = None
    multi_label: bool = False

    @classmethod
    def learn(cls, labels: Labels, *, names: Sequence[str] | None = None) -> Classes:
        """Collect the classes of a training part, integers by value and texts in natural order.

        In natural order "class2" stands before "class10".

        Args:
            labels: One label, or one set of labels, per input.
            names: Of the classes, where the source names them; None to collect them.

        Raises:
            ClassError: Labels are of mixed types, empty, of fewer than two classes, or no input
                has one of the named classes.
        """
        flat = [one for label in labels for one in members(label)]
        if "" in flat:
            row = next(row for row, label in enumerate(labels) if "" in members(label))
            raise ClassError(
                f"{flat.count(''):,} of the training rows have an empty text for a label, the "
                f"first is row {row} (counted from 0). Fill them in, or leave these rows out."
            )
        integers = [isinstance(label, int) for label in flat]
        if any(integers) and not all(integers):
            raise ClassError(
                f"Labels are text in {integers.count(False):,} rows and integers in "
                f"{integers.count(True):,} (as {flat[integers.index(False)]!r} and "
                f"{flat[integers.index(True)]!r}). Use one type for all."
            )
        distinct = set(flat)
        if names is not None:
            _check_named(names, distinct)
        elif len(distinct) < 2:
            raise ClassError(
                f"The training part has {len(distinct)} class: {sorted(map(str, distinct))}. A "
                "classifier needs at least two."
            )
        found = sorted((str(label) for label in distinct), key=natural)
        if all(integers):
            found = [str(label) for label in sorted(distinct, key=int)]
        return cls(
            tuple(found if names is None else names),
            integers=all(integers),
            multi_label=is_multi_label(labels),
        )

    def encode(self, labels: Labels, *, part: str, ids: Sequence[str]) -> Tensor:
        """Answer with the positions of labels among the classes, (N,) of int64.

        With several labels per input it is a row of 0 and 1 per input, (N, K) of uint8: small, and
        unlike bools processes can exchange it.

        Args:
            labels: One label, or one set of labels, per input.
            part: Whose labels they are, for messages.
            ids: Names of the inputs, for messages.

        Raises:
            ClassError: A label is none of the classes, or of another type than those.
        """
        self._check_type(labels, part)
        position = {name: number for number, name in enumerate(self.names)}
        given = [[str(one) for one in members(label)] for label in labels]
        unseen = Counter(one for row in given for one in row if one not in position)
        if unseen:
            label, count = unseen.most_common(1)[0]
            example = next(id for id, row in zip(ids, given, strict=True) if label in row)
            raise ClassError(
                f"The {part} part has labels that the training part lacks: {len(unseen)} in all, "
                f"most often {label!r} ({count:,} times, for example {example}). Known are "
                f"{_some(self.names)}. Add training examples, or take these inputs out."
            )
        if not self.multi_label:
            return torch.tensor([position[one] for (one,) in given], dtype=torch.int64)
        rows = [row for row, several in enumerate(given) for _ in several]
        columns = [position[one] for several in given for one in several]
        targets = torch.zeros(len(given), len(self.names), dtype=torch.uint8)
        targets[rows, columns] = 1
        return targets

    def _check_type(self, labels: Labels, part: str) -> None:
        if labels and is_multi_label(labels) is not self.multi_label:
            forms = ("lists of labels", "one label per input")
            learnt, got = forms if self.multi_label else forms[::-1]
            raise ClassError(
                f"The training part has {learnt}, and the {part} part has {got} "
                f"({labels[0]!r}). Use one form for both."
            )
        if self.integers is None:
            return
        for label in (one for row in labels for one in members(row)):
            if isinstance(label, int) != self.integers:
                kinds = ("integers", "text") if self.integers else ("text", "integers")
                raise ClassError(
                    f"The labels of the training part are {kinds[0]} and those of the {part} part "
                    f"{kinds[1]} ({label!r}). Use one type for both."
                )


def _check_named(names: Sequence[str], found: set[Label]) -> None:
    absent = [name for name in names if name not in found]
    if absent:
        raise ClassError(
            f"No training input has the label {_some(absent)}: the column holds nothing but 0, so "
            "there is nothing to learn of it. Leave it out of label=, or add examples."
        )


def natural(text: str) -> tuple[list[str | int], str]:
    """Answer with a sort key that reads digits in texts as numbers."""
    parts = re.split(r"(\d+)", text)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], text


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
