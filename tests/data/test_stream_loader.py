"""Batches of streams: order, position, workers, processes, what cannot be read."""

import pytest
import torch

from mealkit import ImageSpec
from mealkit.data import Report, Stream, StreamLoader, StreamSamples
from mealkit.data.streams import Order
from mealkit.errors import UnreadableError

CLASSES = ("red", "green", "blue")


def load(
    source, *, batch_size: int = 3, num_workers: int = 0, length: int | None = None, **order
) -> StreamLoader:
    samples = StreamSamples(
        Stream(source, length=length, buffer=5),
        part="train",
        image="image",
        label="label",
        classes=CLASSES,
        scored=not order.get("shuffle", True),
    )
    samples.prepare(ImageSpec(size=(8, 8), crop_pct=1.0))
    made = Order(**{"shuffle": True, **order})
    report = Report()
    return StreamLoader(
        samples, batch_size=batch_size, order=made, num_workers=num_workers, report=report
    )


def rows(loader: StreamLoader) -> list[list[int]]:
    return [batch["image"][:, 0, 0, 0].tolist() for batch in loader]


def test_batches_hold_every_picture_once_with_its_class(hub) -> None:
    loader = load(hub(5))
    assert len(loader) == 7
    batches = list(loader)
    assert [len(batch["index"]) for batch in batches] == [3] * 6 + [2]
    images = torch.cat([batch["image"] for batch in batches])
    assert sorted(images[:, 0, 0, 0].tolist()) == list(range(20))
    targets = torch.cat([batch["target"] for batch in batches])
    assert torch.equal(images[:, :, 4, 4].argmax(1), targets)


def test_an_epoch_can_be_repeated_and_the_next_one_is_another(hub) -> None:
    loader = load(hub(5))
    first = rows(loader)
    assert rows(loader) == first
    loader.sampler.set_epoch(1)
    assert rows(loader) != first
    loader.sampler.set_epoch(0)
    assert rows(loader) == first


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")
@pytest.mark.parametrize("num_workers", [1, 4])
def test_worker_processes_give_the_same_batches(hub, num_workers: int) -> None:
    assert rows(load(hub(5), num_workers=num_workers)) == rows(load(hub(5)))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_goes_on_behind_the_batches_it_handed_out(hub, num_workers: int) -> None:
    whole = rows(load(hub(5)))
    first = load(hub(5))
    batches = iter(first)
    next(batches), next(batches), next(batches)
    state = first.state_dict()
    assert state == {"epoch": 0, "position": 3}
    again = load(hub(5), num_workers=num_workers)
    again.load_state_dict(state)
    assert rows(again) == whole[3:]
    assert again.state_dict() == {"epoch": 0, "position": 7}
    assert rows(again) == whole, "only the first epoch after resuming is shortened"


def test_a_state_of_another_epoch_or_its_end_shortens_nothing(hub) -> None:
    loader = load(hub(5))
    whole = rows(loader)
    for state in ({"epoch": 0, "position": 7}, {"epoch": 5, "position": 1}):
        loader.load_state_dict(state)
        assert rows(loader) == whole


class Unequal:
    """Shards of different sizes."""

    def __init__(self, hub, sizes: tuple[int, ...]) -> None:
        self._hub, self._sizes = hub, sizes
        whole = hub(len(sizes))
        self.features, self.info, self.split = whole.features, whole.info, whole.split
        self.num_shards = len(sizes)

    def shard(self, num_shards: int, index: int):
        return self._hub(len(self._sizes), num_each=self._sizes[index]).shard(num_shards, index)


def test_processes_with_fewer_pictures_fill_up_with_batches_that_count_for_nothing(hub) -> None:
    source = Unequal(hub, (1, 9))
    parts = [
        list(load(source, length=10, num_processes=2, rank=rank, batch_size=2)) for rank in range(2)
    ]
    assert [len(part) for part in parts] == [3, 3]
    fillers = [["padding" in batch for batch in part] for part in parts]
    assert sorted(fillers) == [[False, False, False], [False, True, True]]
    filler = next(batch for part in parts for batch in part if "padding" in batch)
    assert filler["weight"].tolist() == [0.0]
    # 1 + 5: the other 4 of the larger shard wait for an epoch of another order
    assert sum(len(b["index"]) for part in parts for b in part if "padding" not in b) == 6


def test_a_run_that_goes_on_among_such_batches_still_makes_as_many(hub) -> None:
    source = Unequal(hub, (1, 9))
    for rank in range(2):
        loader = load(source, length=10, num_processes=2, rank=rank, batch_size=2)
        loader.load_state_dict({"epoch": 0, "position": 2})
        assert len(list(loader)) == 1


def test_scored_pictures_come_once_over_all_processes_and_the_rest_is_padding(hub) -> None:
    parts = [
        list(load(hub(3, num_each=3), shuffle=False, num_processes=2, rank=rank, batch_size=2))
        for rank in range(2)
    ]
    assert [len(part) for part in parts] == [3, 3]
    seen = [
        index
        for part in parts
        for batch in part
        if "padding" not in batch
        for index in batch["index"].tolist()
    ]
    assert sorted(seen) == list(range(9))
    assert "padding" in parts[1][2]


class Broken:
    """Of its items, some are no pictures."""

    def __init__(self, hub, broken: set[int]) -> None:
        self._items = [item for number in range(5) for item in hub(5).shard(5, number)]
        self._broken = broken

    def __iter__(self):
        for number, item in enumerate(self._items):
            yield {**item, "image": b"none"} if number in self._broken else item


@pytest.mark.parametrize("num_workers", [0, 2])
def test_pictures_that_cannot_be_read_leave_their_batch_and_enter_the_report(
    hub, num_workers: int
) -> None:
    source = Broken(hub, {2, 3, 4, 5, 19})
    loader = load(source, length=20, shuffle=False, num_workers=num_workers)
    assert [number for batch in rows(loader) for number in batch] == [0, 1, *range(6, 19)]
    assert len(rows(loader)) == 6  # a batch of which nothing is left is passed over
    ids = [entry.input for entry in loader.report.entries]
    assert ids == ["2", "3", "4", "5", "19"]
    assert "not an image" in loader.report.entries[0].problem
    assert loader.samples.why(19).startswith("not an image")


def test_several_processes_do_not_pass_over_a_batch(hub) -> None:
    loader = load(Broken(hub, {0, 2, 4}), length=20, shuffle=False, num_processes=2)
    with pytest.raises(UnreadableError, match="Not one picture of a batch"):
        rows(loader)
