"""Digests of many parts."""

from mealkit.data.digest import digest_of


def test_parts_their_order_and_their_borders_count() -> None:
    digests = [digest_of(parts) for parts in (["ab", "c"], ["a", "bc"], ["c", "ab"], ["abc"], [])]
    assert len(set(digests)) == 5
    assert digest_of(["ab", b"c"]) == digests[0]
    assert digest_of(iter(["ab", "c"])) == digests[0]


def test_names_that_are_no_unicode_have_a_digest() -> None:
    assert digest_of(["caf\udce9"]) != digest_of(["cafe"])  # as os.fsdecode makes of b"caf\xe9"
