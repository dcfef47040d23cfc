"""Pictures as a net sees them, turned back into what people see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..data.inputs import Inputs
from ..data.module import Data, EpochSampler
from ..data.samples import Samples, Subset
from ..data.stream_samples import StreamSamples
from ..errors import InvalidValueError, NoDataError, check_count
from ..specs import ImageSpec
from .multi_label_results import MultiLabelPredictions
from .neighbors import labels_of

if TYPE_CHECKING:
    from .evaluation import Array
    from .image_classifier import ImageClassifier

Shown = tuple[list["Array | None"], list[str]]
"""Pictures (H, W, 3) or (H, W) of floats in [0, 1], None for unreadable ones; and their titles."""


def training_pictures(task: ImageClassifier, data: Data, n: int) -> Shown:
    """Answer with the first n training pictures of the first epoch, and their classes.

    They are augmented as in an epoch that trains the backbone.
    """
    check_count("n", n)
    if data.train is None:
        raise NoDataError("These data have no training part to show.")
    data.prepare(task.input_spec)
    if isinstance(data.train, StreamSamples):
        batch = next(iter(data.loader(data.train, batch_size=n, shuffle=True)))
    else:
        sampler = EpochSampler(data.train, batch_size=n, shuffle=True, seed=data.seed)
        batch = data.train.__getitems__(list(sampler)[:n])
    seen = data.augment_batch(batch, epoch=0)
    labels = labels_of(batch["target"], task.classes)
    titles = [one if isinstance(one, str) else _joined(one) for one in labels]
    return list(_as_people_see(task, seen["image"])), titles


def predicted_pictures(task: ImageClassifier, given: Inputs, n: int) -> Shown:
    """Answer with the first n inputs, and what is predicted for them."""
    check_count("n", n)
    few = Subset(given.samples, range(min(n, len(given.samples))))
    predictions = task._predict(replace(given, samples=few), len(few))
    if isinstance(predictions, MultiLabelPredictions):
        several = [row.labels for row in predictions]
        titles = ["not readable" if one is None else _joined(one) for one in several]
    else:
        titles = [
            "not readable" if row.label is None else f"{row.label} {row.probability:.2f}"
            for row in predictions
        ]
    return _by_position(task, few), titles


def _by_position(task: ImageClassifier, samples: Samples) -> list[Array | None]:
    batch = samples.__getitems__(range(len(samples)))
    seen = dict(zip(batch["index"].tolist(), _as_people_see(task, batch["image"]), strict=True))
    return [seen.get(place) for place in range(len(samples))]


def _as_people_see(task: ImageClassifier, images: torch.Tensor) -> Array:
    """Take back the normalisation of what the net gets, so that a wrong one would show."""
    spec = task.input_spec
    if not isinstance(spec, ImageSpec):
        raise InvalidValueError(f"Expected a backbone for images, got one for {spec.kind}.")
    (seen,) = task.preprocess(images.to(task.device))
    mean, std = (seen.new_tensor(values).view(-1, 1, 1) for values in (spec.mean, spec.std))
    pixels = (seen * std + mean).clamp(0, 1).cpu().permute(0, 2, 3, 1)
    # Other numbers of channels are no colours; their first stands for them.
    shown: Array = (pixels if spec.in_chans == 3 else pixels[..., 0]).numpy()
    return shown


def _joined(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "no label"
