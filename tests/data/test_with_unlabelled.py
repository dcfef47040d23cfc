from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mealkit import ImageData, ImageSpec
from mealkit.data.inputs import samples_from
from mealkit.data.views import View
from mealkit.data.weak_strong import PictureViews
from mealkit.data.with_unlabelled import WithUnlabelled
from mealkit.errors import InvalidValueError, NoDataError

SPEC = ImageSpec(size=(16, 16))


@pytest.fixture
def labelled(photos: Path) -> ImageData:
    return ImageData.from_folders(photos / "train", val=photos / "val", test=photos / "test")


@pytest.fixture
def pair(labelled: ImageData) -> WithUnlabelled:
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    samples = samples_from(images).samples
    views = PictureViews(labelled)
    data = WithUnlabelled(labelled, samples, views=views, ratio=2, method="fixmatch")
    data.batch_size = 8
    data.prepare(SPEC)
    return data


def test_a_batch_has_unlabelled_rows_beside_the_labelled(pair: WithUnlabelled):
    loader = pair.train_dataloader()
    batches = list(loader)
    # 36 labelled in batches of 8 are 5; 50 unlabelled in batches of 16 are 4
    assert len(batches) == len(loader) == 5
    for batch in batches:
        assert len(batch["index"]) == len(batch["target"]) == 8
        assert torch.equal(batch["target"], pair.train.targets[batch["index"]])
        beside = batch["unlabelled"]
        assert set(beside) == {"image", "index", "draw"}
        assert len(beside["index"]) == 16
        assert torch.equal(beside["index"], beside["draw"] % 86 - 36)
    seen = torch.cat([batch["unlabelled"]["index"] for batch in batches])
    assert torch.bincount(seen, minlength=50).min() >= 1
    assert torch.bincount(seen[:50], minlength=50).max() == 1
    first = torch.cat([batch["index"] for batch in batches])[:36]
    assert sorted(first.tolist()) == list(range(36))


def test_a_picture_that_comes_twice_is_changed_in_two_ways(
    pair: WithUnlabelled, labelled: ImageData
):
    total = len(pair.train)
    batch = pair.train.__getitems__([3, 3 + total, 40, 40 + total])
    assert batch["index"].tolist() == [3, 3]
    assert batch["unlabelled"]["index"].tolist() == [4, 4]
    labelled.augment = View(flip=0.5, scale=(0.5, 1.0))
    changed = pair.augment_batch(batch, epoch=0)
    assert changed["index"].tolist() == [3, 3]
    assert not torch.equal(changed["image"][0], changed["image"][1])
    for view in ("weak", "strong"):
        images = changed["unlabelled"][view]["image"]
        assert not torch.equal(images[0], images[1])
    again = pair.augment_batch(batch, epoch=0)
    assert torch.equal(again["unlabelled"]["strong"]["image"], images)
    assert "image" not in changed["unlabelled"]


def test_alone_it_has_as_many_batches_of_labels_only(pair: WithUnlabelled):
    alone = pair.alone()
    alone.batch_size = 8
    alone.prepare(SPEC)
    batches = list(alone.train_dataloader())
    assert len(batches) == 5
    assert all("unlabelled" not in batch for batch in batches)
    assert "unlabelled" not in alone.augment_batch(batches[0], epoch=0)
    assert "labels alone" in alone.sees
    assert "2 of 50 unlabelled beside each; fixmatch" in pair.sees
    assert not pair.caches


def test_fewer_labels_than_a_batch_make_a_batch(labelled: ImageData):
    images = samples_from(torch.zeros(500, 3, 8, 8, dtype=torch.uint8)).samples
    pair = WithUnlabelled(
        labelled, images, ratio=2, method="fixmatch", views=PictureViews(labelled)
    )
    pair.batch_size = 64
    pair.prepare(SPEC)
    batch = next(iter(pair.train_dataloader()))
    assert sorted(batch["index"].tolist()) == list(range(36))
    assert len(batch["unlabelled"]["index"]) == 72


def test_what_cannot_be_paired_is_refused(labelled: ImageData):
    images = samples_from(torch.zeros(4, 3, 8, 8)).samples
    labelled.balance = "sampler"
    with pytest.raises(InvalidValueError, match="balance='sampler' beside unlabelled="):
        WithUnlabelled(labelled, images, ratio=1, method="fixmatch", views=PictureViews(labelled))
    labelled.train = None
    with pytest.raises(NoDataError, match="no labelled inputs"):
        WithUnlabelled(labelled, images, ratio=1, method="fixmatch", views=PictureViews(labelled))
