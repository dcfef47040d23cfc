"""Changes to the colours of floats in [0, 1], (B, C, H, W), by a factor of its own per picture.

Pixels are those of `torchvision.transforms.v2.functional
<https://docs.pytorch.org/vision/stable/transforms.html>`_ on floats, which takes one factor for a
whole batch.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .pixels import GREY, grey_of

if TYPE_CHECKING:
    from torch import Tensor

Change = Callable[["Tensor", "Tensor"], "Tensor"]
"""(floats (B, C, H, W), factors (B,)) -> floats."""


def brightness(floats: Tensor, factors: Tensor) -> Tensor:
    """Scale towards black (0) or away from it."""
    return (floats * _per_picture(factors)).clamp_(0, 1)


def contrast(floats: Tensor, factors: Tensor) -> Tensor:
    """Scale towards the mean brightness of the picture (0) or away from it."""
    return _away_from(grey_of(floats).mean((2, 3), keepdim=True), floats, factors)


def saturation(floats: Tensor, factors: Tensor) -> Tensor:
    """Scale towards the grey picture (0) or away from it; pictures without colour stay."""
    if floats.shape[1] != len(GREY):
        return floats
    return _away_from(grey_of(floats), floats, factors)


def hue(floats: Tensor, factors: Tensor) -> Tensor:
    """Turn the hue by so many turns, in [-0.5, 0.5]; pictures without colour stay.

    A turn leaves the largest and the smallest value of a pixel as they are. Every channel is a wave
    between the two along the circle of hues.
    """
    if floats.shape[1] != len(GREY):
        return floats
    red, green, blue = floats.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    each = chroma.clamp_min(1e-12)  # of grey pixels the hue is 0, whatever they are divided by
    sixths = torch.where(
        high == red,
        (green - blue) / each,
        torch.where(high == green, (blue - red) / each + 2, (red - green) / each + 4),
    )
    sixths = (sixths + 6 * factors[:, None, None]).remainder(6)
    waves = ((sixths - 3).abs() - 1, 2 - (sixths - 2).abs(), 2 - (sixths - 4).abs())
    return torch.stack([torch.addcmul(low, chroma, wave.clamp_(0, 1)) for wave in waves], 1)


def solarize(floats: Tensor, thresholds: Tensor) -> Tensor:
    """Invert what is at least as bright as the threshold."""
    return torch.where(floats >= _per_picture(thresholds), 1 - floats, floats)


def grey(floats: Tensor) -> Tensor:
    """Take the colour out, and keep the channels; pictures without colour stay."""
    return grey_of(floats).expand_as(floats) if floats.shape[1] == len(GREY) else floats


def blur(floats: Tensor, sigmas: Tensor, *, kernel: int) -> Tensor:
    """Blur by a Gaussian of its own per picture, with edges reflected.

    Args:
        floats: (B, C, H, W), larger than half the kernel.
        sigmas: In pixels, (B,).
        kernel: Its width in pixels, an odd number.
    """
    reach = kernel // 2
    steps = torch.arange(-reach, reach + 1, device=floats.device) / sigmas[:, None]
    weights = (-0.5 * steps.square()).softmax(1)[:, :, None, None, None]
    padded = functional.pad(floats, [reach] * 4, mode="reflect")
    for axis in (2, 3):
        size = floats.shape[axis]
        blurred = padded.narrow(axis, reach, size) * weights[:, reach]
        for step in range(reach):  # both sides weigh the same
            sides = padded.narrow(axis, step, size) + padded.narrow(axis, kernel - 1 - step, size)
            blurred.addcmul_(sides, weights[:, step])
        padded = blurred
    return padded


JITTERS: tuple[Change, ...] = (brightness, contrast, saturation, hue)
"""What `jitter` changes, in the order of its factors."""

ORDERS = tuple(permutations(range(len(JITTERS))))


def jitter(floats: Tensor, factors: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue in an order of its own per picture.

    Args:
        floats: (B, C, H, W).
        factors: One of each of `JITTERS`, (B, 4).
        order: A position in `ORDERS`, (B,).
        chosen: Which pictures are changed, (B,) of bool.
    """
    orders = torch.tensor(ORDERS, device=order.device)[order]
    kinds = torch.where(chosen[:, None], orders, len(JITTERS))
    for place in range(len(JITTERS)):
        floats = switch(floats, kinds[:, place], JITTERS, factors)
    return floats


def switch(floats: Tensor, kinds: Tensor, changes: tuple[Change, ...], factors: Tensor) -> Tensor:
    """Apply to each picture the change of its kind; those of no kind stay as they are.

    Args:
        floats: (B, C, H, W).
        kinds: Positions in `changes`, (B,), or their number for none.
        changes: Every one is computed on the pictures of its kind alone.
        factors: One per picture and change, (B, changes).
    """
    rows = kinds.argsort(stable=True)
    counts = torch.bincount(kinds, minlength=len(changes) + 1).tolist()
    changed = floats.clone()
    for number, (change, own) in enumerate(
        zip(changes, torch.split(rows, counts)[:-1], strict=True)
    ):
        if len(own):
            changed.index_copy_(0, own, change(floats[own], factors[own, number]))
    return changed


def where_chosen(
    floats: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Apply a change, (pictures, their rows) -> pictures, to the chosen ones alone."""
    rows = chosen.nonzero()[:, 0]
    return floats.index_copy(0, rows, change(floats[rows], rows)) if len(rows) else floats


def _away_from(base: Tensor, floats: Tensor, factors: Tensor) -> Tensor:
    return torch.lerp(base, floats, _per_picture(factors)).clamp_(0, 1)


def _per_picture(factors: Tensor) -> Tensor:
    return factors[:, None, None, None]
