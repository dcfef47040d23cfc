"""The frozen strategy against fastai's frozen training: accuracy, seconds, backbone passes.

Both train a head on mobilenetv1_100 with the same local weights, on 80 % of the 5,000 training
pictures of the CIFAR-10 subset, the whole picture at 96 px (crop_pct 1.0), for 3 epochs; another
20 % by seed validate, and the 1,000 test pictures are scored once. mealkit runs the backbone once
over each picture and solves the head; fastai's frozen epochs (its defaults, no augmentation unless
asked for) run it every epoch. Seconds are those of `finetune` and of `fit_one_cycle`, each in a
fresh process, in turns; setting up the data is listed apart.

Run: python benchmarks/image_freeze.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse
import statistics

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
from photos import unpacked

COLUMNS = ("side", "seed", "test accuracy", "seconds", "set-up (s)", "epochs (s)", "passes/image")


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    peer = not options.no_peer and has_module(options.peer_python, "fastai")
    known = environment(options, peers=["fastai"] if peer else [])
    weights = options.shared / "models" / "mobilenetv1_100"
    ours: list[Result] = []
    theirs: list[Result] = []
    with unpacked(options.shared, num_each=options.num_each, quick=options.quick) as photos:
        common = {
            "photos": str(photos),
            "epochs": options.epochs,
            "size": 32 if options.quick else 96,
        }
        for seed in options.seeds:
            settings = {
                **common,
                "seed": seed,
                "backbone": "mealkit_tiny" if options.quick else str(weights),
                "pretrained": False if options.quick else None,
                "strategy": "freeze",
                "precision": options.precision,
            }
            ours.append({"seed": seed, **run_side("mealkit_train", settings)})
            if not peer:
                continue
            settings = {
                **common,
                "seed": seed,
                "weights": None if options.quick else str(weights),
                "method": "freeze",
                "augment": options.peer_augment,
                "num_workers": options.peer_workers,
            }
            done = run_side("fastai_train", settings, python=options.peer_python)
            theirs.append({"seed": seed, **done})
    summary = summarise(ours, theirs)
    report(known, ours, theirs, summary)
    runs = {"mealkit": ours, "fastai": theirs}
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


def summarise(ours: list[Result], theirs: list[Result]) -> Result:
    """Answer with the numbers that are claimed."""
    later = [max(run["epoch_seconds"][1:]) / run["epoch_seconds"][0] for run in ours]
    summary = {
        "accuracy": mean_of(ours, "accuracy"),
        "seconds": median_of(ours, "seconds"),
        "forwards_per_image": max(run["forwards_per_image"] for run in ours),
        "later_epochs_over_first": statistics.median(later),
    }
    if theirs:
        summary["peer_accuracy"] = mean_of(theirs, "accuracy")
        summary["peer_seconds"] = median_of(theirs, "seconds")
        summary["seconds_ratio"] = summary["seconds"] / summary["peer_seconds"]
    return summary


def report(known: Result, ours: list[Result], theirs: list[Result], summary: Result) -> None:
    """Print the table and the claims below it."""
    rows = []
    for side, runs in (("mealkit", ours), ("fastai", theirs)):
        for run in runs:
            epochs = ", ".join(f"{value:.2f}" for value in run.get("epoch_seconds", []))
            rows.append(
                (
                    f"{side} {run.get('precision', 'fp32')}",
                    run["seed"],
                    f"{run['accuracy']:.3f}",
                    f"{run['seconds']:.1f}",
                    f"{run['seconds_build']:.1f}",
                    epochs,
                    f"{run['forwards_per_image']:g}" if "forwards_per_image" in run else "",
                )
            )
    print_report("Frozen backbone, mobilenetv1_100 at 96 px, crop_pct 1.0", known, COLUMNS, rows)
    print(
        f"mealkit: mean accuracy {summary['accuracy']:.3f}; slowest later epoch over the first "
        f"{summary['later_epochs_over_first']:.4f} (median of seeds); backbone passes per image "
        f"{summary['forwards_per_image']:g}."
    )
    if not theirs:
        print("fastai was not measured.")
        return
    print(
        f"fastai: mean accuracy {summary['peer_accuracy']:.3f}. Median seconds, mealkit over "
        f"fastai: {summary['seconds_ratio']:.3f}."
    )


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--num-each", type=int, help="pictures of a class, at most (default: all)")
    parser.add_argument("--peer-augment", choices=("none", "docs"), default="none")
    parser.add_argument(
        "--peer-workers",
        type=int,
        default=0,
        help="of fastai; its own choice is one a core, up to 16",
    )
    main(read_options(parser))
