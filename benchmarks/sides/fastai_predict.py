"""fastai's side of the predict benchmark: `test_dl` and `get_preds` on the same net.

Settings: net (folder with timm/), photos (flat folder), warm_up (another one), num_workers,
batch_size (None for fastai's own, 64).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import timm
from fastai.vision.all import (
    CrossEntropyLossFlat,
    ImageDataLoaders,
    Learner,
    Normalize,
    Resize,
    get_image_files,
)


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds and probabilities by file name."""
    folder = Path(settings["net"]) / "timm"
    config = json.loads((folder / "config.json").read_text())
    known = config["pretrained_cfg"]
    files = sorted(get_image_files(settings["photos"]))
    warm_up = sorted(get_image_files(settings["warm_up"]))
    loaders = ImageDataLoaders.from_lists(
        Path(settings["photos"]),
        warm_up,
        [config["label_names"][n % len(config["label_names"])] for n in range(len(warm_up))],
        item_tfms=Resize(tuple(known["input_size"][1:])),
        batch_tfms=Normalize.from_stats(known["mean"], known["std"]),
        bs=settings["batch_size"] or 64,
        num_workers=settings["num_workers"],
    )
    net = timm.create_model(f"local-dir:{folder}", pretrained=True)
    learner = Learner(loaders, net, loss_func=CrossEntropyLossFlat())
    with learner.no_bar(), learner.no_logging():
        learner.get_preds(dl=loaders.test_dl(warm_up))
        started = time.perf_counter()
        probabilities, _ = learner.get_preds(dl=loaders.test_dl(files))
        seconds = time.perf_counter() - started
    names = [file.name for file in files]
    return {
        "seconds": seconds,
        "probabilities": dict(zip(names, probabilities.tolist(), strict=True)),
    }


if __name__ == "__main__":
    print("\n" + json.dumps(measure(json.loads(sys.argv[1]))))
