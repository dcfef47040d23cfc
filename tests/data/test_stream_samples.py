"""Pictures that are read from front to back."""

import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mealkit import ImageData, ImageSpec
from mealkit.data import Stream, StreamSamples
from mealkit.data.streams import Order
from mealkit.errors import ClassError, DataError, InvalidValueError, NoDataError, UnreadableError

SPEC = ImageSpec(size=(8, 8), crop_pct=1.0)
CLASSES = ("red", "green", "blue")


class Items:
    """A dataset that can be iterated, of pictures that count themselves in their first pixel."""

    def __init__(self, labels: list, *, column: str = "image") -> None:
        self.labels, self.column = labels, column

    def __iter__(self) -> Iterator[dict]:
        for number, label in enumerate(self.labels):
            pixels = np.full((8, 8, 3), 9, dtype=np.uint8)
            pixels[0, 0, 0] = number
            yield {self.column: pixels, "label": label}


def make(stream: Stream, *, scored: bool = False, **more) -> StreamSamples:
    settings = {"image": "image", "label": "label", "classes": None, "part": "train", **more}
    samples = StreamSamples(stream, scored=scored, **settings)
    samples.prepare(SPEC)
    return samples


def numbers(samples: StreamSamples, **order) -> list[int]:
    """Which pictures are read, by their first pixels."""
    rows = samples.read(Order(**{"shuffle": True, **order}))
    return [int(np.asarray(row.image)[0, 0, 0]) for row in rows]


def test_an_epoch_has_every_picture_once_in_an_order_decided_by_seed_and_epoch(hub) -> None:
    samples = make(Stream(hub(5), buffer=6))
    first = numbers(samples)
    assert sorted(first) == list(range(20))
    assert first != sorted(first)
    assert numbers(samples) == first
    assert numbers(samples, epoch=1) != first
    assert numbers(samples, seed=1) != first
    assert numbers(samples, shuffle=False) == list(range(20))


def test_a_buffer_of_one_keeps_the_order_within_shards(hub) -> None:
    read = numbers(make(Stream(hub(5), buffer=1)))
    starts = read[::4]
    assert read == [start + place for start in starts for place in range(4)]
    assert starts != sorted(starts)


def test_the_index_of_a_picture_is_the_same_in_every_epoch(hub) -> None:
    samples = make(Stream(hub(5)))
    found = []
    for epoch in range(2):
        rows = samples.read(Order(shuffle=True, epoch=epoch))
        found.append({int(row.image[0, 0, 0]): row.index for row in rows})
    assert found[0] == found[1]
    assert len(set(found[0].values())) == 20


