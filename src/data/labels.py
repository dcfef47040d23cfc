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


def plain_labels(labels: Iterable[Any], *, ids: Sequence[str]) -> list[Label]:
    """Turn labels of any container (list, array, tensor, Series) into plain str or int.

    Any in the type: everything that is no label is refused here.

    Raises:
        DataError: A label is missing.
        ClassError: A label is neither text nor an integer.
    """
    if isinstance(labels, str | bytes):
        raise ClassError(f"labels={labels!r}: expected one label per input, not one text.")
    values: list[Any] = labels.tolist() if hasattr(labels, "tolist") else list(labels)
    check_no_missing(values, what="label", ids=ids)
    return [_plain(value, row) for row, value in enumerate(values)]


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
        "list": "one label per input is supported, not several",
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
    """

    names: tuple[str, ...]
    integers: bool | None = None

    @classmethod
    def learn(cls, labels: Sequence[Label]) -> Classes:
        """Collect the classes of a training part, integers by value and texts in natural order.

        In natural order "class2" stands before "class10".

        Raises:
            ClassError: Labels are of mixed types, or of fewer than two classes.
        """
        integers = [isinstance(label, int) for label in labels]
        if any(integers) and not all(integers):
            raise ClassError(
                f"Labels are text in {integers.count(False):,} rows and integers in "
                f"{integers.count(True):,} (as {labels[integers.index(False)]!r} and "
                f"{labels[integers.index(True)]!r}). Use one type for all."
            )
        distinct = set(labels)
        if len(distinct) < 2:
            raise ClassError(
                f"The training part has {len(distinct)} class: {sorted(map(str, distinct))}. A "
                "classifier needs at least two."
            )
        names = sorted((str(label) for label in distinct), key=natural)
        if all(integers):
            names = [str(label) for label in sorted(distinct, key=int)]
        return cls(tuple(names), integers=all(integers))

    def encode(self, labels: Sequence[Label], *, part: str, ids: Sequence[str]) -> Tensor:
        """Answer with the positions of labels among the classes, (N,) of int64.

        Args:
            labels: One per input.
            part: Whose labels they are, for messages.
            ids: Names of the inputs, for messages.

        Raises:
            ClassError: A label is none of the classes, or of another type than those.
        """
        self._check_type(labels, part)
        position = {name: number for number, name in enumerate(self.names)}
        unseen = Counter(str(label) for label in labels if str(label) not in position)
        if unseen:
            label, count = unseen.most_common(1)[0]
            example = next(id for id, other in zip(ids, labels, strict=True) if str(other) == label)
            raise ClassError(
                f"The {part} part has labels that the training part lacks: {len(unseen)} in all, "
                f"most often {label!r} ({count:,} times, for example {example}). Known are "
                f"{_some(self.names)}. Add training examples, or take these inputs out."
            )
        return torch.tensor([position[str(label)] for label in labels], dtype=torch.int64)

    def _check_type(self, labels: Sequence[Label], part: str) -> None:
        if self.integers is None:
            return
        for label in labels:
            if isinstance(label, int) != self.integers:
                kinds = ("integers", "text") if self.integers else ("text", "integers")
                raise ClassError(
                    f"The labels of the training part are {kinds[0]} and those of the {part} part "
                    f"{kinds[1]} ({label!r}). Use one type for both."
                )


def natural(text: str) -> tuple[list[str | int], str]:
    """Answer with a sort key that reads digits in texts as numbers."""
    parts = re.split(r"(\d+)", text)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], text


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"
