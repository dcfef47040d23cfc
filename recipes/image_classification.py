"""Fine-tune a pretrained net on a folder of photos, score it, save it, and label new ones.

    python recipes/image_classification.py --train photos/train --val photos/val --save ants

With ``--quick`` it trains on some of scikit-learn's handwritten digits, offline.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import mealkit
from mealkit import ImageClassifier


def main(
    *,
    train: str,
    val: str | None = None,
    test: str | None = None,
    backbone: str = "convnext_nano.in12k_ft_in1k",
    strategy: str | None = None,
    epochs: int = 5,
    save: str = "classifier",
) -> mealkit.Evaluation:
    """Train, score on the test part (else on the validation part), and save."""
    task = ImageClassifier.from_folders(train, val=val, test=test, backbone=backbone)
    task.finetune(epochs=epochs, strategy=strategy)
    evaluation = task.evaluate()
    print(evaluation)
    print(f"saved in {task.save(save)}")
    return evaluation


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="folder with one subfolder per class")
    parser.add_argument("--val", help="the same for validation; a fifth of train when left out")
    parser.add_argument("--test", help="the same for the final score")
    parser.add_argument("--backbone", default="convnext_nano.in12k_ft_in1k")
    parser.add_argument("--strategy", help="full, freeze, freeze_unfreeze, gradual, layer_decay")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--save", default="classifier")
    parser.add_argument("--quick", action="store_true", help="try it on digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        with tempfile.TemporaryDirectory() as folder:
            write_digits(Path(folder) / "digits", most=300)
            options |= {"train": f"{folder}/digits/train", "test": f"{folder}/digits/test"}
            options |= {"backbone": "mealkit_tiny", "epochs": 2, "save": f"{folder}/saved"}
            main(**options)
    elif options["train"] is None:
        parser.error("--train is needed (or --quick)")
    else:
        main(**options)
