"""Samples that stand on other samples."""

import pytest
import torch

from mealkit import ImageSpec
from mealkit.data import ImageSamples, Subset


class Words:
    """Samples of varying length, of which number 3 cannot be read."""

    ids = ("a", "bb", "ccc", "dddd", "eeeee")
    targets = torch.tensor([0, 1, 0, 1, 1])
    lengths = torch.tensor([1, 2, 3, 4, 5])

    def __len__(self) -> int:
        return 5

    def prepare(self, input_spec) -> None:
        self.spec = input_spec

    def __getitems__(self, indices):
        good = [index for index in indices if index != 3]
        batch = {"index": torch.tensor(good), "target": self.targets[good]}
        return batch | ({"failed": torch.tensor([3])} if 3 in indices else {})

    def why(self, index: int) -> str:
        return f"{self.ids[index]} is broken"


def test_a_subset_counts_from_zero() -> None:
    words = Words()
    some = Subset(words, [4, 3, 1])
    assert len(some) == 3
    assert list(some.ids) == ["eeeee", "dddd", "bb"]
    assert some.targets.tolist() == [1, 1, 1]
    assert some.lengths.tolist() == [5, 4, 2]
    batch = some.__getitems__([2, 1, 0])
    assert batch["index"].tolist() == [2, 0]
    assert batch["target"].tolist() == [1, 1]
    assert batch["failed"].tolist() == [1]
    assert some.why(1) == "dddd is broken"
    some.prepare("what the net wants")
    assert words.spec == "what the net wants"


def test_a_subset_of_a_subset_reaches_the_same_inputs() -> None:
    inner = Subset(Subset(Words(), [4, 2, 1]), [2, 0])
    assert list(inner.ids) == ["bb", "eeeee"]
    assert inner.__getitems__([0, 1])["index"].tolist() == [0, 1]


def test_a_subset_of_pictures_has_their_pixels(photos) -> None:
    paths = sorted(photos.glob("test/*/*"))
    every = ImageSamples(paths, ids=list(map(str, paths)))
    some = Subset(every, [7, 2])
    some.prepare(ImageSpec(size=(16, 16)))
    assert some.targets is None
    assert some.lengths is None
    expected = every.__getitems__([2, 7])["image"]
    assert torch.equal(some.__getitems__([1, 0])["image"], expected)
    with pytest.raises(IndexError):
        some.__getitems__([2])
