"""Views for learning without labels: views a second and core, against torchvision and lightly.

Two SimCLR views (crop, flip, colours, grey, blur above 64 px) of random uint8 pictures in memory,
without normalisation, on one thread. mealkit draws them a batch at a time; the others a picture at
a time:

- torchvision's v2 transforms on Pillow images, and on uint8 tensors
- lightly's `SimCLRTransform` on Pillow images

Sides take turns, each repetition in a process of its own. What is counted is the CPU time of the
process; pictures are drawn and converted before.

Run: python benchmarks/ssl_views.py --peer-python other-env/bin/python
"""

from __future__ import annotations

import argparse

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

COUNTS = {32: 1024, 96: 256, 224: 64}
"""Pictures by their size in pixels."""


def measure(size: int, count: int, options: argparse.Namespace) -> dict[str, list[Result]]:
    """Run every side in turns."""
    common = {"size": size, "count": count, "batch_size": min(count, options.batch_size)}
    sides: dict[str, tuple[str, dict[str, str], dict[str, str]]] = {
        "mealkit": ("mealkit_views", {}, {}),
        "torchvision, Pillow": ("single_views", {"side": "pil"}, {}),
        "torchvision, tensors": ("single_views", {"side": "tensor"}, {}),
    }
    if not options.no_peer and has_module(options.peer_python, "lightly"):
        peer = {"python": options.peer_python}
        sides["lightly"] = ("single_views", {"side": "lightly"}, peer)
    runs: dict[str, list[Result]] = {side: [] for side in sides}
    for _ in options.seeds:
        for side, (script, own, python) in sides.items():
            runs[side].append(run_side(script, {**common, **own}, **python))
    return runs


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    peer = not options.no_peer and has_module(options.peer_python, "lightly")
    known = environment(options, peers=["lightly"] if peer else [])
    counts = {32: 8} if options.quick else {size: COUNTS[size] for size in options.sizes}
    runs = {str(size): measure(size, count, options) for size, count in counts.items()}
    summary: Result = {}
    rows = []
    for size, sides in runs.items():
        ours = median_of(sides["mealkit"], "views_per_second")
        for side, results in sides.items():
            speed = median_of(results, "views_per_second")
            summary.setdefault(size, {})[side] = {"speed": speed, "times": ours / speed}
            rows.append((size, side, f"{speed:.0f}", f"{ours / speed:.1f}"))
    columns = ("pixels", "side", "views/s and core", "mealkit is faster (x)")
    print_report("Two SimCLR views", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs, "summary": summary})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--sizes", type=int, nargs="+", choices=tuple(COUNTS), default=[32, 96])
    parser.add_argument("--batch-size", type=int, default=256)
    main(read_options(parser))
