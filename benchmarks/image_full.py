"""One epoch of the full strategy against a hand-written PyTorch loop: seconds and peak memory.

mobilenetv1_100 with local weights, all 5,000 training pictures of the CIFAR-10 subset, the whole
picture at 96 px, batch 32, one epoch, nothing validated. Three sides, once a seed, each in a fresh
process, in turns: mealkit's `finetune(epochs=1, strategy="full")`; "same", a loop that does
the same work at the same precision; "plain", the loop one writes first, in fp32. Seconds are those
of the training call, peak memory that of the whole process (ru_maxrss), listed with what was
taken before training began: imports, net and list of files.

A second table has the seconds of a step of resnet18 at 224 px, batch 32, from random weights, on
random pictures in memory: no file is read. There, mealkit at its automatic precision and
channels-last against a plain fp32 loop.

Run: python benchmarks/image_full.py --seeds 0 1 2 3 4
"""

from __future__ import annotations

import argparse
from typing import Any

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
from photos import unpacked

SIDES = ("mealkit", "same", "plain")


def measure_epochs(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Run one epoch of every side, in turns."""
    weights = None if options.quick else str(options.shared / "models" / "mobilenetv1_100")
    runs: dict[str, list[Result]] = {side: [] for side in SIDES}
    precision = options.precision
    with unpacked(options.shared, num_each=options.num_each, quick=options.quick) as photos:
        for seed in options.seeds:
            common = {
                "photos": str(photos),
                "size": 32 if options.quick else 96,
                "batch_size": 32,
                "seed": seed,
            }
            ours = {
                **common,
                "backbone": weights or "mobilenetv1_100",
                "pretrained": weights is not None,
                "epochs": 1,
                "strategy": "full",
                "precision": options.precision,
                "split": 0,
                "score": "none",
            }
            runs["mealkit"].append(run_side("mealkit_train", ours))
            precision = runs["mealkit"][-1]["precision"]
            for side in ("same", "plain"):
                loop = {
                    **common,
                    "weights": weights,
                    "variant": side,
                    "num_workers": options.loop_workers,
                    "precision": precision,
                }
                result = run_side("loop_train", loop)
                result["precision"] = precision if side == "same" else "32-true"
                runs[side].append(result)
    return runs


def measure_steps(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Time steps of resnet18 on random pictures, in turns."""
    runs: dict[str, list[Result]] = {"mealkit": [], "plain": []}
    for seed in options.seeds:
        for side, results in runs.items():
            settings: dict[str, Any] = {  # Any: plain JSON values
                "side": side,
                "net": "resnet18",
                "size": 32 if options.quick else 224,
                "batch_size": 2 if options.quick else 32,
                "num_steps": 2 if options.quick else options.num_steps,
                "precision": options.precision,
                "seed": seed,
            }
            results.append(run_side("step_train", settings))
    return runs


def rows_of(runs: dict[str, list[Result]], key: str) -> list[tuple[str, ...]]:
    """Make one row a side, with what mealkit needs over what it needs."""
    ours = {name: median_of(runs["mealkit"], name) for name in (key, "peak_mib")}
    rows: list[tuple[str, ...]] = []
    for side, results in runs.items():
        values = [result[key] for result in results]
        median, peak = median_of(results, key), median_of(results, "peak_mib")
        rows.append(
            (
                side,
                str(results[0]["precision"]),
                f"{median:.3f}",
                f"{min(values):.3f} to {max(values):.3f}",
                f"{ours[key] / median:.3f}",
                f"{peak:.0f}",
                f"{median_of(results, 'base_mib'):.0f}",
                f"{ours['peak_mib'] / peak:.3f}",
            )
        )
    return rows


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    results: Result = {"environment": known, "runs": {}, "summary": {}}
    heads = ["side", "precision", "median {} (s)", "range", "mealkit / it", "peak (MiB)"]
    heads += ["of it before training", "mealkit's peak / it"]
    parts = {
        "epoch": ("seconds", measure_epochs, "mobilenetv1_100, 96 px, batch 32, one epoch"),
        "step": ("step_seconds", measure_steps, "resnet18, 224 px, batch 32, random pictures"),
    }
    for part in [options.only] if options.only else parts:
        key, measure, title = parts[part]
        runs = measure(options)
        columns = [head.format(part) for head in heads]
        print_report(title, known, columns, rows_of(runs, key))
        results["runs"][part] = runs
        results["summary"][part] = {
            side: {
                "seconds_ratio": median_of(runs["mealkit"], key) / median_of(done, key),
                "peak_ratio": median_of(runs["mealkit"], "peak_mib") / median_of(done, "peak_mib"),
            }
            for side, done in runs.items()
            if side != "mealkit"
        }
    write_json(options.json, results)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--only", choices=("epoch", "step"))
    parser.add_argument("--num-steps", type=int, default=12, help="timed steps of resnet18")
    parser.add_argument("--num-each", type=int, help="pictures of a class, at most (default: all)")
    parser.add_argument("--loop-workers", type=int, default=0, help="of the loops' DataLoader")
    main(read_options(parser))
