"""The objective of inputs that have any number of labels, and the metrics beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MultilabelAveragePrecision,
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelHammingDistance,
)

from .objectives import Objective, Step
from .probe import fit_probes

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task


class MultiLabel(Objective):
    """Binary cross-entropy of each class by itself, against ``batch["target"]``, (B, K) of 0 and 1.

    Weights are (B, K) where the data are balanced: those with a label may count more than those
    without it, class by class. Mixed rows have the targets of their ``batch["partner"]``, too, in
    which this loss is linear like the one of `Supervised`; smoothing draws targets towards 1/2. A
    fresh head over a frozen backbone is solved: a logistic regression per class, each with a
    cross-validated penalty.
    """

    solves = True

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Ask for every class whether the inputs have it, and compare."""
        logits = task(batch)
        if not training:
            # As probabilities: metrics take numbers for such where all of a batch are in [0, 1],
            # and logits may be.
            return Step(binary_losses(logits, batch["target"]).mean(), logits.sigmoid())
        smoothing = task.plan.training.label_smoothing

        def losses(rows: Tensor | slice) -> Tensor:
            """Compare the logits with the targets of these rows, each as much as it weighs."""
            target = batch["target"][rows].float() * (1 - smoothing) + smoothing / 2
            values = binary_losses(logits, target)
            return values * batch["weight"][rows] if "weight" in batch else values

        own = losses(slice(None))
        if "partner" in batch:
            share = batch["share"][:, None]
            own = share * own + (1 - share) * losses(batch["partner"])
        return Step(own.mean(), logits)

    def solve(
        self, task: Task, features: Tensor, targets: Tensor, *, weights: Tensor | None
    ) -> str:
        """Solve the linear head by `fit_probes`."""
        probes = fit_probes(features, targets, weights=weights, seed=task.plan.training.seed)
        task.set_head(probes.weight, probes.bias)
        low, high = float(probes.penalties.min()), float(probes.penalties.max())
        return f"cross-validated loss {probes.loss:.4f} with penalties from {low:g} to {high:g}"


def binary_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Answer with the binary cross-entropy of every input and class, (B, K)."""
    return functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")


class MeanAveragePrecision(MultilabelAveragePrecision):
    """Average precision, averaged over the classes that an input has (Everingham et al. 2010).

    doi:10.1007/s11263-009-0275-4. Classes without an input have none; torchmetrics would warn of
    each. Where no input has any label it is 0.
    """

    def __init__(self, num_labels: int) -> None:
        super().__init__(num_labels, average="none")

    def compute(self) -> Tensor:  # type: ignore[override]  # as torchmetrics' own: no curve
        """Answer with the mean, a scalar."""
        return self.by_class().nanmean().nan_to_num(0.0)

    def by_class(self) -> Tensor:
        """Answer with the average precision of each class, (K,), NaN where no input has it."""
        return torch.as_tensor(super().compute())


def multi_label_metrics(num_classes: int) -> MetricCollection:
    """Build the metrics that are logged: of probabilities, with labels above one half.

    ``map`` needs no thresholds, which are found when training is over; it chooses the best epoch.
    """
    ranking = {"map": MeanAveragePrecision(num_classes)}
    return MetricCollection({**ranking, **_of_decisions(num_classes)})


def scores(
    probabilities: Tensor, decisions: Tensor, targets: Tensor
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Answer with the metrics that `multi_label_metrics` logs, and with each average precision.

    Args:
        probabilities: (N, K).
        decisions: Whether each class was given, (N, K).
        targets: 0 and 1, (N, K).
    """
    num_classes = targets.shape[1]
    ranking, deciding = MeanAveragePrecision(num_classes), _of_decisions(num_classes)
    ranking.update(probabilities, targets)
    values = {"map": float(ranking.compute())}
    for name, metric in deciding.items():
        metric.update(decisions.int(), targets)
        values[name] = float(metric.compute())
    return values, tuple(ranking.by_class().tolist())


def _of_decisions(num_classes: int) -> dict[str, Any]:  # Any: metrics of several classes
    return {
        "macro_f1": MultilabelF1Score(num_classes, average="macro"),
        "micro_f1": MultilabelF1Score(num_classes, average="micro"),
        "accuracy": MultilabelExactMatch(num_classes),
        "hamming": MultilabelHammingDistance(num_classes),
    }
