"""The offline demo: a pretrained net learns real handwritten digits, in a minute on two cores.

    python recipes/digits_demo.py

The digits are scikit-learn's (1,797 scans of 8x8 pixels, UCI Optical Recognition of Handwritten
Digits), written out as image files; the net is `mealkit_tiny`, whose weights come with mealkit.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

import mealkit
from mealkit import ImageClassifier, ImageData


def write_digits(folder: Path, *, most: int | None = None) -> None:
    """Write the digits as ``<part>/<digit>/*.png``; every fifth belongs to the part test."""
    digits = load_digits()
    for number, (pixels, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        if number == most:
            break
        part = folder / ("test" if number % 5 == 0 else "train") / str(digit)
        part.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray((pixels * (255 / 16)).astype(np.uint8))
        image.resize((32, 32), Image.Resampling.BICUBIC).save(part / f"{number:04d}.png")


def main(*, output: str = "demo-output", epochs: int = 5, most: int | None = None) -> float:
    """Fine-tune on the training digits, score the test digits once, and draw what happened."""
    folder = Path(output)
    write_digits(folder / "digits", most=most)
    data = ImageData.from_folders(folder / "digits/train", test=folder / "digits/test")
    data.augment = "none"  # a mirrored digit is another digit, or none
    task = ImageClassifier("mealkit_tiny", classes=data.classes)
    history = task.finetune(data, epochs=epochs)
    evaluation = task.evaluate(data)
    print(evaluation)
    task.save(folder / "task")
    some = sorted((folder / "digits/test").glob("*/*.png"))[::37]
    predictions = mealkit.load(folder / "task").predict(some)
    print(predictions)
    evaluation.plot().savefig(folder / "confusion.png")
    history.plot().savefig(folder / "curves.png")
    print(f"Saved task and pictures: {folder / 'task'}, {folder / 'confusion.png'}")
    return evaluation.metrics["accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="demo-output", help="folder for everything it writes")
    parser.add_argument("--quick", action="store_true", help="fewer digits, two epochs")
    given = parser.parse_args()
    accuracy = main(
        output=given.output, epochs=2 if given.quick else 5, most=400 if given.quick else None
    )
    print(f"Accuracy on digits it has never seen: {accuracy:.3f}")
