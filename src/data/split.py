"""Who goes to validation, decided by what an item is and not by where it stands."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

from ..errors import InvalidValueError


def split_by_hash(
    keys: Sequence[str], targets: Sequence[int], *, share: float, seed: int
) -> list[bool]:
    """Choose the items for validation, as a pure function of the set of items.

    An item is chosen if the hash of its key, a number in [0, 1), is below the share; so adding
    items leaves the others where they are. Items with the same key stay together. A class of which
    nothing was chosen gives the key with its smallest hash, and one of which everything was chosen
    keeps the key with its largest: those are the only items whose side depends on others. A class
    with a single key stays in train where it can.

    Args:
        keys: What each item is: the digest of its content, or its group.
        targets: The class of each item.
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
    classes: dict[int, set[str]] = defaultdict(set)
    for key, target in zip(keys, targets, strict=True):
        classes[target].add(key)
    chosen = {key for key, (fraction, _) in rank.items() if fraction < share}
    for members in classes.values():
        if len(members) > 1 and not members & chosen:
            chosen.add(min(members, key=rank.__getitem__))
    # Last, because a class must be trained on before it can be validated.
    for members in classes.values():
        if members <= chosen:
            chosen.remove(max(members, key=rank.__getitem__))
    return [key in chosen for key in keys]


def folds_by_hash(keys: Sequence[str], targets: Sequence[int], *, k: int, seed: int) -> list[int]:
    """Deal items out to folds of equal classes, as a pure function of the set of items.

    Keys come in the order of their hashes, and each goes to the fold with the fewest items of its
    class. Unlike in `split_by_hash`, items that are added may move others: folds of one size, with
    all classes in each, are worth more here than folds that stay. Items with the same key stay
    together. A key without which a class would not be trained on is in no fold.

    Args:
        keys: What each item is: the digest of its content, or its group.
        targets: The class of each item.
        k: Number of folds.
        seed: Another seed gives other folds.

    Returns:
        The fold of each item, from 0; -1 for none.

    Raises:
        InvalidValueError: There are fewer than two folds, or fewer keys to deal out than folds.
    """
    classes: dict[str, Counter[int]] = defaultdict(Counter)
    members: dict[int, set[str]] = defaultdict(set)
    for key, target in zip(keys, targets, strict=True):
        classes[key][target] += 1
        members[target].add(key)
    needed = {key for some in members.values() if len(some) == 1 for key in some}
    dealt = sorted(classes.keys() - needed, key=lambda key: (_fraction(key, seed), key))
    if not 2 <= k <= len(dealt):
        raise InvalidValueError(
            f"k={k}: expected at least 2 folds, and at most the {len(dealt):,} different inputs or "
            "groups whose classes are in others, too."
        )
    of_class: list[Counter[int]] = [Counter() for _ in range(k)]
    fold_of = dict.fromkeys(needed, -1)
    for key in dealt:
        main = max(classes[key], key=lambda target: (classes[key][target], -target))
        fold = min(range(k), key=lambda fold: (of_class[fold][main], of_class[fold].total(), fold))
        of_class[fold] += classes[key]
        fold_of[key] = fold
    return [fold_of[key] for key in keys]


def _fraction(key: str, seed: int) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=b"%d" % seed)
    return int.from_bytes(digest.digest(), "big") / 2**64
