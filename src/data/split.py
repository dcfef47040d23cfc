"""Who goes to validation, decided by what an item is and not by where it stands."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from ..errors import InvalidValueError, check_count

if TYPE_CHECKING:
    from torch import Tensor


def classes_of(targets: Tensor) -> list[list[int]]:
    """Answer with the classes of each item: one, or any number where targets are rows of 0 and 1.

    Args:
        targets: Positions of classes, (N,), or 0 and 1 for each class, (N, K).
    """
    if targets.ndim == 1:
        return [[target] for target in targets.tolist()]
    rows: list[list[int]] = [[] for _ in range(len(targets))]
    for row, target in targets.nonzero().tolist():
        rows[row].append(target)
    return rows


def rows_per_class(targets: Tensor, num_classes: int) -> Tensor:
    """Count the items of each class, (K,).

    Args:
        targets: As in `classes_of`.
        num_classes: K.
    """
    if targets.ndim == 2:
        return targets.sum(0)
    return targets.bincount(minlength=num_classes)


def split_by_hash(
    keys: Sequence[str], targets: Sequence[Sequence[int]], *, share: float, seed: int
) -> list[bool]:
    """Choose the items for validation, as a pure function of the set of items.

    An item is chosen if the hash of its key, a number in [0, 1), is below the share; so adding
    items leaves the others where they are. Items with the same key stay together. A class of which
    nothing was chosen gives the key with its smallest hash, and one of which everything was chosen
    keeps the key with its largest: those are the only items whose side depends on others. A class
    with a single key stays in train where it can. So does a class all of whose keys are needed in
    train by others, where items have several.

    Args:
        keys: What each item is: the digest of its content, or its group.
        targets: The classes of each item.
        share: Wished share of validation, in [0, 1).
        seed: Another seed is another split.

    Returns:
        True for the items in validation.

    Raises:
        InvalidValueError: The share is outside [0, 1).
    """
    if not 0 <= share < 1:
        raise InvalidValueError(f"split={share}: expected a share in [0, 1); 0 is no validation.")
    if share == 0:
        return [False] * len(keys)
    rank = {key: (_fraction(key, seed), key) for key in set(keys)}
    classes = _keys_of(keys, targets)
    chosen = {key for key, (fraction, _) in rank.items() if fraction < share}
    for members in classes.values():
        if len(members) > 1 and not members & chosen:
            chosen.add(min(members, key=rank.__getitem__))
    # Last, because a class must be trained on before it can be validated.
    for members in classes.values():
        if members <= chosen:
            chosen.remove(max(members, key=rank.__getitem__))
    return [key in chosen for key in keys]


def _keys_of(keys: Sequence[str], targets: Sequence[Sequence[int]]) -> dict[int, set[str]]:
    """Answer with the keys of the items of each class."""
    members: dict[int, set[str]] = defaultdict(set)
    for key, several in zip(keys, targets, strict=True):
        for target in several:
            members[target].add(key)
    return members


def folds_by_hash(
    keys: Sequence[str], targets: Sequence[Sequence[int]], *, k: int, seed: int
) -> list[int]:
    """Deal items out to folds of equal classes, as a pure function of the set of items.

    Keys come in the order of their hashes, and each goes to the fold with the fewest items of its
    class. Where items have several classes, the rarest class among those that are left is dealt out
    first (iterative stratification, Sechidis et al. 2011, doi:10.1007/978-3-642-23808-6_10), items
    without a class come last. Unlike in `split_by_hash`, items that are added may move others:
    folds of one size, with all classes in each, are worth more here than folds that stay. Items
    with the same key stay together. A key without which a class would not be trained on is in no
    fold.

    Args:
        keys: What each item is: the digest of its content, or its group.
        targets: The classes of each item.
        k: Number of folds.
        seed: Another seed gives other folds.

    Returns:
        The fold of each item, from 0; -1 for none.

    Raises:
        InvalidValueError: There are fewer than two folds, or fewer keys to deal out than folds.
    """
    classes: dict[str, Counter[int]] = {key: Counter() for key in keys}
    for key, several in zip(keys, targets, strict=True):
        classes[key].update(several)
    members = _keys_of(keys, targets).values()
    needed = {key for some in members if len(some) == 1 for key in some}
    dealt = sorted(classes.keys() - needed, key=lambda key: (_fraction(key, seed), key))
    check_count("k", k, least=2)
    if k > len(dealt):
        raise InvalidValueError(
            f"k={k}: expected at most the {len(dealt):,} different inputs or groups whose classes "
            "are in others, too."
        )
    num_items = Counter(keys)
    of_class: list[Counter[int]] = [Counter() for _ in range(k)]
    sizes = [0] * k
    fold_of = dict.fromkeys(needed, -1)
    single = all(len(several) == 1 for several in targets)
    for key, main in _by_main(dealt, classes) if single else _rarest_first(dealt, classes):
        fold = min(range(k), key=lambda fold: (of_class[fold][main], sizes[fold], fold))
        of_class[fold] += classes[key]
        sizes[fold] += num_items[key]
        fold_of[key] = fold
    return [fold_of[key] for key in keys]


_NONE = -1
"""In place of a class, for items without one."""


def _by_main(keys: Sequence[str], classes: Mapping[str, Counter[int]]) -> Iterator[tuple[str, int]]:
    """Yield keys in their order, each with the class that most of its items have."""
    for key in keys:
        yield key, max(classes[key], key=lambda target: (classes[key][target], -target))


def _rarest_first(
    keys: Sequence[str], classes: Mapping[str, Counter[int]]
) -> Iterator[tuple[str, int]]:
    """Yield the keys of the class with the fewest items left, then of the next, each with it."""
    left = dict.fromkeys(keys)  # an ordered set
    counts: Counter[int] = Counter()
    for key in keys:
        counts.update(classes[key])
    while counts:
        rarest = min(counts, key=lambda target: (counts[target], target))
        for key in [key for key in left if rarest in classes[key]]:
            del left[key]
            counts -= classes[key]  # which drops classes of which nothing is left
            yield key, rarest
    for key in left:
        yield key, _NONE


def _fraction(key: str, seed: int) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=b"%d" % seed)
    return int.from_bytes(digest.digest(), "big") / 2**64
