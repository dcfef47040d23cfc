"""What balancing does for a rare class: macro F1 on a balanced test, 5 % of one class in training.

Two classes of the CIFAR-10 subset that are easily mixed up, cats and dogs: a training picture in
twenty is a dog (25 of 500, by seed), while the 200 test pictures are half dogs. The net is
mobilenetv1_100 with local weights, the whole picture at 64 px, with the default augmentation for
every strategy; there is no validation part, so that the last weights are scored, once. Each
strategy is run with ``data.balance`` None, "weights" and "sampler".

Run: python benchmarks/image_balance.py
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
from pathlib import Path

from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import unpacked

import mealkit
from mealkit import ImageClassifier, ImageData
from mealkit.specs import ImageDataSpec
from mealkit.tasks import Training

BALANCES = (None, "weights", "sampler")
COLUMNS = ("strategy", "balance", "macro F1 of each seed", "mean", "rise", "accuracy", "recall")


def draw(
    photos: Path, classes: tuple[str, str], counts: tuple[int, int], seed: int
) -> tuple[list[Path], list[str]]:
    """Draw as many training pictures of either class, by seed."""
    paths: list[Path] = []
    for name, count in zip(classes, counts, strict=True):
        every = sorted((photos / "train" / name).glob("*"))
        paths += random.Random(seed).sample(every, count)
    return paths, [path.parent.name for path in paths]


def measure(
    photos: Path, options: argparse.Namespace, *, strategy: str, balance: str | None, seed: int
) -> Result:
    """Train once and score the test pictures of both classes."""
    classes = tuple(options.classes)
    test = [path for name in classes for path in sorted((photos / "test" / name).glob("*"))]
    data = ImageData.from_files(
        *draw(photos, classes, tuple(options.counts), seed),
        test=(test, [path.parent.name for path in test]),
        split=0,
    )
    data.balance = balance
    weights = options.shared / "models" / "mobilenetv1_100"
    backbone = mealkit.backbones.create(
        "mealkit_tiny" if options.quick else weights,
        ImageDataSpec(size=32 if options.quick else 64),
        preprocessing={"crop_pct": 1.0},
    )
    task = ImageClassifier(backbone, classes=data.classes)
    task.finetune(
        data,
        epochs=options.epochs,
        strategy=strategy,
        precision=options.precision,
        training=Training(seed=seed),
    )
    evaluation = task.evaluate(data)
    recalls = evaluation.to_frame().loc[classes[1], "recall"]
    return {
        "strategy": strategy,
        "balance": balance,
        "seed": seed,
        **evaluation.metrics,
        "recall": float(recalls),
    }


def summarise(runs: list[Result]) -> list[Result]:
    """Answer with the means over the seeds, and the rise over no balance, in points of macro F1."""
    rows: list[Result] = []
    for strategy in dict.fromkeys(run["strategy"] for run in runs):
        for balance in BALANCES:
            some = [r for r in runs if r["strategy"] == strategy and r["balance"] == balance]
            means = {
                name: statistics.fmean(run[name] for run in some)
                for name in ("macro_f1", "accuracy", "recall")
            }
            base = next((r for r in rows if r["strategy"] == strategy), {**means, "rise": 0.0})
            rise = 100 * (means["macro_f1"] - base["macro_f1"])
            rows.append({"strategy": strategy, "balance": balance, **means, "rise": rise})
    return rows


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    with unpacked(options.shared, num_each=None, quick=options.quick) as photos:
        if options.quick:
            options.classes, options.counts = ["blue", "green"], [8, 2]
        runs = [
            measure(photos, options, strategy=strategy, balance=balance, seed=seed)
            for seed in options.seeds
            for strategy in options.strategies
            for balance in BALANCES
        ]
    summary = summarise(runs)
    rows = []
    for row in summary:
        same = [r for r in runs if all(r[k] == row[k] for k in ("strategy", "balance"))]
        scores = ", ".join(f"{run['macro_f1']:.3f}" for run in same)
        means = [f"{row[name]:.3f}" for name in ("macro_f1", "accuracy", "recall")]
        rise = f"{row['rise']:+.1f}"
        rows.append((row["strategy"], row["balance"], scores, means[0], rise, *means[1:]))
    title = f"{options.counts[0]} {options.classes[0]} and {options.counts[1]} {options.classes[1]}"
    print_report(f"{title}, {options.epochs} epochs", known, COLUMNS, rows)
    print("Rise in points of macro F1 over no balance; recall is that of the rare class.")
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    parser = make_parser(__doc__)
    parser.add_argument("--classes", nargs=2, default=["cat", "dog"], help="the usual, the rare")
    parser.add_argument("--counts", nargs=2, type=int, default=[475, 25], help="of each, to train")
    parser.add_argument("--strategies", nargs="+", default=["freeze", "freeze_unfreeze"])
    parser.add_argument("--epochs", type=int, default=5)
    main(read_options(parser))
