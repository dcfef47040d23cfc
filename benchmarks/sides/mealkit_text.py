"""mealkit's side of the text benchmarks: fine-tune on texts, count passes, score once.

Settings: texts, labels, test_texts, test_labels, backbone, strategy, epochs, lr, batch_size, split,
seed, precision; None is mealkit's own default. With the strategy "contrastive" also contrastive,
its arguments.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mealkit import TextClassifier
from mealkit.tasks import Contrastive, Strategy, Training
from mealkit.tasks.training import resolve_precision


class Counter:
    """A forward hook that counts the texts, tokens and padding that a backbone has seen."""

    def __init__(self) -> None:
        self.num_texts = self.num_tokens = self.num_padding = 0

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Add a batch."""
        mask = inputs[1]
        self.num_texts += len(mask)
        self.num_tokens += int(mask.sum())
        self.num_padding += int((1 - mask).sum())


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with accuracy, seconds, passes of the backbone, padding and peak memory."""
    started = time.perf_counter()
    task = TextClassifier.from_lists(
        settings["texts"],
        settings["labels"],
        test=(settings["test_texts"], settings["test_labels"]),
        split=settings["split"],
        seed=settings["seed"],
        backbone=settings["backbone"],
    )
    seconds_build = time.perf_counter() - started
    strategy: str | Strategy = settings["strategy"]
    if strategy == "contrastive":
        strategy = Contrastive(**settings["contrastive"])
    counter = Counter()
    handle = task.backbone.register_forward_hook(counter)
    started, cpu_started = time.perf_counter(), time.process_time()
    history = task.finetune(
        epochs=settings["epochs"],
        strategy=strategy,
        lr=settings["lr"],
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        training=Training(seed=settings["seed"]),
    )
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    handle.remove()
    started = time.perf_counter()
    accuracy = task.evaluate().metrics["accuracy"]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "seconds_build": seconds_build,
        "seconds_evaluate": time.perf_counter() - started,
        "epoch_seconds": [row["seconds"] for row in history.rows],
        "val_accuracies": [row.get("val/accuracy") for row in history.rows],
        "accuracy": accuracy,
        "forwards_per_text": counter.num_texts / len(settings["texts"]),
        "padding_per_token": counter.num_padding / max(1, counter.num_tokens),
        "precision": resolve_precision(task.precision),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    # Settings hold texts and are too long for a command line: a file, whose path is given.
    print(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
