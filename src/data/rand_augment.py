"""The strong view of a picture for consistency training: random changes, then a hole."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional
from torchvision.transforms.v2 import functional as vision

from .chance import chances
from .colours import Change, brightness_, contrast_, one_by_one_, saturation_, solarize
from .pixels import like, sample, to_floats

if TYPE_CHECKING:
    from torch import Tensor

NUM_CHANGES = 2
"""Changes that a picture gets one after the other."""

_FIRST = 2000  # draws of augmentations, mixing and views are below


def strong(images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Apply two of `CHANGES` and punch a square hole, differently to every picture.

    The RandAugment of FixMatch (Sohn et al. 2020, arXiv:2001.07685, appendix D), whose strengths
    are drawn evenly from the ranges of its table 12, and Cutout of up to half the side in grey
    (DeVries and Taylor 2017, arXiv:1708.04552). What a move uncovers is filled by reflection, not
    in grey: pictures of any background stay plausible.

    Args:
        images: (B, C, H, W), uint8, or floats in [0, 1].
        seed: The seed of the data.
        epoch: Counted from 0.
        index: Positions of the pictures in the training part, (B,).

    Returns:
        Pictures of the same shape and type.
    """
    num = len(CHANGES)
    draws = chances(seed, epoch, index, first=_FIRST, num=NUM_CHANGES + num + 3)
    kinds = (draws[:, :NUM_CHANGES] * num).long()
    floats = to_floats(images)
    floats = floats.clone() if floats is images else floats
    floats = one_by_one_(floats, kinds, CHANGES, draws[:, NUM_CHANGES : NUM_CHANGES + num])
    return like(_cut_out(floats, draws[:, -3:]), images)


def _cut_out(floats: Tensor, draws: Tensor) -> Tensor:
    """Fill a square in grey, of up to half the side, whose middle lies anywhere."""
    inside = []
    for axis, draw in ((2, draws[:, 1]), (3, draws[:, 2])):
        pixels = torch.arange(floats.shape[axis], device=floats.device) + 0.5
        half = draws[:, 0] * 0.5 * min(floats.shape[-2:]) / 2
        inside.append((pixels[None] - draw[:, None] * floats.shape[axis]).abs() < half[:, None])
    hole = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(hole, 0.5, floats)


# Changes: floats and a draw in [0, 1) for each picture to floats.


def _same(floats: Tensor, draws: Tensor) -> Tensor:
    return floats


def _stretch(floats: Tensor, draws: Tensor) -> Tensor:
    """Spread each channel of a picture from black to white (autocontrast)."""
    low, high = floats.amin((2, 3), keepdim=True), floats.amax((2, 3), keepdim=True)
    wide = high > low
    return torch.where(wide, (floats - low) / torch.where(wide, high - low, 1.0), floats)


def _equalise(floats: Tensor, draws: Tensor) -> Tensor:
    """Make all values of each channel equally frequent."""
    equal: Tensor = vision.equalize((floats * 255).round().to(torch.uint8))
    return equal.float() / 255


def _darker(floats: Tensor, draws: Tensor) -> Tensor:
    return brightness_(floats, 0.05 + 0.9 * draws)


def _flatter(floats: Tensor, draws: Tensor) -> Tensor:
    return contrast_(floats, 0.05 + 0.9 * draws)


def _paler(floats: Tensor, draws: Tensor) -> Tensor:
    return saturation_(floats, 0.05 + 0.9 * draws)


def _solarise(floats: Tensor, draws: Tensor) -> Tensor:
    return solarize(floats, draws)


def _posterise(floats: Tensor, draws: Tensor) -> Tensor:
    """Keep 4 to 8 bits of each value."""
    bits = 4 + (draws * 5).long()
    steps = torch.exp2(8.0 - bits)[:, None, None, None]
    return ((floats * 255).round() / steps).floor() * steps / 255


def _soften(floats: Tensor, draws: Tensor) -> Tensor:
    """Blend with a smoothed picture (sharpness below 1); the border stays, as in Pillow."""
    if min(floats.shape[-2:]) < 3:
        return floats
    channels = floats.shape[1]
    kernel = floats.new_ones(3, 3)
    kernel[1, 1] = 5.0
    weight = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    smooth = floats.clone()
    smooth[:, :, 1:-1, 1:-1] = functional.conv2d(floats, weight, groups=channels)
    return torch.lerp(smooth, floats, (0.05 + 0.9 * draws)[:, None, None, None])


def _turn(floats: Tensor, draws: Tensor) -> Tensor:
    angle = (2 * draws - 1) * math.radians(30)
    aspect = floats.shape[-1] / floats.shape[-2]
    return _moved(
        floats, {(0, 1): -angle.sin() / aspect, (1, 0): angle.sin() * aspect}, scale=angle.cos()
    )


def _shear_x(floats: Tensor, draws: Tensor) -> Tensor:
    return _moved(floats, {(0, 1): 0.3 * (2 * draws - 1)})


def _shear_y(floats: Tensor, draws: Tensor) -> Tensor:
    return _moved(floats, {(1, 0): 0.3 * (2 * draws - 1)})


def _shift_x(floats: Tensor, draws: Tensor) -> Tensor:
    return _moved(floats, {(0, 2): 0.6 * (2 * draws - 1)})  # corners are 2 apart: 0.3 of the side


def _shift_y(floats: Tensor, draws: Tensor) -> Tensor:
    return _moved(floats, {(1, 2): 0.6 * (2 * draws - 1)})


def _moved(
    floats: Tensor, entries: dict[tuple[int, int], Tensor], *, scale: Tensor | None = None
) -> Tensor:
    move = torch.eye(3, device=floats.device).repeat(len(floats), 1, 1)
    if scale is not None:
        move[:, 0, 0] = move[:, 1, 1] = scale
    for (row, column), values in entries.items():
        move[:, row, column] = values
    return sample(floats, move)


CHANGES: tuple[Change, ...] = (
    _same,
    _stretch,
    _equalise,
    _darker,
    _flatter,
    _paler,
    _solarise,
    _posterise,
    _soften,
    _turn,
    _shear_x,
    _shear_y,
    _shift_x,
    _shift_y,
)
"""What `strong` draws from."""
