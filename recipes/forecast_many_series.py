"""Forecast many series with one model, score it on values that were held back, and keep it fresh.

    python recipes/forecast_many_series.py --train m4-weekly-train.csv --test m4-weekly-test.csv
    python recipes/forecast_many_series.py --quick

The files are those of the M4 competition (https://github.com/Mcompetitions/M4-methods), weekly or
any other frequency: a series per row. With --quick, two real series that statsmodels brings are cut
into decades (pip install 'mealkit[demo]').
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from mealkit import Forecaster


def cut_real_series(steps: int = 120) -> dict[str, np.ndarray]:
    """Cut the monthly CO2 of Mauna Loa and the yearly sunspots into pieces of some steps."""
    from statsmodels.datasets import co2, sunspots

    months = co2.load_pandas().data["co2"].resample("MS").mean().to_numpy()
    wholes = {"co2": months, "sunspots": sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()}
    return {
        f"{name} from {start}": whole[start : start + steps]
        for name, whole in wholes.items()
        for start in range(0, len(whole) - steps + 1, steps // 2)
    }


def main(
    *,
    train: Path | None = None,
    test: Path | None = None,
    horizon: int = 13,
    season: int = 1,
    quality: Literal["fast", "best"] = "fast",
    backbone: str | None = None,
) -> float:
    """Fit one model to all series, forecast, compare; answer with the skill over the naive one."""
    truth: Any = None  # (N, horizon), what happened
    if train is None:
        whole = cut_real_series()
        known = {name: values[:-horizon] for name, values in whole.items()}
        truth = np.stack([values[-horizon:] for values in whole.values()])
        task = Forecaster.from_arrays(known, horizon=horizon, season=season, backbone=backbone)
    else:
        truth = pd.read_csv(test).iloc[:, 1:].to_numpy() if test else None
        task = Forecaster.from_csv(
            train, horizon=horizon, season=season, quality=quality, backbone=backbone
        )
    task.finetune()
    forecasts = task.predict()
    print(forecasts)
    task.save("many_series")
    if truth is None:
        return task.backtest(windows=1).skill["mase"]
    errors = np.nansum(np.abs(truth - forecasts.mean), axis=1)
    naive = np.nansum(np.abs(truth - forecasts.naive), axis=1)
    task.update(dict(zip(forecasts.series, truth, strict=True)))  # the next forecasts start here
    print(task.predict())
    return float(1 - np.mean(errors / np.maximum(naive, 1e-9)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, help="CSV file with a series per row")
    parser.add_argument("--test", type=Path, help="CSV file with what follows them")
    parser.add_argument("--horizon", type=int, default=13, help="steps")
    parser.add_argument("--season", type=int, default=1)
    parser.add_argument("--quality", default="fast", choices=["fast", "best"])
    parser.add_argument("--quick", action="store_true", help="ridge on pieces of real series")
    given = vars(parser.parse_args())
    skill = main(backbone="ridge" if given.pop("quick") else None, **given)
    print(f"Errors are {100 * skill:.0f} % below the naive ones.")
