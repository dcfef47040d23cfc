"""Random resized crops of a batch: a box of its own per picture, resampled to one size."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

NUM_TRIES = 10
"""Boxes that are drawn for a picture until one fits into it, as in torchvision."""

NUM_DRAWS = 2 * NUM_TRIES + 2
"""Random numbers that `crop_boxes` takes per picture."""


def crop_boxes(
    draws: Tensor,
    *,
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
) -> Tensor:
    """Draw boxes in whole pixels as torchvision's ``RandomResizedCrop`` does (Szegedy et al. 2014).

    The area is drawn evenly and the aspect (width over height) evenly in its logarithm; of ten such
    boxes the first that fits is placed anywhere in the picture. Where none fits, the largest one of
    a permitted aspect is cut from the middle.

    Args:
        draws: Random numbers in [0, 1), (B, `NUM_DRAWS`).
        size: Height and width of the pictures.
        scale: Least and most of the area.
        ratio: Least and most of the aspect.

    Returns:
        Top, left, height and width, (B, 4) of int64.
    """
    height, width = size
    area = height * width * (scale[0] + (scale[1] - scale[0]) * draws[:, :NUM_TRIES])
    low, high = math.log(ratio[0]), math.log(ratio[1])
    aspect = (low + (high - low) * draws[:, NUM_TRIES : 2 * NUM_TRIES]).exp()
    wide, tall = (area * aspect).sqrt().round().long(), (area / aspect).sqrt().round().long()
    fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
    first = fits.int().argmax(1, keepdim=True)
    tall, wide = tall.gather(1, first)[:, 0], wide.gather(1, first)[:, 0]
    top = (draws[:, -2] * (height - tall + 1)).long()
    left = (draws[:, -1] * (width - wide + 1)).long()
    boxes = torch.stack([top, left, tall, wide], 1)
    return torch.where(fits.any(1)[:, None], boxes, boxes.new_tensor(_middle(size, ratio)))


def _middle(size: tuple[int, int], ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    height, width = size
    aspect = min(max(width / height, ratio[0]), ratio[1])
    tall, wide = min(height, round(width / aspect)), min(width, round(height * aspect))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def resize_boxes(
    floats: Tensor, boxes: Tensor, size: tuple[int, int], *, flip: Tensor | None = None
) -> Tensor:
    """Resample a box of each picture to one size, bilinear and with antialiasing.

    Pixels are those of torchvision's ``resized_crop(..., antialias=True)`` on floats, to 1e-5.
    Where no box can shrink, antialiasing changes nothing, and four neighbours are sampled; where
    one can, rows and columns are averaged under the triangle that torch averages them under.

    Args:
        floats: (B, C, H, W).
        boxes: Top, left, height and width, (B, 4).
        size: Height and width of the answer.
        flip: Which pictures are mirrored left to right, (B,); None for none.
    """
    shrinks = floats.shape[-2] > size[0] or floats.shape[-1] > size[1]
    top, left, tall, wide = boxes.unbind(1)
    if not shrinks:
        rows = _places(top, tall, size[0], floats.shape[-2])
        columns = _places(left, wide, size[1], floats.shape[-1])
        if flip is not None:
            columns = torch.where(flip[:, None], columns.flip(1), columns)
        shape = (len(boxes), *size)
        grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], -1)
        return functional.grid_sample(
            floats, grid, mode="bilinear", padding_mode="border", align_corners=False
        )
    rows = _averages(top, tall, size[0], floats.shape[-2])
    columns = _averages(left, wide, size[1], floats.shape[-1])
    if flip is not None:
        columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    with torch.autocast(floats.device.type, enabled=False):
        return rows[:, None] @ floats @ columns[:, None].transpose(2, 3)


def _places(start: Tensor, length: Tensor, size: int, full: int) -> Tensor:
    """Answer with where in [-1, 1] each pixel of the answer is sampled, (B, size).

    Places stay between the middles of the outermost pixels of the box: nothing outside is seen.
    """
    steps = (torch.arange(size, device=start.device) + 0.5) / size
    places = steps[None] * length[:, None] - 0.5
    places = places.clamp_min(0).minimum((length - 1)[:, None]) + start[:, None]
    return (places * 2 + 1) / full - 1


def _averages(start: Tensor, length: Tensor, size: int, full: int) -> Tensor:
    """Answer with how much of each pixel goes into each of the answer, (B, size, full)."""
    device = start.device
    scale = (length.float() / size)[:, None, None]
    middles = (torch.arange(size, device=device) + 0.5)[None, :, None] * scale
    pixels = (torch.arange(full, device=device) + 0.5)[None, None] - start[:, None, None]
    weights = (1 - (pixels - middles).abs() / scale.clamp_min(1)).clamp_min(0)
    weights = weights * ((pixels > 0) & (pixels < length[:, None, None]))
    return weights / weights.sum(2, keepdim=True)
