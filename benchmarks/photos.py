"""The pictures that are trained on: the CIFAR-10 subset as files, or a few drawn ones."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image


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
