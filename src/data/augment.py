"""Changes by chance to batches of training pictures, on the device they are trained on.

All chance is a pure function of (seed, epoch, index), so a picture gets the same change in any
batch, on any device and with any number of workers. The stronger changes are in `augment_presets`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from ..errors import InvalidValueError, can_be_called, unknown_name
from .augment_presets import heavy, medium
from .chance import chance

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch


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


def change_pictures(change: Augmentation, batch: Batch, *, seed: int, epoch: int) -> Batch:
    """Answer with a batch whose pictures an augmentation has changed.

    Raises:
        InvalidValueError: It answered with something else than such pictures.
    """
    before = batch["image"]
    images = change(before, seed=seed, epoch=epoch, index=batch["index"])
    if not _fits(images, before):
        raise InvalidValueError(
            f"The augmentation {getattr(change, '__name__', change)!r} answered with "
            f"{_kind(images)} and was given {_kind(before)}: expected pictures of the same shape "
            "and type, or floats in [0, 1] of that shape."
        )
    return {**batch, "image": images}


def _fits(images: object, before: Tensor) -> bool:
    if not isinstance(images, torch.Tensor) or images.shape != before.shape:
        return False
    if images.dtype == before.dtype:
        return True
    # Rounding may leave a colour a little outside; numbers up to 255 are another matter.
    inside = images.is_floating_point() and ((images >= -0.01) & (images <= 1.01)).all()
    return bool(inside)


def _kind(images: object) -> str:
    if not isinstance(images, torch.Tensor):
        return type(images).__name__
    low, high = (f"{float(value):.3g}" for value in (images.min(), images.max()))
    kind = str(images.dtype).removeprefix("torch.")
    return f"{kind} from {low} to {high} of shape {tuple(images.shape)}"


def views(images: Tensor) -> list[Tensor]:
    """Answer with the views of pictures (B, C, H, W) that predictions are averaged over.

    Each picture as it is, and flipped left to right: both have the size that the net was trained
    at, whatever that is, and no pixel is lost.
    """
    return [images, images.flip(-1)]


AUGMENTATIONS: dict[str, Augmentation | None] = {
    "none": None,
    "light": light,
    "medium": medium,
    "heavy": heavy,
}


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
    if not can_be_called(augment, None, seed=0, epoch=0, index=None):
        raise InvalidValueError(
            f"augment={augment!r} cannot be called as augment(images, seed=..., epoch=..., "
            "index=...): expected a function (images, *, seed, epoch, index) -> images."
        )
    return augment
