"""Rank backbones on your own photos in minutes: each is run once, and only a head is solved.

    python recipes/find_a_backbone.py --train photos/train --val photos/val

Backbones that this ranks high are the ones to fine-tune; where intervals overlap, take the smaller.
The photos that ranked them flatter the first: score your choice on others. With ``--quick`` it
ranks small nets, most of them untrained, on some of scikit-learn's handwritten digits, offline.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mealkit import ImageClassifier, ImageData
from mealkit.backbones import Backbone, create
from mealkit.specs import ImageDataSpec

NAMES = (
    "mobilenetv3_large_100",
    "resnet50",
    "convnext_nano.in12k_ft_in1k",
    "facebook/dinov2-small",
    "openai/clip-vit-base-patch32",
)


def main(
    *, train: str, val: str | None = None, backbones: Sequence[str | Backbone] = NAMES
) -> pd.DataFrame:
    """Score a solved head over each backbone on the validation part, the best first."""
    data = ImageData.from_folders(train, val=val)
    rows = []
    for backbone in backbones:
        started = time.perf_counter()
        task = ImageClassifier(backbone, classes=data.classes)
        task.finetune(data, epochs=1, strategy="freeze")
        evaluation = task.evaluate(data)
        low, high = evaluation.accuracy_interval
        rows.append(
            {
                "backbone": task.backbone.config["name"],
                "trained": task.backbone.pretrained,
                "accuracy": evaluation.metrics["accuracy"],
                "95 %": f"{low:.3f} to {high:.3f}",
                "parameters": sum(weight.numel() for weight in task.backbone.parameters()),
                "seconds": time.perf_counter() - started,
            }
        )
    ranking = pd.DataFrame(rows).sort_values("accuracy", ascending=False, ignore_index=True)
    print(ranking.round({"accuracy": 3, "seconds": 1}).to_string())
    return ranking


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="folder with one subfolder per class")
    parser.add_argument("--val", help="the same for validation; a fifth of train when left out")
    parser.add_argument("--backbones", nargs="+", default=NAMES, help="names, hub ids or folders")
    parser.add_argument("--quick", action="store_true", help="try it on digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        small = ImageDataSpec(size=32)
        untrained = ("mealkit_tiny", "resnet10t", "torchvision/mobilenet_v3_small")
        nets = [create(name, small, pretrained=False) for name in untrained]
        with tempfile.TemporaryDirectory() as folder:
            write_digits(Path(folder), most=300)
            main(train=f"{folder}/train", val=f"{folder}/test", backbones=["mealkit_tiny", *nets])
    elif options["train"] is None:
        parser.error("--train is needed (or --quick)")
    else:
        main(**options)
