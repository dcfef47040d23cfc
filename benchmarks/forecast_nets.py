"""Trained nets on ETTh1 and M4 Weekly, beside published numbers and beside neuralforecast.

First table, long horizons: the protocol of ``forecast_baselines.py`` with context 336, the training
part alone, and the best epoch by the validation part. Published are the tables of LTSF-Linear
(Zeng et al. 2022), which have the same context.

Second table, M4 Weekly: as in ``forecast_baselines.py``, with default settings.

Third table, the same nets by neuralforecast (installed with the interpreter of --peer-python): the
same training part of ETTh1, standardised, the same context, horizon and number of steps of as many
windows, other settings as each library has them, no validation; CPU seconds of a fit, and the mean
absolute error of 20 windows that follow each other behind the training part.

Run: OMP_NUM_THREADS=1 python benchmarks/forecast_nets.py --peer-python OTHER
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from forecast_baselines import MONTH, check_data, measure_long, measure_m4, read_ett
from measuring import (
    Result,
    environment,
    has_module,
    make_parser,
    mean_of,
    print_report,
    read_options,
    run_side,
    write_json,
)

CONTEXT = 336
PUBLISHED = {
    ("nlinear", 96): "0.374 / 0.394",
    ("nlinear", 192): "0.408 / 0.415",
    ("nlinear", 336): "0.429 / 0.427",
    ("nlinear", 720): "0.440 / 0.453",
    ("dlinear", 96): "0.375 / 0.399",
    ("dlinear", 192): "0.405 / 0.416",
    ("dlinear", 336): "0.439 / 0.443",
    ("dlinear", 720): "0.472 / 0.490",
}
PEERS = ("dlinear", "nhits")


def measure_peer(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Fit the same nets by both libraries."""
    frame = read_ett(options)
    windows, horizon = (20, 96) if not options.quick else (2, 24)
    train = 12 * MONTH if not options.quick else len(frame) - windows * horizon
    frame = frame[: train + windows * horizon]
    values = frame.drop(columns="date")
    scaled = (values - values[:train].mean()) / values[:train].std(ddof=0)
    answers: dict[str, list[Result]] = {}
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "train.csv"
        scaled.assign(date=frame["date"]).to_csv(table, index=False)
        shared = {
            "table": str(table),
            "horizon": horizon,
            "windows": windows,
            "context": CONTEXT if not options.quick else 48,
            "steps": options.steps if not options.quick else 100,
            "batch_size": 256,
        }
        for name in PEERS:
            for seed in options.seeds:
                settings = {**shared, "seed": seed, "model": name}
                ours = run_side("mealkit_forecast", settings)
                theirs = run_side("neuralforecast_forecast", settings, python=options.peer_python)
                answers.setdefault(f"mealkit, {name}", []).append(ours)
                answers.setdefault(f"neuralforecast, {name}", []).append(theirs)
    return answers


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    compares = not options.no_peer and has_module(options.peer_python, "neuralforecast")
    known = environment(options, peers=["neuralforecast"] if compares else [])
    runs: Result = {}
    if "long" in options.parts:
        horizons = [24] if options.quick else options.horizons
        runs["long"] = long = {
            f"{name}, {horizon}": measure_long(options, horizon, backbone=name, context=CONTEXT)
            for name in ("nlinear", "dlinear")
            for horizon in horizons
        }
        rows = [
            (
                label,
                f"{run['mse']:.3f} / {run['mae']:.3f}",
                PUBLISHED.get((label.split(",")[0], int(label.split()[-1])), "-"),
                f"{run['cpu_seconds']:.1f}",
            )
            for label, run in long.items()
        ]
        columns = ("net, horizon", "MSE / MAE", "published", "CPU s")
        print_report(f"ETTh1, long horizons, context {CONTEXT}", known, columns, rows)
    if "m4" in options.parts:
        runs["m4"] = m4 = measure_m4(options, ["naive2", *options.nets])
        rows = [
            (
                n,
                f"{r['smape']:.3f}",
                f"{r['mase']:.3f}",
                f"{r['owa']:.3f}",
                f"{r['cpu_seconds']:.0f}",
            )
            for n, r in m4.items()
        ]
        print_report("M4 Weekly", known, ("net", "sMAPE", "MASE", "OWA", "CPU s"), rows)
    if "peer" in options.parts and compares:
        runs["peer"] = peer = measure_peer(options)
        rows = [
            (name, *(f"{mean_of(results, key):.3f}" for key in ("fit_seconds", "mae")))
            for name, results in peer.items()
        ]
        print_report("The same nets by neuralforecast", known, ("net", "CPU s of fit", "MAE"), rows)
    write_json(options.json, {"environment": known, "runs": runs})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--parts", nargs="+", default=["long", "m4", "peer"])
    parser.add_argument("--horizons", type=int, nargs="+", default=[96, 192, 336, 720])
    parser.add_argument("--steps", type=int, default=1000, help="of the fits beside the peer")
    parser.add_argument("--nets", nargs="+", default=["resmlp", "nhits", "nbeats", "tide"])
    given = read_options(parser)
    if not given.quick:
        check_data(given.shared)
    main(given)
