"""Masked patches on ETTh1: what a forecaster gains from an encoder that was pretrained.

The protocol for long horizons (`forecast_baselines.py`: ETTh1, first 14,400 rows, 12/4/4 months,
mean squared and absolute error in units of the training part over all 2880 - H + 1 test windows),
context 336, horizon 96. A small PatchTST (patches of 12 steps that do not overlap, as in the
self-supervised part of the paper) is pretrained on the 12 months that train and on nothing else.
Then forecasters learn on the same months, as many steps each, and the best epoch is the one with
the lowest loss on the validation months; test windows choose nothing:

- ``linear, untrained`` and ``linear, pretrained``: a head on a frozen encoder;
- ``scratch``: all of an untrained net of the same make;
- ``finetune``: all of the pretrained one, behind an epoch of the head alone.

With ``--parts "1 month"``, the last month of training is all that a forecaster learns from, while
the encoder was pretrained on the twelve. Seeds decide weights, masks and draws.

Run: OMP_NUM_THREADS=1 python benchmarks/ssl_series.py --seeds 0
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from forecast_baselines import ETT_ROWS, MONTH, read_ett
from measuring import (
    Result,
    environment,
    make_parser,
    mean_of,
    print_report,
    read_options,
    write_json,
)

from mealkit import Forecaster, SeriesData, SSLPretrainer, Training
from mealkit.backbones import Backbone, create
from mealkit.specs import SeriesDataSpec

HORIZON = 96
SIZES = {
    "d_model": 32,
    "num_attention_heads": 4,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "ff_dropout": 0.1,
    "positional_dropout": 0.1,
}
ARMS = {
    "linear, untrained": (False, "freeze"),
    "linear, pretrained": (True, "freeze"),
    "scratch": (False, "full"),
    "finetune": (True, "freeze_unfreeze"),
}
"""Whether the encoder was pretrained, and what trains then."""


def read_parts(options: argparse.Namespace) -> tuple[SeriesData, dict[str, SeriesData]]:
    """Answer with all of the data, and with what forecasters learn from: all of it, or the end."""
    frame, horizon = read_ett(options)[:ETT_ROWS], HORIZON if not options.quick else 12
    held = 4 * MONTH if not options.quick else len(frame) // 5
    few = len(frame) - 2 * held - (MONTH if not options.quick else 200)
    whole, last = (
        SeriesData.from_data_frame(part, horizon=horizon, val=held, test=held)
        for part in (frame, frame[few:])
    )
    return whole, {"12 months": whole, "1 month": last}


def build(options: argparse.Namespace, seed: int) -> Backbone:
    """Build an encoder with random weights."""
    torch.manual_seed(seed)
    steps = {"context_steps": 336 if not options.quick else 48}
    return create("patchtst", SeriesDataSpec(horizon_steps=0), preprocessing=steps, options=SIZES)


def measure(
    data: SeriesData, net: Backbone, strategy: str, seed: int, epochs: int, spread: np.ndarray
) -> Result:
    """Train a forecaster, and score the epoch that validation chose."""
    before = time.process_time()
    task = Forecaster.from_data(data, backbone=net)
    training = Training(weight_decay=0.01, seed=seed)
    task.finetune(epochs=epochs, strategy=strategy, lr=1e-3, training=training, refit=False)
    seconds = time.process_time() - before
    answer = task.evaluate(step=1)
    scale = spread[np.array([data.table.ids.index(name) for name in answer.forecasts.series])]
    errors = (answer.actual - answer.forecasts.mean) / scale[:, None]
    return {
        "mse": float(np.square(errors).mean()),
        "mae": float(np.abs(errors).mean()),
        "cpu_seconds": seconds,
        "best_epoch": task.best_epoch,
        "num_windows": len(errors) // len(data.table),
    }


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    whole, parts = read_parts(options)
    learnt = [whole.table.series(n)[: whole.learnt[n]] for n in range(len(whole.table))]
    spread = np.array([series.std() for series in learnt])
    runs: dict[str, list[Result]] = {"pretraining": []}
    epochs, steps = (options.pretrain_epochs, options.epochs) if not options.quick else (1, 1)
    for seed in options.seeds:
        before = time.process_time()
        pre = SSLPretrainer.from_data(whole, backbone=build(options, seed))
        pre.data.seed = seed
        history = pre.pretrain(epochs=epochs, training=Training(weight_decay=0.01, seed=seed))
        seconds = time.process_time() - before
        losses = [row["train/loss"] for row in history.rows]
        runs["pretraining"].append({"cpu_seconds": seconds, "losses": losses})
        print(f"pretrained, seed {seed}: loss {losses[0]:.3f} to {losses[-1]:.3f}", flush=True)
        for part in options.parts:
            data = parts[part]
            data.seed = seed
            for arm, (is_pretrained, strategy) in ARMS.items():
                net = pre.backbone if is_pretrained else build(options, seed)
                found = measure(data, net, strategy, seed, steps, spread)
                runs.setdefault(f"{part}, {arm}", []).append(found)
                print(f"{part}, {arm}, seed {seed}: {found}", flush=True)
    rows = [
        (
            *name.split(", ", 1),
            f"{mean_of(results, 'mse'):.3f} / {mean_of(results, 'mae'):.3f}",
            f"{mean_of(results, 'cpu_seconds'):.0f}",
        )
        for name, results in runs.items()
        if name != "pretraining"
    ]
    columns = ("learnt from", "forecaster", "MSE / MAE", "CPU s")
    print_report(f"Masked patches on ETTh1, horizon {HORIZON}", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parts = ["12 months", "1 month"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts[:1])
    parser.add_argument("--pretrain-epochs", type=int, default=10, help="of 100 steps")
    parser.add_argument("--epochs", type=int, default=8, help="of 100 steps, of each forecaster")
    main(read_options(parser))
