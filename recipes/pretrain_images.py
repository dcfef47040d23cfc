"""Learn a backbone from pictures without labels, and watch its features on a few that have them.

    python recipes/pretrain_images.py --unlabelled photos/all --labelled photos/some --output pre

With ``--quick`` it does so on scikit-learn's digits, offline.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mealkit import SSLPretrainer


def main(
    *,
    unlabelled: str | Path,
    labelled: str | Path | None = None,
    backbone: str = "resnet18",
    method: str = "simclr",
    epochs: int = 100,
    batch_size: int = 256,
    output: str | Path = "pretrained",
) -> SSLPretrainer:
    """Pretrain with probes, save, and write the weights alone for other programs."""
    pre = SSLPretrainer.from_folder(unlabelled, backbone=backbone, method=method)
    history = pre.pretrain(
        epochs=epochs, batch_size=batch_size, probe=labelled, run=Path(output) / "run", resume=True
    )
    print(history)
    if labelled is not None:
        print(pre.evaluate(labelled, protocol=["knn", "linear"]))
    print(f"Saved: {pre.save(Path(output) / 'pretrainer')}")
    print(f"Weights alone: {pre.export(Path(output) / 'backbone.safetensors')}")
    return pre


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unlabelled", help="folder with pictures, to any depth")
    parser.add_argument("--labelled", help="folder with one subfolder per class, to probe on")
    parser.add_argument("--backbone", default="resnet18", help="a name of mealkit.backbones.find()")
    parser.add_argument("--method", default="simclr", choices=SSLPretrainer.methods())
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--output", default="pretrained", help="folder for everything it writes")
    parser.add_argument("--quick", action="store_true", help="a few digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        folder = Path(options["output"])
        write_digits(folder / "digits", most=200)
        digits = {"unlabelled": folder / "digits/train", "labelled": folder / "digits/test"}
        small = {"backbone": "mealkit_resnet8", "epochs": 2, "batch_size": 64}
        main(**{**options, **digits, **small})
    elif options["unlabelled"] is None:
        parser.error("--unlabelled is needed (or --quick)")
    else:
        main(**options)
