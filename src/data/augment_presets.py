"""The augmentations "medium" and "heavy": moves, colours and holes, a batch at a time.

All moves of a picture are one map from places in the answer to places in the picture, so that it is
sampled, and blurred, once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from .chance import between, chance
from .pixels import GREY, SMALL, like, sample, to_floats

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class _Draws:
    """The random numbers of a batch, told apart by their number."""

    seed: int
    epoch: int
    index: Tensor

    def __call__(self, draw: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return between(low, high, chance(self.seed, self.epoch, self.index, draw=draw))


def medium(images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Crop, flip and tint: half to all of the area, brightness and the like by up to a fifth.

    The crop keeps the aspect (Szegedy et al. 2014, arXiv:1409.4842, sec. 6, without the stretch).
    Of pictures up to `SMALL` pixels, at least 70 % of the area stays.

    Args:
        images: (B, C, H, W).
        seed: The seed of the data.
        epoch: Counted from 0.
        index: Positions of the pictures in the training part, (B,).
    """
    draws = _Draws(seed, epoch, index)
    low = 0.7 if min(images.shape[-2:]) <= SMALL else 0.5
    floats = sample(to_floats(images), _crop(draws, low))
    return like(_tint(floats, draws, 0.2), images)


def heavy(images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Crop, turn or shear, flip, tint more, and punch holes.

    A quarter to all of the area stays, of pictures up to `SMALL` pixels at least half. Of turning
    (up to 30 degrees), shearing either way (up to 0.3) and neither, every picture gets one, at a
    strength of its own (Müller and Hutter 2021, arXiv:2103.10158). A rectangle of 2 to 20 % of the
    area is erased in every fourth (Zhong et al. 2017, arXiv:1708.04896).

    Args:
        images: (B, C, H, W).
        seed: The seed of the data.
        epoch: Counted from 0.
        index: Positions of the pictures in the training part, (B,).
    """
    draws = _Draws(seed, epoch, index)
    low = 0.5 if min(images.shape[-2:]) <= SMALL else 0.25
    bend, crop = _bend(draws, images.shape[-1] / images.shape[-2]), _crop(draws, low)
    move = (bend[:, :, :, None] * crop[:, None]).sum(2)  # no matrix product, see sample
    floats = _tint(sample(to_floats(images), move), draws, 0.4)
    return like(_erase(floats, draws, share=0.25), images)


def _crop(draws: _Draws, low: float) -> Tensor:
    """Answer with maps (B, 3, 3) from the corners -1 and 1 of the answer into the picture."""
    side = draws(0, low, 1.0).sqrt()
    mirror = torch.where(draws(1) < 0.5, -1.0, 1.0)
    move = torch.zeros(len(side), 3, 3, device=side.device)
    move[:, 0, 0], move[:, 1, 1], move[:, 2, 2] = side * mirror, side, 1.0
    for axis, draw in ((0, 2), (1, 3)):  # whatever the crop leaves of the picture lies around it
        move[:, axis, 2] = (1 - side) * draws(draw, -1.0, 1.0)
    return move


def _bend(draws: _Draws, aspect: float) -> Tensor:
    kind = (draws(4) * 4).long()
    strength = draws(5, -1.0, 1.0)
    angle = torch.where(kind == 0, strength * math.radians(30), 0.0)
    move = torch.zeros(len(kind), 3, 3, device=angle.device)
    move[:, 0, 0], move[:, 1, 1], move[:, 2, 2] = angle.cos(), angle.cos(), 1.0
    # Corners are at 1 whatever the shape; a turn is one in pixels.
    move[:, 0, 1] = -angle.sin() / aspect + torch.where(kind == 1, 0.3 * strength, 0.0)
    move[:, 1, 0] = angle.sin() * aspect + torch.where(kind == 2, 0.3 * strength, 0.0)
    return move


def _tint(floats: Tensor, draws: _Draws, most: float) -> Tensor:
    """Change brightness, contrast and, of pictures in colour, saturation."""
    brightness, contrast, saturation = (
        draws(draw, 1 - most, 1 + most)[:, None, None, None] for draw in (6, 7, 8)
    )
    floats = floats * brightness
    colour = floats.shape[1] == 3
    weights = floats.new_tensor(GREY if colour else [1 / floats.shape[1]] * floats.shape[1])
    grey = (floats * weights[:, None, None]).sum(1, keepdim=True)
    middle = grey.mean((2, 3), keepdim=True)
    floats = middle + (floats - middle) * contrast
    if not colour:
        return floats
    grey = middle + (grey - middle) * contrast
    return grey + (floats - grey) * saturation


def _erase(floats: Tensor, draws: _Draws, *, share: float) -> Tensor:
    """Fill a rectangle with the mean colour of its picture."""
    height, width = floats.shape[-2:]
    area, ratio = draws(10, 0.02, 0.2), draws(11, math.log(0.3), math.log(1 / 0.3)).exp()
    tall, wide = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    rows = _inside(height, draws(12) * (1 - tall), tall)
    columns = _inside(width, draws(13) * (1 - wide), wide)
    hole = rows[:, None, :, None] & columns[:, None, None, :]
    hole &= (draws(9) < share)[:, None, None, None]
    return torch.where(hole, floats.mean((2, 3), keepdim=True), floats)


def _inside(size: int, start: Tensor, length: Tensor) -> Tensor:
    """Say which pixel centres lie in a part of an axis, (B, size)."""
    centres = (torch.arange(size, device=start.device) + 0.5)[None] / size
    return (centres >= start[:, None]) & (centres < (start + length)[:, None])