@pytest.mark.parametrize("num_shards", [5, 2])
def test_processes_share_a_stream_without_reading_a_picture_twice(hub, num_shards: int) -> None:
    samples = make(Stream(hub(num_shards, num_each=20 // num_shards), length=18))
    parts = [numbers(samples, num_processes=3, rank=rank) for rank in range(3)]
    joint = [number for part in parts for number in part]
    assert len(joint) == len(set(joint))
    assert {len(part) for part in parts} <= ({4, 6} if num_shards == 5 else {6})


def test_whole_shards_go_to_processes_where_there_are_enough(hub) -> None:
    stream = hub(6)
    samples = make(Stream(stream))
    before = stream.num_read
    numbers(samples, num_processes=3, rank=1)
    assert stream.num_read - before == 8  # a third of 24: the others are not even opened
    numbers(samples, num_processes=3, rank=1, shuffle=False)
    assert stream.num_read - before == 8 + 24  # what is scored is dealt out picture by picture


def test_unshuffled_processes_take_turns(hub) -> None:
    samples = make(Stream(hub(3)), scored=True)
    assert numbers(samples, shuffle=False, num_processes=2, rank=1) == [1, 3, 5, 7, 9, 11]
    assert [samples.num_rows(Order(False, num_processes=5, rank=rank)) for rank in range(5)] == [
        3, 3, 2, 2, 2,
    ]  # fmt: skip


def test_a_shorter_epoch_sees_other_pictures_each_time(hub) -> None:
    samples = make(Stream(hub(5), length=8, buffer=1))
    seen = set()
    for epoch in range(12):
        read = numbers(samples, epoch=epoch)
        assert len(read) == 8
        seen |= set(read)
    assert seen == set(range(20))


def test_a_stream_that_ends_early_is_an_error_with_the_right_length(hub) -> None:
    samples = make(Stream(hub(5), length=21))
    with pytest.raises(DataError, match=r"ended after 20 .* its length is 21.*length=20"):
        numbers(samples)
    with pytest.raises(DataError, match="ended after 20 pictures"):
        numbers(samples, shuffle=False, num_processes=2, rank=0)


def test_nobody_knowing_the_length_or_the_classes_is_an_error() -> None:
    items = Items(["red", "blue"])
    with pytest.raises(DataError, match=r"Nobody knows how many .*Stream\(source, length="):
        make(Stream(items), classes=CLASSES)
    with pytest.raises(ClassError, match=r"classes=None: a stream is not read through"):
        make(Stream(items, length=2))
    with pytest.raises(ClassError, match="two or more names"):
        make(Stream(items, length=2), classes=["red", "red"])
    with pytest.raises(NoDataError, match="stream of the val part is empty"):
        make(Stream(Items([]), length=2), classes=CLASSES, part="val")


@pytest.mark.parametrize(
    ("labels", "classes", "expected"),
    [
        (["blue", "red"], CLASSES, [2, 0]),
        ([2, 0], CLASSES, [2, 0]),
        ([np.int64(1)], CLASSES, [1]),
        ([b"green\n"], CLASSES, [1]),
        ([7, 3], ["3", "7"], [1, 0]),  # numbers among the names: integers are names
        (["7", 3], [3, 7], [1, 0]),
    ],
)
def test_labels_are_names_or_positions(labels: list, classes, expected: list[int]) -> None:
    samples = make(Stream(Items(labels), length=len(labels)), classes=classes)
    assert [row.target for row in samples.read(Order(shuffle=False))] == expected


@pytest.mark.parametrize(
    ("label", "classes", "words"),
    [
        ("pink", CLASSES, "has the label 'pink', which is none of the 3 classes"),
        (3, CLASSES, "has the label 3, which"),
        (-1, CLASSES, "has the label -1, which"),
        (1, ["3", "7"], "has the label 1, which"),
        (None, CLASSES, "no label"),
        (0.5, CLASSES, "of type float"),
    ],
)
def test_a_label_that_is_none_of_the_classes_is_an_error_at_once(label, classes, words) -> None:
    with pytest.raises(DataError, match=words):
        make(Stream(Items([label]), length=1), classes=classes)


def test_a_wrong_label_further_back_stops_the_epoch_and_is_named() -> None:
    samples = make(Stream(Items(["red", "pink"]), length=2), classes=CLASSES)
    with pytest.raises(ClassError, match=r"^1 of the train part has the label 'pink'"):
        numbers(samples)


def test_a_missing_column_is_named_at_once() -> None:
    with pytest.raises(DataError, match=r"0 of the train part: .* no 'image' but 'photo', 'label'"):
        make(Stream(Items(["red"], column="photo"), length=1), classes=CLASSES)


def test_a_tar_file_that_is_cut_off_between_picture_and_label_is_named(tars: Path) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    file = tars / "part-0.tar"
    with tarfile.open(file) as archive:
        label = archive.getmembers()[1]
    file.write_bytes(file.read_bytes()[: label.offset])
    with pytest.raises(DataError, match=r"part-0\.tar/000 of the train part: .*no 'cls' but"):
        make(Stream(str(file), length=5), image="png", label="cls", classes=CLASSES)


def test_what_cannot_be_read_leaves_the_batch_and_is_said() -> None:
    class Broken(Items):
        def __iter__(self):
            for number, item in enumerate(super().__iter__()):
                yield item if number != 1 else {"image": b"no picture", "label": "red"}

    samples = make(Stream(Broken(["red", "blue", "blue"]), length=3), classes=CLASSES, scored=True)
    batch, failures = samples.load(list(samples.read(Order(shuffle=False))))
    assert batch["index"].tolist() == [0, 2]
    assert batch["target"].tolist() == [0, 2]
    assert batch["image"][:, 0, 0, 0].tolist() == [0, 2]
    assert failures == [(1, "1", "not an image (it starts with b'no picture')")]
    samples.remember(failures)
    assert samples.why(1).startswith("not an image")
    strict = make(Stream(Broken(["red"] * 3), length=3), classes=CLASSES, on_error="raise")
    with pytest.raises(UnreadableError, match="1 of 3 pictures of a batch cannot be read: 1: not"):
        strict.load(list(strict.read(Order(shuffle=False))))


def test_a_part_that_is_scored_tells_ids_and_classes_after_one_more_pass(hub) -> None:
    stream = hub(3)
    samples = make(Stream(stream), scored=True)
    before = stream.num_read
    assert samples.targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
    assert list(samples.ids)[4] == "shard 1, item 0"
    assert stream.num_read == before + 12
    assert [row.index for row in samples.read(Order(shuffle=False))] == list(range(12))


def test_a_training_part_has_no_positions(hub) -> None:
    samples = make(Stream(hub(3)))
    assert samples.targets is None
    for ask in (lambda: samples.ids, lambda: samples.__getitems__([0])):
        with pytest.raises(InvalidValueError, match="train part is a stream, which is read from"):
            ask()


def test_data_of_streams_know_their_classes_channels_and_parts(hub) -> None:
    data = ImageData.from_dataset(hub(3), val=hub(2))
    assert data.classes == CLASSES
    assert data.spec.in_chans == 3
    assert (len(data.train), len(data.val), data.test) == (12, 8, None)
    assert not data.caches
    assert data.val.targets is not None
    mixed = ImageData.from_dataset(hub(3), val=[(row["image"], "red") for row in Items([0] * 3)])
    assert mixed.val.targets.tolist() == [0, 0, 0]
    images = [(row["image"], name) for row, name in zip(Items([0] * 9), CLASSES * 3, strict=True)]
    scored = ImageData.from_dataset(images, val=hub(2))
    assert scored.classes == ("blue", "green", "red")
    assert scored.val.targets.tolist() == [2, 1, 0, 2, 1, 0, 2, 1]


def test_what_a_stream_cannot_do_is_refused_beforehand(hub) -> None:
    with pytest.raises(DataError, match=r"split=0\.2 with a stream.*val= .*or split=0"):
        ImageData.from_dataset(hub(3))
    with pytest.raises(DataError, match="group='scene' with a stream"):
        ImageData.from_dataset(hub(3), split=0, group="scene")
    with pytest.raises(InvalidValueError, match="on_error='drop'"):
        ImageData.from_dataset(hub(3), split=0, on_error="drop")
    with pytest.raises(ClassError, match="has the class 'blue', which is none of the 2"):
        ImageData.from_dataset(hub(3), split=0, classes=["red", "pink"], val=hub(2))
    rows = [(row["image"], label) for row, label in zip(Items([0, 0]), "ab", strict=True)]
    with pytest.raises(InvalidValueError, match="classes= beside a dataset with a length"):
        ImageData.from_dataset(rows, classes=["a", "b"], split=0)
    data = ImageData.from_dataset(hub(3), split=0)
    data.balance = "weights"
    with pytest.raises(InvalidValueError, match="balance='weights' with a stream"):
        data.train_weights()
    data.augment, data.n_views = "light", 2
    with pytest.raises(InvalidValueError, match="n_views=2 with a stream"):
        _ = data.caches


def test_pictures_and_labels_of_tar_files(tars: Path) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    stream = Stream(str(tars / "part-{0..3}.tar"), length=20)
    for label in ("cls", "txt"):
        samples = make(stream, image="jpg;png", label=label, classes=CLASSES)
        batch, failures = samples.load(list(samples.read(Order(shuffle=False))))
        assert failures == []
        assert batch["image"].shape == (20, 3, 8, 8)
        assert batch["target"].tolist() == [number % 3 for number in range(20)]
        colours = batch["image"][:, :, 4, 4].argmax(1)
        assert torch.equal(colours, batch["target"])
    with pytest.raises(DataError, match=r"have no 'image' but .*'png'"):
        make(stream, classes=CLASSES)
