"""What all changes to pictures on the device share: scales, colours, sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 64
"""Pictures up to this many pixels wide or high lose less to a crop: they have less to lose."""

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in torchvision


def to_floats(images: Tensor) -> Tensor:
    """Scale uint8 to [0, 1]; floats stay as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images.float()


def like(floats: Tensor, images: Tensor) -> Tensor:
    """Answer with floats in the type of the pictures that they were made of."""
    floats = floats.clamp(0, 1)
    if images.dtype == torch.uint8:
        return (floats * 255).round().to(torch.uint8)
    return floats.to(images.dtype)


def grey_of(floats: Tensor) -> Tensor:
    """Answer with the brightness of colours, (B, 1, H, W); with the mean of other channels."""
    if floats.shape[1] != len(GREY):
        return floats.mean(1, keepdim=True)
    red, green, blue = GREY
    grey = floats[:, 0] * red
    return grey.add_(floats[:, 1], alpha=green).add_(floats[:, 2], alpha=blue)[:, None]


def sample(floats: Tensor, move: Tensor) -> Tensor:
    """Move pictures by maps (B, 3, 3) from places in the answer to places in the picture.

    Corners are at -1 and 1 whatever the shape. What lies outside is filled by reflection.
    """
    height, width = floats.shape[-2:]
    device = floats.device
    x = ((torch.arange(width, device=device) * 2 + 1) / width - 1)[None, None, :]
    y = ((torch.arange(height, device=device) * 2 + 1) / height - 1)[None, :, None]
    # Not affine_grid: its matrix product rounds by the size of the batch.
    row = move[:, :, :, None, None]
    grid = [row[:, axis, 0] * x + row[:, axis, 1] * y + row[:, axis, 2] for axis in (0, 1)]
    return functional.grid_sample(
        floats,
        torch.stack(grid, -1),
        mode="bilinear",
        padding_mode="reflection",
        align_corners=False,
    )
