"""Prepare the predict benchmark: train one resnet18, and write it in the form of each library.

The net is trained from random weights for a few steps on the given pictures, then its head is
solved by the frozen strategy, so that its answers are spread over the classes.

Settings: photos (folder of class folders), out (folder to write), size, epochs.
Writes out/task (mealkit's form) and out/timm (timm's form, which transformers reads, too).
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

import mealkit
from mealkit import ImageClassifier
from mealkit.specs import ImageDataSpec, ImageSpec

NET = "resnet18"
PREPROCESSING = {"crop_pct": 1.0, "interpolation": "bilinear"}


def timm_config(spec: ImageSpec, classes: tuple[str, ...]) -> dict[str, Any]:  # Any: JSON values
    """Answer with what a timm folder says about the net."""
    return {
        "architecture": NET,
        "num_classes": len(classes),
        "label_names": list(classes),
        "pretrained_cfg": {
            "input_size": [3, *spec.size],
            "interpolation": spec.interpolation,
            "crop_pct": spec.crop_pct,
            "crop_mode": spec.crop_mode,
            "mean": spec.mean,
            "std": spec.std,
            "num_classes": len(classes),
            "first_conv": "conv1",
            "classifier": "fc",
        },
    }


def prepare(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Train, write, and answer with the accuracy on the training pictures."""
    torch.manual_seed(0)  # the random weights are the same in every run of the benchmark
    backbone = mealkit.backbones.create(
        NET,
        ImageDataSpec(size=settings["size"]),
        pretrained=False,
        preprocessing=PREPROCESSING,
    )
    trained = ImageClassifier.from_folders(settings["photos"], split=0, backbone=backbone)
    trained.finetune(epochs=settings["epochs"], strategy="full", precision="32-true")
    task = ImageClassifier(trained, classes=trained.classes)  # the same body under a fresh head
    task.finetune(trained.data, epochs=1, strategy="freeze", precision="32-true")
    task.precision = "auto"
    out = Path(settings["out"])
    task.save(out / "task")
    spec = backbone.input_spec
    assert isinstance(spec, ImageSpec)  # noqa: S101  # for mypy
    (out / "timm").mkdir()
    config = timm_config(spec, task.classes)
    (out / "timm" / "config.json").write_text(json.dumps(config, indent=1))
    head = task.head[-1].state_dict()  # type: ignore[index]  # a Sequential that ends in a Linear
    state = {
        **{name.removeprefix("net."): value for name, value in backbone.state_dict().items()},
        **{f"fc.{name}": value for name, value in head.items()},
    }
    plain = {name: value.contiguous().clone() for name, value in state.items()}
    save_file(plain, out / "timm" / "model.safetensors", metadata={"format": "pt"})
    return {"accuracy": task.evaluate(settings["photos"]).metrics["accuracy"]}


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    print(json.dumps(prepare(json.loads(sys.argv[1]))))
