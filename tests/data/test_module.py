"""Loaders of every kind of data: order, position, what failed, cached features."""

import itertools
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch

from mealkit.data import Data, EpochSampler, Fetch, Loader, Report
from mealkit.errors import InvalidValueError, NoDataError, UnreadableError
from mealkit.specs import ImageDataSpec, ImageSpec

BareTrainer = Callable[[int], pl.Trainer]
SPEC = ImageSpec(size=(4, 4))


class Numbers:
    """Samples whose input is their position; some cannot be read."""

    def __init__(self, count: int, *, broken: tuple[int, ...] = ()) -> None:
        self.ids = [f"row {row}" for row in range(count)]
        self.targets = torch.arange(count) % 2
        self.broken = broken
        self.fetched: list[int] = []

    lengths = None

    def prepare(self, input_spec) -> None:
        self.spec = input_spec

    def __len__(self) -> int:
        return len(self.ids)

    def __getitems__(self, indices):
        self.fetched += indices
        good = [index for index in indices if index not in self.broken]
        batch = {"x": torch.tensor(good, dtype=torch.float), "index": torch.tensor(good)}
        batch["target"] = self.targets[good]
        if failed := [index for index in indices if index in self.broken]:
            batch["failed"] = torch.tensor(failed)
        return batch

    def why(self, index: int) -> str:
        return f"{index} is broken"


def make(count: int = 10, *, seed: int = 0, broken: tuple[int, ...] = ()) -> Data:
    spec = ImageDataSpec(classes=("a", "b"))
    data = Data(spec=spec, train=Numbers(count, broken=broken), val=Numbers(4), seed=seed)
    data.batch_size = 4
    data.prepare(SPEC)
    return data


def order(loader: Loader) -> list[list[int]]:
    return [batch["index"].tolist() for batch in loader]


def test_every_row_comes_once_an_epoch_in_an_order_decided_by_seed_and_epoch() -> None:
    loader = make().train_dataloader()
    first = order(loader)
    assert sorted(itertools.chain(*first)) == list(range(10))
    assert order(loader) == first
    loader.sampler.set_epoch(1)
    assert order(loader) != first
    assert order(make().train_dataloader()) == first
    assert order(make(seed=1).train_dataloader()) != first


def test_validation_comes_in_its_own_order() -> None:
    assert order(make().val_dataloader()) == [[0, 1, 2, 3]]


def padding(batches: list[list[int]], lengths: torch.Tensor) -> int:
    """Tokens that fill up every batch to its longest row."""
    return sum(int((lengths[batch].max() - lengths[batch]).sum()) for batch in batches)


def test_rows_of_like_length_share_a_batch_and_every_row_still_comes_once() -> None:
    data = make(1000)
    random = order(data.train_dataloader())
    data.train.lengths = (torch.arange(1000) * 7919) % 97
    loader = data.train_dataloader()
    batches = order(loader)
    assert sorted(itertools.chain(*batches)) == list(range(1000))
    assert padding(batches, data.train.lengths) < padding(random, data.train.lengths) / 5
    assert order(loader) == batches
    loader.sampler.set_epoch(1)
    assert order(loader) != batches
    firsts = [int(data.train.lengths[batch[0]]) for batch in batches]
    assert firsts != sorted(firsts, reverse=True), "short and long batches are mixed"


def test_the_longest_rows_come_first_in_validation_and_the_short_batch_last() -> None:
    data = make()
    data.val.lengths = torch.tensor([1, 9, 5, 7])
    assert order(data.val_dataloader()) == [[1, 3, 2, 0]]
    data.train.lengths = torch.arange(10)
    assert [len(batch) for batch in order(data.train_dataloader())] == [4, 4, 2]


def test_worker_processes_give_the_same_batches() -> None:
    data = make()
    plain = order(data.train_dataloader())
    data.num_workers = 2
    assert order(data.train_dataloader()) == plain


@pytest.mark.parametrize(("count", "size"), [(9, 4), (33, 32), (13, 4), (5, 2), (4, 4)])
def test_no_training_batch_has_a_single_row(count: int, size: int) -> None:
    data = make(count)
    data.batch_size = size
    sizes = [len(batch) for batch in order(data.train_dataloader())]
    assert sum(sizes) == count
    assert max(sizes) <= size + 1
    assert min(sizes) > 1


def test_a_batch_size_of_one_is_kept() -> None:
    data = make(10)
    data.batch_size = 1
    assert [len(batch) for batch in order(data.train_dataloader())] == [1] * 10


def test_a_batch_of_which_nothing_can_be_read_is_passed_over() -> None:
    data = make(6, broken=(0, 1, 2, 3, 4))
    data.batch_size = 2
    assert order(data.train_dataloader()) == [[5]]
    assert len(data.report) == 5


def test_rows_that_fail_later_leave_the_batch_and_enter_the_report() -> None:
    data = make(broken=(3, 7))
    rows = order(data.train_dataloader())
    assert sorted(itertools.chain(*rows)) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert {tuple(entry) for entry in data.report.entries} == {
        ("row 3", "3 is broken"),
        ("row 7", "7 is broken"),
    }


