"""Who goes to validation, decided by what an item is and not by where it stands."""

from __future__ import annotations

import hashlib
from collections import defaultdict
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


def _fraction(key: str, seed: int) -> float:
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, key=b"%d" % seed)
    return int.from_bytes(digest.digest(), "big") / 2**64
