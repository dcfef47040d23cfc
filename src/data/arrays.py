"""Pictures that come as arrays: which axis is which, and which values they may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from ..errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

Array = np.ndarray[Any, np.dtype[Any]]  # Any: shapes and types are checked here

_USUAL_CHANNELS = (1, 3, 4)
_FEW = 32


def array_to_image(array: Array | Tensor) -> Tensor:
    """Turn one picture (H, W), (H, W, C) or (C, H, W) into (C, H, W).

    uint8 stays; uint16 is scaled to floats in [0, 1]; floats must be in [0, 1] already; bool
    becomes 0 and 255.

    Raises:
        DataError: The axes cannot be told apart, or the values are on another scale.
    """
    tensor = _tensor(array)
    if tensor.ndim == 2:
        tensor = tensor[None]
    elif tensor.ndim == 3:
        if channels_last(tensor.shape):
            tensor = tensor.permute(2, 0, 1)
    else:
        raise DataError(
            f"A picture of shape {tuple(tensor.shape)}: expected (H, W), (H, W, C) or (C, H, W)."
        )
    if 0 in tensor.shape:
        raise DataError(f"A picture of shape {tuple(tensor.shape)} has no pixels.")
    return _scaled(tensor)


def channels_last(shape: Sequence[int]) -> bool:
    """Tell (H, W, C) from (C, H, W).

    Raises:
        DataError: Both are possible, or neither is.
    """
    first, _, last = shape
    for few in (lambda size: size in _USUAL_CHANNELS, lambda size: size <= _FEW):
        if few(first) != few(last):
            return few(last)
        if few(first):
            break
    else:
        first = last = 0  # neither end is small enough for channels
    problem = "both ends could be" if first else "neither end can be"
    raise DataError(
        f"A picture of shape {tuple(shape)}: {problem} the channels. Expected (H, W, C) or "
        "(C, H, W) with 1, 3 or 4 channels; or pass PIL images (PIL.Image.fromarray), whose "
        "axes are certain. A stack of grey pictures (N, H, W) needs an axis more: stack[..., None]."
    )


def _tensor(array: Array | Tensor) -> Tensor:
    if isinstance(array, torch.Tensor):
        return array.detach().cpu()
    array = np.asarray(array)
    if array.dtype == np.uint16:  # torch computes little in uint16
        return torch.from_numpy(array.astype(np.float32) / 65535)
    if array.dtype.kind not in "buif":
        raise DataError(f"Pixels of type {array.dtype}: expected uint8, or floats in [0, 1].")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    # A copy where torch cannot look at the memory: negative strides, or not writeable.
    return torch.from_numpy(np.array(native))


def _scaled(image: Tensor) -> Tensor:
    if image.dtype == torch.uint8:
        return image
    if image.dtype == torch.bool:
        return image.to(torch.uint8) * 255
    if image.dtype == torch.uint16:
        return image.float() / 65535
    low, high = image.min().item(), image.max().item()
    if not image.is_floating_point():
        raise DataError(
            f"Pixels of type {image.dtype} from {low} to {high}: expected uint8 in 0 to 255, or "
            "floats in [0, 1]. Convert them, for example images.astype('uint8')."
        )
    if not (low >= 0 and high <= 1):  # also catches NaN
        raise DataError(
            f"Pixels from {low:g} to {high:g}: expected floats in [0, 1]. Divide by the largest "
            "value that is possible, and leave normalisation to the task."
        )
    return image.float()


def with_channels(image: Tensor, in_chans: int) -> Tensor:
    """Give a picture (C, H, W) the number of channels a net wants; grey is repeated.

    Raises:
        DataError: It has another number of channels, and is not grey.
    """
    if len(image) == in_chans:
        return image
    if len(image) == 1 and in_chans == 3:
        return image.expand(3, -1, -1)
    raise DataError(
        f"A picture has {len(image)} channels and the backbone wants {in_chans}. Convert the "
        f"arrays, or build the backbone with in_chans={len(image)}."
    )


def split_stack(images: Any) -> Sequence[Any]:  # Any: what a user may pass as pictures
    """Look at a stack of pictures, (N, H, W, C), (N, C, H, W) or (N, H, W), as a sequence.

    Raises:
        DataError: Not a stack and not a sequence.
    """
    if isinstance(images, torch.Tensor | np.ndarray):
        if images.ndim not in (3, 4):
            raise DataError(
                f"Pictures of shape {tuple(images.shape)}: expected (N, H, W, C), (N, C, H, W) or "
                "(N, H, W)."
            )
        return cast("Sequence[Any]", images)  # all that we use of a sequence they have
    if isinstance(images, Sequence) and not isinstance(images, str | bytes):
        return images
    raise DataError(
        f"Expected an array, a tensor or a list of pictures, got {type(images).__name__}."
    )