def test_a_loader_goes_on_behind_the_batches_it_handed_out() -> None:
    data = make()
    whole = order(data.train_dataloader())
    first = data.train_dataloader()
    batches = iter(first)
    next(batches)
    state = first.state_dict()
    assert state == {"epoch": 0, "position": 1}  # one was handed out, though two were fetched
    again = data.train_dataloader()
    again.load_state_dict(state)
    assert order(again) == whole[1:]
    assert order(again) == whole, "only the first epoch after resuming is shortened"


def test_a_state_at_the_end_of_an_epoch_shortens_nothing() -> None:
    data = make()
    whole = order(data.train_dataloader())
    loader = data.train_dataloader()
    loader.load_state_dict({"epoch": 0, "position": 3})
    assert order(loader) == whole
    loader.load_state_dict({"epoch": 5, "position": 1})
    assert order(loader) == whole


def test_cached_features_take_the_place_of_inputs() -> None:
    fetch = Fetch(Numbers(4))
    assert not fetch.cached
    features = torch.arange(8.0).reshape(4, 2)
    fetch.cache(features, torch.tensor([True, False, True, True]))
    batch = fetch.__getitems__([3, 1, 0])
    assert fetch.cached
    assert fetch.samples.fetched == []
    assert batch["index"].tolist() == [3, 0]  # row 1 could not be read when features were made
    assert batch["target"].tolist() == [1, 0]
    assert torch.equal(batch["features"], features[[3, 0]])
    fetch.uncache()
    assert "x" in fetch.__getitems__([0])


def test_features_are_asked_for_only_when_cached() -> None:
    with pytest.raises(InvalidValueError, match="before they were cached"):
        Fetch(Numbers(4)).rows()


def test_loading_before_the_backbone_is_known_says_what_to_do() -> None:
    data = Data(spec=ImageDataSpec(classes=("a", "b")), train=Numbers(4))
    with pytest.raises(InvalidValueError, match=r"data\.prepare\(task\.input_spec\)"):
        data.train_dataloader()
    with pytest.raises(NoDataError, match="no test part"):
        data.test_dataloader()


def test_a_batch_size_below_one_is_refused() -> None:
    data = make()
    data.batch_size = 0
    with pytest.raises(InvalidValueError, match="batch_size=0"):
        data.train_dataloader()


def test_loading_leaves_the_global_generator_alone() -> None:
    before = torch.random.get_rng_state()
    order(make().train_dataloader())
    assert torch.equal(before, torch.random.get_rng_state())


def test_lightning_keeps_our_sampler_and_tells_it_the_epoch(bare_trainer: BareTrainer) -> None:
    class Model(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)
            self.epochs: list[int] = []

        def training_step(self, batch, batch_idx):
            sampler = self.trainer.train_dataloader.sampler
            assert isinstance(sampler, EpochSampler)
            self.epochs.append(sampler.epoch)
            return self.layer(batch["x"][:, None]).mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    model = Model()
    trainer = bare_trainer(2)
    trainer.fit(model, train_dataloaders=make(8).train_dataloader())
    assert model.epochs == [0, 0, 1, 1]


def test_a_fetch_that_fails_stops_the_loop_with_its_error() -> None:
    class Broken(Numbers):
        def __getitems__(self, indices):
            raise OSError("the disk is gone")

    loader = Loader(Fetch(Broken(4)), batch_size=2, report=Report())
    with pytest.raises(OSError, match="disk is gone"):
        order(loader)


@pytest.mark.parametrize(("count", "size"), [(13, 6), (12, 6), (5, 4), (1, 4), (7, 2)])
@pytest.mark.parametrize("lengths", [None, "vary"])
def test_several_processes_score_every_row_once_in_equally_many_batches(
    count: int, size: int, lengths: str | None
) -> None:
    rows, numbers = [], []
    for rank in range(3):
        samples = Numbers(count)
        samples.lengths = None if lengths is None else torch.arange(count) * 7 % 5
        sampler = EpochSampler(samples, batch_size=size, shuffle=False, num_processes=3, rank=rank)
        batches = list(Loader(Fetch(samples), batch_size=size, sampler=sampler))
        numbers.append(len(batches))
        rows += [batch["index"].tolist() for batch in batches if "padding" not in batch]
    assert sorted(itertools.chain(*rows)) == list(range(count))
    assert len(set(numbers)) == 1


def test_on_several_processes_a_batch_of_nothing_is_an_error_and_no_endless_wait() -> None:
    samples = Numbers(8, broken=(0, 2))
    sampler = EpochSampler(samples, batch_size=2, shuffle=False, num_processes=2, rank=0)
    loader = Loader(Fetch(samples), batch_size=2, sampler=sampler)
    with pytest.raises(UnreadableError, match="other processes would wait"):
        order(loader)
