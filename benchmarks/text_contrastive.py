"""Few labels: the frozen probe, the contrastive strategy, and SetFit with as many texts encoded.

Eight texts of each of the 77 classes of Banking77, three draws; the 3,080 test texts are scored
once. SetFit is at its defaults but for the steps: a batch is 16 pairs, which are 32 texts, so 50 of
them read as many texts as mealkit's default. With other --steps, mealkit also runs with as many
texts as SetFit. CPU seconds are of training alone, and sound beside other jobs; the clock is not.

Run: python benchmarks/text_contrastive.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

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
from tickets import draw, read_tickets, settings_of

from mealkit.tasks import Contrastive

NUM_PAIRS = 16
"""Pairs in a batch of SetFit, its default."""


def sides_of(options: argparse.Namespace) -> dict[str, tuple[str, Result]]:
    """Answer with the script and the settings of every side that was asked for."""
    usual = Contrastive()
    num_steps = max(1, round(options.steps * NUM_PAIRS * 2 / usual.batch_size))
    sides: dict[str, tuple[str, Result]] = {
        "mealkit freeze": ("mealkit_text", {"strategy": "freeze"}),
        "mealkit contrastive": ("mealkit_text", {"strategy": "contrastive", "contrastive": {}}),
    }
    if num_steps != usual.num_steps:
        as_many = {"strategy": "contrastive", "contrastive": {"num_steps": num_steps}}
        sides["mealkit contrastive, as many texts"] = ("mealkit_text", as_many)
    if not options.no_peer and has_module(options.peer_python, "setfit"):
        sides["SetFit"] = ("setfit_text", {"num_steps": options.steps, "batch_size": NUM_PAIRS})
    return {side: own for side, own in sides.items() if not options.only or side in options.only}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Run every side on every draw, in turns."""
    train = read_tickets(options.shared, "train", quick=options.quick)
    test = read_tickets(options.shared, "test", quick=options.quick)
    sides = sides_of(options)
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    for seed in options.seeds:
        drawn = draw(train, num_each=options.shots, seed=seed)
        for side, (script, own) in sides.items():
            settings = {
                **settings_of(drawn, test, options=options, seed=seed),
                "epochs": 1,
                "lr": None,
                "batch_size": None,
                "precision": options.precision,
                **own,
            }
            python = {"python": options.peer_python} if script == "setfit_text" else {}
            result = run_side(script, settings, file=folder / "settings.json", **python)
            runs[side].append({"seed": seed, **result})
    return runs


def report(known: Result, runs: dict[str, list[Result]]) -> dict[str, Result]:
    """Print the table, and answer with its numbers."""
    rows, summary = [], {}
    for side, results in runs.items():
        accuracies = [f"{100 * result['accuracy']:.1f}" for result in results]
        summary[side] = {
            "accuracy": mean_of(results, "accuracy"),
            "cpu_seconds": median_of(results, "cpu_seconds"),
            "seconds": median_of(results, "seconds"),
        }
        mean = f"{100 * summary[side]['accuracy']:.2f}"
        times = (f"{summary[side][clock]:.0f}" for clock in ("cpu_seconds", "seconds"))
        rows.append((side, " / ".join(accuracies), mean, *times))
    columns = ("side", "each draw (%)", "mean", "median CPU seconds", "by the clock")
    print_report("Banking77 with few labels", known, columns, rows)
    return summary


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    peer = not options.no_peer and has_module(options.peer_python, "setfit")
    known = environment(options, peers=["setfit"] if peer else [])
    with tempfile.TemporaryDirectory(prefix="mealkit-text-") as name:
        runs = measure(Path(name), options)
    results = {"environment": known, "runs": runs, "summary": report(known, runs)}
    write_json(options.json, results)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--shots", type=int, default=8, help="training texts of each class")
    parser.add_argument("--steps", type=int, default=50, help="batches of SetFit")
    parser.add_argument("--only", nargs="+", metavar="SIDE", help="sides to run, by their names")
    main(read_options(parser))
