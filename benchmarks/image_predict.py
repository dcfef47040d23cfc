"""predict of JPEG files against fastai and transformers: pictures a second, and the same labels.

1,000 JPEG files of about 500x375 pixels (45 KB) are cut from scikit-learn's two sample photos and
enlarged: five positions of either make ten classes, with a random crop, size and quality 90;
seeded, so they are the same every time. One resnet18 at 224 px (bilinear, crop_pct 1.0) is trained
on others of them for a few steps and written to a file that all libraries load. Each repetition of
each side runs in a fresh process, in turns, and has labelled 32 other files before the clock
starts:

- mealkit `predict(folder)` at its automatic precision, and in fp32
- fastai `get_preds` of a `test_dl`, its own batch size and workers
- the transformers image-classification pipeline, batch size 32

Labels are compared with a plain loop of Pillow, timm's transform and fp32.

Run: python benchmarks/image_predict.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measuring import (
    Result,
    environment,
    has_module,
    make_parser,
    median_of,
    print_report,
    read_options,
    run_side,
    write_json,
)
from photos import write_photos

CLEAR = 0.1
"""Probability between the first and the second class above which a label is no close call."""


def agreement(one: Result, other: Result, *, clear: float = 0.0) -> tuple[float, int]:
    """Answer with the share of like labels and of how many pictures.

    Args:
        one: A side's result.
        other: The result that decides which pictures are clear.
        clear: Least difference of the other's two highest probabilities.
    """
    alike = []
    for name, values in other["probabilities"].items():
        first, second = sorted(values, reverse=True)[:2]
        if first - second > clear or clear == 0:
            alike.append(int(np.argmax(one["probabilities"][name])) == int(np.argmax(values)))
    return (float(np.mean(alike)) if alike else float("nan")), len(alike)


def accuracy(result: Result) -> float:
    """Answer with the share of right labels; the names of the files say them."""
    classes = sorted({name.partition("-")[0] for name in result["probabilities"]})
    right = [
        classes[int(np.argmax(values))] == name.partition("-")[0]
        for name, values in result["probabilities"].items()
    ]
    return float(np.mean(right))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Prepare pictures and net, and run every side in turns."""
    shrink = 4 if options.quick else 1
    count, num_train = (30, 30) if options.quick else (options.num_images, 480)
    write_photos(folder / "photos", count=count, seed=0, shrink=shrink, sort=False)
    write_photos(
        folder / "warm", count=10 if options.quick else 32, seed=1, shrink=shrink, sort=False
    )
    write_photos(folder / "train", count=num_train, seed=2, shrink=shrink, sort=True)
    net = {"out": str(folder / "net"), "size": 64 if options.quick else 224}
    run_side(
        "mealkit_label",
        {**net, "photos": str(folder / "train"), "epochs": 1 if options.quick else 2},
    )
    common = {
        "net": str(folder / "net"),
        "photos": str(folder / "photos"),
        "warm_up": str(folder / "warm"),
    }
    sides: dict[str, tuple[str, str, dict[str, Any]]] = {
        "mealkit": ("mealkit_predict", "", {"precision": options.precision}),
        "mealkit fp32": ("mealkit_predict", "", {"precision": "32-true"}),
    }
    if not options.no_peer:
        sides["transformers pipeline"] = ("pipeline_predict", "", {"batch_size": 32})
        if has_module(options.peer_python, "fastai"):
            own = {"batch_size": options.peer_batch_size, "num_workers": options.peer_workers}
            sides["fastai get_preds"] = ("fastai_predict", options.peer_python, own)
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    runs["plain loop"] = [run_side("loop_predict", {**common, "batch_size": 32})]
    for _ in options.seeds:
        for side, (script, python, own) in sides.items():
            chosen = {"python": python} if python else {}
            runs[side].append(run_side(script, {**common, **own}, **chosen))
    return runs


def summarise(runs: dict[str, list[Result]]) -> Result:
    """Answer with speed, agreement and accuracy of every side."""
    reference = runs["plain loop"][0]
    ours = median_of(runs["mealkit"], "seconds")
    summary: Result = {}
    for side, results in runs.items():
        seconds = median_of(results, "seconds")
        clear, num_clear = agreement(results[0], reference, clear=CLEAR)
        summary[side] = {
            "seconds": seconds,
            "images_per_second": len(reference["probabilities"]) / seconds,
            "mealkit_times_as_fast": seconds / ours,
            "same_labels": agreement(results[0], reference)[0],
            "same_clear_labels": clear,
            "num_clear": num_clear,
            "accuracy": accuracy(results[0]),
            "num_classes_answered": len(
                {int(np.argmax(values)) for values in results[0]["probabilities"].values()}
            ),
        }
    return summary


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    folder = Path(tempfile.mkdtemp(prefix="mealkit-predict-"))
    peer = not options.no_peer and has_module(options.peer_python, "fastai")
    known = environment(options, peers=["fastai"] if peer else [])
    try:
        runs = measure(folder, options)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    summary = summarise(runs)
    rows = [
        (
            side,
            f"{values['seconds']:.2f}",
            f"{values['images_per_second']:.0f}",
            f"{values['mealkit_times_as_fast']:.2f}",
            f"{values['same_labels']:.4f}",
            f"{values['same_clear_labels']:.4f} of {values['num_clear']}",
            f"{values['accuracy']:.4f}",
        )
        for side, values in summary.items()
    ]
    columns = (
        "side",
        "median seconds",
        "pictures/s",
        "mealkit is faster (x)",
        "labels as plain loop",
        f"where clear by {CLEAR}",
        "accuracy",
    )
    count = sum(1 for _ in runs["plain loop"][0]["probabilities"])
    print_report(f"predict of {count:,} JPEG files, resnet18 at 224 px", known, columns, rows)
    raw = {
        side: [{"seconds": result["seconds"]} for result in results]
        for side, results in runs.items()
    }
    write_json(options.json, {"environment": known, "runs": raw, "summary": summary})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument(
        "--peer-workers",
        type=int,
        default=min(16, os.cpu_count() or 1),
        help="of fastai (default: its own choice, one a core up to 16)",
    )
    parser.add_argument("--peer-batch-size", type=int, help="default: fastai's own choice")
    main(read_options(parser))
