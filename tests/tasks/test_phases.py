"""What trains when, on a real fit: weights, batch statistics, caches, rates."""

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from mealkit import ImageClassifier, ImageData, Training
from mealkit.errors import InvalidValueError
from mealkit.tasks.probe import fit_probe
from mealkit.tasks.running import encode

Make = Callable[..., ImageClassifier]


def snapshot(task: ImageClassifier) -> dict[str, torch.Tensor]:
    return copy.deepcopy(task.backbone.state_dict())


def changed(task: ImageClassifier, before: dict[str, torch.Tensor]) -> set[str]:
    return {n for n, v in task.backbone.state_dict().items() if not torch.equal(v, before[n])}


class Watch(pl.Callback):
    """Notes at every training batch which blocks train and which modules are in train mode."""

    def __init__(self) -> None:
        self.open: list[list[bool]] = []
        self.norms_train: list[bool] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        named = dict(pl_module.backbone.named_parameters())
        self.open.append(
            [
                all(named[n].requires_grad for n in block.parameters)
                for block in pl_module.backbone.blocks
            ]
        )
        norms = [m for m in pl_module.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
        self.norms_train.append(any(m.training for m in norms))


def test_freeze_leaves_weights_and_batch_statistics_bit_identical(make_task: Make) -> None:
    task = make_task()
    before = snapshot(task)
    head = copy.deepcopy(task.head.state_dict())
    task.finetune(epochs=2, strategy="freeze")
    assert changed(task, before) == set()
    assert not torch.equal(task.head[1].weight, head["1.weight"])


def test_freeze_with_augmentation_trains_the_head_without_a_cache(make_task: Make) -> None:
    task = make_task()
    task.data.augment = "light"
    before = snapshot(task)
    task.finetune(epochs=2, strategy="freeze")
    assert changed(task, before) == set()
    assert task.head[1].weight.abs().sum() > 0
    # 2 epochs x 36 training pictures, and 12 validation pictures after each
    assert task.backbone.net.num_forwards >= 2 * (36 + 12)


def test_full_moves_weights_and_keeps_batch_statistics_of_a_pretrained_net(make_task: Make) -> None:
    task = make_task()
    before = snapshot(task)
    task.finetune(epochs=1, strategy="full")
    moved = changed(task, before)
    assert {name for name in moved if "running" in name or "num_batches" in name} == set()
    weights = {name for name, _ in task.backbone.named_parameters()}
    assert weights - moved <= {n for n in weights if n.endswith("bias")}


@pytest.mark.parametrize("setting", ["auto", "moving"])
def test_batch_statistics_move_without_pretraining_or_when_asked(
    make_task: Make, setting: str
) -> None:
    task = make_task(pretrained=setting == "moving")
    before = snapshot(task)
    task.finetune(epochs=1, strategy="full", training=Training(batch_norm=setting))
    assert any("running_mean" in name for name in changed(task, before))


def test_gradual_opens_blocks_epoch_by_epoch(make_task: Make) -> None:
    task, watch = make_task(), Watch()
    count = len(task.backbone.blocks)
    task.finetune(epochs=count + 1, strategy="gradual", batch_size=36, callbacks=[watch])
    expected = [[block >= count - epoch for block in range(count)] for epoch in range(count + 1)]
    assert watch.open == expected


def test_modes_hold_after_validation(make_task: Make) -> None:
    watch = Watch()
    make_task().finetune(epochs=3, strategy="full", batch_size=36, callbacks=[watch])
    assert watch.norms_train == [False] * 3
    watch = Watch()
    make_task(pretrained=False).finetune(
        epochs=3, strategy="full", batch_size=36, callbacks=[watch]
    )
    assert watch.norms_train == [True] * 3


def test_a_frozen_backbone_runs_once_per_picture(make_task: Make) -> None:
    task = make_task()
    task.backbone.net.num_forwards = 0
    task.finetune(epochs=4, strategy="freeze")
    assert task.backbone.net.num_forwards == 36 + 12  # train and validation


def test_cached_features_equal_the_uncached_path(make_task: Make, data: ImageData) -> None:
    task = make_task().eval()
    data.prepare(task.input_spec)
    loader = data.train_dataloader()
    features, present = encode(task, loader)
    assert present.all()
    loader.fetch.cache(features, present)
    cached = next(iter(loader))
    loader.fetch.uncache()
    plain = loader.fetch.__getitems__(cached["index"].tolist())
    with torch.no_grad():
        assert torch.allclose(task(cached), task(plain), atol=1e-5)
        assert (task.features(plain) - cached["features"]).abs().max() < 1e-5


def test_the_same_frozen_run_gives_the_same_head_with_and_without_workers(make_task: Make) -> None:
    first, second = make_task(), make_task()
    first.finetune(epochs=1, strategy="freeze")
    second.data.num_workers = 2
    second.finetune(epochs=1, strategy="freeze")
    assert torch.allclose(first.head[1].weight, second.head[1].weight, atol=1e-6)


def test_nothing_stays_frozen_or_cached_after_a_run(make_task: Make) -> None:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze")
    assert all(parameter.requires_grad for parameter in task.parameters())


def test_nothing_stays_frozen_after_a_failure(make_task: Make) -> None:
    class Fail(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            raise RuntimeError("the disk is on fire")

    task = make_task()
    with pytest.raises(RuntimeError, match="on fire"):
        task.finetune(epochs=1, strategy="freeze", callbacks=[Fail()])
    assert all(parameter.requires_grad for parameter in task.parameters())
    assert task.data.batch_size == 12


def test_what_trains_when_is_said_before_the_first_step(
    make_task: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mealkit"):
        make_task().finetune(epochs=3, strategy="freeze_unfreeze", lr=1e-3)
    (table,) = [text for text in caplog.messages if text.startswith("Training by")]
    lines = table.splitlines()
    assert "freeze_unfreeze, AdamW at 0.001" in lines[0]
    assert lines[2].split() == ["1", "head", "solved", "features", "computed", "once"]
    assert lines[3].split()[:3] == ["2-3", "head", "+"]
    assert lines[3].endswith("pictures, augmentation 'light'")
    assert caplog.messages.index(table) < next(
        place for place, text in enumerate(caplog.messages) if text.startswith("epoch 1/3")
    )


def test_plain_lightning_gets_strategy_and_best_weights(
    make_task: Make, data: ImageData, bare_trainer: Callable[[int], pl.Trainer]
) -> None:
    task = make_task().plan_training(strategy="freeze")
    before = snapshot(task)
    trainer = bare_trainer(2)
    trainer.fit(task, datamodule=data)
    assert changed(task, before) == set()
    assert task.head[1].weight.abs().sum() > 0
    assert trainer.callback_metrics["val/accuracy"] > 0.5


def test_a_trainer_that_counts_steps_gets_a_schedule_of_its_length(
    make_task: Make, data: ImageData
) -> None:
    seen = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            seen.append((trainer.current_epoch, trainer.optimizers[0].param_groups[0]["lr"]))

    trainer = pl.Trainer(
        max_steps=7,
        accumulate_grad_batches=2,  # 3 batches of 12 make 2 steps an epoch
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Look()],
    )
    task = make_task().plan_training(strategy="freeze_unfreeze", lr=0.1)
    trainer.fit(task, datamodule=data)
    assert trainer.global_step == 7
    assert task.schedule(trainer).num_epochs == 4
    assert {rate for epoch, rate in seen if epoch == 0} == {0.0}
    assert max(rate for epoch, rate in seen if epoch == 1) == pytest.approx(0.1)


def test_a_trainer_without_an_end_is_refused(make_task: Make, data: ImageData) -> None:
    trainer = pl.Trainer(
        max_epochs=-1,
        max_time="00:00:01:00",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    with pytest.raises(InvalidValueError, match="neither max_epochs nor max_steps"):
        trainer.fit(make_task(), datamodule=data)


def test_a_file_that_breaks_after_the_check_is_reported_in_frozen_epochs(make_task: Make) -> None:
    task = make_task()
    broken = task.data.train.ids[3]
    Path(broken).write_text("no picture any more")
    task.finetune(epochs=2, strategy="freeze")
    assert [entry.input for entry in task.data.report.entries] == [broken]


def test_what_the_net_keeps_fixed_stays_fixed(make_task: Make) -> None:
    task = make_task()
    fixed = task.backbone.net.stem[0].weight.requires_grad_(False)
    before = fixed.clone()
    task.finetune(epochs=2, strategy="full", lr=1e-2)
    assert torch.equal(fixed, before)
    assert not fixed.requires_grad
    assert task.backbone.net.stem[0].bias.requires_grad


def test_a_head_that_has_learnt_is_trained_on_and_not_solved_again(make_task: Make) -> None:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze")
    head = task.head[1].weight.clone()
    task.finetune(epochs=1, strategy="freeze", lr=1e-9)
    assert torch.allclose(task.head[1].weight, head, atol=1e-6)
    task.finetune(epochs=3, strategy="freeze", lr=1e-2)
    assert not torch.allclose(task.head[1].weight, head, atol=1e-6)


def test_a_rate_that_changes_nothing_is_said(
    make_task: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        make_task().finetune(epochs=1, strategy="freeze", lr=1e-3)
    assert "lr= changes nothing in this run" in caplog.text


def test_history_says_the_loss_of_a_row_also_when_gradients_are_accumulated(
    make_task: Make,
) -> None:
    losses = []
    for accumulate in (1, 3):
        settings = Training(accumulate=accumulate, label_smoothing=0.0)
        history = make_task().finetune(epochs=1, strategy="full", lr=1e-9, training=settings)
        losses.append(history.rows[0]["train/loss"])
    assert losses[0] == pytest.approx(np.log(3), abs=1e-3)  # the head starts at zero
    assert losses[1] == pytest.approx(losses[0], abs=1e-3)


def test_views_run_the_backbone_once_each_and_the_head_learns_from_all(make_task: Make) -> None:
    task = make_task()
    task.data.augment, task.data.n_views = "light", 3
    task.backbone.net.num_forwards = 0
    task.finetune(epochs=2, strategy="freeze", precision="32-true")
    assert task.backbone.net.num_forwards == 3 * 36 + 12  # validation is never augmented
    views = [feature_views(task, epoch) for epoch in range(3)]
    assert not torch.equal(views[0], views[1])
    rows = torch.stack(views, 1).flatten(0, 1)
    targets = task.data.train.targets.repeat_interleave(3)
    expected = fit_probe(rows, targets, num_classes=3, num_views=3)
    assert torch.allclose(task.head[1].weight, expected.weight, rtol=1e-4, atol=1e-4)


def feature_views(task: ImageClassifier, epoch: int) -> torch.Tensor:
    """Features of all training pictures as the augmentation of an epoch shows them."""
    task.eval()
    batch = task.data.train.__getitems__(range(36))
    seen = task.data.augment_batch(batch, epoch=epoch)
    with torch.no_grad():
        return task.features(seen)


def test_steps_on_views_see_all_of_them_in_a_batch(make_task: Make) -> None:
    seen = []

    class Look(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            seen.append((trainer.current_epoch, batch["index"], len(batch["features"])))

    task = make_task()
    task.finetune(epochs=1, strategy="freeze")  # a head that has learnt is trained by steps
    task.data.augment, task.data.n_views = "light", 2
    head = task.head[1].weight.clone()
    task.finetune(epochs=2, strategy="freeze", batch_size=12, callbacks=[Look()])
    assert not torch.equal(task.head[1].weight, head)
    assert [count for _, _, count in seen] == [24] * 6
    for epoch in range(2):
        index = torch.cat([rows for number, rows, _ in seen if number == epoch])
        assert torch.bincount(index).tolist() == [2] * 36


def test_balance_holds_for_views(make_task: Make) -> None:
    heads = []
    for n_views in (None, 1):
        task = make_task()
        task.data.balance = {"circle": 5.0}
        task.data.augment, task.data.n_views = flat, n_views
        if n_views is None:
            task.data.augment = "none"
        task.finetune(epochs=1, strategy="freeze")
        heads.append(task.head[1].weight)
    assert torch.allclose(*heads, atol=1e-6)


def flat(images: torch.Tensor, *, seed: int, epoch: int, index: torch.Tensor) -> torch.Tensor:
    return images


@pytest.mark.parametrize("augment", [None, "none"])
def test_views_of_nothing_are_refused(make_task: Make, augment: str | None) -> None:
    task = make_task()
    task.data.augment, task.data.n_views = augment, 2
    with pytest.raises(InvalidValueError, match="nothing tells the views apart"):
        task.finetune(epochs=1, strategy="freeze")
    task.data.augment, task.data.n_views = "light", 0
    with pytest.raises(InvalidValueError, match="n_views=0"):
        task.finetune(epochs=1, strategy="freeze")


def test_views_are_said_and_where_they_change_nothing_too(
    make_task: Make, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    task.data.augment, task.data.n_views = "light", 2
    with caplog.at_level(logging.INFO, logger="mealkit"):
        task.finetune(epochs=2, strategy="freeze_unfreeze")
    assert "features of 2 views computed once" in caplog.text
    assert "n_views changes nothing" not in caplog.text
    task.finetune(epochs=1, strategy="full")
    assert "n_views changes nothing in this run: no epoch is frozen" in caplog.text


def test_an_augmentation_that_breaks_pictures_stops_the_run_at_once(make_task: Make) -> None:
    def smaller(images, *, seed, epoch, index):
        return images[..., ::2]

    def unscaled(images, *, seed, epoch, index):
        return images.float()

    for change, words in (
        (smaller, r"\(12, 3, 16, 8\)"),
        (unscaled, "with float32 from 36 to 255"),
    ):
        task = make_task()
        task.data.augment = change
        with pytest.raises(InvalidValueError, match=words):
            task.finetune(epochs=1, strategy="full")
    task.data.augment = lambda images, *, seed, epoch, index: None
    with pytest.raises(InvalidValueError, match="answered with NoneType and was given uint8"):
        task.finetune(epochs=1, strategy="full")
