"""A frozen sentence encoder on Banking77: accuracy with few labels and with all, and encoding.

First table: `finetune(strategy="freeze")` of all-MiniLM-L6-v2 on 8 and on 16 texts of each of the
77 classes (ten draws), and on all 10,003; the penalty of the head is chosen by cross-validation
within them; the 3,080 test texts are scored once each. The backbone sees every text once.

Second table: encoding the 3,080 test texts in a fresh process, in turns, after other texts have
warmed it up: mealkit's `embed` at its automatic precision and in fp32, sentence-transformers'
`encode` at its defaults, and `Trainer.predict` of transformers at its defaults (its tokens are made
outside the clock). The agreement is the cosine with sentence-transformers' vectors.

Run: python benchmarks/text_frozen.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import numpy as np
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


def measure_accuracy(folder: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Fine-tune on every draw of every number of labels."""
    train = read_tickets(options.shared, "train", quick=options.quick)
    test = read_tickets(options.shared, "test", quick=options.quick)
    runs: dict[str, list[Result]] = {}
    for shots in options.shots:
        runs[f"{shots} a class"] = [
            run_draw(folder, options, draw(train, num_each=shots, seed=seed), test, seed)
            for seed in options.seeds
        ]
    if not options.no_full:
        runs["all"] = [run_draw(folder, options, train, test, 0)]
    return runs


def run_draw(folder: Path, options: argparse.Namespace, train, test, seed: int) -> Result:  # noqa: ANN001
    """Fine-tune on one draw, in a fresh process."""
    settings = {
        **settings_of(train, test, options=options, seed=seed),
        "strategy": "freeze",
        "epochs": 1,
        "lr": None,
        "batch_size": None,
        "precision": options.precision,
    }
    return {"seed": seed, **run_side("mealkit_text", settings, file=folder / "settings.json")}


def measure_encoding(folder: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Encode the test texts with every side, in turns."""
    texts = read_tickets(options.shared, "test", quick=options.quick).texts
    warm_up = read_tickets(options.shared, "train", quick=options.quick).texts[:64]
    common = {"texts": texts, "warm_up": warm_up, "model": backbone_of(options)}
    sides = {
        "mealkit": ("mealkit_embed", "", {"precision": options.precision}),
        "mealkit fp32": ("mealkit_embed", "", {"precision": "32-true"}),
    }
    if not options.no_peer and has_module(options.peer_python, "sentence_transformers"):
        sides["sentence-transformers encode"] = ("sentence_embed", options.peer_python, {})
        sides["transformers Trainer.predict"] = ("trainer_embed", options.peer_python, {})
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    for _ in range(options.repeats):
        for number, (side, (script, python, own)) in enumerate(sides.items()):
            out = folder / f"{number}.npy"
            settings = {**common, **own, "out": str(out)}
            chosen = {"python": python} if python else {}
            result = run_side(script, settings, file=folder / "settings.json", **chosen)
            runs[side].append({**result, "out": str(out)})
    return runs


def agreement(runs: dict[str, list[Result]]) -> dict[str, float]:
    """Answer with the least cosine of a text's vectors with those of sentence-transformers."""
    reference = runs.get("sentence-transformers encode")
    found = {}
    for side in ("mealkit", "mealkit fp32"):
        if reference is not None:
            ours, theirs = np.load(runs[side][0]["out"]), np.load(reference[0]["out"])
            norms = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
            found[side] = float(((ours * theirs).sum(1) / norms).min())
    return found


def report_accuracy(known: Result, runs: dict[str, list[Result]]) -> Result:
    """Print the first table, and answer with its numbers."""
    rows, summary = [], {}
    for labels, results in runs.items():
        values = [result["accuracy"] for result in results]
        spread = statistics.stdev(values) if len(values) > 1 else float("nan")
        summary[labels] = {"accuracy": mean_of(results, "accuracy"), "spread": spread}
        rows.append(
            (
                labels,
                len(values),
                f"{100 * summary[labels]['accuracy']:.2f}",
                f"{100 * spread:.2f}",
                f"{median_of(results, 'seconds'):.1f}",
                f"{max(result['forwards_per_text'] for result in results):g}",
                results[0]["precision"],
            )
        )
    columns = ("labels", "draws", "test accuracy (%)", "sd", "seconds", "passes/text", "precision")
    print_report("Banking77, frozen all-MiniLM-L6-v2", known, columns, rows)
    return summary


def report_encoding(known: Result, runs: dict[str, list[Result]], num_texts: int) -> Result:
    """Print the second table, and answer with its numbers."""
    cosines, ours = agreement(runs), median_of(runs["mealkit"], "seconds")
    summary = {}
    rows = []
    for side, results in runs.items():
        seconds = median_of(results, "seconds")
        summary[side] = {"seconds": seconds, "mealkit_times_as_fast": seconds / ours}
        cosine = f"{cosines[side]:.5f}" if side in cosines else ""
        speed = f"{num_texts / seconds:.0f}"
        rows.append((side, f"{seconds:.2f}", speed, f"{seconds / ours:.2f}", cosine))
    columns = ("side", "median seconds", "texts/s", "mealkit is faster (x)", "least cosine")
    print_report(f"Encoding {num_texts:,} texts", known, columns, rows)
    return summary


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    peers = ["sentence-transformers"]
    peer = not options.no_peer and has_module(options.peer_python, "sentence_transformers")
    known = environment(options, peers=peers if peer else [])
    results: Result = {"environment": known, "runs": {}, "summary": {}}
    with tempfile.TemporaryDirectory(prefix="mealkit-text-") as name:
        folder = Path(name)
        if options.only != "encoding":
            results["runs"]["accuracy"] = measure_accuracy(folder, options)
            results["summary"]["accuracy"] = report_accuracy(known, results["runs"]["accuracy"])
        if options.only != "accuracy":
            runs = measure_encoding(folder, options)
            num_texts = len(read_tickets(options.shared, "test", quick=options.quick).texts)
            results["runs"]["encoding"] = runs
            results["summary"]["encoding"] = report_encoding(known, runs, num_texts)
    write_json(options.json, results)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=list(range(10)))
    parser.add_argument("--only", choices=("accuracy", "encoding"))
    parser.add_argument("--shots", type=int, nargs="*", default=[8, 16])
    parser.add_argument("--no-full", action="store_true", help="leave the full training set out")
    parser.add_argument("--repeats", type=int, default=3, help="of encoding")
    main(read_options(parser))
