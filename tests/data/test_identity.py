"""Whether pictures are the same as in another process."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mealkit import ImageData
from mealkit.data.identity import identify_pictures
from mealkit.data.parts import Rows
from mealkit.data.sources import DatasetImages
from mealkit.data.web import Address

PIXELS = np.random.default_rng(0).integers(0, 255, (3, 40, 40, 3), dtype=np.uint8)


def changed() -> np.ndarray:
    other = PIXELS.copy()
    other[2, 20, 20, 1] ^= 1
    return other


FORMS = [
    lambda pixels: pixels,
    lambda pixels: list(pixels),
    lambda pixels: torch.from_numpy(pixels.copy()),
    lambda pixels: [Image.fromarray(one) for one in pixels],
    lambda pixels: [one.tobytes() for one in pixels],
]


@pytest.mark.parametrize("form", FORMS)
def test_pictures_in_memory_are_told_apart_by_all_of_their_content(form) -> None:
    assert identify_pictures(form(PIXELS)) == identify_pictures(form(PIXELS.copy()))
    assert identify_pictures(form(PIXELS)) != identify_pictures(form(changed()))
    assert identify_pictures(form(PIXELS)) != identify_pictures(form(PIXELS[:2]))
    assert identify_pictures(Rows(form(PIXELS), [1, 0])) == identify_pictures(form(PIXELS[[1, 0]]))


def test_files_are_told_apart_by_place_size_and_time(tmp_path: Path) -> None:
    path, other = tmp_path / "a.jpg", tmp_path / "b.jpg"
    path.write_bytes(b"one")
    os.utime(path, ns=(1, 1))
    first = identify_pictures([path])
    assert identify_pictures([str(path)]) == first
    os.utime(path, ns=(2, 2))
    assert identify_pictures([path]) != first
    path.write_bytes(b"three")
    os.utime(path, ns=(1, 1))
    assert identify_pictures([path]) != first
    path.rename(other)
    assert len({first, identify_pictures([other]), identify_pictures([path])}) == 3


class Made(list):
    _fingerprint = "made so"


def test_rows_of_a_dataset_are_told_apart_by_its_own_fingerprint() -> None:
    images = DatasetImages(Made([{"image": 1}, {"image": 2}]), "image")
    first = identify_pictures(Rows(images, [0, 1]))
    assert first is not None
    assert identify_pictures(Rows(images, [1, 0])) != first
    assert identify_pictures(Rows(DatasetImages(Made([]), "image"), [0, 1])) == first
    images.fingerprint = lambda: "made otherwise"
    assert identify_pictures(Rows(images, [0, 1])) != first


@pytest.mark.parametrize(
    "images",
    [
        DatasetImages([(PIXELS[0], 0)], "image"),
        [Address("https://example.org/a.jpg")],
        [object()],
        [np.array([PIXELS[0], None], dtype=object)],
    ],
)
def test_what_cannot_be_told_apart_has_no_identity(images) -> None:
    assert identify_pictures(images) is None


def test_a_split_part_of_a_source_has_an_identity_of_its_own() -> None:
    data = ImageData.from_arrays(np.tile(PIXELS, (4, 1, 1, 1)) // 3, [0, 1, 2] * 4, split=0)
    again = ImageData.from_arrays(np.tile(PIXELS, (4, 1, 1, 1)) // 3, [0, 1, 2] * 4, split=0)
    assert data.train.identity() == again.train.identity()
