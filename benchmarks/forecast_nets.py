"""Trained nets on ETTh1 and M4 Weekly, beside published numbers and beside neuralforecast.

First table, long horizons: the protocol of ``forecast_baselines.py`` with context 336, the training
part alone, and the best epoch by the validation part, of weights that are averaged over steps.
Published are the tables of LTSF-Linear (Zeng et al. 2022) and of PatchTST/42 (Nie et al. 2023; only
with --long-nets patchtst), which have the same context.

Second table, M4 Weekly: as in ``forecast_baselines.py``, with default settings.

Third table, the same nets by neuralforecast (installed with the interpreter of --peer-python): the
same training part of ETTh1, standardised, the same context, horizon and number of steps of as many
windows, other settings as each library has them; CPU seconds of a fit, and the mean absolute error
of windows that follow each other: 30 in the four validation months, by which settings may be
chosen, and 30 in the four test months.

Fourth table, windows of ETTh1 in batches of 1,024, drawn and not trained on, beside Darts
(installed with the interpreter of --peer-python).

Run: OMP_NUM_THREADS=1 python benchmarks/forecast_nets.py --peer-python OTHER
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
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

from mealkit.tasks import Training

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
PUBLISHED |= {("patchtst", 96): "0.375 / 0.399"}  # PatchTST/42 (Nie et al. 2023)
STEADY = Training(weight_decay=0.01, ema=0.99)
"""The average of the weights is validated: from epoch to epoch, the loss of validation windows of
ETTh1 swings by more than nets differ, and the lowest of some swings is no good choice."""
SIZES = {
    # Those of PatchTST's authors for the small data sets.
    "patchtst": {
        "d_model": 16,
        "num_attention_heads": 4,
        "ffn_dim": 128,
        "num_hidden_layers": 3,
        "ff_dropout": 0.3,
        "positional_dropout": 0.3,
        "loss": "mse",
    },
}
FITS = {
    "patchtst": {
        "epochs": 15,
        "lr": 1e-3,
        "training": Training(weight_decay=0.01, ema=0.99, patience=4),
    },
}
PEERS = ("dlinear", "nhits")


def measure_peer(options: argparse.Namespace) -> dict[str, list[Result]]:
    """Fit the same nets by both libraries."""
    frame = read_ett(options)
    windows, horizon = (60, 96) if not options.quick else (4, 24)
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
                for library, side in (("mealkit", ours), ("neuralforecast", theirs)):
                    val, test = np.array_split(side["maes"], 2)
                    maes = {"mae_val": float(val.mean()), "mae_test": float(test.mean())}
                    answers.setdefault(f"{library}, {name}", []).append({**side, **maes})
    return answers


def measure_windows(options: argparse.Namespace) -> Result:
    """Draw the same windows by both libraries."""
    table = options.shared / "data" / "ETTh1.csv"
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            table = Path(folder) / "table.csv"
            read_ett(options).to_csv(table, index=False)
        settings = {
            "table": str(table),
            "horizon": 96 if not options.quick else 24,
            "context": CONTEXT if not options.quick else 48,
            "batch_size": 1024 if not options.quick else 64,
            "batches": 40 if not options.quick else 3,
            "rounds": 5 if not options.quick else 1,
        }
        answers = {"mealkit": run_side("mealkit_windows", settings)}
        if not options.no_peer and has_module(options.peer_python, "darts"):
            answers["darts"] = run_side("darts_windows", settings, python=options.peer_python)
    return answers


def report_long(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print the table of long horizons."""
    horizons = [24] if options.quick else options.horizons
    long = {
        f"{name}, {horizon}": measure_long(
            options,
            horizon,
            backbone=name,
            context=CONTEXT,
            sizes=SIZES.get(name),
            fit={"training": STEADY, **FITS.get(name, {})},
        )
        for name in options.long_nets
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
    return long


def report_m4(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print M4 Weekly."""
    m4 = measure_m4(options, ["naive2", *options.nets])
    rows = [
        (
            name,
            *(f"{run[key]:.3f}" for key in ("smape", "mase", "owa")),
            f"{run['cpu_seconds']:.0f}",
        )
        for name, run in m4.items()
    ]
    print_report("M4 Weekly", known, ("net", "sMAPE", "MASE", "OWA", "CPU s"), rows)
    return m4


def report_peer(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print the same nets by neuralforecast."""
    if options.no_peer or not has_module(options.peer_python, "neuralforecast"):
        return {}
    peer = measure_peer(options)
    rows = [
        (name, *(f"{mean_of(results, key):.3f}" for key in ("fit_seconds", "mae_val", "mae_test")))
        for name, results in peer.items()
    ]
    columns = ("net", "CPU s of fit", "MAE, validation months", "MAE, test months")
    print_report("The same nets by neuralforecast", known, columns, rows)
    return peer


def report_windows(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print how many windows each library draws."""
    windows = measure_windows(options)
    rows = [(name, f"{run['windows_per_second']:,.0f}") for name, run in windows.items()]
    print_report("Windows drawn, and nothing learnt", known, ("library", "windows per CPU s"), rows)
    return windows


REPORTS = {"long": report_long, "m4": report_m4, "peer": report_peer, "windows": report_windows}


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    installed = [
        name
        for name in ("neuralforecast", "darts")
        if not options.no_peer and has_module(options.peer_python, name)
    ]
    known = environment(options, peers=installed)
    runs = {part: REPORTS[part](options, known) for part in options.parts}
    write_json(options.json, {"environment": known, "runs": {n: r for n, r in runs.items() if r}})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=list(REPORTS), default=list(REPORTS))
    parser.add_argument("--long-nets", nargs="+", default=["nlinear", "dlinear"])
    parser.add_argument("--horizons", type=int, nargs="+", default=[96, 192, 336, 720])
    parser.add_argument("--steps", type=int, default=1000, help="of the fits beside the peer")
    parser.add_argument("--nets", nargs="+", default=["resmlp", "nhits", "nbeats", "tide"])
    given = read_options(parser)
    if not given.quick:
        check_data(given.shared)
    main(given)
