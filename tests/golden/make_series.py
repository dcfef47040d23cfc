"""Make a golden saved forecaster: what this version saves must load and forecast the same for ever.

Run once for each saved format, from the repository's root, and never again for the same name:

    python tests/golden/make_series.py tests/golden/series-format-1
"""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from mealkit import Forecaster


def draw(seed: int) -> pd.DataFrame:
    """Draw 120 days of two shops whose weeks are alike; one has a hole of five days."""
    rng = np.random.default_rng(seed)
    parts = []
    for level, shop in ((80, "north"), (50, "south")):
        days = pd.date_range("2024-01-01", periods=120, freq="D")
        values = level + 2 * days.day_of_week**2 + rng.normal(0, 3, 120)
        parts.append(pd.DataFrame({"day": days, "shop": shop, "sales": np.round(values, 2)}))
    return pd.concat(parts, ignore_index=True).drop(index=range(40, 45))


def main(folder: Path) -> None:
    """Solve ridge on drawn sales, and save it with what it forecasts."""
    folder.mkdir(parents=True)
    task = Forecaster.from_data_frame(draw(0), horizon=7, backbone="ridge", context=14)
    task.finetune()
    task.save(folder / "task")
    newer = folder / "newer.csv"
    draw(1).to_csv(newer, index=False)
    expected = {
        "kept": task.predict(horizon=10).quantiles.tolist(),
        "newer": task.predict(newer).quantiles.tolist(),
    }
    (folder / "expected.json").write_text(json.dumps(expected) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
