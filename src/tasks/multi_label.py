"""The objective of inputs that have any number of labels, and the metrics beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric, MetricCollection
from torchmetrics.classification import (
    MultilabelExactMatch,
    MultilabelF1Score,
    MultilabelHammingDistance,
)
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.utilities.data import dim_zero_cat

from .objectives import Objective, Step
from .probe import fit_probes

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task


class MultiLabel(Objective):
    """Binary cross-entropy of each class by itself, against ``batch["target"]``, (B, K) of 0 and 1.

    Weights are (B, K) where the data are balanced: those with a label may count more than those
    without it, class by class. Mixed rows have the targets of their ``batch["partner"]``, too, in
    which this loss is linear like the one of `Supervised`. Smoothing, where it is asked for, takes
    its share from a 1 and adds a Kth of it to every class, as in timm's ``BinaryCrossEntropy``
    (Wightman et al. 2021, arXiv:2110.00476). A fresh head over a frozen backbone is solved: a
    logistic regression per class, each with a cross-validated penalty.
    """

    solves = True

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Ask for every class whether the inputs have it, and compare."""
        logits = task(batch)
        if not training:
            # As probabilities: metrics take numbers for such where all of a batch are in [0, 1],
            # and logits may be.
            return Step(binary_losses(logits, batch["target"]).mean(), logits.sigmoid())
        smoothing, num_classes = task.plan.training.label_smoothing or 0.0, logits.shape[1]

        def losses(rows: Tensor | slice) -> Tensor:
            """Compare the logits with the targets of these rows, each as much as it weighs."""
            target = batch["target"][rows].float() * (1 - smoothing) + smoothing / num_classes
            values = binary_losses(logits, target)
            return values * batch["weight"][rows] if "weight" in batch else values

        own = losses(slice(None))
        if "partner" in batch:
            share = batch["share"][:, None]
            own = share * own + (1 - share) * losses(batch["partner"])
        return Step(own.mean(), logits)

    def solve(
        self,
        task: Task,
        features: Tensor,
        targets: Tensor,
        *,
        weights: Tensor | None,
        num_views: int = 1,
    ) -> str:
        """Solve the linear head by `fit_probes`."""
        seed = task.plan.training.seed
        probes = fit_probes(features, targets, weights=weights, num_views=num_views, seed=seed)
        task.set_head(probes.weight, probes.bias)
        low, high = float(probes.penalties.min()), float(probes.penalties.max())
        return f"cross-validated loss {probes.loss:.4f} with penalties from {low:g} to {high:g}"


def binary_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Answer with the binary cross-entropy of every input and class, (B, K)."""
    return functional.binary_cross_entropy_with_logits(logits, targets.float(), reduction="none")


class MeanAveragePrecision(Metric):
    """Average precision, averaged over the classes that an input has (Everingham et al. 2010).

    doi:10.1007/s11263-009-0275-4. Where no input has any label it is 0. The mean of torchmetrics
    warns of each class without an input.

    Args:
        num_classes: K.
    """

    numbers: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self._num_classes = num_classes
        # Flat, and of one type: in the place of a process without inputs, torchmetrics gathers an
        # empty tensor of one axis.
        self.add_state("numbers", default=[], dist_reduce_fx="cat")

    def update(self, probabilities: Tensor, targets: Tensor) -> None:
        """Add inputs, both (B, K)."""
        self.numbers.append(torch.cat([probabilities.detach(), targets], 1).flatten().float())

    def compute(self) -> Tensor:
        """Answer with the mean, a scalar."""
        both = dim_zero_cat(self.numbers).view(-1, 2 * self._num_classes)
        return average_precisions(*both.chunk(2, dim=1)).nanmean().nan_to_num(0.0)


def average_precisions(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Answer with the average precision of each class, (K,), NaN where no input has it."""
    absent = torch.tensor(torch.nan, device=probabilities.device)
    return torch.stack(
        [
            binary_average_precision(values, known.int()) if bool(known.any()) else absent
            for values, known in zip(probabilities.T, targets.T, strict=True)
        ]
    )


def multi_label_metrics(num_classes: int) -> MetricCollection:
    """Build the metrics that are logged: of probabilities, with labels above one half.

    ``map`` needs no thresholds, which are found when training is over; it chooses the best epoch.
    """
    return MetricCollection(
        {"map": MeanAveragePrecision(num_classes), **_of_decisions(num_classes)}
    )


def scores(
    probabilities: Tensor, decisions: Tensor, targets: Tensor
) -> tuple[dict[str, float], tuple[float, ...]]:
    """Answer with the metrics that `multi_label_metrics` logs, and with each average precision.

    Args:
        probabilities: (N, K).
        decisions: Whether each class was given, (N, K).
        targets: 0 and 1, (N, K).
    """
    by_class = average_precisions(probabilities, targets)
    values = {"map": float(by_class.nanmean().nan_to_num(0.0))}
    for name, metric in _of_decisions(targets.shape[1]).items():
        metric.update(decisions.int(), targets)
        values[name] = float(metric.compute())
    return values, tuple(by_class.tolist())


def _of_decisions(num_classes: int) -> dict[str, Any]:  # Any: metrics of several classes
    return {
        "macro_f1": MultilabelF1Score(num_classes, average="macro"),
        "micro_f1": MultilabelF1Score(num_classes, average="micro"),
        "accuracy": MultilabelExactMatch(num_classes),
        "hamming": MultilabelHammingDistance(num_classes),
    }
