"""The contrastive strategy: what is drawn, what it costs to be far apart, and what comes of it."""

import copy
import math
import re
from collections import Counter
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch

from mealkit import TextClassifier, TextData, Training
from mealkit.errors import InvalidValueError, NoDataError
from mealkit.tasks import Contrastive, contrastive, objectives
from mealkit.tasks.contrastive import ClassDraws
from mealkit.tasks.objectives import SupervisedContrast, contrast_loss

NET = "mealkit_tiny_text"


class Stop(pl.Callback):
    """Ends a run at its first step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        raise RuntimeError("stopped")


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


def test_the_loss_is_what_finding_ones_own_class_among_the_others_costs() -> None:
    logits = torch.tensor(
        [[9.0, 2.0, 1.0, 0.0], [2.0, 9.0, 0.0, 0.0], [1.0, 0.0, 9.0, 3.0], [0.0, 0.0, 3.0, 9.0]]
    )
    # each row has one of its own class; the other three are the softmax, the diagonal is not
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1) + 1))
    second = -math.log(math.exp(2) / (math.exp(2) + 2))
    third = -math.log(math.exp(3) / (math.exp(3) + math.exp(1) + 1))
    fourth = -math.log(math.exp(3) / (math.exp(3) + 2))
    found = contrast_loss(logits, torch.tensor([0, 0, 1, 1]))
    assert found.item() == pytest.approx((first + second + third + fourth) / 4)
    # with two others of its class, a row looks for both; who has no other does not count
    found = contrast_loss(logits[:3, :3], torch.tensor([0, 0, 1]))
    first = -math.log(math.exp(2) / (math.exp(2) + math.exp(1)))
    second = -math.log(math.exp(2) / (math.exp(2) + 1))
    assert found.item() == pytest.approx((first + second) / 2)
    assert contrast_loss(logits, torch.arange(4)).item() == 0
    three = contrast_loss(logits[:3, :3], torch.tensor([0, 0, 0])).item()
    assert three == pytest.approx(
        sum(
            math.log(math.exp(one) + math.exp(other)) - (one + other) / 2
            for one, other in [(2, 1), (2, 0), (1, 0)]
        )
        / 3
    )


def test_texts_of_like_length_are_encoded_together_to_the_same_loss(
    tickets, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts, labels = map(list, zip(*tickets, strict=True))
    longer = [f"{text} " * (1 + n % 7) for n, text in enumerate(texts)]
    data = TextData.from_lists(longer, labels, split=0)
    task = TextClassifier(NET, classes=data.classes).eval()
    data.prepare(task.input_spec)
    batch = data.train.__getitems__(range(40))
    sizes = []
    handle = task.backbone.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape))
    loss = SupervisedContrast(0.1).step(task, batch, training=True).loss
    assert [rows for rows, _ in sizes] == [16, 16, 8]
    assert sum(rows * width for rows, width in sizes) < 0.7 * batch["input_ids"].numel()
    assert sizes[-1][1] == batch["input_ids"].shape[1]
    handle.remove()
    monkeypatch.setattr(objectives, "_ROWS_OF_LIKE_LENGTH", 1000)
    whole = SupervisedContrast(0.1).step(task, batch, training=True).loss
    assert loss.item() == pytest.approx(whole.item(), abs=1e-5)


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


def test_no_row_comes_twice_in_a_batch_but_to_keep_up_with_the_largest_class() -> None:
    few = torch.tensor([0, 0, 0, 1])
    drawn = ClassDraws(Rows(), few, num_batches=5, batch_size=64, num_each=2, seed=0)
    assert drawn.batch_size == 6
    assert len(drawn) == 30
    rows = drawn.__getitems__(range(6))["index"].tolist()
    assert Counter(rows) == {0: 1, 1: 1, 2: 1, 3: 3}


def test_single_rows_make_no_pairs() -> None:
    with pytest.raises(NoDataError, match="No class has two training inputs"):
        draws(torch.arange(5))
    with pytest.raises(InvalidValueError, match="at least 2 inputs of a class"):
        Contrastive(num_each=40)
    with pytest.raises(InvalidValueError, match="lr=-1: expected a positive number"):
        Contrastive(lr=-1)
    with pytest.raises(InvalidValueError, match=r"num_steps=1\.5: expected a whole number"):
        Contrastive(num_steps=1.5)
    with pytest.raises(InvalidValueError, match="num_steps=0"):
        Contrastive(num_steps=0)
    with pytest.raises(InvalidValueError, match="temperature=0: expected a positive number"):
        Contrastive(temperature=0)


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
    history = task.finetune(data, epochs=1, strategy=Contrastive(num_steps=20, lr=5e-4))
    assert gap(task, data) > before + 0.2
    moved = [n for n, v in task.backbone.state_dict().items() if not torch.equal(v, weights[n])]
    assert moved
    assert history.best["val/accuracy"] > 0.8
    assert type(task.objective).__name__ == "Supervised"
    assert task.plan.lr == task.default_lr[0]


def test_the_penalty_of_the_head_is_the_one_that_features_before_the_stage_ask_for(
    data: TextData, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="mealkit")
    TextClassifier(NET, classes=data.classes).finetune(data, epochs=1, strategy="freeze")
    (before,) = re.findall(r"with penalty ([\d.e-]+)", caplog.text)
    caplog.clear()
    task = TextClassifier(NET, classes=data.classes)
    task.finetune(data, epochs=1, strategy=Contrastive(num_steps=3, lr=5e-4))
    assert f"penalty {before}, chosen ahead of the stage" in caplog.text
    caplog.clear()
    task.reset_head()
    task.finetune(data, epochs=1, strategy="freeze")
    assert "cross-validated accuracy" in caplog.text, "the next run chooses again"


class StopOnce(SupervisedContrast):
    """Ends the stage in its third step, the first time."""

    num_steps = 0

    def step(self, task, batch, *, training):
        StopOnce.num_steps += 1
        if StopOnce.num_steps == 3:
            raise KeyboardInterrupt
        return super().step(task, batch, training=training)


@pytest.mark.parametrize("fresh", [True, False], ids=["another process", "the same"])
def test_a_stage_that_was_stopped_is_repeated_to_the_same_weights(
    data: TextData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: bool
) -> None:
    strategy = Contrastive(num_steps=5, lr=5e-4)
    whole = TextClassifier(NET, classes=data.classes)
    whole.finetune(data, epochs=1, strategy=strategy)
    StopOnce.num_steps = 0
    monkeypatch.setattr(contrastive, "SupervisedContrast", StopOnce)
    task = TextClassifier(NET, classes=data.classes)
    with pytest.raises(KeyboardInterrupt):
        task.finetune(data, epochs=1, strategy=strategy, run=tmp_path / "run")
    if fresh:
        task = TextClassifier(NET, classes=data.classes)
    task.finetune(data, epochs=1, strategy=strategy, run=tmp_path / "run", resume=True)
    assert StopOnce.num_steps == 3 + 5
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in task.state_dict().items())


def test_a_run_that_was_stopped_behind_the_stage_does_not_repeat_it(
    data: TextData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", logger="mealkit")
    strategy = Contrastive(num_steps=3, lr=5e-4)
    whole = TextClassifier(NET, classes=data.classes)
    whole.finetune(data, epochs=2, strategy=strategy)
    task = TextClassifier(NET, classes=data.classes)
    with pytest.raises(RuntimeError, match="stopped"):
        task.finetune(data, epochs=2, strategy=strategy, run=tmp_path / "run", callbacks=[Stop()])
    monkeypatch.setattr(contrastive, "SupervisedContrast", None)  # who makes one fails
    task = TextClassifier(NET, classes=data.classes)
    caplog.clear()
    task.finetune(data, epochs=2, strategy=strategy, run=tmp_path / "run", resume=True)
    assert "chosen ahead of the stage" in caplog.text, "the penalty is in the checkpoint"
    expected = whole.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in task.state_dict().items())


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
