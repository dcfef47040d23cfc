"""The pictures of the benchmarks: the CIFAR-10 subset, digits, drawn ones, crops of photos."""

from __future__ import annotations

import random
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from mealkit import ImageData

# Positions of the crops' centres, as shares of width and height.
CENTRES = ((0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.3, 0.7), (0.7, 0.7))


@contextmanager
def unpacked(
    shared: Path, *, num_each: int | None, quick: bool, unlabelled: bool = False
) -> Iterator[Path]:
    """Lend a folder with ``train/CLASS/*.jpg`` and ``test/CLASS/*.jpg``.

    Args:
        shared: Where ``data/cifar10-subset.zip`` is.
        num_each: Pictures of a class in either part, at most; None for all.
        quick: Draw 3 x 8 pictures of 32 pixels a part instead.
        unlabelled: Whether ``unlabelled/*.jpg`` is wanted, too.
    """
    folder = Path(tempfile.mkdtemp(prefix="mealkit-photos-"))
    try:
        if quick:
            _draw(folder, unlabelled)
        else:
            file = shared / "data" / "cifar10-subset.zip"
            _unpack(file, folder, num_each, unlabelled)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _unpack(file: Path, folder: Path, num_each: int | None, unlabelled: bool) -> None:
    if not file.is_file():
        raise SystemExit(f"{file} is absent. Say where the data are: --shared FOLDER, or --quick.")
    counts: dict[str, int] = {}
    with zipfile.ZipFile(file) as archive:
        for name in sorted(archive.namelist()):
            parent = name.rpartition("/")[0]
            counts[parent] = counts.get(parent, 0) + 1
            wanted = name.startswith(("train/", "test/")) and not name.endswith("/")
            few = num_each is None or counts[parent] <= num_each
            if (wanted and few) or (unlabelled and name.startswith("unlabelled/")):
                archive.extract(name, folder)


def _draw(folder: Path, unlabelled: bool) -> None:
    rng = np.random.default_rng(0)
    for part in ("train", "test"):
        for channel, name in enumerate(("red", "green", "blue")):
            (folder / part / name).mkdir(parents=True)
            for number in range(8):
                pixels = rng.integers(0, 120, (32, 32, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / part / name / f"{number}.jpg")
    if unlabelled:
        (folder / "unlabelled").mkdir()
        for number in range(32):
            pixels = rng.integers(0, 220, (32, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "unlabelled" / f"{number}.jpg")


def write_photos(folder: Path, *, count: int, seed: int, shrink: int, sort: bool) -> None:
    """Write crops of the sample photos as JPEG files.

    Args:
        folder: To write into.
        count: Number of files.
        seed: Decides the crops.
        shrink: Files are 500x375 over this.
        sort: Whether each class has a folder of its own.
    """
    from sklearn.datasets import load_sample_images  # here: the other pictures need no sklearn

    rng = np.random.default_rng(seed)
    photos = [Image.fromarray(pixels) for pixels in load_sample_images().images]
    for number in range(count):
        label = number % (len(photos) * len(CENTRES))
        photo = photos[label // len(CENTRES)]
        across, down = CENTRES[label % len(CENTRES)]
        width = photo.width * rng.uniform(0.4, 0.55)
        height = width * rng.uniform(0.7, 0.8)
        left = np.clip(across * photo.width + rng.normal(0, 15) - width / 2, 0, photo.width - width)
        top = np.clip(
            down * photo.height + rng.normal(0, 15) - height / 2, 0, photo.height - height
        )
        size = rng.integers((450, 340), (551, 411)) // shrink
        box = (left, top, left + width, top + height)
        image = photo.resize((int(size[0]), int(size[1])), Image.Resampling.BICUBIC, box=box)
        parent = folder / f"class{label}" if sort else folder
        parent.mkdir(parents=True, exist_ok=True)
        image.save(parent / f"class{label}-{number:04d}.jpg", quality=90)


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
