"""Changes by chance to batches of training pictures, on the device they are trained on.

All chance is a pure function of (seed, epoch, index), so a picture gets the same change in any
batch, on any device and with any number of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from ..errors import InvalidValueError, unknown_name

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class Augmentation(Protocol):
    """A function of your own that changes training pictures."""

    def __call__(self, images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
        """Change a batch of pictures.

        Args:
            images: (B, C, H, W), uint8, or floats in [0, 1].
            seed: The seed of the data.
            epoch: Counted from 0.
            index: Positions of the pictures in the training part, (B,); with the seed and the epoch
                they are all that chance may depend on, if runs are to be reproducible.

        Returns:
            Pictures of the same shape and type.
        """


def light(images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
    """Flip every second picture left to right, and shift each by up to an eighth of its size.

    The part that a shift uncovers is filled by reflection. It is the recipe of He et al. 2015
    (arXiv:1512.03385, section 4.2) for CIFAR-10, 4 of 32 pixels to each side.

    Args:
        images: (B, C, H, W).
        seed: The seed of the data.
        epoch: Counted from 0.
        index: Positions of the pictures in the training part, (B,).
    """
    height, width = images.shape[-2:]
    flip = chance(seed, epoch, index, draw=0) < 0.5
    rows = _shifted(height, chance(seed, epoch, index, draw=1))
    columns = _shifted(width, chance(seed, epoch, index, draw=2))
    columns = torch.where(flip[:, None], columns.flip(1), columns)
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    # (B, H, W, C): advanced indices around a slice come first
    moved = images[batch, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _shifted(size: int, draws: Tensor) -> Tensor:
    """Answer with the source position of each target position, (B, size)."""
    most = max(1, round(size / 8)) if size > 1 else 0
    shift = (draws * (2 * most + 1)).long() - most
    positions = torch.arange(size, device=draws.device)[None] + shift[:, None]
    positions = positions.abs()
    last = size - 1
    return last - (last - positions).abs()


def views(images: Tensor) -> list[Tensor]:
    """Answer with the views of pictures (B, C, H, W) that predictions are averaged over.

    Each picture as it is, and flipped left to right: both have the size that the net was trained
    at, whatever that is, and no pixel is lost.
    """
    return [images, images.flip(-1)]


def chance(seed: int, epoch: int, index: Tensor, *, draw: int) -> Tensor:
    """Answer with a number in [0, 1) per index, (B,), that depends on the arguments alone.

    The mixing is that of splitmix64 (Steele et al. 2014, doi:10.1145/2714064.2660195), in integers
    that overflow in the same way on every device.

    Args:
        seed: Any integer.
        epoch: Any integer.
        index: Integers, (B,).
        draw: Tells apart several numbers of one picture and epoch.
    """
    state = torch.full_like(index, _signed(seed), dtype=torch.int64)
    for number in (epoch, draw):
        state = _mix(state ^ _signed(number + 1))
    state = _mix(state ^ index.long())
    return _shift_right(state, 40).float() / (1 << 24)  # 24 bits: what a float holds exactly


def _mix(state: Tensor) -> Tensor:
    state = state + _signed(0x9E3779B97F4A7C15)
    state = (state ^ _shift_right(state, 30)) * _signed(0xBF58476D1CE4E5B9)
    state = (state ^ _shift_right(state, 27)) * _signed(0x94D049BB133111EB)
    return state ^ _shift_right(state, 31)


def _shift_right(state: Tensor, bits: int) -> Tensor:
    """Shift without the sign: torch's own shift repeats it."""
    return (state >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    """Wrap to 64 bits with a sign, the widest integers that torch computes in."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


AUGMENTATIONS: dict[str, Augmentation | None] = {"none": None, "light": light}


def resolve(augment: str | Augmentation) -> Augmentation | None:
    """Turn a name into its augmentation; a function passes through.

    Raises:
        UnknownNameError: The name is not one of `AUGMENTATIONS`.
        InvalidValueError: Neither a name nor a function.
    """
    if isinstance(augment, str):
        if augment not in AUGMENTATIONS:
            raise unknown_name("augmentation", augment, AUGMENTATIONS)
        return AUGMENTATIONS[augment]
    if not callable(augment):
        raise InvalidValueError(
            f"augment={augment!r}: expected a name ({', '.join(AUGMENTATIONS)}) or a function "
            "(images, *, seed, epoch, index) -> images."
        )
    return augment
