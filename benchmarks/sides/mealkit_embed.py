"""mealkit's side of the encoding benchmark: `embed` of a list of texts.

Settings: texts, warm_up (other texts), model (folder), precision.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mealkit import TextClassifier


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds, and write the embeddings where the settings say."""
    task = TextClassifier(settings["model"], classes=["one", "other"])
    task.precision = settings["precision"]
    task.embed(settings["warm_up"])
    started = time.perf_counter()
    embeddings = task.embed(settings["texts"])
    seconds = time.perf_counter() - started
    np.save(settings["out"], embeddings.values)
    return {"seconds": seconds}


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    print(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
