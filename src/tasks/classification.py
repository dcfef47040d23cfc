"""Running a classifier of any kind of input: metrics, predictions, evaluation, embeddings."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from ..errors import NoDataError, UnreadableError
from .evaluation import Evaluation, calibration_error, log_losses
from .multi_label import scores
from .multi_label_results import (
    MultiLabelEvaluation,
    MultiLabelPredictions,
    label_calibration_error,
    label_losses,
)
from .results import Embeddings, Predictions
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
    task: Task,
    samples: Samples,
    *,
    batch_size: int,
    frame_kind: FrameKind = "pandas",
    views: Callable[[Batch], list[Batch]] | None = None,
    thresholds: tuple[float, ...] | None = None,
) -> Predictions:
    """Run a classifier over samples; what cannot be read gets an error row.

    Args:
        task: The classifier.
        samples: Its inputs.
        batch_size: Inputs computed at a time.
        frame_kind: The kind of data frame that the answer becomes.
        views: Makes of a batch on the device several, whose probabilities are averaged.
        thresholds: From which probability on each class is given, K of them; None where an input
            has exactly one.
    """

    def compute(batch: Batch) -> Tensor:
        seen = [batch] if views is None else views(batch)
        return torch.stack([task.predict_step(one, 0)["probabilities"] for one in seen]).mean(0)

    classes = task.spec.classes
    values, read = compute_rows(task, samples, compute, width=len(classes), batch_size=batch_size)
    errors = {row: samples.why(row) for row in (~read).nonzero().flatten().tolist()}
    if errors:
        _log.warning(f"{len(errors):,} of {len(samples):,} inputs cannot be read.")
    return to_predictions(samples, classes, values, errors, frame_kind, thresholds)


def to_predictions(
    samples: Samples,
    classes: tuple[str, ...],
    probabilities: Tensor,
    errors: dict[int, str],
    frame_kind: FrameKind = "pandas",
    thresholds: tuple[float, ...] | None = None,
) -> Predictions:
    """Build predictions of one label per input, or of any number where there are thresholds."""
    ids, values = tuple(samples.ids), probabilities.numpy()
    if thresholds is None:
        return Predictions(ids, classes, values, errors, frame_kind)
    return MultiLabelPredictions(ids, classes, values, errors, frame_kind, thresholds=thresholds)


def evaluate_classes(
    task: Task,
    samples: Samples,
    *,
    batch_size: int,
    thresholds: tuple[float, ...] | None = None,
) -> Evaluation:
    """Score a classifier on labelled samples.

    Raises:
        NoDataError: They have no labels.
    """
    targets = targets_of(samples)
    predictions = predict_classes(task, samples, batch_size=batch_size, thresholds=thresholds)
    return to_evaluation(predictions, targets)


def compute_logits(task: Task, samples: Samples, *, batch_size: int) -> tuple[Tensor, Tensor]:
    """Answer with what the head says of the readable ones of labelled samples, and their targets.

    Raises:
        NoDataError: They have no labels, or not one can be read.
    """
    targets, width = targets_of(samples), len(task.spec.classes)
    logits, read = compute_rows(task, samples, task, width=width, batch_size=batch_size)
    if not bool(read.any()):
        raise NoDataError("Not one of the inputs to calibrate on can be read.")
    return logits[read], targets[read]


def targets_of(samples: Samples) -> Tensor:
    """Answer with the true class positions of samples, (N,), or 0 and 1 per class, (N, K).

    Raises:
        NoDataError: They have no labels.
    """
    if samples.targets is None:
        raise NoDataError("These inputs have no labels to score against.")
    return samples.targets


def to_evaluation(predictions: Predictions, targets: Tensor) -> Evaluation:
    """Compare predictions with the true class positions, (N,), or 0 and 1 per class, (N, K)."""
    read = [row for row in range(len(targets)) if row not in predictions.errors]
    if not read:
        raise NoDataError("Not one of the inputs to score can be read.")
    ids = tuple(predictions.inputs[row] for row in read)
    num_unreadable = len(targets) - len(read)
    probabilities, known = predictions.probabilities[read], targets[read].numpy()
    if isinstance(predictions, MultiLabelPredictions):
        decisions = torch.from_numpy(predictions.decisions[read])
        values, by_class = scores(torch.from_numpy(probabilities), decisions, targets[read])
        values["loss"] = float(label_losses(probabilities, known).mean())
        values["ece"] = label_calibration_error(probabilities, known)
        return MultiLabelEvaluation(
            values,
            predictions.classes,
            ids,
            known,
            probabilities,
            num_unreadable,
            predictions.thresholds,
            by_class,
        )
    metrics = class_metrics(len(predictions.classes))
    metrics.update(torch.from_numpy(probabilities), targets[read])
    values = {name: float(value) for name, value in metrics.compute().items()}
    values["loss"] = float(log_losses(probabilities, known).mean())
    values["ece"] = calibration_error(probabilities, known)
    return Evaluation(values, predictions.classes, ids, known, probabilities, num_unreadable)


def embed_samples(task: Task, samples: Samples, *, batch_size: int) -> Embeddings:
    """Run the body of a task over samples.

    Raises:
        UnreadableError: One of them cannot be read.
    """
    values, read = compute_features(task, samples, batch_size=batch_size)
    unread = (~read).nonzero().flatten().tolist()
    if unread:
        first = unread[0]
        raise UnreadableError(
            f"{len(unread):,} of {len(samples):,} inputs cannot be read; the first is "
            f"{samples.ids[first] or f'input {first}'}: {samples.why(first)}. Leave them out to "
            "embed the others."
        )
    return Embeddings(values.numpy(), tuple(samples.ids))


def compute_features(task: Task, samples: Samples, *, batch_size: int) -> tuple[Tensor, Tensor]:
    """Answer with the features of samples, (N, F), and which of them could be read, (N,)."""
    width = task.backbone.num_features
    return compute_rows(task, samples, task.features, width=width, batch_size=batch_size)


def compute_rows(
    task: Task,
    samples: Samples,
    compute: Callable[[Batch], Tensor],
    *,
    width: int,
    batch_size: int,
) -> tuple[Tensor, Tensor]:
    """Compute a row of numbers of every input, in eval mode on the best device.

    Args:
        task: What computes.
        samples: Its inputs, N of them.
        compute: Turns a batch into rows, (B, width).
        width: Numbers in a row.
        batch_size: Inputs computed at a time.

    Returns:
        Rows in fp32 on the CPU, (N, width), NaN for what could not be read; and what could, (N,).
    """

    def answer(batch: Batch) -> dict[str, Tensor]:
        return {"index": batch["index"], "rows": compute(batch).float()}

    values = torch.full((len(samples), width), torch.nan)
    read = torch.zeros(len(samples), dtype=torch.bool)
    for part in run(task, samples, answer, batch_size=batch_size):
        values[part["index"]] = part["rows"]
        read[part["index"]] = True
    return values, read
