"""Which augmentation fine-tunes best: the default, none, light, medium or heavy, on three kinds.

The default, None, is light in epochs that train the backbone and none in the frozen one, whose head
it leaves to be solved; one that is named holds for every epoch.

Digits of scikit-learn at 32 px, CIFAR-10 at 32 px, and crops at 64 px of photos that installed
libraries bring (which photo is it: trained on its left half, scored on its right half). Few
training pictures each, five epochs by the default strategy, rate and precision; the score is the
accuracy on pictures that were not trained on. No test picture is looked at, so that defaults can be
chosen by this.

Run: python benchmarks/image_augment.py
"""

from __future__ import annotations

import argparse
import logging
import statistics

from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import cifar, crops, digits, unpacked

import mealkit
from mealkit import ImageClassifier, ImageData
from mealkit.specs import ImageDataSpec
from mealkit.tasks import Training

PRESETS = (None, "none", "light", "medium", "heavy")


def measure(
    data: ImageData, options: argparse.Namespace, *, large: bool, preset: str | None, seed: int
) -> float:
    """Fine-tune once, and answer with the accuracy on the other pictures."""
    weights = options.shared / "models" / "mobilenetv1_100"
    backbone = mealkit.backbones.create(
        weights if large and not options.quick else "mealkit_tiny",
        ImageDataSpec(size=64 if large else 32),
        preprocessing={"crop_pct": 1.0},
    )
    data.augment = preset
    task = ImageClassifier(backbone, classes=data.classes)
    task.finetune(data, epochs=options.epochs, training=Training(seed=seed))
    return float(task.evaluate(data).metrics["accuracy"])


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    sizes = (90, 30) if options.quick else (options.num_train, options.num_scored)
    runs: list[Result] = []
    with unpacked(options.shared, num_each=None, quick=options.quick) as photos:
        for seed in options.seeds:
            kinds = {
                "digits": digits(seed, *sizes),
                "CIFAR-10": cifar(photos, seed, *sizes),
                "photos": crops(seed, *sizes),
            }
            for kind, data in kinds.items():
                for preset in PRESETS:
                    accuracy = measure(
                        data, options, large=kind == "photos", preset=preset, seed=seed
                    )
                    runs.append(
                        {"kind": kind, "preset": preset, "seed": seed, "accuracy": accuracy}
                    )
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        for preset in PRESETS:
            same = [r["accuracy"] for r in runs if (r["kind"], r["preset"]) == (kind, preset)]
            each = ", ".join(f"{value:.3f}" for value in same)
            rows.append((kind, preset, each, f"{statistics.fmean(same):.3f}"))
    columns = ("pictures", "augmentation", "accuracy of each seed", "mean")
    print_report(f"Augmentation, {sizes[0]} training pictures", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs})


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    parser = make_parser(__doc__)
    parser.add_argument("--num-train", type=int, default=300)
    parser.add_argument("--num-scored", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=5)
    main(read_options(parser))
