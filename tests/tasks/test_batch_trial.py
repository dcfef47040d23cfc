"""A batch size that fits into memory: what is tried, what is used, and no trace of the trial."""

import copy
import logging

import pytest
import pytorch_lightning as pl
import torch

from mealkit import Training
from mealkit.errors import InvalidValueError
from mealkit.tasks import Step, Supervised


class Full(Supervised):
    """A device with room for so many rows."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most
        self.sizes: list[int] = []

    def step(self, task, batch, *, training: bool) -> Step:
        self.sizes.append(len(batch["index"]))
        if len(batch["index"]) > self.most:
            raise torch.OutOfMemoryError("no room")
        return super().step(task, batch, training=training)


def test_the_size_is_halved_until_it_fits_and_the_rest_is_accumulated(make_task, caplog) -> None:
    task = make_task()
    task.data.batch_size = None
    task.objective = Full(8)
    with caplog.at_level(logging.INFO, logger="mealkit"):
        found = task.finetune(epochs=2, strategy="full", batch_size="auto")
    assert task.objective.sizes[:3] == [32, 16, 8]
    assert max(task.objective.sizes[3:]) == 8
    assert "Batches of 16 rows do not fit" in caplog.text
    assert "Batches of 8 rows fit into memory; 4 of them make a step" in caplog.text
    given = make_task()
    given.data.batch_size = None
    same = given.finetune(epochs=2, strategy="full", batch_size=8, training=Training(accumulate=4))
    for one, other in zip(task.parameters(), given.parameters(), strict=True):
        assert torch.equal(one, other)
    assert found.rows[-1]["val/loss"] == same.rows[-1]["val/loss"]
    assert task.data.batch_size is None


def test_what_was_accumulated_before_is_multiplied(make_task) -> None:
    task = make_task()  # batches of 12
    task.objective = Full(7)
    task.finetune(epochs=1, strategy="full", batch_size="auto", training=Training(accumulate=3))
    assert task.objective.sizes[:2] == [12, 6]
    assert task.plan.training.accumulate == 6


def test_a_run_that_goes_on_keeps_the_size_it_began_with(make_task, tmp_path) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped")

    def train(most: int, *, run: str, callbacks=()) -> tuple:
        task = make_task()
        task.data.batch_size = None
        task.objective = Full(most)
        asked = {"strategy": "full", "batch_size": "auto", "run": tmp_path / run, "resume": True}
        return task, task.finetune(epochs=2, callbacks=callbacks, **asked)

    whole, history = train(8, run="whole")
    with pytest.raises(RuntimeError, match="stopped"):
        train(8, run="run", callbacks=[Stop()])
    resumed, _ = train(32, run="run")  # there would be room for all by now
    assert max(resumed.objective.sizes) == 8
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    finished, again = train(32, run="whole")
    assert again == history
    assert finished.objective.sizes == []


def test_the_trial_leaves_no_trace(make_task) -> None:
    class Look(pl.Callback):
        def on_fit_start(self, trainer, pl_module) -> None:
            assert all(
                torch.equal(value, before[name]) for name, value in task.state_dict().items()
            )

    task = make_task(pretrained=False)
    before = copy.deepcopy(task.state_dict())
    random = torch.get_rng_state()
    task.finetune(epochs=1, strategy="full", batch_size="auto", callbacks=[Look()])
    assert torch.equal(random, torch.get_rng_state())


def test_a_single_row_that_does_not_fit_is_an_error(make_task) -> None:
    task = make_task()
    task.objective = Full(0)
    with pytest.raises(torch.OutOfMemoryError, match="no room") as caught:
        task.finetune(epochs=1, strategy="full", batch_size="auto")
    assert "down to a single row" in caught.value.__notes__[0]


def test_a_head_on_features_needs_no_trial(make_task, caplog) -> None:
    with caplog.at_level(logging.INFO, logger="mealkit"):
        make_task().finetune(epochs=1, strategy="freeze", batch_size="auto")
    assert "no size has to be found" in caplog.text


def test_a_trainer_of_ones_own_accumulates_by_itself(make_task) -> None:
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False)
    with pytest.raises(InvalidValueError, match="batch_size= beside trainer="):
        make_task().finetune(trainer=trainer, batch_size="auto")
