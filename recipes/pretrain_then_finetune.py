"""Four lines: learn from many pictures without labels, then fine-tune on a few that have them.

    python recipes/pretrain_then_finetune.py --unlabelled photos/all --labelled photos/some

The same net learns from the few labels alone for comparison. With ``--quick`` it does so on
scikit-learn's digits, offline.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mealkit import ImageClassifier, ImageData, SSLPretrainer


def main(
    *,
    unlabelled: str | Path,
    labelled: str | Path,
    test: str | Path | None = None,
    backbone: str = "resnet18",
    method: str = "simclr",
    pretrain_epochs: int = 100,
    epochs: int = 20,
    batch_size: int = 256,
) -> dict[str, float]:
    """Fine-tune what was pretrained, and the same net from random weights, and score both."""
    pre = SSLPretrainer.from_folder(unlabelled, backbone=backbone, method=method)
    untrained = pre.save("untrained")
    pre.pretrain(epochs=pretrain_epochs, batch_size=batch_size)
    data = ImageData.from_folders(labelled, test=test)
    accuracies = {}
    nets: dict[str, Path | SSLPretrainer] = {"from scratch": untrained, "pretrained": pre}
    for name, net in nets.items():
        task = ImageClassifier(net, classes=data.classes)
        task.finetune(data, epochs=epochs)
        evaluation = task.evaluate(data)
        accuracies[name] = evaluation.metrics["accuracy"]
        low, high = evaluation.accuracy_interval
        print(f"{name}: accuracy {accuracies[name]:.3f}, at 95 % from {low:.3f} to {high:.3f}")
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--unlabelled", help="folder with pictures, to any depth")
    parser.add_argument("--labelled", help="folder with one subfolder per class")
    parser.add_argument("--test", help="folder with the same classes; else a fifth is held out")
    parser.add_argument("--backbone", default="resnet18", help="a name of mealkit.backbones.find()")
    parser.add_argument("--method", default="simclr", choices=SSLPretrainer.methods())
    parser.add_argument("--pretrain-epochs", type=int, default=100)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--quick", action="store_true", help="a few digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        write_digits(Path("digits"), most=300)
        digits = {"unlabelled": "digits/train", "labelled": "digits/test", "test": None}
        small = {"backbone": "mealkit_resnet8", "pretrain_epochs": 2, "epochs": 2}
        main(**{**options, **digits, **small, "batch_size": 64})
    elif options["unlabelled"] is None or options["labelled"] is None:
        parser.error("--unlabelled and --labelled are needed (or --quick)")
    else:
        main(**options)
