"""Cached augmented views of a frozen backbone: does the head get better by them?

The net is the package's own `mealkit_tiny`, frozen, on test pictures of the CIFAR-10 subset, which
it has never seen: so many of each class are drawn by a seed to train on, and the others are scored.
Each cell is the mean over seeds of `finetune(epochs=1, strategy="freeze")` at one augmentation and
number of views; "none" is the head on the pictures as they are.

Run: python benchmarks/image_views.py
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

from measuring import (
    Result,
    environment,
    make_parser,
    print_report,
    read_options,
    write_json,
)
from photos import unpacked

from mealkit import ImageClassifier, ImageData

SETTINGS: tuple[tuple[str, int | None], ...] = (
    ("none", None),
    ("light", 1),
    ("light", 4),
    ("light", 16),
    ("medium", 4),
    ("medium", 16),
)
"""Augmentation and number of views."""


def draw(folder: Path, *, num_each: int, seed: int) -> ImageData:
    """Draw pictures of each class to train on; the others are the test part."""
    rng = random.Random(seed)
    train: list[Path] = []
    test: list[Path] = []
    for kind in sorted((folder / "test").iterdir()):
        paths = sorted(kind.iterdir())
        rng.shuffle(paths)
        train += paths[:num_each]
        test += paths[num_each:]
    labels = [[path.parent.name for path in part] for part in (train, test)]
    return ImageData.from_files(train, labels[0], test=(test, labels[1]), split=0)


def score(data: ImageData, *, augment: str, n_views: int | None, precision: str) -> Result:
    """Train a head at one setting and score it."""
    data.augment, data.n_views = augment, n_views
    task = ImageClassifier("mealkit_tiny", classes=data.classes)
    history = task.finetune(data, epochs=1, strategy="freeze", precision=precision)
    metrics = task.evaluate(data).metrics
    return {
        "accuracy": metrics["accuracy"],
        "loss": metrics["loss"],
        "seconds": history.rows[0]["seconds"],
    }


def measure(folder: Path, options: argparse.Namespace) -> dict[str, dict[str, list[Result]]]:
    """Run every setting on every draw, by number of pictures per class and by setting."""
    runs: dict[str, dict[str, list[Result]]] = {}
    for num_each in options.shots:
        by_setting = runs.setdefault(str(num_each), {})
        for seed in options.seeds:
            data = draw(folder, num_each=num_each, seed=seed)
            for augment, n_views in SETTINGS:
                name = augment if n_views is None else f"{augment}, {n_views} views"
                result = score(data, augment=augment, n_views=n_views, precision=options.precision)
                by_setting.setdefault(name, []).append(result)
    return runs


def summarise(runs: dict[str, dict[str, list[Result]]]) -> Result:
    """Answer with means, and the mean and spread of the gain over "none" on the same draws."""
    summary: Result = {}
    for num_each, by_setting in runs.items():
        plain = [run["accuracy"] for run in by_setting["none"]]
        for name, results in by_setting.items():
            values = [run["accuracy"] for run in results]
            gains = [one - other for one, other in zip(values, plain, strict=True)]
            summary.setdefault(num_each, {})[name] = {
                "accuracy": statistics.fmean(values),
                "gain": statistics.fmean(gains),
                "lowest_gain": min(gains),
                "highest_gain": max(gains),
                "loss": statistics.fmean(run["loss"] for run in results),
                "seconds": statistics.median(run["seconds"] for run in results),
            }
    return summary


def main() -> None:
    """Measure, print the table, write the raw results."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--shots", type=int, nargs="+", default=[5, 20, 50])
    options = read_options(parser)
    if options.quick:
        options.shots = [4]
    known = environment(options)
    with unpacked(options.shared, num_each=None, quick=options.quick) as folder:
        runs = measure(folder, options)
    summary = summarise(runs)
    rows = [
        (
            num_each,
            name,
            f"{values['accuracy']:.3f}",
            f"{values['gain']:+.3f} "
            f"({values['lowest_gain']:+.3f} to {values['highest_gain']:+.3f})",
            f"{values['loss']:.3f}",
            f"{values['seconds']:.1f}",
        )
        for num_each, settings in summary.items()
        for name, values in settings.items()
    ]
    columns = ("A class", "Views", "Accuracy", "Gain (lowest to highest)", "Loss", "Seconds")
    print_report(f"Cached views, {len(options.seeds)} draws", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    main()
