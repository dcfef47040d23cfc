"""Forecast a table of dates and numbers, and see whether that beats repeating the last season.

    python recipes/forecasting.py --table sales.csv --horizon 28
    python recipes/forecasting.py --quick

Without a table, two years of days of three shops are drawn.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mealkit import Forecaster


def main(
    *,
    table: Path | None = None,
    horizon: int = 28,
    backbone: str | None = None,
    windows: int = 5,
    save: str = "forecaster",
) -> float:
    """Fit, test on the past, forecast, save; answer with the skill over the seasonal naive method.

    Columns, frequency and season are found; without a backbone, validation windows choose one.
    """
    if table is None:
        days = pd.date_range("2024-01-01", periods=730, freq="D")
        level = 100 + 20 * np.sin(np.arange(730) * 2 * np.pi / 365)
        week = 15 * (days.day_of_week >= 5)
        noise = np.random.default_rng(0).normal(0, 6, (3, 730))
        shops = {name: level + week + noise[n] for n, name in enumerate(("a", "b", "c"))}
        table = Path("drawn_sales.csv")
        pd.DataFrame({"date": days, **shops}).to_csv(table, index=False)
    task = Forecaster.from_csv(table, horizon=horizon, backbone=backbone)
    task.finetune()
    result = task.backtest(windows=windows)
    print(result)
    print(task.predict(level=[80, 95]))
    task.save(save)
    return result.skill["mase"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="CSV file; without it, one is drawn")
    parser.add_argument("--horizon", type=int, default=28)
    parser.add_argument("--backbone", help="without it, validation windows choose")
    parser.add_argument("--quick", action="store_true", help="one window of the past")
    given = vars(parser.parse_args())
    skill = main(windows=1 if given.pop("quick") else 5, **given)
    print(f"MASE is {100 * skill:.0f} % lower than that of the seasonal naive method.")
