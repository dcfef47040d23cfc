"""Ridge, the default and the naive methods on ETTh1 and M4 Weekly, by three published protocols.

First table, long horizons: ETTh1, first 14,400 rows, 12/4/4 months, channels standardised by the
training part, context 512, ridge fitted to the training part alone; mean squared and absolute error
over all 2880 - H + 1 test windows. (LTSF-Linear, Zeng et al. 2022; tables of other contexts are not
comparable.)

Second table, fev-bench's ETT_1H on ETTh1 alone: horizon 168, 20 windows a week apart, nothing
refitted after the first cutoff. Published figures of this task average ETTh1 and ETTh2 and are not
comparable.

Third table, M4 Weekly: sMAPE, MASE (season 1) and OWA on the test part, which is looked at once. M4
itself published 9.161 and 2.777 for Naive2.

The default (quality "fast") and quality "best" choose on validation windows only.

Run: OMP_NUM_THREADS=1 python benchmarks/forecast_baselines.py [--only long fev m4]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import Result, environment, make_parser, print_report, read_options, write_json

from mealkit import Forecaster, SeriesData, backbones

ETT_ROWS = 14_400
MONTH = 720
QUICK_ROWS = 1_200


def read_ett(options: argparse.Namespace) -> pd.DataFrame:
    """Read ETTh1, or draw a few rows of its form."""
    if not options.quick:
        return pd.read_csv(options.shared / "data" / "ETTh1.csv")
    hours = np.arange(QUICK_ROWS)
    draws = np.random.default_rng(0).normal(size=(QUICK_ROWS, 2))
    values = np.sin(hours * 2 * np.pi / 24)[:, None] + 0.3 * draws
    dates = pd.date_range("2016-07-01", periods=QUICK_ROWS, freq="h")
    return pd.DataFrame(values, columns=["HUFL", "OT"]).assign(date=dates)


def measure_long(
    options: argparse.Namespace,
    horizon: int,
    *,
    backbone: str = "ridge",
    context: int = 512,
    sizes: Mapping[str, object] | None = None,
    fit: Mapping[str, object] | None = None,
) -> Result:
    """Score a backbone on one horizon of the protocol for long horizons.

    Args:
        options: Of the command line.
        horizon: Steps ahead.
        backbone: Its name.
        context: Steps that it sees.
        sizes: Its options, where they are not the defaults.
        fit: Arguments of `finetune`, likewise.
    """
    frame = read_ett(options)[:ETT_ROWS]
    held = 4 * MONTH if not options.quick else len(frame) // 5
    before = time.process_time()
    data = SeriesData.from_data_frame(frame, horizon=horizon, val=held, test=held)
    context = context if not options.quick else 48
    if sizes is None:
        task = Forecaster.from_data(data, backbone=backbone, context=context)
    else:
        torch.manual_seed(0)
        seen = {"context_steps": context}
        net = backbones.create(backbone, data.spec, preprocessing=seen, options=sizes)
        task = Forecaster.from_data(data, backbone=net)
    if task.net.trained and options.quick:
        task.finetune(refit=False, epochs=1)
    else:
        task.finetune(refit=False, **(fit or {}))
    answer = task.evaluate(step=1)
    seconds = time.process_time() - before
    train = frame.drop(columns="date").to_numpy()[: len(frame) - 2 * held]
    spread = dict(zip(frame.columns.drop("date"), train.std(0), strict=True))
    scale = np.array([spread[name] for name in answer.forecasts.series])[:, None]
    errors = (answer.actual - answer.forecasts.mean) / scale
    naive = (answer.actual - answer.forecasts.naive) / scale
    return {
        "mse": float(np.square(errors).mean()),
        "mae": float(np.abs(errors).mean()),
        "naive_mse": float(np.square(naive).mean()),
        "naive_mae": float(np.abs(naive).mean()),
        "num_windows": len(answer.forecasts) // len(spread),
        "coverage_80": answer.metrics["coverage_80"],
        "coverage_95": answer.metrics["coverage_95"],
        "cpu_seconds": seconds,
    }


def measure_fev(options: argparse.Namespace) -> dict[str, Result]:
    """Score ridge, the default and the seasonal naive method on fev-bench's protocol."""
    horizon, windows = (168, 20) if not options.quick else (24, 3)
    answers: dict[str, Result] = {}
    for label, asked in _asked(options, {"ridge": {"backbone": "ridge"}}):
        before, begun = time.process_time(), time.perf_counter()
        task = Forecaster.from_data_frame(read_ett(options), horizon=horizon, **asked)
        answer = task.backtest(windows=windows, step=horizon)
        answers[label] = {
            **answer.metrics,
            "model": answer.model,
            "cpu_seconds": time.process_time() - before,
            "seconds": time.perf_counter() - begun,
        }
        answers["seasonal-naive"] = {
            **answer.naive, "model": "seasonal-naive", "cpu_seconds": 0.0, "seconds": 0.0
        }  # fmt: skip
    return answers


