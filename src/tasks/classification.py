"""What classifiers of any kind of input share: head, metrics, predictions, evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from ..errors import ClassError, InvalidValueError
from .results import Evaluation, Predictions

if TYPE_CHECKING:
    from ..data.frames import FrameKind


def linear_head(num_features: int, num_classes: int, *, dropout: float) -> nn.Sequential:
    """Build a linear head that starts at equal probabilities.

    Zero weights need no random numbers, and give every class the same start.
    """
    if not 0 <= dropout < 1:
        raise InvalidValueError(f"dropout={dropout}: expected a share in [0, 1).")
    linear = nn.Linear(num_features, num_classes, device="meta").to_empty(device="cpu")
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Dropout(dropout), linear)


def fill_head(head: nn.Sequential, weight: Tensor, bias: Tensor) -> None:
    """Copy a solved head into place."""
    linear = head[-1]
    if not isinstance(linear, nn.Linear):
        raise InvalidValueError(f"Expected a linear head, got {type(linear).__name__}.")
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def class_metrics(num_classes: int) -> MetricCollection:
    """Build the metrics that classifiers log: accuracy, and F1 averaged over classes."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
        }
    )


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse class names that cannot be meant."""
    if isinstance(classes, str):
        raise ClassError(f"classes={classes!r}: expected several names, got one text.")
    names = tuple(map(str, classes))
    if len(names) < 2:
        raise ClassError(f"Got {len(names)} classes: expected at least two.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ClassError(f"Class names must differ, got twice: {', '.join(twice[:5])}.")
    return names


def to_predictions(
    outputs: Sequence[Mapping[str, Tensor]],
    *,
    ids: Sequence[str],
    classes: tuple[str, ...],
    errors: Mapping[int, str],
    frame_kind: FrameKind,
) -> Predictions:
    """Gather what `predict_step` answered, in input order."""
    probabilities = np.full((len(ids), len(classes)), np.nan, dtype=np.float32)
    for output in outputs:
        probabilities[output["index"].cpu().numpy()] = output["probabilities"].cpu().numpy()
    return Predictions(tuple(ids), classes, probabilities, dict(errors), frame_kind)


def to_evaluation(
    predictions: Predictions, targets: Tensor, *, classes: tuple[str, ...]
) -> Evaluation:
    """Compare predictions with the true class positions, (N,)."""
    probabilities = torch.from_numpy(predictions.probabilities)
    read = torch.tensor([row not in predictions.errors for row in range(len(targets))])
    probabilities, targets = probabilities[read], targets[read]
    num_classes = len(classes)
    metrics = class_metrics(num_classes)
    metrics.update(probabilities, targets)
    values = {name: float(value) for name, value in metrics.compute().items()}
    tiny = torch.finfo(torch.float32).tiny
    loss = functional.nll_loss(probabilities.clamp_min(tiny).log(), targets)
    values["loss"] = float(loss) if len(targets) else math.nan
    flat = targets * num_classes + probabilities.argmax(1)
    counts = torch.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)
    return Evaluation(values, classes, counts.numpy(), int((~read).sum()))
