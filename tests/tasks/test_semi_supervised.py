"""Unlabelled pictures while fine-tuning: losses by hand, whole runs, the guard, errors."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from mealkit import ImageClassifier, Training
from mealkit.errors import InvalidValueError
from mealkit.tasks import FixMatch, FreeMatch, MeanTeacher
from mealkit.tasks.semi_supervised import METHODS, highest_probability

Make = Callable[..., ImageClassifier]


@pytest.fixture
def pictures(shapes: Path) -> Path:
    """36 further pictures of the same classes, whose folders are not looked at."""
    return shapes


def started(method, task):
    method.start(task)
    return method


def said(task: ImageClassifier, logits: torch.Tensor):
    """Make a task answer with these logits of weak views."""
    task.forward = lambda batch: logits
    return {"image": torch.zeros(len(logits), 3, 16, 16), "index": torch.arange(len(logits))}


WEAK = torch.tensor([[9.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0]])
STRONG = torch.tensor([[2.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.5, 0.0, 0.0]])


def test_fixmatch_trains_strong_views_on_sure_labels(make_task: Make):
    task = make_task()
    task.plan_training(training=Training(label_smoothing=0.0))
    method = started(FixMatch(threshold=0.95), task)
    loss = method.unlabelled_loss(task, STRONG, said(task, WEAK))
    sure = functional.cross_entropy(STRONG[[0, 2, 3]], torch.tensor([0, 2, 0]), reduction="sum")
    assert loss.item() == pytest.approx(sure.item() / 4, rel=1e-6)  # a mean over all rows
    # rows, those that count, those that agree (the first and the last), and their classes
    assert method._counts.tolist() == [4, 3, 2, 2, 0, 1]


def test_smoothed_labels_lower_what_counts_as_sure(make_task: Make):
    task = make_task()
    method = started(FixMatch(threshold=0.95), task)
    probabilities = torch.tensor([[0.9, 0.05, 0.05]])
    task.plan_training(training=Training(label_smoothing=0.0))
    assert not method.mask(probabilities, task)
    task.plan_training(training=Training(label_smoothing=0.1))
    assert highest_probability(0.1, 3) == pytest.approx(0.9 + 0.1 / 3)
    assert method.mask(probabilities, task)


def test_freematch_moves_its_thresholds_and_keeps_classes_fair(make_task: Make):
    task = make_task()
    method = started(FreeMatch(momentum=0.5, fairness=0.1), task)
    weak = WEAK.clone()
    weak[1] = torch.tensor([0.1, 0.0, 0.0])  # hardly sure, of the most frequent class
    loss = method.unlabelled_loss(task, STRONG, said(task, weak))
    probabilities = weak.softmax(1)
    sure, labels = probabilities.max(1)
    threshold = 0.5 / 3 + 0.5 * sure.mean()
    shares = 0.5 / 3 + 0.5 * probabilities.mean(0)
    frequent = 0.5 / 3 + 0.5 * torch.tensor([3, 0, 1]) / 4
    assert torch.allclose(method._shares, shares)
    mask = sure >= threshold * (shares / shares.max())[labels]
    assert mask.tolist() == [True, False, True, True]
    matched = (functional.cross_entropy(STRONG, labels, reduction="none") * mask).mean()
    given = STRONG.softmax(1).mean(0)
    seen = torch.tensor([3, 1, 0]) / 4  # the last class is never said of strong views
    wanted, given = shares / frequent, torch.where(seen > 0, given / seen.clamp_min(1e-9), 0)
    wanted, given = wanted / wanted.sum(), given / given.sum()
    unfair = (wanted * given.clamp_min(1e-12).log()).sum()
    assert loss.item() == pytest.approx((matched + 0.1 * unfair).item(), rel=1e-4)


def test_mean_teacher_compares_with_averaged_weights(make_task: Make):
    task = make_task()
    task.eval()
    method = started(MeanTeacher(rise=0.5, ema=0.9), task)
    task._trainer = SimpleNamespace(
        estimated_stepping_batches=10, global_step=0, is_last_batch=False
    )
    weak = {"image": torch.rand(4, 3, 16, 16), "index": torch.arange(4)}
    before = task(weak).detach()
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.add_(0.05)
    assert not torch.allclose(task(weak), before)
    distance = (STRONG.softmax(1) - before.softmax(1)).square().mean()
    loss = method.unlabelled_loss(task, STRONG, weak)
    assert loss.item() == pytest.approx(distance.item() * math.exp(-5), rel=1e-4)
    task._trainer.global_step = 5
    loss = method.unlabelled_loss(task, STRONG, weak)
    assert loss.item() == pytest.approx(distance.item(), rel=1e-4)
    old = method._teacher()[0].clone()
    method.after_step(task)
    moved = old.lerp(next(task.backbone.parameters()), 0.9)  # 9 / (10 + 0) in the first step
    assert torch.allclose(method._teacher()[0], moved)
    assert all(not parameter.requires_grad for parameter in method.parameters())


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_and_says_its_shares(make_task: Make, pictures: Path, method: str):
    task = make_task(pretrained=False)
    objective = task.objective
    history = task.finetune(unlabelled=pictures, method=method, epochs=2, batch_size=6)
    for row in history.rows:
        assert 0 <= row["unlabelled/mask_rate"] <= 1
        assert math.isfinite(row["train/loss"])
    if method == "mean_teacher":
        assert row["unlabelled/mask_rate"] == 1
        assert 1 / 3 <= row["unlabelled/largest_class"] <= 1
        assert 0 <= row["unlabelled/agreement"] <= 1
    assert task.objective is objective
    names = set(task.state_dict())
    assert all(name.startswith(("backbone.", "head.")) for name in names)


def test_one_class_that_swallows_the_others_is_warned_of(make_task: Make, caplog):
    task = make_task()
    method = started(FixMatch(), task)
    task._trainer = SimpleNamespace(is_last_batch=True, current_epoch=4, max_epochs=5)
    method._counts.copy_(torch.tensor([100.0, 50, 40, 40, 5, 5]))
    with caplog.at_level(logging.WARNING, "mealkit"):
        method.after_step(task)
    assert "80% of the pseudo-labels are 'circle'" in caplog.text
    assert task.measured == {
        "unlabelled/mask_rate": 0.5,
        "unlabelled/agreement": 0.8,
        "unlabelled/largest_class": 0.8,
    }
    assert method._counts.sum() == 0


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FixMatch(threshold=1.0), r"threshold=1\.0: expected a number in \(0, 1\)"),
        (lambda: FixMatch(ratio=0), "ratio=0: expected at least 1"),
        (lambda: FreeMatch(momentum=0.0), r"momentum=0\.0"),
        (lambda: MeanTeacher(weight=0.0), r"weight=0\.0: expected a positive number"),
        (lambda: MeanTeacher(weight="a"), r"weight='a': expected a positive number"),
        (lambda: MeanTeacher(rise=None), r"rise=None: expected a number in \(0, 1\)"),
        (lambda: FixMatch(threshold="a"), r"threshold='a': expected a number in \(0, 1\)"),
        (lambda: FixMatch(ema=None), r"ema=None: expected a number in \(0, 1\)"),
        (lambda: FreeMatch(fairness=-1), r"fairness=-1: expected a number in \[0, inf\)"),
        (lambda: FreeMatch(fairness=math.nan), r"fairness=nan"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(make, says):
    with pytest.raises(InvalidValueError, match=says):
        make()


def test_a_stack_of_grey_pictures_is_many_pictures(make_task: Make):
    task = make_task(pretrained=False)
    stack = torch.randint(0, 256, (20, 16, 16), dtype=torch.uint8)
    history = task.finetune(unlabelled=stack, method=MeanTeacher(ratio=2), epochs=1, batch_size=6)
    assert history.rows[0]["unlabelled/mask_rate"] == 1
    data = task.data
    again = task.finetune(
        unlabelled=data, method=FixMatch(ratio=1), strategy="full", epochs=1, batch_size=6
    )
    assert len(again) == 1
