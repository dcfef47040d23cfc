"""Decode and transform of JPEG files: pictures a second and core, and the same pixels.

JPEG files of about 500x375 pixels (45 KB) are cut from scikit-learn's two sample photos, as in
`image_predict.py`. Each side reads them from one folder per class, resizes the shorter side to 256,
cuts out the middle 224, and ends with normalised float batches of 32:

- mealkit: the fetch path and loader of training, and the normalisation of the task
- torchvision: ImageFolder, v2 transforms and a DataLoader, no workers; "tensor" turns pictures into
  tensors and then resizes them, "PIL" the other way round

Each repetition of each side is a fresh process, in turns. What counts is the CPU time of the whole
process, all threads: pictures a second and core do not depend on how busy the machine is. The
pixels of the first pictures are compared before normalisation.

Run: python benchmarks/image_decode.py
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from measuring import (
    Result,
    environment,
    make_parser,
    median_of,
    print_report,
    read_options,
    run_side,
    write_json,
)
from photos import write_photos

SIDES = {
    "mealkit": ("mealkit_decode", ""),
    "torchvision, tensor": ("torchvision_decode", "tensor"),
    "torchvision, PIL": ("torchvision_decode", "PIL"),
}


def measure(folder: Path, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Write the files and run every side in turns."""
    count = 24 if options.quick else options.num_images
    write_photos(
        folder / "photos", count=count, seed=0, shrink=2 if options.quick else 1, sort=True
    )
    settings = {
        "photos": str(folder / "photos"),
        "size": 64 if options.quick else 224,
        "batch_size": 8 if options.quick else 32,
        "num_first": min(count, 64),
    }
    runs: dict[str, list[Result]] = {side: [] for side in SIDES}
    for _ in options.seeds:
        for side, (script, order) in SIDES.items():
            own = {"order": order, "out": str(folder / f"{script}{order}.npy")}
            runs[side].append(run_side(script, {**settings, **own}))
    return runs


def compare(folder: Path) -> Result:
    """Answer with how far the pixels of either peer are from ours, in levels of 255."""
    ours = np.load(folder / "mealkit_decode.npy").astype(int)
    apart: Result = {}
    for side, (script, order) in SIDES.items():
        theirs = np.load(folder / f"{script}{order}.npy").astype(int)
        differences = np.abs(ours - theirs)
        apart[side] = {"most": int(differences.max()), "mean": float(differences.mean())}
    return apart


def summarise(runs: dict[str, list[Result]], apart: Result) -> Result:
    """Answer with speeds, the ratio of median CPU times, and the distance of pixels."""
    ours = median_of(runs["mealkit"], "cpu_seconds")
    summary: Result = {}
    for side, results in runs.items():
        cpu = median_of(results, "cpu_seconds")
        summary[side] = {
            "images_per_core_second": results[0]["num_images"] / cpu,
            "images_per_second": results[0]["num_images"] / median_of(results, "seconds"),
            "mealkit_times_as_fast": cpu / ours,
            "most_levels_apart": apart[side]["most"],
            "mean_levels_apart": apart[side]["mean"],
        }
    return summary


def main() -> None:
    """Measure, print, write."""
    parser = make_parser(__doc__ or "")
    parser.add_argument("--num-images", type=int, default=1_000)
    options = read_options(parser)
    known = environment(options)
    folder = Path(tempfile.mkdtemp(prefix="mealkit-decode-"))
    try:
        runs = measure(folder, options)
        summary = summarise(runs, compare(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    rows = [
        (
            side,
            f"{values['images_per_core_second']:.0f}",
            f"{values['images_per_second']:.0f}",
            f"{values['mealkit_times_as_fast']:.2f}",
            values["most_levels_apart"],
            f"{values['mean_levels_apart']:.4f}",
        )
        for side, values in summary.items()
    ]
    columns = (
        "side",
        "pictures/s and core",
        "pictures/s",
        "mealkit is faster (x)",
        "pixels apart, most",
        "mean",
    )
    count = runs["mealkit"][0]["num_images"]
    print_report(f"Decode and transform of {count:,} JPEG files", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    main()
