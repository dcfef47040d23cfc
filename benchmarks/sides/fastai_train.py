"""fastai's side of the training benchmarks: the same timm net and weights in a vision_learner.

Everything that is not said here is fastai's default: concat pooling and its two-layer head, batch
64, its optimiser, one-cycle, moving batch-norm statistics. Runs in an interpreter that has fastai
and does not need mealkit.

Settings: photos (folder with train/ and test/), weights (timm folder, or None for random ones),
size, seed, epochs, method ("freeze" or "fine_tune"), augment ("none" or "docs", which is
aug_transforms()), num_workers.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

from fastai.vision.all import (
    ImageDataLoaders,
    Resize,
    accuracy,
    aug_transforms,
    get_image_files,
    set_seed,
    vision_learner,
)


def net_options(weights: str | None) -> dict[str, Any]:  # Any: what timm.create_model takes
    """Answer with what makes timm build mobilenetv1_100 with the folder's weights."""
    if weights is None:
        return {"pretrained": False}
    config = json.loads((Path(weights) / "config.json").read_text())
    overlay = {**config["pretrained_cfg"], "file": str(Path(weights) / "model.safetensors")}
    return {"pretrained": True, "pretrained_cfg_overlay": overlay, **config["model_args"]}


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with accuracy on test and seconds of training."""
    photos, seed = Path(settings["photos"]), settings["seed"]
    set_seed(seed)
    started = time.perf_counter()
    loaders = ImageDataLoaders.from_folder(
        photos / "train",
        valid_pct=0.2,
        seed=seed,
        item_tfms=Resize(settings["size"]),
        batch_tfms=aug_transforms() if settings["augment"] == "docs" else None,
        bs=min(64, len(get_image_files(photos / "train")) // 4),
        num_workers=settings["num_workers"],
    )
    net = net_options(settings["weights"])
    learner = vision_learner(loaders, "mobilenetv1_100", metrics=accuracy, **net)
    seconds_build = time.perf_counter() - started
    with learner.no_bar(), learner.no_logging():
        started = time.perf_counter()
        if settings["method"] == "fine_tune":
            learner.fine_tune(settings["epochs"])
        else:
            learner.freeze()
            learner.fit_one_cycle(settings["epochs"])
        seconds = time.perf_counter() - started
        peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        test = loaders.test_dl(get_image_files(photos / "test"), with_labels=True)
        _, score = learner.validate(dl=test)
    return {
        "seconds": seconds,
        "seconds_build": seconds_build,
        "accuracy": float(score),
        "peak_mib": peak_mib,
        "num_train": len(loaders.train_ds),
    }


if __name__ == "__main__":
    print("\n" + json.dumps(measure(json.loads(sys.argv[1]))))
