from __future__ import annotations

import numpy as np
import pytest
import torch

from mealkit.data.arrays import array_to_image, channels_last, split_stack, with_channels
from mealkit.errors import DataError


@pytest.mark.parametrize(
    ("shape", "last"),
    [
        ((32, 32, 3), True),
        ((3, 32, 32), False),
        ((8, 8, 1), True),
        ((4, 100, 90), False),
        ((64, 64, 13), True),
        ((2, 64, 64), False),
        ((20, 10, 3), True),
    ],
)
def test_axes_are_told_apart(shape, last):
    assert channels_last(shape) is last
    image = array_to_image(np.zeros(shape, dtype=np.uint8))
    assert image.shape == ((shape[2], *shape[:2]) if last else shape)


@pytest.mark.parametrize("shape", [(3, 32, 3), (1, 5, 3), (20, 64, 20)])
def test_two_possible_channel_axes_are_refused(shape):
    with pytest.raises(DataError, match="both ends could be"):
        array_to_image(np.zeros(shape, dtype=np.uint8))


def test_a_stack_of_grey_pictures_is_no_picture():
    with pytest.raises(DataError, match=r"\(100, 28, 64\): .*stack\[\.\.\., None\]"):
        array_to_image(np.zeros((100, 28, 64), dtype=np.uint8))


def test_values_keep_their_place():
    array = np.arange(6 * 5 * 3, dtype=np.uint8).reshape(6, 5, 3)
    image = torch.from_numpy(array).permute(2, 0, 1)
    assert torch.equal(array_to_image(array), image)
    assert torch.equal(array_to_image(array[::-1]), image.flip(1))
    assert torch.equal(array_to_image(array[..., 0]), image[:1])


def test_depths_become_uint8_or_floats_in_0_to_1():
    assert array_to_image(np.eye(3, dtype=bool)).dtype == torch.uint8
    assert array_to_image(np.eye(3, dtype=bool)).max() == 255
    deep = array_to_image(np.full((3, 3), 65535, dtype=np.uint16))
    assert deep.dtype == torch.float32
    assert deep.max() == 1
    assert array_to_image(np.full((3, 3), 0.5)).dtype == torch.float32
    assert array_to_image(np.full((3, 3), 0.5, dtype=">f8")).max() == 0.5
    assert array_to_image(torch.full((3, 3), 0.5, dtype=torch.float16)).dtype == torch.float32
    assert array_to_image(torch.full((3, 3), 65535, dtype=torch.uint16)).max() == 1


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((3, 3), 16.0), "from 16 to 16: expected floats in"),
        (np.full((3, 3), -0.1), "Divide by the largest"),
        (np.full((3, 3), np.nan), "from nan to nan"),
        (np.full((3, 3), 255), "int64 from 255 to 255: expected uint8"),
        (np.array([["a"]]), "expected uint8"),
        (np.zeros((0, 4), dtype=np.uint8), "no pixels"),
        (np.zeros(4, dtype=np.uint8), r"shape \(4,\)"),
    ],
)
def test_other_values_are_refused(array, words):
    with pytest.raises(DataError, match=words):
        array_to_image(array)


def test_grey_is_repeated_and_other_channels_are_not_guessed():
    grey = torch.arange(4, dtype=torch.uint8).reshape(1, 2, 2)
    assert torch.equal(with_channels(grey, 3), grey.expand(3, 2, 2))
    assert with_channels(grey, 1) is grey
    with pytest.raises(DataError, match="2 channels and the backbone wants 3"):
        with_channels(torch.zeros(2, 4, 4), 3)


def test_stacks_have_three_or_four_axes():
    assert len(split_stack(np.zeros((7, 4, 4, 3)))) == 7
    assert len(split_stack([np.zeros((4, 4))])) == 1
    with pytest.raises(DataError, match=r"shape \(4, 4\)"):
        split_stack(np.zeros((4, 4)))
    with pytest.raises(DataError, match="got str"):
        split_stack("abc")
