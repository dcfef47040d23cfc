"""Running a classifier of any kind of input: metrics, predictions, evaluation, embeddings."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from ..errors import NoDataError, UnreadableError
from .results import Embeddings, Evaluation, Predictions
from .running import run

if TYPE_CHECKING:
    from ..data import Samples
    from ..data.frames import FrameKind
    from ..specs import Batch
    from .task import Task

_log = logging.getLogger("mealkit")


def class_metrics(num_classes: int) -> MetricCollection:
    """Build the metrics that classifiers log: accuracy, and F1 averaged over classes."""
    return MetricCollection(
        {
            "accuracy": MulticlassAccuracy(num_classes, average="micro"),
            "macro_f1": MulticlassF1Score(num_classes, average="macro"),
        }
    )


def predict_classes(
    task: Task, samples: Samples, *, batch_size: int, frame_kind: FrameKind = "pandas"
) -> Predictions:
    """Run a classifier over samples; what cannot be read gets an error row."""
    shape = (len(samples), len(task.spec.classes))
    probabilities = np.full(shape, np.nan, dtype=np.float32)
    unread = set(range(len(samples)))
    for part in run(
        task, samples, lambda batch: task.predict_step(batch, 0), batch_size=batch_size
    ):
        rows = part["index"].numpy()
        probabilities[rows] = part["probabilities"].numpy()
        unread.difference_update(rows.tolist())
    errors = {row: samples.why(row) for row in sorted(unread)}
    if errors:
        _log.warning(f"{len(errors):,} of {len(samples):,} inputs cannot be read.")
    ids = tuple(samples.ids)
    return Predictions(ids, task.spec.classes, probabilities, errors, frame_kind)


def evaluate_classes(task: Task, samples: Samples, *, batch_size: int) -> Evaluation:
    """Score a classifier on labelled samples.

    Raises:
        NoDataError: They have no labels.
    """
    targets = samples.targets
    if targets is None:
        raise NoDataError("These inputs have no labels to score against.")
    predictions = predict_classes(task, samples, batch_size=batch_size)
    return to_evaluation(predictions, targets)


def to_evaluation(predictions: Predictions, targets: Tensor) -> Evaluation:
    """Compare predictions with the true class positions, (N,)."""
    num_classes = len(predictions.classes)
    read = torch.tensor([row not in predictions.errors for row in range(len(targets))])
    probabilities, targets = torch.from_numpy(predictions.probabilities)[read], targets[read]
    if not len(targets):
        raise NoDataError("Not one of the inputs to score can be read.")
    metrics = class_metrics(num_classes)
    metrics.update(probabilities, targets)
    values = {name: float(value) for name, value in metrics.compute().items()}
    tiny = torch.finfo(torch.float32).tiny
    values["loss"] = float(functional.nll_loss(probabilities.clamp_min(tiny).log(), targets))
    flat = targets * num_classes + probabilities.argmax(1)
    counts = torch.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)
    return Evaluation(values, predictions.classes, counts.numpy(), int((~read).sum()))


def embed_samples(task: Task, samples: Samples, *, batch_size: int) -> Embeddings:
    """Run the body of a task over samples.

    Raises:
        UnreadableError: One of them cannot be read.
    """

    def compute(batch: Batch) -> dict[str, Tensor]:
        return {"index": batch["index"], "features": task.features(batch).float()}

    values = np.zeros((len(samples), task.backbone.num_features), dtype=np.float32)
    unread = set(range(len(samples)))
    for part in run(task, samples, compute, batch_size=batch_size):
        rows = part["index"].numpy()
        values[rows] = part["features"].numpy()
        unread.difference_update(rows.tolist())
    if unread:
        first = min(unread)
        raise UnreadableError(
            f"{len(unread):,} of {len(samples):,} inputs cannot be read; the first is "
            f"{samples.ids[first]}: {samples.why(first)}. Leave them out to embed the others."
        )
    return Embeddings(values, tuple(samples.ids))