def _asked(
    options: argparse.Namespace, named: dict[str, dict[str, str]]
) -> list[tuple[str, dict[str, str]]]:
    """List what is measured: models by name, and what is chosen at each quality."""
    asked = getattr(options, "qualities", ())  # other benchmarks ask for names alone
    qualities = {f"quality {quality}": {"quality": quality} for quality in asked}
    return list((named | qualities).items())


def measure_m4(
    options: argparse.Namespace, names: Sequence[str] = ("naive2", "theta", "ridge")
) -> dict[str, Result]:
    """Score some methods on M4 Weekly, ``naive2`` first, and what is chosen at each quality."""
    if options.quick:
        rng = np.random.default_rng(0)
        walks = 100 + rng.normal(size=(8, 200)).cumsum(1)
        train = pd.DataFrame(walks).add_prefix("V").assign(id=[f"W{n}" for n in range(8)])
        test = walks[:, -1:] + rng.normal(size=(8, 13)).cumsum(1)
    else:
        train = pd.read_csv(options.shared / "data" / "m4-weekly-train.csv")
        test = pd.read_csv(options.shared / "data" / "m4-weekly-test.csv").iloc[:, 1:].to_numpy()
    data = SeriesData.from_data_frame(train, horizon=13, season=1)
    scale = np.array(
        [np.abs(np.diff(data.table.series(number))).mean() for number in range(len(data.table))]
    )
    answers: dict[str, Result] = {}
    named = {name: {"backbone": name} for name in names}
    for label, asked in _asked(options, named):
        before, begun = time.process_time(), time.perf_counter()
        task = Forecaster.from_data(data, **asked)
        if task.net.trained and options.quick:
            task.finetune(epochs=1)
        else:
            task.finetune()
        mean = task.predict().mean
        spent = {
            "model": task.model,
            "cpu_seconds": time.process_time() - before,
            "seconds": time.perf_counter() - begun,
        }
        smape = float((200 * np.abs(test - mean) / (np.abs(test) + np.abs(mean))).mean())
        mase = float((np.abs(test - mean).mean(1) / scale).mean())
        answers[label] = {"smape": smape, "mase": mase, **spent}
    base = answers["naive2"]
    for values in answers.values():
        values["owa"] = (values["smape"] / base["smape"] + values["mase"] / base["mase"]) / 2
    return answers


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    runs: dict[str, Result] = {}
    for name in options.only:
        runs[name] = REPORTS[name](options, known)
    write_json(options.json, {"environment": known, "runs": runs})


def report_long(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print the table of long horizons."""
    horizons = [24] if options.quick else options.horizons
    long = {str(horizon): measure_long(options, horizon) for horizon in horizons}
    rows = [
        (
            horizon,
            f"{run['mse']:.3f} / {run['mae']:.3f}",
            f"{run['naive_mse']:.3f} / {run['naive_mae']:.3f}",
            f"{100 * run['coverage_80']:.1f} / {100 * run['coverage_95']:.1f}",
            f"{run['cpu_seconds']:.1f}",
        )
        for horizon, run in long.items()
    ]
    columns = ("horizon", "ridge MSE / MAE", "seasonal naive", "in 80 % / 95 % (%)", "CPU s")
    print_report("ETTh1, long horizons, context 512", known, columns, rows)
    return long


def report_fev(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print fev-bench's task."""
    fev = measure_fev(options)
    names = ("mase", "sql", "wql", "coverage_80", "coverage_95")
    rows = [
        (
            label,
            run["model"],
            *(f"{run[name]:.4f}" for name in names),
            f"{run['cpu_seconds']:.0f}",
            f"{run['seconds']:.0f}",
        )
        for label, run in fev.items()
    ]
    columns = ("asked", "model", *names, "CPU s", "seconds")
    print_report("ETTh1, fev-bench's ETT_1H", known, columns, rows)
    return fev


def report_m4(options: argparse.Namespace, known: Result) -> Result:
    """Measure and print M4 Weekly."""
    m4 = measure_m4(options)
    rows = [
        (
            label,
            run["model"],
            *(f"{run[name]:.3f}" for name in ("smape", "mase", "owa")),
            f"{run['cpu_seconds']:.0f}",
            f"{run['seconds']:.0f}",
        )
        for label, run in m4.items()
    ]
    columns = ("asked", "model", "sMAPE", "MASE", "OWA", "CPU s", "seconds")
    print_report("M4 Weekly", known, columns, rows)
    return m4


REPORTS = {"long": report_long, "fev": report_fev, "m4": report_m4}


def check_data(shared: Path) -> None:
    """Stop where the data are absent, and say where they belong."""
    for name in ("ETTh1.csv", "m4-weekly-train.csv", "m4-weekly-test.csv"):
        if not (shared / "data" / name).is_file():
            raise SystemExit(f"{name} is absent: put it into {shared / 'data'}, see its README.")


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--horizons", type=int, nargs="+", default=[96, 192, 336, 720])
    parser.add_argument("--only", nargs="+", choices=list(REPORTS), default=list(REPORTS))
    parser.add_argument(
        "--qualities", nargs="*", choices=["fast", "best"], default=["fast", "best"]
    )
    given = read_options(parser)
    if not given.quick:
        check_data(given.shared)
    main(given)
