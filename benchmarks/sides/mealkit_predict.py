"""mealkit's side of the predict benchmark: `predict` of a folder.

Settings: net (folder with task/), photos (flat folder), warm_up (another one), precision.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import mealkit


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds and probabilities by file name."""
    task = mealkit.load(Path(settings["net"]) / "task")
    task.precision = settings["precision"]
    task.predict(settings["warm_up"])
    started = time.perf_counter()
    predictions = task.predict(settings["photos"])
    seconds = time.perf_counter() - started
    names = [Path(name).name for name in predictions.inputs]
    return {
        "seconds": seconds,
        "probabilities": dict(zip(names, predictions.probabilities.tolist(), strict=True)),
    }


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    print(json.dumps(measure(json.loads(sys.argv[1]))))
