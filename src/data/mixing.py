"""MixUp and CutMix: training pictures that are made of two, with a target of two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch

from ..errors import unknown_name
from .chance import chance

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch

Mix = Literal["mixup", "cutmix", "both"]
MIXES = ("mixup", "cutmix", "both")


def mix_pictures(batch: Batch, mix: Mix, *, seed: int, epoch: int) -> Batch:
    """Mix every picture of a batch with the one before it.

    ``mixup`` blends the two (Zhang et al. 2017, arXiv:1710.09412), by shares drawn from
    Beta(1/2, 1/2), so that most pictures are nearly one of them. ``cutmix`` puts a rectangle of the
    other in (Yun et al. 2019, arXiv:1905.04899), with evenly drawn shares. ``both`` takes either
    one, picture by picture.

    Args:
        batch: With ``image`` (B, C, H, W) and ``index`` (B,).
        mix: Which way.
        seed: The seed of the data.
        epoch: Counted from 0.

    Returns:
        The batch with new pictures, and two entries more: ``partner`` (B,), the position in the
        batch of the other picture, and ``share`` (B,), how much of the own picture is left.

    Raises:
        UnknownNameError: There is no such way.
    """
    if mix not in MIXES:
        raise unknown_name("way to mix", str(mix), MIXES)
    images, index = batch["image"], batch["index"]
    partner = torch.arange(len(index), device=index.device).roll(1)
    # Draws of their own: those of the augmentations are far below.
    own, place_x, place_y, which = (chance(seed, epoch, index, draw=100 + n) for n in range(4))
    cuts = {"mixup": which < 0, "cutmix": which >= 0, "both": which < 0.5}[mix]
    inside = _rectangle(images, own, place_x, place_y)
    kept = 1 - inside.float().mean((1, 2, 3))  # as drawn, but for the borders and whole pixels
    blend = (math.pi / 2 * own).sin().square()  # the inverse of Beta(1/2, 1/2)'s distribution
    share = torch.where(cuts, kept, blend)
    each = torch.where(cuts[:, None, None, None], (~inside).float(), blend[:, None, None, None])
    floats = images.float()
    mixed = floats[partner] + each * (floats - floats[partner])
    mixed = mixed.round() if images.dtype == torch.uint8 else mixed
    return {**batch, "image": mixed.to(images.dtype), "partner": partner, "share": share}


def _rectangle(images: Tensor, own: Tensor, place_x: Tensor, place_y: Tensor) -> Tensor:
    """Mark a rectangle around a place, as wide and high as the other's share asks for."""
    side = (1 - own).sqrt()
    height, width = images.shape[-2:]
    y = (torch.arange(height, device=own.device) + 0.5)[None] / height
    x = (torch.arange(width, device=own.device) + 0.5)[None] / width
    rows = (y - place_y[:, None]).abs() < side[:, None] / 2
    columns = (x - place_x[:, None]).abs() < side[:, None] / 2
    return rows[:, None, :, None] & columns[:, None, None, :]
