"""Seconds of a training step on random pictures in memory: mealkit's, or a plain fp32 loop's.

Settings: side ("mealkit" or "plain"), net (a timm name), size, batch_size, num_steps, precision,
seed. The first steps, in which kernels are chosen and memory grows, are left out.
"""

from __future__ import annotations

import itertools
import json
import logging
import resource
import statistics
import sys
import time
from typing import Any

import torch
from torch.nn import functional

Settings = dict[str, Any]  # Any: plain JSON values
NUM_CLASSES = 10
NUM_WARMUP = 3


def steps_of_mealkit(
    images: torch.Tensor, labels: list[int], settings: Settings
) -> tuple[list[float], str, float]:
    """Train for one epoch of the full strategy and answer with when each step ended, and more."""
    import pytorch_lightning as pl

    import mealkit
    from mealkit.specs import ImageDataSpec
    from mealkit.tasks.training import resolve_precision

    class Stamps(pl.Callback):
        """Note when each step ends."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_end(self, *given: object) -> None:
            """Add a time."""
            self.times.append(time.perf_counter())

    logging.getLogger("mealkit").setLevel(logging.WARNING)
    backbone = mealkit.backbones.create(
        settings["net"],
        ImageDataSpec(size=settings["size"]),
        pretrained=False,
        preprocessing={"crop_pct": 1.0},
    )
    task = mealkit.ImageClassifier.from_arrays(images, labels, split=0, backbone=backbone)
    task.data.augment = "none"  # the plain loop has none either
    stamps, base_mib = Stamps(), peak_mib()
    task.finetune(
        epochs=1,
        strategy="full",
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        callbacks=[stamps],
    )
    return stamps.times, resolve_precision(task.precision), base_mib


def steps_of_loop(
    images: torch.Tensor, labels: list[int], settings: Settings
) -> tuple[list[float], str, float]:
    """Train over the pictures once, in fp32 and contiguous, and answer the same."""
    import timm

    net = timm.create_model(settings["net"], pretrained=False, num_classes=NUM_CLASSES)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
    targets = torch.tensor(labels)
    times, base_mib = [], peak_mib()
    net.train()
    for start in range(0, len(images), settings["batch_size"]):
        part = slice(start, start + settings["batch_size"])
        loss = functional.cross_entropy(net(images[part].float().div(255)), targets[part])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.perf_counter())
    return times, "32-true", base_mib


def peak_mib() -> float:
    """Answer with the most memory this process has held so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(settings: Settings) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with the median seconds of a step."""
    generator = torch.Generator().manual_seed(settings["seed"])
    count = settings["batch_size"] * (settings["num_steps"] + NUM_WARMUP)
    shape = (count, 3, settings["size"], settings["size"])
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    labels = [index % NUM_CLASSES for index in range(count)]
    run = steps_of_mealkit if settings["side"] == "mealkit" else steps_of_loop
    times, precision, base_mib = run(images, labels, settings)
    steps = [later - sooner for sooner, later in itertools.pairwise(times)]
    return {
        "step_seconds": statistics.median(steps[NUM_WARMUP - 1 :]),
        "precision": precision,
        "peak_mib": peak_mib(),
        "base_mib": base_mib,
    }


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
