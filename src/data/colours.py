"""Changes to the colours of floats in [0, 1], (B, C, H, W), by a factor of its own per picture.

Pixels are those of `torchvision.transforms.v2.functional
<https://docs.pytorch.org/vision/stable/transforms.html>`_ on floats, which takes one factor for a
whole batch. What ends in an underscore changes its floats in place: fresh memory costs a CPU more
than the arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from .pixels import GREY, grey_of

if TYPE_CHECKING:
    from torch import Tensor

Change = Callable[["Tensor", "Tensor"], "Tensor"]
"""(floats (B, C, H, W), factors (B,)) -> floats; it may change its floats in place."""


def brightness_(floats: Tensor, factors: Tensor) -> Tensor:
    """Scale towards black (0) or away from it."""
    return floats.mul_(per_picture(factors)).clamp_(0, 1)


def contrast_(floats: Tensor, factors: Tensor) -> Tensor:
    """Scale towards the mean brightness of the picture (0) or away from it."""
    return _away_from_(grey_of(floats).flatten(1).mean(1)[:, None, None, None], floats, factors)


def saturation_(floats: Tensor, factors: Tensor) -> Tensor:
    """Scale towards the grey picture (0) or away from it; pictures without colour stay."""
    if floats.shape[1] != len(GREY):
        return floats
    return _away_from_(grey_of(floats), floats, factors)


def hue_(floats: Tensor, factors: Tensor) -> Tensor:
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
    # Blends by 0 and 1 in place of torch.where, which takes ten times as long on a CPU.
    not_red, not_green = (high - red).ceil_(), high.sub_(green).ceil_()
    if_blue = (red - green).add_(each, alpha=4)
    if_green = (blue - red).add_(each, alpha=2)
    if_red = green - blue
    if_green.addcmul_(not_green, if_blue.sub_(if_green))
    sixths = if_red.addcmul_(not_red, if_green.sub_(if_red)).div_(each)
    sixths.add_(factors[:, None, None], alpha=6)
    sixths.sub_((sixths / 6).floor_(), alpha=6)
    for channel, (sign, middle, height) in enumerate(((1, 3, -1), (-1, 2, 2), (-1, 4, 2))):
        wave = (sixths - middle).abs_().mul_(sign).add_(height).clamp_(0, 1)
        torch.addcmul(low, chroma, wave, out=floats[:, channel])
    return floats


def solarize(floats: Tensor, thresholds: Tensor) -> Tensor:
    """Invert what is at least as bright as the threshold."""
    return torch.where(floats >= per_picture(thresholds), 1 - floats, floats)


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


JITTERS: tuple[Change, ...] = (brightness_, contrast_, saturation_, hue_)
"""What `jitter_` changes, in the order of its factors."""

ORDERS = tuple(permutations(range(len(JITTERS))))


def jitter_(floats: Tensor, factors: Tensor, order: Tensor, chosen: Tensor) -> Tensor:
    """Change brightness, contrast, saturation and hue in an order of its own per picture.

    Args:
        floats: (B, C, H, W).
        factors: One of each of `JITTERS`, (B, 4).
        order: A position in `ORDERS`, (B,).
        chosen: Which pictures are changed, (B,) of bool.
    """
    orders = torch.tensor(ORDERS, device=order.device)[order]
    kinds = torch.where(chosen[:, None], orders, len(JITTERS))
    return one_by_one_(floats, kinds, JITTERS, factors)


def one_by_one_(
    floats: Tensor, kinds: Tensor, changes: Sequence[Change], factors: Tensor
) -> Tensor:
    """Apply to each picture the changes that were drawn for it, each to its pictures alone.

    Args:
        floats: (B, C, H, W); their memory is used.
        kinds: Positions in `changes`, in the order in which they follow each other, (B, steps);
            the number of changes stands for none.
        changes: What may be drawn.
        factors: One per picture and change, (B, changes).
    """
    none, spare = len(changes), torch.empty_like(floats)
    counts = torch.stack(
        [torch.bincount(step, minlength=none + 1) for step in kinds.unbind(1)]
    ).tolist()  # the one place where a device is waited for
    where = torch.arange(len(floats), device=floats.device)  # the row that each picture is in
    for step, sizes in enumerate(counts):
        # Pictures of a kind are put side by side and stay so until the next step.
        order = kinds[:, step].argsort(stable=True)
        torch.index_select(floats, 0, where.index_select(0, order), out=spare)
        floats, spare = spare, floats
        ordered = factors.index_select(0, order)
        start = 0
        for kind, size in enumerate(sizes[:none]):
            if size:
                some = floats.narrow(0, start, size)
                changed = changes[kind](some, ordered[start : start + size, kind])
                if changed is not some:
                    some.copy_(changed)
            start += size
        where = order.argsort()
    return torch.index_select(floats, 0, where, out=spare)


def where_chosen_(
    floats: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Apply a change, (pictures, their rows) -> pictures, to the chosen ones alone."""
    rows = chosen.nonzero()[:, 0]
    if not len(rows):
        return floats
    return floats.index_copy_(0, rows, change(floats.index_select(0, rows), rows))


def per_picture(factors: Tensor) -> Tensor:
    """Shape factors (B,) so that they broadcast over pictures, (B, 1, 1, 1)."""
    return factors[:, None, None, None]


def _away_from_(base: Tensor, floats: Tensor, factors: Tensor) -> Tensor:
    # Not torch.lerp, which takes six times as long where the base is one number per picture.
    factors = per_picture(factors)
    return floats.mul_(factors).add_(base * (1 - factors)).clamp_(0, 1)
