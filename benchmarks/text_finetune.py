"""Full fine-tuning of a sentence encoder on Banking77, against the transformers Trainer.

A sub-sample: 16 texts of each of the 77 classes, three epochs in batches of 32; the 3,080 test
texts are scored once. Sides take turns: mealkit at its own defaults (precision, rate, schedule,
order), and the Trainer at its own (fp32, 5e-5, random order); then both at the Trainer's rate, in
fp32 and in bf16, and the Trainer with batches of like length, which it has as an option.
A second table counts the padding of an epoch of all 10,003 training texts: mealkit's batches, those
of a random order, and those of a token budget.

Run: python benchmarks/text_finetune.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch
from measuring import (
    Result,
    environment,
    has_module,
    make_parser,
    mean_of,
    median_of,
    print_report,
    read_options,
    run_side,
    write_json,
)
from tickets import backbone_of, draw, read_tickets, settings_of

from mealkit import TextClassifier, TextData

BATCH_SIZE = 32

LR = 5e-5
"""The rate of the Trainer where none is given."""


def measure_training(folder: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Fine-tune with every side on every draw, in turns."""
    train = read_tickets(options.shared, "train", quick=options.quick)
    test = read_tickets(options.shared, "test", quick=options.quick)
    sides: dict[str, tuple[str, Result]] = {
        "mealkit": ("mealkit_text", {"precision": options.precision, "lr": None}),
        "mealkit, fp32": ("mealkit_text", {"precision": "32-true", "lr": LR}),
        "mealkit, bf16": ("mealkit_text", {"precision": "bf16-mixed", "lr": LR}),
    }
    if not options.no_peer and has_module(options.peer_python, "accelerate"):
        usual: Result = {"lr": LR, "bf16": False, "order": "random"}
        sides |= {
            "Trainer, fp32": ("trainer_text", usual),
            "Trainer, fp32, like lengths": ("trainer_text", usual | {"order": "group_by_length"}),
            "Trainer, bf16": ("trainer_text", usual | {"bf16": True}),
        }
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    for seed in options.seeds:
        drawn = draw(train, num_each=options.shots, seed=seed)
        for side, (script, own) in sides.items():
            settings = {
                **settings_of(drawn, test, options=options, seed=seed),
                "strategy": "full",
                "epochs": options.epochs,
                "batch_size": BATCH_SIZE,
                **own,
            }
            python = {"python": options.peer_python} if script == "trainer_text" else {}
            result = run_side(script, settings, file=folder / "settings.json", **python)
            steps = options.epochs * -(-len(drawn.texts) // BATCH_SIZE)
            seconds_per_step = result["seconds"] / steps
            runs[side].append({"seed": seed, **result, "seconds_per_step": seconds_per_step})
    return runs


def count_padding(options: argparse.Namespace) -> dict[str, float]:
    """Answer with tokens of padding per token of text, for every way to make batches."""
    tickets = read_tickets(options.shared, "train", quick=options.quick)
    data = TextData.from_lists(tickets.texts, tickets.labels, split=0)
    task = TextClassifier(backbone_of(options), classes=data.classes)
    data.prepare(task.input_spec)
    data.batch_size = BATCH_SIZE
    lengths = data.train.lengths
    found = {"mealkit": padding_of([b["index"] for b in data.train_dataloader()], lengths)}
    order = torch.randperm(len(lengths), generator=torch.Generator().manual_seed(0))
    found["random order"] = padding_of(list(order.split(BATCH_SIZE)), lengths)
    data.batch_size, data.batch_tokens = None, BATCH_SIZE * int(lengths.float().mean().ceil())
    data.batch_tokens = max(data.batch_tokens, int(lengths.max()))
    budget = f"batch_tokens={data.batch_tokens}"
    found[budget] = padding_of([b["index"] for b in data.train_dataloader()], lengths)
    return found


def padding_of(batches: list[torch.Tensor], lengths: torch.Tensor) -> float:
    """Count what fills up each batch to its longest text, per token."""
    filled = sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in batches)
    return filled / int(lengths.sum())


def report(
    known: Result, runs: dict[str, list[Result]], padding: dict[str, float]
) -> dict[str, Result]:
    """Print both tables, and answer with their numbers."""
    ours = median_of(runs["mealkit"], "seconds_per_step")
    rows, summary = [], {}
    for side, results in runs.items():
        step = median_of(results, "seconds_per_step")
        summary[side] = {
            "accuracy": mean_of(results, "accuracy"),
            "seconds_per_step": step,
            "times_mealkit": step / ours,
        }
        rows.append(
            (
                side,
                f"{step:.3f}",
                f"{step / ours:.2f}",
                f"{100 * summary[side]['accuracy']:.2f}",
                f"{mean_of(results, 'padding_per_token'):.3f}",
                f"{median_of(results, 'peak_mib'):.0f}",
            )
        )
    columns = ("side", "s/step", "x mealkit", "accuracy (%)", "padding/token", "peak MiB")
    print_report("Full fine-tuning", known, columns, rows)
    counted = [(way, f"{value:.4f}") for way, value in padding.items()]
    print_report("Padding of an epoch", known, ("batches", "padding per token"), counted)
    return summary


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    peer = not options.no_peer and has_module(options.peer_python, "accelerate")
    known = environment(options, peers=["accelerate"] if peer else [])
    with tempfile.TemporaryDirectory(prefix="mealkit-text-") as name:
        runs = measure_training(Path(name), options)
    padding = count_padding(options)
    summary = report(known, runs, padding)
    results = {"environment": known, "runs": runs, "summary": summary, "padding": padding}
    write_json(options.json, results)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--shots", type=int, default=16, help="training texts of each class")
    parser.add_argument("--epochs", type=int, default=3)
    main(read_options(parser))
