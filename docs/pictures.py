"""The pictures of the documentation, made by the library when the documentation is built.

Everything in them is real: photos and handwritten digits that scikit-learn and matplotlib bring.

Run: python docs/pictures.py FOLDER
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import matplotlib.cbook
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images

from mealkit import ImageClassifier
from mealkit.tasks import Training

NUM_DIGITS = 900
"""To train on; the others are scored."""


def photos() -> ImageClassifier:
    """Make a task of squares out of three photos."""
    hopper = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    china, flower = load_sample_images().images
    known = {"temple": china, "flower": flower, "admiral": np.asarray(Image.open(hopper))}
    rng = np.random.default_rng(0)
    images, names = [], []
    for name in [*known] * 20:
        pixels = known[name][..., :3]
        top, left = (int(rng.integers(side - 300)) for side in pixels.shape[:2])
        square = Image.fromarray(pixels[top : top + 300, left : left + 300])
        images.append(square.resize((128, 128), Image.Resampling.BICUBIC))
        names.append(name)
    return ImageClassifier.from_arrays(images, names, backbone="mealkit_tiny", size=128)


def digits() -> tuple[list[Image.Image], ImageClassifier]:
    """Answer with digits, and with a task that has learnt from the first of them.

    For one epoch, so that some of the others are taken for something else.
    """
    known = load_digits()
    images = [Image.fromarray((one * (255 / 16)).astype(np.uint8)) for one in known.images]
    names = [str(target) for target in known.target]
    task = ImageClassifier.from_arrays(
        images[:NUM_DIGITS],
        names[:NUM_DIGITS],
        test=(images[NUM_DIGITS:], names[NUM_DIGITS:]),
        backbone="mealkit_tiny",
    )
    task.finetune(epochs=1, strategy="freeze", precision="32-true", training=Training(seed=0))
    return images, task


def main(folder: Path) -> None:
    """Write every picture into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    task = photos()
    task.data.augment = "heavy"
    task.show_batch(9).savefig(folder / "show_batch.png", dpi=80)

    images, task = digits()
    evaluation = task.evaluate()
    evaluation.plot().savefig(folder / "confusion.png", dpi=80)
    evaluation.plot_reliability().savefig(folder / "reliability.png", dpi=80)
    worst = evaluation.top_losses(9)["input"]  # ids, which are positions in the test part
    figure = task.show_predictions([images[NUM_DIGITS + int(row)] for row in worst])
    figure.savefig(folder / "top_losses.png", dpi=80)


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    main(Path(sys.argv[1]))
