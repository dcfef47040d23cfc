"""Which augmentation fine-tunes best: the default, none, light, medium or heavy, on three kinds.

The default, None, is light in epochs that train the backbone and none in the frozen one, whose head
it leaves to be solved; one that is named holds for every epoch.

Digits of scikit-learn at 32 px, CIFAR-10 at 32 px, and crops at 64 px of photos that installed
libraries bring (which photo is it: trained on its left half, scored on its right half). Few
training pictures each, five epochs by the default strategy, rate and precision; the score is the
accuracy on pictures that were not trained on. No test picture is looked at, so that defaults can be
chosen by this.

Run: python benchmarks/image_augment.py
"""

from __future__ import annotations

import argparse
import logging
import random
import statistics
from pathlib import Path

import numpy as np
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import unpacked
from PIL import Image

import mealkit
from mealkit import ImageClassifier, ImageData
from mealkit.specs import ImageDataSpec
from mealkit.tasks import Training

PRESETS = (None, "none", "light", "medium", "heavy")


def digits(seed: int, num_train: int, num_scored: int) -> ImageData:
    """Draw digits; all are of 8x8 pixels, made larger here."""
    from sklearn.datasets import load_digits

    known = load_digits()
    order = np.random.default_rng(seed).permutation(len(known.images))[: num_train + num_scored]
    pixels = (known.images[order] * (255 / 16)).astype(np.uint8)
    images = [
        np.asarray(Image.fromarray(one).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
        for one in pixels
    ]
    names = [str(target) for target in known.target[order]]
    return split(images, names, num_train)


def cifar(folder: Path, seed: int, num_train: int, num_scored: int) -> ImageData:
    """Draw training pictures of the CIFAR-10 subset, as many of each class."""
    chosen: list[tuple[np.ndarray, str]] = []
    rest: list[tuple[np.ndarray, str]] = []
    classes = sorted(path for path in (folder / "train").iterdir())
    for path in classes:
        every = sorted(path.iterdir())
        count = min(num_train // len(classes), len(every) // 2)
        more = num_scored // len(classes)
        drawn = random.Random(seed).sample(every, min(len(every), count + more))
        read = [(np.asarray(Image.open(one).convert("RGB")), path.name) for one in drawn]
        chosen += read[:count]
        rest += read[count:]
    images, names = zip(*chosen, *rest, strict=True)
    return split(list(images), list(names), len(chosen))


def crops(seed: int, num_train: int, num_scored: int) -> ImageData:
    """Cut squares out of photos: to train on from the left half, to score from the right half."""
    import matplotlib.cbook
    from sklearn.datasets import load_sample_images

    hopper = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    photos = [*load_sample_images().images, np.asarray(Image.open(hopper).convert("RGB"))]
    rng = np.random.default_rng(seed)
    images, names = [], []
    for number in range(num_train + num_scored):
        place = number % len(photos)
        photo = photos[place]
        half = photo.shape[1] // 2
        left = 0 if number < num_train else half
        side = int(rng.integers(48, min(160, half)))
        top = int(rng.integers(0, photo.shape[0] - side))
        start = left + int(rng.integers(0, half - side))
        square = Image.fromarray(photo[top : top + side, start : start + side])
        images.append(np.asarray(square.resize((64, 64), Image.Resampling.BILINEAR)))
        names.append(f"photo {place}")
    return split(images, names, num_train)


def split(images: list[np.ndarray], names: list[str], num_train: int) -> ImageData:
    """Make data of pictures, of which the first are trained on."""
    return ImageData.from_arrays(
        images[:num_train],
        names[:num_train],
        test=(images[num_train:], names[num_train:]),
        split=0,
    )


def measure(
    data: ImageData, options: argparse.Namespace, *, large: bool, preset: str | None, seed: int
) -> float:
    """Fine-tune once, and answer with the accuracy on the other pictures."""
    weights = options.shared / "models" / "mobilenetv1_100"
    backbone = mealkit.backbones.create(
        weights if large and not options.quick else "mealkit_tiny",
        ImageDataSpec(size=64 if large else 32),
        preprocessing={"crop_pct": 1.0},
    )
    data.augment = preset
    task = ImageClassifier(backbone, classes=data.classes)
    task.finetune(data, epochs=options.epochs, training=Training(seed=seed))
    return float(task.evaluate(data).metrics["accuracy"])


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    known = environment(options)
    sizes = (90, 30) if options.quick else (options.num_train, options.num_scored)
    runs: list[Result] = []
    with unpacked(options.shared, num_each=None, quick=options.quick) as photos:
        for seed in options.seeds:
            kinds = {
                "digits": digits(seed, *sizes),
                "CIFAR-10": cifar(photos, seed, *sizes),
                "photos": crops(seed, *sizes),
            }
            for kind, data in kinds.items():
                for preset in PRESETS:
                    accuracy = measure(
                        data, options, large=kind == "photos", preset=preset, seed=seed
                    )
                    runs.append(
                        {"kind": kind, "preset": preset, "seed": seed, "accuracy": accuracy}
                    )
    rows = []
    for kind in dict.fromkeys(run["kind"] for run in runs):
        for preset in PRESETS:
            same = [r["accuracy"] for r in runs if (r["kind"], r["preset"]) == (kind, preset)]
            each = ", ".join(f"{value:.3f}" for value in same)
            rows.append((kind, preset, each, f"{statistics.fmean(same):.3f}"))
    columns = ("pictures", "augmentation", "accuracy of each seed", "mean")
    print_report(f"Augmentation, {sizes[0]} training pictures", known, columns, rows)
    write_json(options.json, {"environment": known, "runs": runs})


if __name__ == "__main__":
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    parser = make_parser(__doc__)
    parser.add_argument("--num-train", type=int, default=300)
    parser.add_argument("--num-scored", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=5)
    main(read_options(parser))
