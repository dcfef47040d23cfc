"""The contrastive strategy: what is drawn, what it costs to be far apart, and what comes of it."""

import copy
from collections import Counter

import pytest
import torch

from mealkit import TextClassifier, TextData, Training
from mealkit.errors import InvalidValueError, NoDataError
from mealkit.tasks import Contrastive
from mealkit.tasks.contrastive import ClassDraws
from mealkit.tasks.objectives import pair_loss

NET = "mealkit_tiny_text"


class Rows:
    """Samples whose batches are just the rows that were asked for."""

    ids = ("a",)
    targets = None
    lengths = None

    def prepare(self, input_spec) -> None:
        self.spec = input_spec

    def __getitems__(self, indices):
        return {"index": torch.tensor(indices)}

    def why(self, index: int) -> str:
        return "broken"


def draws(targets: torch.Tensor, *, seed: int = 0, num_batches: int = 30) -> ClassDraws:
    return ClassDraws(Rows(), targets, num_batches=num_batches, batch_size=8, num_each=2, seed=seed)


def rows_of(drawn: ClassDraws, batch: int) -> list[int]:
    return drawn.__getitems__(range(batch * 8, batch * 8 + 8))["index"].tolist()


TARGETS = torch.arange(60) % 6


def test_the_loss_is_the_mean_over_pairs_of_either_sort() -> None:
    cosines = torch.tensor([[1.0, 0.6, 0.5], [0.6, 1.0, -0.2], [0.5, -0.2, 1.0]])
    # one pair of one class: (1 - 0.6)^2; two of different ones: 0.5^2 and 0.2^2
    expected = (0.16 + (0.25 + 0.04) / 2) / 2
    assert pair_loss(cosines, torch.tensor([0, 0, 1])) == pytest.approx(expected)
    assert pair_loss(cosines, torch.tensor([0, 0, 0])) == pytest.approx((0.16 + 0.25 + 1.44) / 3)


def test_batches_hold_as_many_rows_of_a_class_as_asked_for_and_classes_take_turns() -> None:
    drawn = draws(TARGETS)
    seen: Counter[int] = Counter()
    for batch in range(30):
        counts = Counter(TARGETS[rows_of(drawn, batch)].tolist())
        assert set(counts.values()) == {2}
        assert len(counts) == 4
        seen.update(counts.keys())
    assert set(seen.values()) == {20}  # 30 batches of 4 classes, 6 classes


def test_rows_of_a_class_differ_within_a_batch_and_all_come_in_time() -> None:
    drawn = draws(TARGETS)
    batches = [rows_of(drawn, batch) for batch in range(30)]
    assert all(len(set(batch)) == 8 for batch in batches)
    assert len({row for batch in batches for row in batch}) > 55


def test_draws_depend_on_seed_and_batch_alone() -> None:
    assert rows_of(draws(TARGETS), 7) == rows_of(draws(TARGETS), 7)
    assert rows_of(draws(TARGETS), 7) != rows_of(draws(TARGETS, seed=1), 7)
    part = draws(TARGETS).__getitems__([58, 59])["index"].tolist()
    assert part == rows_of(draws(TARGETS), 7)[2:4]


def test_two_classes_fill_a_batch() -> None:
    drawn = draws(torch.arange(40) % 2)
    assert Counter((torch.arange(40) % 2)[rows_of(drawn, 0)].tolist()) == {0: 4, 1: 4}


def test_single_rows_make_no_pairs() -> None:
    with pytest.raises(NoDataError, match="No class has two training inputs"):
        draws(torch.arange(5))
    with pytest.raises(InvalidValueError, match="at least 2 inputs of a class"):
        Contrastive(num_each=20)
    with pytest.raises(InvalidValueError, match="lr=-1: expected a positive number"):
        Contrastive(lr=-1)
    with pytest.raises(InvalidValueError, match=r"num_steps=1\.5: expected a whole number"):
        Contrastive(num_steps=1.5)
    with pytest.raises(InvalidValueError, match="num_steps=0"):
        Contrastive(num_steps=0)


@pytest.fixture
def data(tickets) -> TextData:
    texts, labels = map(list, zip(*tickets, strict=True))
    return TextData.from_lists(texts, labels, split=0.25)


def gap(task: TextClassifier, data: TextData) -> float:
    """How much more alike texts of one class are than texts of two."""
    values = torch.nn.functional.normalize(torch.tensor(task.embed(list(data.train.texts)).values))
    cosines, targets = values @ values.T, data.train.targets
    same = targets[:, None] == targets[None]
    off = ~torch.eye(len(targets), dtype=torch.bool)
    return float(cosines[same & off].mean() - cosines[~same].mean())


def test_texts_of_a_class_move_together_and_the_head_is_solved(data: TextData) -> None:
    task = TextClassifier(NET, classes=data.classes)
    before, weights = gap(task, data), copy.deepcopy(task.backbone.state_dict())
    history = task.finetune(data, epochs=1, strategy=Contrastive(num_steps=40, lr=5e-4))
    assert gap(task, data) > before + 0.2
    moved = [n for n, v in task.backbone.state_dict().items() if not torch.equal(v, weights[n])]
    assert moved
    assert history.best["val/accuracy"] > 0.8
    assert type(task.objective).__name__ == "Supervised"
    assert task.plan.lr == task.default_lr[0]


def test_a_second_run_forgets_the_head_of_the_first(data: TextData) -> None:
    task = TextClassifier(NET, classes=data.classes)
    task.finetune(data, epochs=1, strategy="freeze")
    task.finetune(data, epochs=1, strategy=Contrastive(num_steps=5))
    assert task.head[1].weight.abs().sum() > 0
    assert task.evaluate(data).metrics["accuracy"] > 0.5


def test_a_trainer_of_the_users_own_cannot_run_two_stages(data: TextData, bare_trainer) -> None:
    task = TextClassifier(NET, classes=data.classes)
    with pytest.raises(InvalidValueError, match="'contrastive' beside trainer="):
        task.finetune(data, strategy="contrastive", trainer=bare_trainer(1))
    task.plan_training(strategy="contrastive")
    with pytest.raises(InvalidValueError, match="trains in two stages"):
        bare_trainer(1).fit(task, datamodule=data)


def test_both_stages_share_one_time_limit(data: TextData) -> None:
    task = TextClassifier(NET, classes=data.classes)
    limit = Training(time_limit_seconds=600)
    task.finetune(data, epochs=1, strategy=Contrastive(num_steps=3), training=limit)
    assert 0 < task.plan.training.time_limit_seconds < 600
    with pytest.raises(InvalidValueError, match="time_limit_seconds=0"):
        Training(time_limit_seconds=0)
