"""What thresholds of their own do for pictures with several labels: macro F1 against 0.5 for all.

No set with several labels comes with an installed library, so mosaics are composed: two by two
pictures of the CIFAR-10 subset, of which each place is filled with probability 0.6, and grain where
it is not. The labels of a mosaic are the classes of the pictures in it; some have none. Mosaics to
train on are made of training pictures, those that are scored of test pictures, once. A fifth of
the former validates: it chooses epoch and thresholds. The net is mobilenetv1_100 with local
weights, the whole mosaic at 64 px, with the default strategy, rate and augmentation.

Run: python benchmarks/image_multilabel.py
"""

from __future__ import annotations

import argparse
import logging
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import unpacked
from PIL import Image

import mealkit
from mealkit import ImageClassifier, ImageData
from mealkit.specs import ImageDataSpec
from mealkit.tasks import MultiLabelEvaluation, Training


def mosaics(folder: Path, *, count: int, seed: int) -> tuple[list[np.ndarray], list[list[str]]]:
    """Compose pictures (64, 64, 3), and the classes in each."""
    files = sorted(folder.glob("*/*"))
    rng = np.random.default_rng([seed, count, folder.name == "test"])  # other grain in each part
    images, labels = [], []
    for _ in range(count):
        canvas = rng.integers(96, 160, (64, 64, 3), dtype=np.uint8)
        shown = set()
        for top, left in ((0, 0), (0, 32), (32, 0), (32, 32)):
            file = files[rng.integers(len(files))]
            if rng.random() < 0.6:
                canvas[top : top + 32, left : left + 32] = Image.open(file).convert("RGB")
                shown.add(file.parent.name)
        images.append(canvas)
        labels.append(sorted(shown))
    return images, labels


def measure(photos: Path, options: argparse.Namespace, *, seed: int) -> Result:
    """Train once, and score the same probabilities with both kinds of thresholds."""
    train, test = (24, 24) if options.quick else (options.num_train, options.num_scored)
    data = ImageData.from_arrays(
        *mosaics(photos / "train", count=train, seed=seed),
        test=mosaics(photos / "test", count=test, seed=seed),
        seed=seed,
    )
    backbone = mealkit.backbones.create(
        "mealkit_tiny" if options.quick else options.shared / "models" / "mobilenetv1_100",
        ImageDataSpec(size=64),
        preprocessing={"crop_pct": 1.0},
    )
    task = ImageClassifier(backbone, classes=data.classes, multi_label=True)
    task.finetune(
        data,
        epochs=options.epochs,
        precision=options.precision,
        training=Training(seed=seed),
    )
    tuned = task.evaluate(data)
    if not isinstance(tuned, MultiLabelEvaluation):
        raise TypeError(f"Expected several labels per picture, got {tuned}.")
    half = replace(tuned, thresholds=(0.5,) * len(data.classes))
    scored = {"tuned": tuned, "0.5": half}
    return {
        "seed": seed,
        "map": tuned.metrics["map"],
        "thresholds": list(tuned.thresholds),
        "macro_f1": {name: float(one.to_frame()["f1"].mean()) for name, one in scored.items()},
        "micro_f1": {name: micro_f1(one) for name, one in scored.items()},
        "accuracy": {name: float(one.correct.mean()) for name, one in scored.items()},
    }


def micro_f1(evaluation: MultiLabelEvaluation) -> float:
    """Answer with the F1 of all decisions together."""
    counts = evaluation.confusion.sum(0)
    return float(2 * counts[1, 1] / (2 * counts[1, 1] + counts[0, 1] + counts[1, 0]))


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    with unpacked(options.shared, num_each=None, quick=options.quick) as photos:
        runs = [measure(photos, options, seed=seed) for seed in options.seeds]
    rows = []
    for score in ("macro_f1", "micro_f1", "accuracy"):
        for kind in ("0.5", "tuned"):
            values = [run[score][kind] for run in runs]
            each = ", ".join(f"{value:.3f}" for value in values)
            rows.append((score, kind, each, f"{statistics.fmean(values):.3f}"))
    columns = ("score", "thresholds", "each seed", "mean")
    print_report(f"Several labels, {options.epochs} epochs", known, columns, rows)
    precision = ", ".join(f"{run['map']:.3f}" for run in runs)
    ends = [(min(run["thresholds"]), max(run["thresholds"])) for run in runs]
    tuned = ", ".join(f"{low:.2f} to {high:.2f}" for low, high in ends)
    print(f"Mean average precision, which has no thresholds: {precision}. Tuned: {tuned}.")
    write_json(options.json, {"environment": known, "runs": runs})


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    parser = make_parser(__doc__)
    parser.add_argument("--num-train", type=int, default=1000)
    parser.add_argument("--num-scored", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=5)
    main(read_options(parser))
