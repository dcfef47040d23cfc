"""Mixed and augmented pictures in a run: the loss by hand, and who sees them."""

import logging

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional

from mealkit import Training


class Keep(pl.Callback):
    """Keeps the batches that are trained and validated on."""

    def __init__(self) -> None:
        self.trained: list[dict[str, torch.Tensor]] = []
        self.validated: list[dict[str, torch.Tensor]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.trained.append(batch)

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, loader=0) -> None:
        self.validated.append(batch)


def test_the_loss_is_that_of_soft_targets(make_task) -> None:
    task = make_task()
    torch.nn.init.normal_(task.head[1].weight)
    task.eval().plan_training(training=Training(label_smoothing=0.3))
    batch = {"features": torch.randn(4, task.backbone.num_features), "index": torch.arange(4)}
    batch["target"] = torch.tensor([0, 1, 2, 0])
    batch["partner"] = torch.tensor([3, 0, 1, 2])
    batch["share"] = share = torch.tensor([0.9, 0.2, 0.5, 1.0])
    hard = functional.one_hot(batch["target"], 3).float()
    soft = share[:, None] * hard + (1 - share[:, None]) * hard[batch["partner"]]
    expected = functional.cross_entropy(task(batch), soft, label_smoothing=0.3)
    loss = task.objective.step(task, batch, training=True).loss
    assert loss.item() == pytest.approx(expected.item(), abs=1e-6)
    batch["weight"] = weight = torch.tensor([4.0, 1.0, 0.5, 4.0])
    logs = functional.log_softmax(task(batch), 1)
    own = -(0.7 * logs.gather(1, batch["target"][:, None])[:, 0] + 0.3 * logs.mean(1))
    other = batch["target"][batch["partner"]]
    others = -(0.7 * logs.gather(1, other[:, None])[:, 0] + 0.3 * logs.mean(1))
    weighed = share * weight * own + (1 - share) * weight[batch["partner"]] * others
    loss = task.objective.step(task, batch, training=True).loss
    assert loss.item() == pytest.approx(weighed.mean().item(), abs=1e-6)


def test_validation_and_cached_features_are_never_mixed(make_task) -> None:
    task, keep = make_task(), Keep()
    task.data.mix, task.data.augment = "both", None
    task.finetune(epochs=2, strategy="freeze_unfreeze", callbacks=[keep])
    frozen, mixed = keep.trained[:3], keep.trained[3:]
    assert all("features" in batch and "partner" not in batch for batch in frozen)
    assert all("image" in batch and "partner" in batch for batch in mixed)
    assert all("partner" not in batch for batch in keep.validated)
    assert "mixed by 'both'" in task.data.sees


@pytest.mark.parametrize("augment", ["medium", "heavy"])
def test_workers_change_no_batch(make_task, augment: str) -> None:
    kept = []
    for num_workers in (0, 2):
        task, keep = make_task(), Keep()
        task.data.augment, task.data.mix = augment, "both"
        task.data.num_workers = num_workers
        task.finetune(epochs=1, strategy="full", callbacks=[keep])
        kept.append(keep.trained)
    assert len(kept[0]) == 3
    for one, other in zip(*kept, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_mixing_that_changes_nothing_is_said(make_task, caplog) -> None:
    task = make_task()
    task.data.mix = "mixup"
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        task.finetune(epochs=1, strategy="freeze")
    assert "data.mix changes nothing in this run" in caplog.text
