"""A few labels and many pictures: labels alone against the semi-supervised methods, on digits.

scikit-learn's 1,797 digits of 8x8 pixels. Of every draw, 500 pictures are the test part, a few of
each class of the rest are labelled, and all others unlabelled; there is no validation part, the
last weights are scored. A net of three convolutions (57,000 weights) starts from the same random
weights on every side. Labels alone have as many steps as both stages of the others together.
Pictures are cropped by chance (70 to 100 % of the area) and not flipped. One thread.

Run: OMP_NUM_THREADS=1 python benchmarks/semi_supervised.py
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time
from typing import Any

import numpy as np
import torch
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from sklearn.datasets import load_digits
from torch import nn

from mealkit import ImageClassifier, ImageData
from mealkit.backbones import create
from mealkit.data.views import View
from mealkit.specs import ImageDataSpec
from mealkit.tasks.semi_supervised import METHODS

NUM_TEST = 500
RATIO = 7  # of every method
ALONE = "labels alone"


def make_net() -> nn.Module:
    """Build the net: feature maps of 64 channels, which are averaged."""
    layers: list[nn.Module] = []
    for before, after, stride in ((3, 32, 1), (32, 64, 2), (64, 64, 1)):
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1)]
        layers += [nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


def draw(labels: np.ndarray[Any, Any], num_labels: int, seed: int) -> list[np.ndarray[Any, Any]]:
    """Answer with the rows of the labelled, the unlabelled and the test part."""
    order = np.random.default_rng(seed).permutation(len(labels))
    test, rest = order[:NUM_TEST], order[NUM_TEST:]
    labelled = np.concatenate([rest[labels[rest] == c][: num_labels // 10] for c in range(10)])
    return [labelled, np.setdiff1d(rest, labelled), test]


def run(side: str, *, num_labels: int, seed: int, epochs: int, num_unlabelled: int) -> Result:
    """Train and score one side."""
    digits = load_digits()
    images = (digits.images * (255 / 16)).round().astype(np.uint8)
    labelled, unlabelled, test = draw(digits.target, num_labels, seed)
    unlabelled = unlabelled[:num_unlabelled]
    data = ImageData.from_arrays(
        images[labelled],
        digits.target[labelled],
        test=(images[test], digits.target[test]),
        split=0,
        seed=seed,
    )
    data.augment = View(flip=0.0, scale=(0.7, 1.0))
    torch.manual_seed(seed)
    task = ImageClassifier(create(make_net(), ImageDataSpec(size=8)), classes=data.classes)
    num_rows = min(32, num_labels)
    steps = epochs * -(-len(unlabelled) // (RATIO * num_rows))
    started = time.process_time()
    if side == ALONE:
        task.finetune(data, epochs=2 * steps // -(-num_labels // num_rows), precision="32-true")
        shares: dict[str, float] = {}
    else:
        history = task.finetune(
            data, unlabelled=images[unlabelled], method=side, epochs=epochs, precision="32-true"
        )
        shares = {name: value for name, value in history.rows[-1].items() if "unlabelled" in name}
    seconds = time.process_time() - started
    accuracy = task.evaluate(data).metrics["accuracy"]
    print(
        f"  {num_labels} labels, draw {seed}, {side}: {accuracy:.3f}", file=sys.stderr, flush=True
    )
    return {"accuracy": accuracy, "cpu_seconds": seconds, **shares}


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    logging.getLogger("mealkit").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    known = environment(options)
    size = {"epochs": options.epochs, "num_unlabelled": 10_000}
    if options.quick:
        size = {"epochs": 1, "num_unlabelled": 300}
    sides = (ALONE, *options.methods)
    runs: dict[str, dict[str, list[Result]]] = {
        str(count): {side: [] for side in sides} for count in options.num_labels
    }
    for seed in options.seeds:
        for count in options.num_labels:
            for side in sides:
                result = run(side, num_labels=count, seed=seed, **size)
                runs[str(count)][side].append(result)
    summary: Result = {}
    rows = []
    for number, of_side in runs.items():
        alone = [result["accuracy"] for result in of_side[ALONE]]
        for side, results in of_side.items():
            accuracies = [result["accuracy"] for result in results]
            gains = [one - other for one, other in zip(accuracies, alone, strict=True)]
            mean, gain = statistics.fmean(accuracies), statistics.fmean(gains)
            seconds = statistics.fmean(result["cpu_seconds"] for result in results)
            summary.setdefault(number, {})[side] = {"mean": mean, "gain": gain, "worst": min(gains)}
            raw = ", ".join(f"{value:.3f}" for value in accuracies)
            points = [f"{100 * value:+.1f}" for value in (gain, min(gains))]
            rows.append((number, side, raw, f"{mean:.3f}", *points, f"{seconds:.0f}"))
    columns = ("labels", "side", "each draw", "mean", "gain (points)", "worst", "CPU seconds a run")
    print_report("Digits, test accuracy", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--num-labels", type=int, nargs="+", default=[20, 40])
    parser.add_argument("--epochs", type=int, default=15, help="passes over the unlabelled part")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    main(read_options(parser))
