"""mealkit's side of the training benchmarks: build, fine-tune, count, score once.

Settings: photos (folder with train/ and test/), backbone, size, seed, epochs, precision, and those
of `DEFAULTS`, in which None is mealkit's own default; score is "test" or "none".
"""

from __future__ import annotations

import dataclasses
import json
import logging
import resource
import sys
import time
from typing import Any

import torch
from torch import Tensor, nn

import mealkit
from mealkit import ImageClassifier
from mealkit.specs import ImageDataSpec
from mealkit.tasks import Training
from mealkit.tasks.training import resolve_precision

DEFAULTS = {
    "pretrained": None,
    "strategy": None,
    "lr": None,
    "batch_size": None,
    "augment": None,
    "label_smoothing": None,
    "split": 0.2,
    "score": "test",
}


class Counter:
    """A forward hook that counts the pictures a backbone has seen."""

    def __init__(self) -> None:
        self.num_images = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add a batch."""
        self.num_images += len(inputs[0])


def peak_mib() -> float:
    """Answer with the most memory this process has held so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with accuracy, seconds, backbone passes and peak memory."""
    settings = {**DEFAULTS, **settings}
    photos, score = settings["photos"], settings["score"]
    started = time.perf_counter()
    backbone = mealkit.backbones.create(
        settings["backbone"],
        ImageDataSpec(size=settings["size"]),
        pretrained=settings["pretrained"],
        preprocessing={"crop_pct": 1.0},
    )
    task = ImageClassifier.from_folders(
        f"{photos}/train",
        test=f"{photos}/test" if score == "test" else None,
        split=settings["split"],
        seed=settings["seed"],
        backbone=backbone,
    )
    assert task.data is not None  # noqa: S101  # for mypy: from_folders sets it
    task.data.augment = settings["augment"]  # type: ignore[attr-defined]
    seconds_build = time.perf_counter() - started
    training = Training(seed=settings["seed"])
    if settings["label_smoothing"] is not None:
        training = dataclasses.replace(training, label_smoothing=settings["label_smoothing"])
    base_mib = peak_mib()
    counter = Counter()
    handle = task.backbone.register_forward_hook(counter)
    started = time.perf_counter()
    history = task.finetune(
        epochs=settings["epochs"],
        strategy=settings["strategy"],
        lr=settings["lr"],
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        training=training,
    )
    seconds = time.perf_counter() - started
    handle.remove()
    parts = (task.data.train, task.data.val)
    num_images = sum(len(part) for part in parts if part is not None)
    result = {
        "seconds": seconds,
        "seconds_build": seconds_build,
        "epoch_seconds": [row["seconds"] for row in history.rows],
        "val_accuracies": [row.get("val/accuracy") for row in history.rows],
        "best_epoch": history.best_epoch,
        "num_images": num_images,
        "forwards_per_image": counter.num_images / num_images,
        "precision": resolve_precision(task.precision),
        "lr": task.plan.lr,
        "peak_mib": peak_mib(),
        "base_mib": base_mib,
        "num_threads": torch.get_num_threads(),
    }
    if score != "none":
        result["accuracy"] = task.evaluate().metrics["accuracy"]
    return result


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    print(json.dumps(measure(json.loads(sys.argv[1]))))
