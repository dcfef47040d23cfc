"""The whole SimCLR step, from JPEG files to new weights, against lightly's parts.

The 32 px pictures of the CIFAR-10 subset, batches of 256, the net of `mealkit_resnet8`, one thread:

- mealkit: `SSLPretrainer.from_files(...).pretrain()`, everything that comes with it included
- lightly's SimCLR example, fp32 as it stands there: its transform, head and loss, no workers
- the same with bf16 and channels-last added, where mealkit has bf16
- a loop of one's own with mealkit's views and loss on pictures that are decoded before: the limit

Sides take turns, each repetition in a process of its own. What is counted is the CPU time of the
process after the first three steps.

Run: OMP_NUM_THREADS=1 python benchmarks/ssl_step.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse
from pathlib import Path

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
from photos import unpacked

NUM_STEPS = 20
COLUMNS = ("side", "precision", "images/s", "mealkit is faster (x)")


def list_sides(options: argparse.Namespace) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """Answer with the settings of each side, and with the interpreter that runs it."""
    fast = options.precision
    sides: dict[str, tuple[dict[str, str], dict[str, str]]] = {
        "mealkit": ({"side": "mealkit", "precision": fast}, {}),
        "own loop, mealkit's views": ({"side": "loop", "precision": fast}, {}),
    }
    if not options.no_peer and has_module(options.peer_python, "lightly"):
        peer = {"python": options.peer_python}
        sides["lightly"] = ({"side": "lightly", "precision": "32-true"}, peer)
        if fast != "32-true":
            sides[f"lightly, {fast}"] = ({"side": "lightly", "precision": fast}, peer)
    return sides


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    peer = not options.no_peer and has_module(options.peer_python, "lightly")
    known = environment(options, peers=["lightly"] if peer else [])
    if options.precision == "auto":
        options.precision = "32-true" if known["bf16_units"] == "none" else "bf16-mixed"
    batch_size = 4 if options.quick else 256
    sides = list_sides(options)
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    with unpacked(options.shared, num_each=1, quick=options.quick, unlabelled=True) as photos:
        paths = sorted(str(path) for path in Path(photos / "unlabelled").iterdir())
        paths = paths[: NUM_STEPS * batch_size]
        common = {"paths": paths, "size": 32, "batch_size": batch_size}
        for _ in options.seeds:
            for side, (own, python) in sides.items():
                file = photos / "settings.json"
                runs[side].append(run_side("simclr_step", {**common, **own}, file=file, **python))
    ours = median_of(runs["mealkit"], "images_per_second")
    summary: Result = {}
    rows = []
    for side, results in runs.items():
        speed = median_of(results, "images_per_second")
        summary[side] = {"images_per_second": speed, "times": ours / speed}
        rows.append((side, sides[side][0]["precision"], f"{speed:.0f}", f"{ours / speed:.2f}"))
    print_report("The SimCLR step, 32 px, batches of 256", known, COLUMNS, rows)
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    main(read_options(parser))
