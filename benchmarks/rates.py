"""At which peak rate a strategy fine-tunes best, on three nets.

``mealkit_tiny`` on digits at 32 px, ``mobilenetv1_100`` on pictures of the CIFAR-10 subset at 64
px, and the transformer all-MiniLM-L6-v2 on questions of Banking77. Each is fine-tuned at each rate,
and scored on rows that were not trained on, of the training parts of the data: no test row is
looked at, so that the default can be chosen by this.

Run: python benchmarks/rates.py --strategy lora
"""

from __future__ import annotations

import argparse
import logging
import statistics
from pathlib import Path

from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import cifar, digits, unpacked
from tickets import Tickets, backbone_of, draw, read_tickets

import mealkit
from mealkit import ImageClassifier, TextClassifier
from mealkit.specs import ImageDataSpec
from mealkit.tasks import Training
from mealkit.tasks.classifier import Classifier


def on_digits(options: argparse.Namespace, seed: int) -> Classifier:
    """Make a task of digits, which have no mirror image."""
    data = digits(seed, *options.sizes)
    data.augment = "none"
    task = ImageClassifier("mealkit_tiny", classes=data.classes)
    task.data = data
    return task


def on_cifar(options: argparse.Namespace, photos: Path, seed: int) -> Classifier:
    """Make a task of small photos."""
    data = cifar(photos, seed, *options.sizes)
    backbone = mealkit.backbones.create(
        "mealkit_tiny" if options.quick else options.shared / "models" / "mobilenetv1_100",
        ImageDataSpec(size=32 if options.quick else 64),
        preprocessing={"crop_pct": 1.0},
    )
    task = ImageClassifier(backbone, classes=data.classes)
    task.data = data
    return task


def on_questions(options: argparse.Namespace, seed: int) -> Classifier:
    """Make a task of questions, a few of each intent, that is scored on some of the others."""
    every = read_tickets(options.shared, "train", quick=options.quick)
    train = draw(every, num_each=options.shots, seed=seed)
    taken = set(train.texts)
    rest = [row for row in zip(*every, strict=True) if row[0] not in taken]
    scored = draw(Tickets(*map(list, zip(*rest, strict=True))), num_each=options.shots, seed=seed)
    return TextClassifier.from_lists(
        *train, test=(scored.texts, scored.labels), split=0, backbone=backbone_of(options)
    )


def measure(task: Classifier, options: argparse.Namespace, *, lr: float, seed: int) -> float:
    """Fine-tune once, and answer with the accuracy on the other rows."""
    task.finetune(
        epochs=options.epochs,
        strategy=options.strategy,
        lr=lr,
        precision=options.precision,
        training=Training(seed=seed),
    )
    evaluation = task.evaluate()
    return float(evaluation.metrics["accuracy"])


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    options.sizes = (90, 30) if options.quick else (options.num_train, options.num_scored)
    options.shots = 4 if options.quick else options.shots
    runs: list[Result] = []
    with unpacked(options.shared, num_each=None, quick=options.quick) as photos:
        make = {
            "digits, mealkit_tiny": lambda seed: on_digits(options, seed),
            "CIFAR-10, mobilenetv1_100": lambda seed: on_cifar(options, photos, seed),
            "Banking77, all-MiniLM-L6-v2": lambda seed: on_questions(options, seed),
        }
        for seed in options.seeds:
            for kind in options.only or make:
                for lr in options.rates:
                    accuracy = measure(make[kind](seed), options, lr=lr, seed=seed)
                    runs.append({"kind": kind, "lr": lr, "seed": seed, "accuracy": accuracy})
                    print(f"{kind} {lr:g} {seed} {accuracy:.3f}", flush=True)
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        for lr in options.rates:
            same = [run["accuracy"] for run in runs if (run["kind"], run["lr"]) == (kind, lr)]
            each = ", ".join(f"{value:.3f}" for value in same)
            rows.append((kind, f"{lr:g}", each, f"{statistics.fmean(same):.3f}"))
    columns = ("rows and net", "rate", "accuracy of each seed", "mean")
    print_report(f"{options.strategy}, {options.epochs} epochs", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs})


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    parser = make_parser(__doc__)
    parser.add_argument("--strategy", default="lora")
    parser.add_argument("--rates", type=float, nargs="+", default=[5e-4, 2e-3, 8e-3, 2e-2, 5e-2])
    parser.add_argument("--only", nargs="+", help="kinds, as the table names them")
    parser.add_argument("--num-train", type=int, default=600)
    parser.add_argument("--num-scored", type=int, default=600)
    parser.add_argument("--shots", type=int, default=8, help="questions of each intent")
    parser.add_argument("--epochs", type=int, default=5)
    main(read_options(parser))
