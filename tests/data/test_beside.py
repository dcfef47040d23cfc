from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mealkit import ImageData, ImageSpec
from mealkit.data import TextData, TextSamples
from mealkit.data.beside import Beside, PairedBatches
from mealkit.data.inputs import samples_from
from mealkit.specs import TextSpec


@pytest.fixture
def labelled(photos: Path) -> ImageData:
    return ImageData.from_folders(photos / "train", val=photos / "val")


def test_orders_are_a_function_of_seed_and_epoch_and_shared_by_processes(labelled: ImageData):
    images = torch.zeros(50, 3, 8, 8, dtype=torch.uint8)
    beside = Beside(labelled.train, samples_from(images).samples)
    settings = {"num_rows": 4, "ratio": 3, "num_batches": 6, "seed": 1}
    whole = PairedBatches(beside, **settings)
    assert list(whole) == list(whole)
    whole.set_epoch(1)
    later = list(whole)
    assert later != list(PairedBatches(beside, **settings))
    parts = [PairedBatches(beside, **settings, num_processes=2, rank=rank) for rank in (0, 1)]
    for part in parts:
        part.set_epoch(1)
    assert [len(part) for part in parts] == [3, 3]
    together = [batch for two in zip(*parts, strict=True) for batch in two]
    assert together == later
    whole.start = 4
    assert list(whole) == later[4:]


def test_pictures_that_go_bad_leave_both_kinds_of_rows(labelled: ImageData, tmp_path: Path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    good = [str(path) for path in sorted(tmp_path.parent.glob("**/circle*.jpg"))][:3]
    bad = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    beside = Beside(labelled.train, samples_from([*bad, *good]).samples)
    beside.prepare(ImageSpec(size=(16, 16)))
    batch = beside.__getitems__([0, 36, 40, 41])
    assert batch["unlabelled"]["index"].tolist() == [4, 5]
    assert batch["unlabelled"]["draw"].tolist() == [40, 41]
    assert batch["failed"].tolist() == [36]
    assert beside.ids[36] == bad[0]
    assert "picture" in beside.why(36) or "image" in beside.why(36)


def test_texts_are_fetched_beside_texts(words: TextSpec):
    data = TextData.from_lists(["a b", "c d e", "a", "b"], ["x", "y"] * 2, split=0)
    others = TextSamples(["a b c d", "e"], ids=["0", "1"])
    beside = Beside(data.train, others)
    beside.prepare(words)
    batch = beside.__getitems__([1, 4, 5, 4 + 6])
    assert batch["input_ids"].tolist() == [[2, 6, 7, 8, 3]]
    assert batch["target"].tolist() == [1]
    inner = batch["unlabelled"]
    assert inner["draw"].tolist() == [4, 5, 10]
    assert inner["index"].tolist() == [0, 1, 0]
    long = [2, 4, 5, 6, 7, 3]
    assert inner["input_ids"].tolist() == [long, [2, 8, 3, 0, 0, 0], long]
    assert "target" not in inner
