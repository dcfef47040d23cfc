"""Give pictures any number of labels: train on a table, tune thresholds, score and label new ones.

    python recipes/image_multilabel.py --train photos.csv --image file --label tags --delimiter "|"

Without ``--train`` it makes its own table, offline: pictures of up to four of scikit-learn's
handwritten digits, whose labels are the digits in them ("3|7", or nothing). ``--quick`` makes few.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

import mealkit
from mealkit import ImageClassifier, ImageData


def write_tiles(folder: Path, *, part: str, count: int) -> Path:
    """Write pictures of two by two cells, each with a digit or empty, and their table."""
    digits, rng = load_digits(), np.random.default_rng([count, part == "test"])
    own = np.flatnonzero((np.arange(len(digits.target)) % 5 == 0) == (part == "test"))
    rows = []
    for number in range(count):
        places, filled = rng.choice(own, size=4), rng.random(4) < 0.6
        cells = digits.images[places] * filled[:, None, None]
        pixels = 13 * np.block([[cells[0], cells[1]], [cells[2], cells[3]]])
        pixels += rng.integers(40, size=pixels.shape)  # grain: else empty ones are copies
        picture = Image.fromarray(pixels.astype(np.uint8))
        picture.resize((32, 32), Image.Resampling.BICUBIC).save(folder / f"{part}{number:04d}.png")
        shown = "|".join(sorted(set(digits.target[places[filled]].astype(str))))
        rows.append({"file": f"{part}{number:04d}.png", "digits": shown})
    pd.DataFrame(rows).to_csv(folder / f"{part}.csv", index=False)
    return folder / f"{part}.csv"


def main(
    *, train: str | Path, test: str | Path | None = None, image: str = "file",
    label: str = "digits", delimiter: str = "|", augment: str | None = None,
    backbone: str = "mealkit_tiny", epochs: int = 15, save: str = "tagger",
) -> mealkit.Evaluation:  # fmt: skip
    """Train, score on the test part (else on the validation part), save, and label pictures."""
    data = ImageData.from_csv(train, image=image, label=label, label_delimiter=delimiter, test=test)
    data.augment = augment
    task = ImageClassifier(backbone, classes=data.classes, multi_label=True)
    task.finetune(data, epochs=epochs)
    evaluation = task.evaluate(data)
    print(evaluation)
    print(evaluation.most_confused(3))
    print(f"saved in {task.save(save)}")
    print(mealkit.load(save).predict(sorted(Path(train).parent.glob("*.png"))[:5]))
    return evaluation


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="CSV table with a row per picture; digits when left out")
    parser.add_argument("--test", help="the same for the final score")
    parser.add_argument("--image", default="file", help="its column of paths")
    parser.add_argument("--label", default="digits", help="its column of labels")
    parser.add_argument("--delimiter", default="|", help="what stands between two labels")
    parser.add_argument("--backbone", default="mealkit_tiny")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--save", default="tagger")
    parser.add_argument("--quick", action="store_true", help="few digits, two epochs, offline")
    options = vars(parser.parse_args())
    quick = options.pop("quick")
    with tempfile.TemporaryDirectory() as temporary:
        if options["train"] is None:  # a mirrored digit is another digit, or none
            num = 200 if quick else 2000
            for part in ("train", "test"):
                options[part] = write_tiles(Path(temporary), part=part, count=num)
            options |= {"augment": "none", "save": f"{temporary}/saved"}
        main(**{**options, "epochs": 2} if quick else options)
