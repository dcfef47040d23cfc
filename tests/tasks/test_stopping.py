"""Runs that end early: what counts as improvement, when time is over, what is left in the task."""

import logging
import time

import pytest
import pytorch_lightning as pl
import torch

from mealkit import Training
from mealkit.errors import InvalidValueError
from mealkit.tasks.stopping import Patience


@pytest.fixture
def scores(monkeypatch: pytest.MonkeyPatch):
    """Make validation answer with given scores, one after another."""

    def use(task, values: list[float]) -> None:
        left = iter(values)

        def log(stage: str) -> None:
            task._metrics[stage].reset()
            total, count = task._losses.pop(stage)
            task.log(f"{stage}/loss", total / count)
            task.log(f"{stage}/accuracy", next(left))

        monkeypatch.setattr(task, "_log_metrics", log)

    return use


def test_a_run_ends_when_nothing_improves(make_task, scores, caplog) -> None:
    task = make_task()
    scores(task, [0.1, 0.3, 0.2, 0.3, 0.9])
    with caplog.at_level(logging.INFO, logger="mealkit"):
        history = task.finetune(epochs=5, strategy="full", training=Training(patience=2))
    assert len(history) == 4
    assert task._best.epoch in (1, 3)  # of equals, the one with the lower loss
    assert "val/accuracy is 0.3000, no improvement for 2 epochs over 0.3000" in caplog.text


def test_frozen_epochs_in_front_do_not_count(make_task, scores) -> None:
    task = make_task()
    scores(task, [0.9, 0.1, 0.2, 0.2, 0.3])
    history = task.finetune(epochs=5, strategy="freeze_unfreeze", training=Training(patience=1))
    assert len(history) == 4
    assert task._best.epoch == 0


def test_a_run_that_is_frozen_throughout_counts(make_task) -> None:
    history = make_task().finetune(epochs=6, strategy="freeze", training=Training(patience=2))
    assert len(history) == 3  # a solved head never improves


def test_a_plain_trainer_stops_too_and_the_users_own_stopping_stays(
    make_task, data, bare_trainer, scores
) -> None:
    task = make_task().plan_training(strategy="full", training=Training(patience=1))
    scores(task, [0.0, 0.5, 0.4, 0.6])  # the first one is Lightning's sanity check
    trainer = bare_trainer(3)
    own = pl.callbacks.EarlyStopping("val/loss", patience=50)
    trainer.callbacks.append(own)
    trainer.fit(task, datamodule=data)
    assert trainer.current_epoch == 2
    assert own in trainer.callbacks
    assert any(isinstance(one, Patience) for one in trainer.callbacks)


def test_patience_without_validation_is_refused(make_task) -> None:
    task = make_task()
    task.data.val = None
    with pytest.raises(InvalidValueError, match=r"no validation part. Give one"):
        task.finetune(epochs=2, strategy="full", training=Training(patience=1))


def test_a_metric_that_is_no_number_ends_the_run(make_task, scores, caplog) -> None:
    task = make_task()
    scores(task, [0.5, float("nan"), 0.6])
    with caplog.at_level(logging.INFO, logger="mealkit"):
        history = task.finetune(epochs=3, strategy="full", training=Training(patience=5))
    assert len(history) == 2
    assert "val/accuracy is nan; the best was 0.5000" in caplog.text


class Slow(pl.Callback):
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.num_batches = 0

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.num_batches += 1
        time.sleep(self.seconds)


def test_time_runs_out_in_the_middle_of_an_epoch(make_task, caplog) -> None:
    task, slow = make_task(), Slow(0.3)
    settings = Training(time_limit_seconds=1.0)
    with caplog.at_level(logging.INFO, logger="mealkit"):
        history = task.finetune(
            epochs=50, strategy="full", batch_size=12, training=settings, callbacks=[slow]
        )
    assert slow.num_batches <= 4
    assert len(history) <= 2
    assert "val/accuracy" in history.rows[-1]
    assert "the time limit of 1 s is reached" in caplog.text
    assert caplog.text.count("time limit of") == 1
    assert task.head[1].weight.abs().sum() > 0
    assert task._best.epoch is not None


def test_a_run_within_its_time_is_not_touched(make_task) -> None:
    plain, limited = make_task(), make_task()
    plain.finetune(epochs=2, strategy="full")
    settings = Training(time_limit_seconds=1000)
    limited.finetune(epochs=2, strategy="full", training=settings)
    assert torch.equal(plain.head[1].weight, limited.head[1].weight)


@pytest.mark.parametrize(
    ("name", "value"), [("patience", 0), ("time_limit_seconds", 0), ("time_limit_seconds", -1.5)]
)
def test_limits_that_cannot_be_meant_are_refused(name: str, value: float) -> None:
    with pytest.raises(InvalidValueError, match=f"{name}={value}: expected"):
        Training(**{name: value})
