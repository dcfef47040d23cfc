"""The range test: what it chooses, and that it leaves no trace."""

import copy
import logging

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mealkit import Training
from mealkit.data import Loader
from mealkit.errors import InvalidValueError
from mealkit.tasks.range_test import RATES, RangeTest, choose_rate


def curve(middle: float, noise: float = 0.0) -> list[float]:
    """Losses that fall fastest at a rate, and rise two decades above it."""
    logs = np.log10(RATES) - np.log10(middle)
    losses = 1 - np.tanh(2 * logs) / 2 + np.exp(4 * (logs - 2))
    return (losses + noise * np.random.default_rng(0).normal(size=len(RATES))).tolist()


@pytest.mark.parametrize("middle", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_the_steepest_fall_is_chosen(middle: float, noise: float) -> None:
    rate = choose_rate(curve(middle, noise))
    assert abs(np.log10(rate) - np.log10(middle)) < 0.3
    assert rate in RATES


def test_a_loss_that_does_not_fall_chooses_nothing() -> None:
    assert choose_rate(np.linspace(1, 3, len(RATES)).tolist()) is None
    assert choose_rate([1.0, 0.9, 0.8, 0.7, 0.6]) is None
    assert choose_rate([1.0] * len(RATES)) is None


class Around(pl.Callback):
    """Notes the state before and behind the range test."""

    def __init__(self) -> None:
        self.states: list[dict] = []

    def note(self, trainer, task) -> None:
        loader = trainer.train_dataloader
        assert isinstance(loader, Loader)
        self.states.append(
            {
                "weights": copy.deepcopy(task.state_dict()),
                "rng": torch.get_rng_state(),
                "numpy": np.random.get_state()[1].copy(),
                "loader": loader.state_dict(),
                "optimizer": copy.deepcopy(trainer.optimizers[0].state_dict()["state"]),
            }
        )


@pytest.mark.parametrize("strategy", ["full", "freeze_unfreeze"])
@pytest.mark.parametrize("pretrained", [True, False])
def test_nothing_is_moved_by_the_test(make_task, monkeypatch, strategy, pretrained) -> None:
    task, around = make_task(pretrained=pretrained), Around()
    climb = RangeTest._climb
    moved = []

    def watched(self, trainer, row):
        losses = climb(self, trainer, row)
        moved.append(not torch.equal(task.head[1].weight, before["weights"]["head.1.weight"]))
        return losses

    hook = RangeTest.on_train_epoch_start

    def noted(self, trainer, pl_module):
        nonlocal before
        if self._found is None and (trainer.current_epoch == 1 or strategy == "full"):
            around.note(trainer, pl_module)
            before = around.states[0]
            hook(self, trainer, pl_module)
            around.note(trainer, pl_module)
        else:
            hook(self, trainer, pl_module)

    before: dict = {}
    monkeypatch.setattr(RangeTest, "_climb", watched)
    monkeypatch.setattr(RangeTest, "on_train_epoch_start", noted)
    task.finetune(epochs=2, strategy=strategy, lr="auto")
    assert moved == [True]
    first, second = around.states
    for name, value in first["weights"].items():
        assert torch.equal(value, second["weights"][name]), name
    assert torch.equal(first["rng"], second["rng"])
    assert (first["numpy"] == second["numpy"]).all()
    assert first["loader"] == second["loader"]
    assert str(first["optimizer"]) == str(second["optimizer"])


@pytest.mark.parametrize("strategy", ["full", "freeze_unfreeze", "layer_decay", "gradual"])
def test_a_run_equals_one_with_the_rate_that_was_found(make_task, strategy: str) -> None:
    settings = Training(ema=0.9)
    found, given = make_task(), make_task()
    first = found.finetune(epochs=3, strategy=strategy, lr="auto", training=settings)
    rate = found.plan.lr
    assert rate in RATES
    second = given.finetune(epochs=3, strategy=strategy, lr=rate, training=settings)
    for one, other in zip(found.parameters(), given.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(first.rows, second.rows, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


def test_the_rate_is_said(make_task, caplog) -> None:
    task = make_task()
    with caplog.at_level(logging.INFO, logger="mealkit"):
        task.finetune(epochs=2, strategy="freeze_unfreeze", lr="auto")
    (table,) = [text for text in caplog.messages if text.startswith("Training by")]
    assert "AdamW at a rate to be found" in table
    assert table.splitlines()[3].split()[-6:-3] == ["to", "be", "found"]
    (line,) = [text for text in caplog.messages if text.startswith("Looked for")]
    assert f"{task.plan.lr:.2g}, where the loss fell fastest" in line
    assert f"{task.plan.lr:g}" in str(task.plan)


def test_a_solved_head_needs_no_rate(make_task, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="mealkit"):
        make_task().finetune(epochs=2, strategy="freeze", lr="auto")
    assert "Looked for" not in caplog.text
    assert "lr= changes nothing in this run" in caplog.text


def test_a_head_that_is_stepped_is_tested_with_the_backbone_that_follows(make_task) -> None:
    task = make_task()
    task.data.augment = "light"  # which keeps the head from being solved
    frozen = copy.deepcopy(task.backbone.state_dict())
    task.finetune(epochs=1, strategy="freeze", lr="auto")
    assert task.plan.lr in RATES
    assert all(torch.equal(v, frozen[n]) for n, v in task.backbone.state_dict().items())


def test_a_plain_trainer_looks_for_it_too(make_task, data, bare_trainer) -> None:
    task = make_task().plan_training(strategy="full", lr="auto")
    trainer = bare_trainer(1)
    trainer.fit(task, datamodule=data)
    assert trainer.optimizers[0].param_groups[0]["initial_lr"] == task.plan.lr
    assert not task.plan.finds_lr


def test_a_resumed_run_keeps_its_rate(make_task, data, bare_trainer, tmp_path) -> None:
    first = make_task().plan_training(strategy="full", lr="auto")
    trainer = bare_trainer(1)
    trainer.fit(first, datamodule=data)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    second = make_task(seed=3).plan_training(strategy="full", lr="auto")
    bare_trainer(2).fit(second, datamodule=data, ckpt_path=tmp_path / "one.ckpt", weights_only=True)
    assert second.plan.lr == first.plan.lr


def test_loaders_that_cannot_be_set_back_are_refused(make_task, data, bare_trainer) -> None:
    task = make_task().plan_training(strategy="full", lr="auto")
    data.prepare(task.input_spec)
    with pytest.raises(InvalidValueError, match="lr='auto' needs data of mealkit"):
        bare_trainer(1).fit(task, data.train_dataloader(), data.val_dataloader())


def test_another_word_is_refused(make_task) -> None:
    with pytest.raises(InvalidValueError, match="lr='fast': expected a positive number, 'auto'"):
        make_task().finetune(epochs=1, lr="fast")


@pytest.mark.gpu  # Lightning has no fp16 on CPUs
def test_gradients_of_fp16_are_scaled_as_in_the_run(make_task, monkeypatch) -> None:
    scaled: list[bool] = []

    class Scaler(torch.amp.GradScaler):
        def __init__(self, device: str, *, enabled: bool) -> None:
            scaled.append(enabled)
            super().__init__(device, enabled=enabled)

    monkeypatch.setattr(torch.amp, "GradScaler", Scaler)
    make_task().finetune(epochs=1, strategy="full", lr="auto", precision="32-true")
    task = make_task()
    task.finetune(epochs=1, strategy="full", lr="auto", precision="16-mixed")
    assert scaled[0] is False
    assert True in scaled[1:]
    assert task.plan.lr in RATES
