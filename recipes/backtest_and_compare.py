"""Compare models on the past of a series before one of them is trusted with its future.

    python recipes/backtest_and_compare.py --table sales.csv --horizon 28
    python recipes/backtest_and_compare.py --quick

Without a table it takes real ones that statsmodels brings (pip install 'mealkit[demo]'): the weekly
CO2 of Mauna Loa (1958 to 2001, some weeks missing), or with --quick the yearly number of sunspots.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from mealkit import Forecaster, SeriesData


def read_real(name: str) -> pd.DataFrame:
    """Read a series that comes with statsmodels: ``co2`` or ``sunspots``."""
    from statsmodels.datasets import co2, sunspots

    if name == "co2":
        return pd.DataFrame(co2.load_pandas().data).rename_axis("week").reset_index()
    return pd.DataFrame(sunspots.load_pandas().data).rename(columns=str.lower).astype({"year": int})


def main(
    *,
    table: Path | None = None,
    horizon: int | None = None,
    models: tuple[str, ...] = ("naive", "drift", "theta", "ridge"),
    windows: int = 8,
    real: str = "co2",
) -> float:
    """Test on the past, fit the best, look for anomalies; answer with the skill of the best."""
    frame = pd.read_csv(table) if table is not None else read_real(real)
    steps = horizon or {"co2": 52, "sunspots": 11}.get(real, 28)
    data = SeriesData.from_data_frame(frame, horizon=steps)
    task = Forecaster.from_data(data, backbone=models[-1])
    board = task.leaderboard(models, windows=windows)
    print(board)
    best = Forecaster.from_data(data, backbone=board.best)
    best.finetune()
    print(best.predict(level=[80, 95]))
    print(best.anomalies(level=99, last=10 * steps))
    best.save("best_forecaster")
    return board.evaluations[board.best].skill["mase"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, help="CSV file; without it, real series")
    parser.add_argument("--horizon", type=int, help="steps; a year of weeks, 11 years")
    parser.add_argument("--models", nargs="+", default=["naive", "drift", "theta", "ridge"])
    parser.add_argument("--quick", action="store_true", help="sunspots, without theta, two windows")
    given = vars(parser.parse_args())
    given["models"] = tuple(given["models"])
    if given.pop("quick"):
        given |= {"real": "sunspots", "models": ("naive", "ridge"), "windows": 2}
    skill = main(**given)
    print(f"The best has a MASE {100 * skill:.0f} % lower than the seasonal naive method.")
