"""Batches by tokens: the budget holds, every text comes once, counts do not change by epoch."""

import itertools
from collections.abc import Callable

import pytest
import pytorch_lightning as pl
import torch

from mealkit import TextClassifier, TextData
from mealkit.data.token_batches import TokenBatches, _round_up
from mealkit.errors import InvalidValueError

LENGTHS = torch.tensor([3, 4, 5, 6, 7, 8, 9, 17, 18, 30, 31, 32, 50, 64, 5, 5, 5, 5, 5, 5])


class Sized:
    """Samples of which only lengths are asked."""

    lengths = LENGTHS

    def __len__(self) -> int:
        return len(LENGTHS)


def make(budget: int = 64, **given: int | None) -> TokenBatches:
    return TokenBatches(Sized(), batch_tokens=budget, **{"max_rows": None, **given})


def padded(batch: list[int]) -> int:
    return len(batch) * int(LENGTHS[batch].max())


@pytest.mark.parametrize("budget", [64, 65, 100, 1000])
@pytest.mark.parametrize("max_rows", [None, 3])
def test_no_batch_is_over_budget_and_every_text_comes_once(
    budget: int, max_rows: int | None
) -> None:
    sampler = make(budget, max_rows=max_rows)
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(itertools.chain(*batches)) == list(range(len(LENGTHS)))
        assert max(map(padded, batches)) <= budget
        assert max(map(len, batches)) <= (max_rows or len(LENGTHS))


def test_lengths_are_rounded_up_by_an_eighth_at_most() -> None:
    lengths = torch.arange(1, 3000)
    rounded = _round_up(lengths)
    assert (rounded >= lengths).all()
    assert (rounded - lengths < lengths / 8).all()
    assert (rounded.diff() >= 0).all()
    assert rounded[[7, 14, 36, 99]].tolist() == [8, 15, 40, 104]


def test_batches_are_decided_by_seed_and_epoch() -> None:
    sampler = make()
    first = list(sampler)
    assert list(make()) == first
    sampler.set_epoch(1)
    assert list(sampler) != first
    assert list(make(seed=1)) != first


def test_texts_of_like_length_meet_others_in_other_epochs() -> None:
    sampler, mates = make(max_rows=2), set()
    for epoch in range(6):
        sampler.set_epoch(epoch)
        mates |= {tuple(sorted(batch)) for batch in sampler if 2 in batch}
    assert len(mates) > 1


def test_processes_share_whole_batches_and_have_as_many() -> None:
    whole = {tuple(batch) for batch in make()}
    ranks = [list(make(num_processes=3, rank=rank)) for rank in range(3)]
    assert {len(batches) for batches in ranks} == {-(-len(whole) // 3)}
    assert {tuple(batch) for batches in ranks for batch in batches} == whole


def test_a_budget_below_the_longest_text_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="batch_tokens=63: the longest text has 64 tokens"):
        make(63)


@pytest.fixture
def data(tickets: list[tuple[str, str]]) -> TextData:
    texts, labels = zip(*tickets, strict=True)
    data = TextData.from_lists(list(texts), list(labels))
    data.batch_tokens = 60
    return data


def test_a_task_trains_on_batches_by_tokens_and_goes_on_within_an_epoch(data: TextData) -> None:
    task = TextClassifier("mealkit_tiny_text", classes=data.classes)
    data.prepare(task.input_spec)
    loader = data.train_dataloader()
    seen = [batch["index"].tolist() for batch in loader]
    sizes = [batch["input_ids"].numel() for batch in loader]
    assert max(sizes) <= 60
    assert len(seen) == len(loader)
    loader.load_state_dict({"epoch": 0, "position": 2})
    assert [batch["index"].tolist() for batch in loader] == seen[2:]
    history = task.finetune(data, epochs=2, strategy="full")
    assert [row["epoch"] for row in history.rows] == [0, 1]
    assert task.trainer.global_step == 2 * len(seen)


def test_a_plain_trainer_counts_the_batches(
    data: TextData, bare_trainer: Callable[[int], pl.Trainer]
) -> None:
    task = TextClassifier("mealkit_tiny_text", classes=data.classes)
    trainer = bare_trainer(2)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 2 * len(data.train_dataloader())


def test_drawn_rows_have_no_fixed_number_of_batches(data: TextData) -> None:
    data.balance = "sampler"
    task = TextClassifier("mealkit_tiny_text", classes=data.classes)
    with pytest.raises(InvalidValueError, match="batch_tokens= beside balance='sampler'"):
        task.finetune(data, epochs=1, strategy="full")


def test_windows_of_a_text_count_all(tickets: list[tuple[str, str]]) -> None:
    texts, labels = zip(*tickets, strict=True)
    long = [" ".join([text] * 40) if number % 4 == 0 else text for number, text in enumerate(texts)]
    data = TextData.from_lists(long, list(labels))
    task = TextClassifier("mealkit_tiny_text", classes=data.classes, long="chunk", max_length=32)
    data.prepare(task.input_spec)
    assert data.train.lengths.max() > 32
    data.batch_tokens = int(data.train.lengths.max())
    assert max(b["input_ids"].numel() for b in data.train_dataloader()) <= data.batch_tokens
