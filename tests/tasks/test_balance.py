"""What balancing does to a run: the loss by hand, and rare classes that are found."""

import copy
import random

import pytest
import torch

from mealkit import ImageClassifier, ImageData, Training
from mealkit.backbones import create
from tests.conftest import draw_shape

from .conftest import PLAIN, SmallNet


def pictures(num_rare: int, num_usual: int, seed: int) -> tuple[list, list[str]]:
    """Draw shapes that differ in form and a little in colour, one kind of them rare."""
    rng = random.Random(seed)
    labels = ["square"] * num_rare + ["triangle"] * num_usual
    return [draw_shape(label, rng).convert("L").convert("RGB") for label in labels], labels


def test_rows_weigh_in_the_training_loss_and_not_in_validation(make_task) -> None:
    task = make_task()
    batch = {"features": torch.randn(4, task.backbone.num_features), "index": torch.arange(4)}
    batch["target"] = torch.tensor([0, 1, 2, 0])
    batch["weight"] = torch.tensor([3.0, 0.5, 0.25, 0.25])
    torch.nn.init.normal_(task.head[1].weight)
    task.eval().plan_training(training=Training(label_smoothing=0.2))
    logs = torch.log_softmax(task(batch), 1)
    own = -logs[torch.arange(4), batch["target"]]
    smooth = 0.8 * own - 0.2 * logs.mean(1)
    expected = (batch["weight"] * smooth).sum() / 4
    step = task.objective.step
    assert step(task, batch, training=True).loss.item() == pytest.approx(expected.item(), abs=1e-6)
    plain = step(task, batch, training=False).loss.item()
    assert plain == pytest.approx(own.mean().item(), abs=1e-6)


def macro_f1(balance, strategy: str) -> float:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = SmallNet()
    data = ImageData.from_arrays(*pictures(10, 190, 0), test=pictures(50, 50, 1), split=0)
    data.balance, data.augment = balance, "none"
    task = ImageClassifier(create(copy.deepcopy(net), PLAIN), classes=data.classes)
    task.finetune(data, epochs=6, strategy=strategy, lr=5e-3)
    return task.evaluate(data).metrics["macro_f1"]


@pytest.mark.parametrize("strategy", ["full", "freeze"])  # stepped, and solved
@pytest.mark.parametrize("balance", ["weights", "sampler", {"square": 19.0}])
def test_a_class_of_5_percent_is_found(balance, strategy: str) -> None:
    assert macro_f1(balance, strategy) >= macro_f1(None, strategy) + 0.10
