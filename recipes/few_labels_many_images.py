"""A few labels and many pictures: compare labels alone with what unlabelled pictures add.

    python recipes/few_labels_many_images.py --train labelled/ --unlabelled photos/ --test test/

With ``--quick`` it compares them on scikit-learn's digits, offline.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mealkit import ImageClassifier, ImageData


def main(
    *,
    train: str,
    unlabelled: str,
    test: str,
    backbone: str = "resnet18",
    method: str = "mean_teacher",
    epochs: int = 10,
    augment: str | None = None,
) -> dict[str, float]:
    """Fine-tune without and with the unlabelled pictures, and score both on the test folder."""
    accuracies = {}
    for name in ("labels alone", method):
        # All labels are trained on: a validation part of so few would decide by chance.
        data = ImageData.from_folders(train, test=test, split=0)
        data.augment = augment
        task = ImageClassifier(backbone, classes=data.classes)
        if name == method:
            history = task.finetune(
                data, unlabelled=unlabelled, method=method, epochs=epochs, strategy="full"
            )
            print(history)
        else:
            task.finetune(data, epochs=epochs)
        accuracies[name] = task.evaluate(data).metrics["accuracy"]
        print(f"{name}: accuracy {accuracies[name]:.3f}")
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="folder with one subfolder of labelled pictures per class")
    parser.add_argument("--unlabelled", help="folder of pictures, to any depth")
    parser.add_argument("--test", help="folder like --train, to score")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument(
        "--method", default="mean_teacher", help="fixmatch, freematch or mean_teacher"
    )
    parser.add_argument("--epochs", type=int, default=10, help="passes over the unlabelled part")
    parser.add_argument("--quick", action="store_true", help="try it on digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        folder = Path("few-labels")
        write_digits(folder, most=300)
        for digit in range(10):  # all but four of each class lose their label
            (folder / "unlabelled").mkdir(exist_ok=True)
            for path in sorted((folder / f"train/{digit}").iterdir())[4:]:
                path.rename(folder / "unlabelled" / path.name)
        parts = {name: str(folder / name) for name in ("train", "unlabelled", "test")}
        main(**parts, backbone="mealkit_tiny", epochs=2, augment="none")
    elif None in (options["train"], options["unlabelled"], options["test"]):
        parser.error("--train, --unlabelled and --test are needed (or --quick)")
    else:
        main(**options)
