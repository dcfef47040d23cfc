"""Make a golden saved task: what this version saves must load and predict the same for ever.

Run once for each saved format, from the repository's root, and never again for the same name:

    python tests/golden/make.py tests/golden/format-1
"""

import json
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

from mealkit import ImageClassifier
from mealkit.backbones import create
from mealkit.specs import ImageDataSpec


def main(folder: Path) -> None:
    """Train a very small net of timm's on drawn shapes, and save it with what it predicts."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    images, labels = [], []
    for number in range(40):
        image = Image.new("RGB", (40, 36), (rng.randint(180, 255), 220, 230))
        pen, left, top = ImageDraw.Draw(image), rng.randint(2, 12), rng.randint(2, 10)
        draw = pen.ellipse if number % 2 else pen.rectangle
        draw((left, top, left + 20, top + 20), fill=(rng.randint(0, 120), 60, 90))
        images.append(image)
        labels.append("round" if number % 2 else "square")
    small = {"channels": [8, 8, 16, 16], "stem_width": 8}
    backbone = create(
        "timm/resnet10t",
        ImageDataSpec(size=32),
        pretrained=False,
        preprocessing={"crop_pct": 1.0},
        options=small,
    )
    task = ImageClassifier.from_arrays(images, labels, backbone=backbone)
    task.finetune(epochs=30, lr=1e-2)
    for image, label, number in zip(images[:4], labels[:4], range(4), strict=True):
        image.save(folder / f"{label}{number}.png")
    names = sorted(path.name for path in folder.glob("*.png"))
    task.save(folder / "task")
    rows = task.predict([folder / name for name in names]).probabilities
    expected = {name: row.tolist() for name, row in zip(names, rows, strict=True)}
    (folder / "expected.json").write_text(json.dumps(expected, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
