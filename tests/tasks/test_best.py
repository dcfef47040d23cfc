"""The best weights are kept and put back, ties go to the lower loss."""

import types

import pytest
import torch
from pytorch_lightning.trainer.states import TrainerFn
from torch import nn

from mealkit.tasks.best import BestWeights


def trainer(epoch: int, accuracy: float, loss: float, **more: object) -> types.SimpleNamespace:
    metrics = {"val/accuracy": torch.tensor(accuracy), "val/loss": torch.tensor(loss)}
    state = types.SimpleNamespace(fn=TrainerFn.FITTING)
    known = {"current_epoch": epoch, "callback_metrics": metrics, "sanity_checking": False}
    return types.SimpleNamespace(**{**known, "state": state, **more})


def run(scores: list[tuple[float, float]]) -> tuple[BestWeights, float]:
    """Validate one epoch after another; the weight is the number of the epoch."""
    net, best = nn.Linear(1, 1), BestWeights("val/accuracy")
    for epoch, (accuracy, loss) in enumerate(scores):
        nn.init.constant_(net.weight, float(epoch))
        best.on_validation_end(trainer(epoch, accuracy, loss), net)
    best.on_train_end(trainer(0, 0, 0), net)
    return best, net.weight.item()


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([(0.5, 1.0), (0.9, 2.0), (0.7, 0.1)], 1),
        ([(0.9, 1.0), (0.9, 0.5), (0.9, 0.7)], 1),
        ([(0.9, 1.0), (0.9, 1.0)], 0),
        ([(float("nan"), float("nan")), (0.1, 3.0)], 1),
        ([(0.5, 1.0), (0.9, float("nan"))], 0),  # a net of NaN names the largest class
    ],
)
def test_the_best_epoch_wins(scores: list[tuple[float, float]], expected: int) -> None:
    best, weight = run(scores)
    assert best.epoch == expected
    assert weight == expected


def test_a_run_without_a_finite_epoch_says_so(caplog: pytest.LogCaptureFixture) -> None:
    net, best = nn.Linear(1, 1), BestWeights("val/accuracy")
    best.on_validation_end(trainer(0, 0.9, float("nan")), net)
    best.on_train_end(trainer(0, 0, 0, is_global_zero=True), net)
    assert best.epoch is None
    assert "No epoch had a finite validation loss" in caplog.text


def test_a_metric_may_be_better_when_lower() -> None:
    net, best = nn.Linear(1, 1), BestWeights("val/accuracy", mode="min")
    for epoch, value in enumerate((0.9, 0.2, 0.5)):
        best.on_validation_end(trainer(epoch, value, 1.0), net)
    assert best.epoch == 1


def test_a_sanity_check_and_a_validation_of_its_own_count_for_nothing() -> None:
    net, best = nn.Linear(1, 1), BestWeights("val/accuracy")
    best.on_validation_end(trainer(0, 1.0, 0.0, sanity_checking=True), net)
    state = types.SimpleNamespace(fn=TrainerFn.VALIDATING)
    best.on_validation_end(trainer(0, 1.0, 0.0, state=state), net)
    assert best.epoch is None


def test_a_stopped_run_keeps_its_best_weights() -> None:
    net, best = nn.Linear(1, 1), BestWeights("val/accuracy")
    nn.init.constant_(net.weight, 7.0)
    best.on_validation_end(trainer(0, 0.9, 0.1), net)
    nn.init.constant_(net.weight, 8.0)
    best.on_exception(trainer(1, 0, 0), net, KeyboardInterrupt())
    assert net.weight.item() == 7.0


def test_the_state_survives_a_checkpoint(tmp_path) -> None:
    net, best = nn.Linear(1, 1), BestWeights("val/accuracy")
    nn.init.constant_(net.weight, 3.0)
    best.on_validation_end(trainer(4, 0.9, 0.1), net)
    torch.save(best.state_dict(), tmp_path / "state.ckpt")
    again = BestWeights("val/accuracy")
    again.load_state_dict(torch.load(tmp_path / "state.ckpt", weights_only=True))
    nn.init.constant_(net.weight, 4.0)
    again.on_validation_end(trainer(5, 0.8, 0.1), net)  # worse than before the interruption
    again.on_train_end(trainer(5, 0, 0), net)
    assert again.epoch == 4
    assert net.weight.item() == 3.0
