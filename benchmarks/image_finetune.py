"""The default fine-tuning against fastai's fine_tune and against training from scratch.

All train mobilenetv1_100 on 80 % of the 5,000 training pictures of the CIFAR-10 subset, the whole
picture at 96 px (crop_pct 1.0); another 20 % by seed validate, and the 1,000 test pictures are
scored once. mealkit: `finetune(epochs=5)` with its defaults from the local weights, best epoch by
validation; with `--split 0` on all 5,000 pictures, last epoch. fastai: `fine_tune(3)` with its
defaults from the same weights, last epoch. Scratch: mealkit's defaults for an untrained net of the
same architecture. Seconds are those of the training call, each in a fresh process, in turns.

To choose defaults, `--select` scores the best epoch on the validation part and leaves test alone.

Run: python benchmarks/image_finetune.py --peer-python other-env/bin/python
     python benchmarks/image_finetune.py --only ours --select --lr 3e-4 --batch-size 64
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

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

SIDES = {
    "ours": "mealkit finetune",
    "peer": "fastai fine_tune",
    "scratch": "mealkit, untrained net",
}


def settings_of(
    side: str, options: argparse.Namespace, photos: str, seed: int
) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with what a side is asked to do."""
    weights = str(options.shared / "models" / "mobilenetv1_100")
    common = {"photos": photos, "seed": seed, "size": 32 if options.quick else 96}
    if side == "peer":
        return {
            **common,
            "weights": None if options.quick else weights,
            "method": "fine_tune",
            "epochs": options.peer_epochs,
            "augment": options.peer_augment,
            "num_workers": options.peer_workers,
        }
    settings = {
        **common,
        "backbone": "mealkit_tiny" if options.quick else weights,
        "pretrained": False if options.quick else None,
        "epochs": options.epochs,
        "precision": options.precision,
        "score": "none" if options.select else "test",
        "split": options.split,
    }
    if side == "scratch":
        return {**settings, "pretrained": False}
    return {
        **settings,
        "strategy": options.strategy,
        "lr": options.lr,
        "batch_size": options.batch_size,
        "augment": options.augment,
        "label_smoothing": options.label_smoothing,
    }


def measure(sides: list[str], options: argparse.Namespace) -> dict[str, list[Result]]:
    """Run every side once a seed, in turns."""
    seeds = {
        "ours": options.seeds,
        "scratch": options.scratch_seeds,
        "peer": options.seeds if options.peer_seeds is None else options.peer_seeds,
    }
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    with unpacked(options.shared, num_each=options.num_each, quick=options.quick) as photos:
        for seed in sorted({seed for side in sides for seed in seeds[side]}):
            for side in sides:
                if seed not in seeds[side]:
                    continue
                settings = settings_of(side, options, str(photos), seed)
                script = "fastai_train" if side == "peer" else "mealkit_train"
                python = {"python": options.peer_python} if side == "peer" else {}
                result = {"seed": seed, **run_side(script, settings, **python)}
                if options.select and side != "peer":
                    result["accuracy"] = max(result["val_accuracies"])
                runs[side].append(result)
    return runs


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    sides = [options.only] if options.only else list(SIDES)
    if options.no_peer or options.select or not has_module(options.peer_python, "fastai"):
        sides = [side for side in sides if side != "peer"]
    known = environment(options, peers=["fastai"] if "peer" in sides else [])
    runs = measure(sides, options)
    part = "validation" if options.select else "test"
    rows = [
        (
            SIDES[side],
            run.get("precision", "fp32"),
            run["seed"],
            f"{run['accuracy']:.3f}",
            f"{run['seconds']:.1f}",
            f"{run['peak_mib']:.0f}",
        )
        for side in sides
        for run in runs[side]
    ]
    columns = ("side", "precision", "seed", f"{part} accuracy", "seconds", "peak (MiB)")
    print_report("Fine-tuning, mobilenetv1_100 at 96 px, crop_pct 1.0", known, columns, rows)
    summary: Result = {}
    for side in sides:
        accuracies = [run["accuracy"] for run in runs[side]]
        summary[side] = {
            "accuracy": mean_of(runs[side], "accuracy"),
            "accuracy_spread": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
            "seconds": median_of(runs[side], "seconds"),
        }
        print(
            f"{SIDES[side]}: mean {part} accuracy {summary[side]['accuracy']:.4f} of "
            f"{len(accuracies)} seeds, median {summary[side]['seconds']:.1f} s"
        )
    if {"ours", "peer"} <= set(sides):
        ratio = summary["ours"]["seconds"] / summary["peer"]["seconds"]
        summary["seconds_ratio"] = ratio
        print(f"Median seconds, mealkit over fastai: {ratio:.3f}.")
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--only", choices=tuple(SIDES))
    parser.add_argument("--select", action="store_true", help="score on validation, never on test")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--split", type=float, default=0.2, help="share for validation; 0: none")
    parser.add_argument("--scratch-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--strategy")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch-size", type=int)
    parser.add_argument("--augment", choices=("none", "light"))
    parser.add_argument("--label-smoothing", type=float)
    parser.add_argument("--num-each", type=int, help="pictures of a class, at most (default: all)")
    parser.add_argument("--peer-epochs", type=int, default=3)
    parser.add_argument("--peer-seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--peer-augment", choices=("none", "docs"), default="none")
    parser.add_argument(
        "--peer-workers",
        type=int,
        default=0,
        help="of fastai; its own choice is one a core, up to 16",
    )
    main(read_options(parser))
