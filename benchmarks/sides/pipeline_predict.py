"""transformers' side of the predict benchmark: its image-classification pipeline on the same net.

Settings: net (folder with timm/, which TimmWrapperForImageClassification reads), photos (flat
folder), warm_up (another one), batch_size.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from transformers import (
    AutoImageProcessor,
    AutoModelForImageClassification,
    pipeline,
)


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds and probabilities by file name."""
    folder = Path(settings["net"]) / "timm"
    names = json.loads((folder / "config.json").read_text())["label_names"]
    classify = pipeline(
        "image-classification",
        model=AutoModelForImageClassification.from_pretrained(folder),
        image_processor=AutoImageProcessor.from_pretrained(folder),
        batch_size=settings["batch_size"],
    )
    classify([str(path) for path in sorted(Path(settings["warm_up"]).iterdir())])
    files = sorted(Path(settings["photos"]).iterdir())
    started = time.perf_counter()
    answers = classify([str(file) for file in files], top_k=len(names))
    seconds = time.perf_counter() - started
    probabilities = {}
    for file, answer in zip(files, answers, strict=True):
        scores = {row["label"]: row["score"] for row in answer}
        probabilities[file.name] = [scores[name] for name in names]
    return {"seconds": seconds, "probabilities": probabilities}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
