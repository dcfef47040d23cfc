"""The texts that are trained on: Banking77, or a few made-up ones, and draws of few labels."""

from __future__ import annotations

import argparse
import csv
import random
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

MODEL = "models/all-MiniLM-L6-v2"
"""The encoder, in the folder with the data."""


class Tickets(NamedTuple):
    """Texts and their labels, one of each per row."""

    texts: list[str]
    labels: list[str]


def read_tickets(shared: Path, part: str, *, quick: bool) -> Tickets:
    """Read the train or test part of Banking77, or make up 24 texts of three classes.

    Args:
        shared: Where ``data/banking77-train.csv`` and ``-test.csv`` are.
        part: "train" or "test".
        quick: Make the texts up.
    """
    if quick:
        verbs = {"billing": "pay", "delivery": "send", "login": "open"}
        rows = [
            (f"please {verb} it {part} {n}", name)
            for name, verb in verbs.items()
            for n in "abcdefgh"
        ]
        return Tickets(*map(list, zip(*rows, strict=True)))
    file = shared / "data" / f"banking77-{part}.csv"
    if not file.is_file():
        raise SystemExit(f"{file} is absent. Say where the data are: --shared FOLDER, or --quick.")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [(row["text"], row["category"]) for row in csv.DictReader(lines)]
    return Tickets(*map(list, zip(*rows, strict=True)))


def draw(tickets: Tickets, *, num_each: int, seed: int) -> Tickets:
    """Draw so many texts of every class; all of a class that has fewer."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, label in enumerate(tickets.labels):
        rows[label].append(row)
    rng = random.Random(seed)
    chosen = [
        row
        for name in sorted(rows)
        for row in rng.sample(rows[name], min(num_each, len(rows[name])))
    ]
    return Tickets([tickets.texts[row] for row in chosen], [tickets.labels[row] for row in chosen])


def backbone_of(options: argparse.Namespace) -> str:
    """Answer with the encoder that is measured."""
    return "mealkit_tiny_text" if options.quick else str(options.shared / MODEL)


def settings_of(
    train: Tickets, test: Tickets, *, options: argparse.Namespace, seed: int
) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with what every side that trains on texts is told; each adds its own."""
    return {
        "texts": train.texts,
        "labels": train.labels,
        "test_texts": test.texts,
        "test_labels": test.labels,
        "backbone": backbone_of(options),  # as mealkit's side calls it
        "model": str(options.shared / MODEL),  # as the peers' sides do, which know no tiny net
        "split": 0,
        "seed": seed,
    }
