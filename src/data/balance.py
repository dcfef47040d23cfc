"""Classes that are rare: how much a training row of each weighs, or how often it is drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from ..errors import InvalidValueError, check_number, unknown_name

if TYPE_CHECKING:
    from torch import Tensor

Balance = Literal["weights", "sampler"] | Mapping[str, float] | Mapping[int, float] | None
"""None leaves rows as they are; a mapping gives the weight of each class that it names."""

BALANCES = ("weights", "sampler")


def row_weights(
    balance: Balance, targets: Tensor | None, classes: Sequence[str], *, multi_label: bool = False
) -> Tensor | None:
    """Answer with a weight per training row, (N,), whose mean is 1; None for no balance.

    By name, every class that has rows weighs the same in all: a row weighs N over the number of
    such classes and the rows of its own class (King and Zeng 2001, doi:10.1093/oxfordjournals.pan
    .a004868). In a mapping, classes that are not named weigh 1 before the mean is brought to 1.

    Where rows have any number of labels, every class is a question of its own, and the answer is a
    weight per row and class, (N, K), whose mean over the rows is 1 for each class. By name, the
    rows that have the label weigh the same in all as those without it; in a mapping, a row that has
    it weighs so many times as one without.

    Args:
        balance: A name of `BALANCES`, or weights by the names of classes.
        targets: Position of the class of each row, (N,), or 0 and 1 for each class, (N, K).
        classes: Names in the order of the positions.
        multi_label: Whether rows have any number of labels.

    Raises:
        UnknownNameError: There is no such balance, or no such class.
        InvalidValueError: A weight is not a positive number, the targets are no classes, or rows
            with several labels are to be drawn by class.
    """
    if balance is None:
        return None
    wanted = 2 if multi_label else 1
    if targets is None or targets.ndim != wanted or targets.is_floating_point() or not classes:
        raise InvalidValueError(
            f"balance={balance!r}: expected data with one class per row. Leave balance at None."
        )
    if multi_label:
        return _cell_weights(balance, targets, classes)
    if isinstance(balance, Mapping):
        by_class = _given(balance, classes)
    elif balance in BALANCES:
        # A class without rows is never looked up; 1 row avoids the division by none.
        by_class = 1 / torch.bincount(targets, minlength=len(classes)).clamp_min(1).double()
    else:
        raise unknown_name("balance", str(balance), BALANCES)
    weights = by_class[targets]
    return (weights / weights.mean()).float()


def _cell_weights(
    balance: Literal["weights", "sampler"] | Mapping[Any, float],
    targets: Tensor,
    classes: Sequence[str],
) -> Tensor:
    if balance == "sampler":
        raise InvalidValueError(
            "balance='sampler': a row is drawn with all its labels, the common ones beside the "
            "rare, so drawing cannot make classes equally frequent. Use balance='weights'."
        )
    num_with = targets.sum(0).double()
    if isinstance(balance, Mapping):
        positive = _given(balance, classes)
    elif balance == "weights":
        positive = (len(targets) - num_with).clamp_min(1) / num_with.clamp_min(1)
    else:
        raise unknown_name("balance", str(balance), BALANCES)
    weights = torch.where(targets == 1, positive.float(), torch.ones(()))
    return weights / weights.mean(0)


def _given(balance: Mapping[Any, float], classes: Sequence[str]) -> Tensor:
    weights = dict.fromkeys(classes, 1.0)  # Any above: names may be texts or integers
    if not balance:
        raise InvalidValueError("balance={} names no class: give classes with weights, or None.")
    for name, weight in balance.items():
        if str(name) not in weights:
            raise unknown_name("class", str(name), classes)
        check_number(f"balance of {name!r}", weight, "(0, inf)")
        weights[str(name)] = float(weight)
    return torch.tensor(list(weights.values()), dtype=torch.float64)


def plain_balance(balance: Balance) -> Any:  # Any: JSON
    """Answer with a balance as it goes to JSON: names and plain numbers."""
    if balance is None or isinstance(balance, str):
        return balance
    return {str(name): float(weight) for name, weight in balance.items()}


def draw_rows(weights: Tensor, count: int, *, seed: int, epoch: int) -> list[int]:
    """Draw rows with replacement, each as often as it weighs, as a pure function of (seed, epoch).

    Args:
        weights: One per row, (N,).
        count: How many to draw.
        seed: Decides, with the epoch, what is drawn.
        epoch: Counted from 0.
    """
    generator = torch.Generator().manual_seed(seed + epoch)
    # Not torch.multinomial, which takes at most 2^24 rows.
    ends = weights.double().cumsum(0)
    points = torch.rand(count, generator=generator, dtype=torch.float64) * ends[-1]
    rows = torch.searchsorted(ends, points, right=True).clamp_max(len(weights) - 1)
    return [int(row) for row in rows.tolist()]
