"""What an objective of one's own gets from the house."""

from mealkit import Training
from mealkit.tasks import Step, Supervised


class Counting(Supervised):
    """Counts what it is asked, and solves nothing."""

    solves = False

    def __init__(self) -> None:
        super().__init__()
        self.asked = {"train": 0, "score": 0, "after": 0}

    def step(self, task, batch, *, training: bool) -> Step:
        self.asked["train" if training else "score"] += 1
        return super().step(task, batch, training=training)

    def after_step(self, task) -> None:
        self.asked["after"] += 1


def test_an_objective_is_asked_for_every_batch_and_told_of_every_optimiser_step(make_task) -> None:
    task = make_task()
    task.objective = Counting()
    task.finetune(epochs=2, strategy="full", training=Training(accumulate=2))
    # 36 rows in batches of 12, 2 epochs; 12 rows validated after each; 2 steps an epoch
    assert task.objective.asked == {"train": 6, "score": 2, "after": 4}


def test_an_objective_that_solves_nothing_trains_the_head_on_cached_features(make_task) -> None:
    task = make_task()
    task.objective = Counting()
    task.backbone.net.num_forwards = 0  # building it ran it once
    task.finetune(epochs=3, strategy="freeze", lr=1e-2)
    assert task.backbone.net.num_forwards == 36 + 12
    assert task.objective.asked["train"] == 9
    assert task.head[1].weight.abs().max() > 1e-3
