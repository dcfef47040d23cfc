"""Rare classes: weights by hand, draws by count, one rank and several."""

import itertools

import pytest
import torch

from mealkit.data import Data, EpochSampler
from mealkit.data.balance import draw_rows, row_weights
from mealkit.errors import InvalidValueError, UnknownNameError

from .test_module import Numbers, make

CLASSES = ("rare", "usual")
TARGETS = torch.tensor([0, 1, 1, 1])


def test_by_name_every_class_weighs_the_same_and_a_row_weighs_1_on_average() -> None:
    weights = row_weights("weights", TARGETS, CLASSES)
    assert weights.tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])
    assert torch.equal(weights, row_weights("sampler", TARGETS, CLASSES))
    assert row_weights(None, TARGETS, CLASSES) is None


def test_a_class_without_rows_takes_nothing_from_the_others() -> None:
    weights = row_weights("weights", TARGETS, (*CLASSES, "absent"))
    assert weights.tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


def test_a_mapping_weighs_classes_against_those_it_does_not_name() -> None:
    weights = row_weights({"rare": 5}, TARGETS, CLASSES)
    assert weights.tolist() == pytest.approx([2.5, 0.5, 0.5, 0.5])
    numbered = row_weights({7: 3.0}, TARGETS, ("7", "8"))
    assert numbered.tolist() == pytest.approx([2, 2 / 3, 2 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("balance", "error", "words"),
    [
        ("wieghts", UnknownNameError, r"no balance 'wieghts'. Did you mean 'weights'"),
        ({"rara": 2.0}, UnknownNameError, r"no class 'rara'. Did you mean 'rare'"),
        (
            {"rare": 0.0},
            InvalidValueError,
            r"balance of 'rare'=0.0: expected a number in \(0, inf\)",
        ),
        ({"rare": float("inf")}, InvalidValueError, r"'rare'=inf: expected a number"),
        ({"rare": "5"}, InvalidValueError, r"'rare'='5': expected a number"),
        ({}, InvalidValueError, r"balance=\{\} names no class"),
    ],
)
def test_what_cannot_be_meant_is_refused(balance, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        row_weights(balance, TARGETS, CLASSES)


def test_data_without_classes_cannot_be_balanced() -> None:
    for targets in (None, torch.rand(4)):
        with pytest.raises(InvalidValueError, match="one class per row"):
            row_weights("weights", targets, CLASSES)


SEVERAL = torch.tensor([[1, 1], [0, 1], [0, 1], [0, 0]], dtype=torch.uint8)


def test_with_several_labels_rows_with_and_without_a_class_weigh_the_same_in_all() -> None:
    weights = row_weights("weights", SEVERAL, CLASSES, multi_label=True)
    third = 2 / 3
    assert weights[:, 0].tolist() == pytest.approx([2, third, third, third])
    assert weights[:, 1].tolist() == pytest.approx([third, third, third, 2])


def test_with_several_labels_a_mapping_weighs_rows_that_have_the_class() -> None:
    weights = row_weights({"rare": 5}, SEVERAL, CLASSES, multi_label=True)
    assert weights[:, 0].tolist() == pytest.approx([2.5, 0.5, 0.5, 0.5])
    assert weights[:, 1].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("balance", "words"),
    [
        ("sampler", "drawn with all its labels.*Use balance='weights'"),
        ("wieghts", "no balance 'wieghts'"),
        ({"rara": 2.0}, "no class 'rara'"),
    ],
)
def test_with_several_labels_what_cannot_be_meant_is_refused(balance, words: str) -> None:
    with pytest.raises(InvalidValueError, match=words):
        row_weights(balance, SEVERAL, CLASSES, multi_label=True)
    with pytest.raises(InvalidValueError, match="one class per row"):
        row_weights("weights", TARGETS, CLASSES, multi_label=True)


def test_rows_are_drawn_as_often_as_they_weigh() -> None:
    drawn = draw_rows(torch.tensor([2, 0.5, 0.5, 1.0]), 40_000, seed=3, epoch=1)
    shares = torch.bincount(torch.tensor(drawn)) / 40_000
    assert shares.tolist() == pytest.approx([0.5, 0.125, 0.125, 0.25], abs=0.01)
    assert drawn == draw_rows(torch.tensor([2, 0.5, 0.5, 1.0]), 40_000, seed=3, epoch=1)
    assert drawn != draw_rows(torch.tensor([2, 0.5, 0.5, 1.0]), 40_000, seed=3, epoch=2)


def rare(count: int = 400) -> Data:
    """Data of which every tenth row is of the class at position 1."""
    data = make(count)
    data.train.targets = (torch.arange(count) % 10 == 0).long()
    return data


def indices(loader) -> list[int]:
    return list(itertools.chain(*(batch["index"].tolist() for batch in loader)))


def test_weights_are_in_training_batches_alone() -> None:
    data = rare()
    data.val.targets = torch.tensor([0, 0, 0, 1])
    data.balance = "weights"
    for batch in data.train_dataloader():
        expected = torch.where(batch["target"] == 1, 5.0, 5 / 9)
        assert torch.allclose(batch["weight"], expected)
    assert all("weight" not in batch for batch in data.val_dataloader())
    assert sorted(indices(data.train_dataloader())) == list(range(400))


def test_the_sampler_draws_classes_equally_often_and_epochs_differ() -> None:
    data = rare()
    data.balance = "sampler"
    loader = data.train_dataloader()
    seen = indices(loader)
    assert len(seen) == 400
    share = data.train.targets[seen].float().mean().item()
    assert share == pytest.approx(0.5, abs=0.08)
    assert indices(loader) == seen
    loader.sampler.set_epoch(1)
    assert indices(loader) != seen
    assert all("weight" not in batch for batch in loader)
    assert indices(data.val_dataloader()) == [0, 1, 2, 3]
    data.num_workers = 2
    assert indices(data.train_dataloader()) == seen


def test_the_sampler_goes_on_where_it_stopped() -> None:
    data = rare(40)
    data.balance = "sampler"
    whole = indices(data.train_dataloader())
    again = data.train_dataloader()
    again.load_state_dict({"epoch": 0, "position": 3})
    assert indices(again) == whole[12:]


def test_processes_share_the_draws_of_one() -> None:
    weights = torch.arange(1, 11).float()
    samples = Numbers(10)

    def drawn(rank: int, num_processes: int) -> list[int]:
        sampler = EpochSampler(
            samples,
            batch_size=2,
            shuffle=True,
            num_processes=num_processes,
            rank=rank,
            weights=weights,
        )
        return list(sampler)

    one = drawn(0, 1)
    both = [drawn(rank, 2) for rank in (0, 1)]
    assert [row for pair in zip(*both, strict=True) for row in pair] == one


def test_drawn_rows_of_like_length_share_a_batch() -> None:
    data = rare()
    data.balance = "sampler"
    data.train.lengths = (torch.arange(400) * 7919) % 97
    drawn = [batch["index"] for batch in data.train_dataloader()]
    spread = [int(data.train.lengths[i].max() - data.train.lengths[i].min()) for i in drawn]
    assert sum(spread) / len(spread) < 5
    assert sum(map(len, drawn)) == 400
