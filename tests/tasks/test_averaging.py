"""The moving average of weights: by hand, over frozen phases, best weights and resumed runs."""

import copy

import pytest
import pytorch_lightning as pl
import torch

from mealkit import Training
from mealkit.errors import InvalidValueError


class Trace(pl.Callback):
    """Copies the head after every step, and what is validated."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []
        self.after: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.steps.append(pl_module.head[1].weight.detach().clone())

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, loader=0) -> None:
        self.validated.append(pl_module.head[1].weight.detach().clone())

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.after.append(pl_module.head[1].weight.detach().clone())


def average(steps: list[torch.Tensor], decay: float) -> torch.Tensor:
    value = steps[0]
    for number, step in enumerate(steps[1:], start=1):
        keep = min(decay, (1 + number) / (10 + number))
        value = keep * value + (1 - keep) * step
    return value


def test_the_average_is_validated_and_the_weights_go_on(make_task) -> None:
    task, trace = make_task(), Trace()
    task.finetune(epochs=3, strategy="full", lr=1e-2, training=Training(ema=0.8), callbacks=[trace])
    for epoch in range(3):
        seen = trace.steps[: 3 * (epoch + 1)]
        assert torch.allclose(trace.validated[epoch], average(seen, 0.8), atol=1e-6)
        assert torch.equal(trace.after[epoch], seen[-1])
    assert not torch.allclose(trace.validated[-1], trace.steps[-1], atol=1e-4)
    best = task._best.epoch
    assert torch.equal(task.head[1].weight, trace.validated[best])


def test_without_validation_the_last_average_stays(make_task) -> None:
    task, trace = make_task(), Trace()
    task.data.val = None
    settings = Training(ema=0.8)
    task.finetune(epochs=2, strategy="full", lr=1e-2, training=settings, callbacks=[trace])
    assert torch.allclose(task.head[1].weight, average(trace.steps, 0.8), atol=1e-6)


def test_steps_are_counted_and_not_accumulated_batches(make_task) -> None:
    task, trace = make_task(), Trace()
    settings = Training(ema=0.8, accumulate=2)
    task.finetune(epochs=1, strategy="full", lr=1e-2, training=settings, callbacks=[trace])
    steps = trace.steps[1:]  # the second batch of 3 steps, and the last one
    assert torch.allclose(trace.validated[0], average(steps, 0.8), atol=1e-6)


def test_what_is_frozen_stays_bit_identical_and_a_solved_head_is_kept(make_task) -> None:
    task = make_task()
    before = copy.deepcopy(task.backbone.state_dict())
    solved = make_task()
    solved.finetune(epochs=3, strategy="freeze")
    task.finetune(epochs=3, strategy="freeze", training=Training(ema=0.9))
    assert all(torch.equal(value, before[n]) for n, value in task.backbone.state_dict().items())
    assert torch.equal(task.head[1].weight, solved.head[1].weight)


def test_the_average_begins_with_the_solved_head(make_task) -> None:
    task, trace = make_task(), Trace()
    task.finetune(
        epochs=2,
        strategy="freeze_unfreeze",
        lr=1e-2,
        training=Training(ema=0.999),
        callbacks=[trace],
    )
    assert torch.equal(trace.validated[0], trace.steps[2])
    assert torch.allclose(trace.validated[1], average(trace.steps[3:], 0.999), atol=1e-6)


def test_batch_statistics_are_averaged_and_counters_are_whole(make_task) -> None:
    task = make_task(pretrained=False)
    task.finetune(epochs=2, strategy="full", lr=1e-2, training=Training(ema=0.9))
    assert task.backbone.net.stem[1].num_batches_tracked.item() in (3, 6)
    assert task.backbone.net.stem[1].running_mean.isfinite().all()


def test_a_plain_trainer_averages_too(make_task, data, bare_trainer) -> None:
    task, trace = make_task().plan_training(lr=1e-2, training=Training(ema=0.8)), Trace()
    trainer = bare_trainer(2)
    trainer.callbacks.append(trace)
    trainer.fit(task, datamodule=data)
    # after Lightning's sanity check and the epoch of the solved head
    assert torch.allclose(trace.validated[2], average(trace.steps[3:], 0.8), atol=1e-6)


def test_a_resumed_run_has_the_average_of_one_that_went_through(make_task, data, tmp_path) -> None:
    class Killed(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 0:
                trainer.save_checkpoint(tmp_path / "kept.ckpt")
                raise RuntimeError("killed")

    def fit(*callbacks: pl.Callback, ckpt_path=None) -> torch.Tensor:
        task = make_task().plan_training(strategy="full", lr=1e-2, training=Training(ema=0.9))
        task.backbone.net.last[1].p = 0.0  # random states are not in a plain checkpoint
        trainer = pl.Trainer(
            max_epochs=3,
            logger=False,
            callbacks=[*callbacks],
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(task, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
        return task.head[1].weight.detach().clone()

    whole = fit()
    with pytest.raises(RuntimeError, match="killed"):
        fit(Killed())
    resumed = fit(ckpt_path=tmp_path / "kept.ckpt")
    assert torch.allclose(resumed, whole, atol=1e-6)


@pytest.mark.parametrize("decay", [0.0, 1.0, 1.5])
def test_a_decay_that_cannot_be_meant_is_refused(decay: float) -> None:
    with pytest.raises(InvalidValueError, match="expected a decay in"):
        Training(ema=decay)
