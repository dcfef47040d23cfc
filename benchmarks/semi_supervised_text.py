"""A few labels and many texts: labels alone against the semi-supervised methods, on Banking77.

Of every draw, a few texts of each class of the training part are labelled and all its others
unlabelled (of the first classes by name, or of all 77). There is no validation part; the last
weights are scored once on the test part. "frozen" solves a head on features of the frozen backbone,
which is what `finetune` does with so few labels; "labels alone" trains everything, in as many steps
as both stages of the others together.
One thread.

Run: OMP_NUM_THREADS=1 python benchmarks/semi_supervised_text.py
"""

from __future__ import annotations

import argparse
import logging
import statistics
import sys
import time

import torch
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from tickets import Tickets, draw, read_tickets

from mealkit import TextClassifier, Training
from mealkit.tasks.semi_supervised import METHODS

RATIO = 7  # of every method
NUM_ROWS = 32  # labelled rows in a batch
FROZEN, ALONE = "frozen", "labels alone"


def of_classes(tickets: Tickets, number: int) -> Tickets:
    """Keep the texts of the first classes by name."""
    kept = set(sorted(set(tickets.labels))[:number])
    rows = [row for row in zip(*tickets, strict=True) if row[1] in kept]
    return Tickets(*map(list, zip(*rows, strict=True)))


def run(
    side: str, labelled: Tickets, others: list[str], test: Tickets, options: argparse.Namespace
) -> Result:
    """Train and score one side."""
    task = TextClassifier.from_lists(
        labelled.texts,
        labelled.labels,
        test=(test.texts, test.labels),
        split=0,
        backbone=options.backbone,
    )
    training, precision = Training(seed=0), options.precision
    num_rows = min(NUM_ROWS, len(labelled.texts))
    steps = options.epochs * -(-len(others) // (RATIO * num_rows))
    started = time.process_time()
    shares: dict[str, float] = {}
    if side == FROZEN:
        task.finetune(epochs=1, strategy="freeze", training=training, precision=precision)
    elif side == ALONE:
        task.finetune(epochs=1, strategy="freeze", training=training, precision=precision)
        epochs = max(1, 2 * steps * num_rows // len(labelled.texts))
        task.finetune(
            epochs=epochs,
            strategy="full",
            batch_size=num_rows,
            training=training,
            precision=precision,
        )
    else:
        history = task.finetune(
            unlabelled=others,
            method=side,
            epochs=options.epochs,
            batch_size=num_rows,
            training=training,
            precision=precision,
        )
        shares = {name: value for name, value in history.rows[-1].items() if "unlabelled" in name}
    seconds = time.process_time() - started
    accuracy = task.evaluate().metrics["accuracy"]
    print(f"  {side}: {accuracy:.3f}", file=sys.stderr, flush=True)
    return {"accuracy": accuracy, "cpu_seconds": seconds, **shares}


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    logging.getLogger("mealkit").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    known = environment(options)
    train, test = (
        of_classes(read_tickets(options.shared, part, quick=options.quick), options.num_classes)
        for part in ("train", "test")
    )
    sides = (FROZEN, ALONE, *options.methods)
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    for seed in options.seeds:
        labelled = draw(train, num_each=options.shots, seed=seed)
        chosen = set(labelled.texts)
        others = [text for text in train.texts if text not in chosen]
        for side in sides:
            runs[side].append(run(side, labelled, others, test, options))
    summary: Result = {}
    rows = []
    for side, results in runs.items():
        accuracies = [result["accuracy"] for result in results]
        gains = [
            one - other["accuracy"] for one, other in zip(accuracies, runs[ALONE], strict=True)
        ]
        mean, gain = statistics.fmean(accuracies), statistics.fmean(gains)
        seconds = statistics.fmean(result["cpu_seconds"] for result in results)
        summary[side] = {"mean": mean, "gain": gain, "worst": min(gains)}
        raw = ", ".join(f"{value:.3f}" for value in accuracies)
        points = [f"{100 * value:+.1f}" for value in (gain, min(gains))]
        mask = results[-1].get("unlabelled/mask_rate")
        counted = "" if mask is None else f"{mask:.2f}"
        rows.append((side, raw, f"{mean:.3f}", *points, counted, f"{seconds:.0f}"))
    columns = ("side", "each draw", "mean", "gain (points)", "worst", "mask rate", "CPU s a run")
    title = f"Banking77, {options.num_classes} classes, {options.shots} labels each"
    title += f", {options.backbone}, test accuracy"
    print_report(title, known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--shots", type=int, default=4, help="labelled texts of each class")
    parser.add_argument("--num-classes", type=int, default=77, help="the first by name")
    parser.add_argument("--epochs", type=int, default=5, help="passes over the unlabelled part")
    parser.add_argument("--backbone", default="mealkit_tiny_text")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    main(read_options(parser))
