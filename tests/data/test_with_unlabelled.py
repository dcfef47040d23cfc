from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from mealkit import ImageData, ImageSpec
from mealkit.data.inputs import samples_from
from mealkit.data.views import View
from mealkit.data.with_unlabelled import Beside, PairedBatches, WithUnlabelled, check_unlabelled
from mealkit.errors import InvalidValueError, NoDataError, UnreadableError

SPEC = ImageSpec(size=(16, 16))


@pytest.fixture
def labelled(photos: Path) -> ImageData:
    return ImageData.from_folders(photos / "train", val=photos / "val", test=photos / "test")


@pytest.fixture
def pair(labelled: ImageData) -> WithUnlabelled:
    images = torch.randint(0, 256, (50, 3, 16, 16), dtype=torch.uint8)
    data = WithUnlabelled(labelled, samples_from(images).samples, ratio=2, method="fixmatch")
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


def test_orders_are_a_function_of_seed_and_epoch_and_shared_by_processes(pair: WithUnlabelled):
    beside = pair.train
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


def test_a_picture_that_comes_twice_is_changed_in_two_ways(pair: WithUnlabelled):
    total = len(pair.train)
    batch = pair.train.__getitems__([3, 3 + total, 40, 40 + total])
    assert batch["index"].tolist() == [3, 3]
    assert batch["unlabelled"]["index"].tolist() == [4, 4]
    pair.augment = View(flip=0.5, scale=(0.5, 1.0))
    changed = pair.augment_batch(batch, epoch=0)
    assert changed["index"].tolist() == [3, 3]
    assert not torch.equal(changed["image"][0], changed["image"][1])
    for view in ("weak", "strong"):
        images = changed["unlabelled"][view]["image"]
        assert not torch.equal(images[0], images[1])
    again = pair.augment_batch(batch, epoch=0)
    assert torch.equal(again["unlabelled"]["strong"]["image"], images)
    assert "image" not in changed["unlabelled"]


def test_without_augmentation_the_weak_view_is_the_picture(pair: WithUnlabelled):
    pair.augment = "none"
    batch = pair.train.__getitems__([0, *range(40, 60)])
    views = pair.augment_batch(batch, epoch=0)["unlabelled"]
    assert torch.equal(views["weak"]["image"], batch["unlabelled"]["image"])
    assert not torch.equal(views["strong"]["image"], batch["unlabelled"]["image"])


def test_floats_beside_bytes_are_put_on_one_scale(labelled: ImageData):
    floats = samples_from(torch.rand(10, 3, 16, 16)).samples
    pair = WithUnlabelled(labelled, floats, ratio=2, method="fixmatch")
    pair.prepare(SPEC)
    batch = pair.augment_batch(pair.train.__getitems__([0, 1, 36, 37]), epoch=0)
    assert batch["image"].dtype == batch["unlabelled"]["strong"]["image"].dtype == torch.float32
    assert batch["image"].max() <= 1


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
    pair = WithUnlabelled(labelled, images, ratio=2, method="fixmatch")
    pair.batch_size = 64
    pair.prepare(SPEC)
    batch = next(iter(pair.train_dataloader()))
    assert sorted(batch["index"].tolist()) == list(range(36))
    assert len(batch["unlabelled"]["index"]) == 72


def test_pictures_that_go_bad_leave_both_kinds_of_rows(labelled: ImageData, tmp_path: Path):
    for number in range(4):
        (tmp_path / f"{number}.png").write_bytes(b"no picture")
    good = [str(path) for path in sorted(tmp_path.parent.glob("**/circle*.jpg"))][:3]
    bad = [str(path) for path in sorted(tmp_path.glob("*.png"))]
    beside = Beside(labelled.train, samples_from([*bad, *good]).samples)
    beside.prepare(SPEC)
    batch = beside.__getitems__([0, 36, 40, 41])
    assert batch["unlabelled"]["index"].tolist() == [4, 5]
    assert batch["unlabelled"]["draw"].tolist() == [40, 41]
    assert batch["failed"].tolist() == [36]
    assert beside.ids[36] == bad[0]
    assert "picture" in beside.why(36) or "image" in beside.why(36)


def test_unreadable_pictures_are_left_out_and_reported(labelled, photos, tmp_path, caplog):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    good = sorted((photos / "train" / "circle").iterdir())
    with caplog.at_level(logging.WARNING, "mealkit"):
        samples = check_unlabelled(samples_from([bad, *good]).samples, labelled)
    assert len(samples) == len(good)
    assert "Left out 1 of 13 unlabelled pictures" in caplog.text
    assert str(bad) in [entry.input for entry in labelled.report.entries]
    with pytest.raises(UnreadableError, match="None of the 2 unlabelled pictures can be read"):
        check_unlabelled(samples_from([bad, bad]).samples, labelled)


def test_pictures_that_are_scored_are_reported(labelled, photos, caplog):
    scored = samples_from(photos / "test").samples
    with caplog.at_level(logging.WARNING, "mealkit"):
        assert len(check_unlabelled(scored, labelled)) == 12
    assert "12 of the unlabelled pictures are in the validation or test part" in caplog.text
    reasons = [entry.problem for entry in labelled.report.entries]
    assert sum("an exact copy, unlabelled, of" in reason for reason in reasons) == 12


def test_what_cannot_be_paired_is_refused(labelled: ImageData):
    images = samples_from(torch.zeros(4, 3, 8, 8)).samples
    labelled.balance = "sampler"
    with pytest.raises(InvalidValueError, match="balance='sampler' beside unlabelled="):
        WithUnlabelled(labelled, images, ratio=1, method="fixmatch")
    labelled.train = None
    with pytest.raises(NoDataError, match="no labelled pictures"):
        WithUnlabelled(labelled, images, ratio=1, method="fixmatch")
