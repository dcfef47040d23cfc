"""Resize and crop as the libraries did that the pretrained nets come from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import ImageSpec, Interpolation

_TORCH = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
_PILLOW: dict[Interpolation, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


class Preprocess:
    """Turn a picture of any size into one of ``spec.size``.

    On uint8 it equals timm's and torchvision's evaluation transforms on PIL images, before scaling
    and normalisation, to one level of 255. With two or with more than four channels each channel
    is resampled by itself, and so is alpha (Pillow would multiply it in first).

    Example:
        >>> import torch
        >>> from mealkit import ImageSpec
        >>> Preprocess(ImageSpec(size=(32, 32)))(torch.zeros(3, 60, 80, dtype=torch.uint8)).shape
        torch.Size([3, 32, 32])
    """

    def __init__(self, spec: ImageSpec) -> None:
        self.spec = spec

    def __call__(self, image: Tensor) -> Tensor:
        """Resize and crop a picture (C, H, W) of uint8, or of floats in [0, 1]."""
        height, width = image.shape[-2:]
        resized = self._resize(image, self._resized_size(height, width))
        return self._crop(resized)

    def _resized_size(self, height: int, width: int) -> tuple[int, int]:
        """Round as the source libraries do: timm and torchvision differ between the cases."""
        goal_height, goal_width = (math.floor(side / self.spec.crop_pct) for side in self.spec.size)
        if self.spec.crop_mode == "squash":
            return goal_height, goal_width
        if self.spec.crop_mode == "center" and goal_height == goal_width:
            short, long = sorted((height, width))
            long = int(goal_height * long / short)
            return (goal_height, long) if height <= width else (long, goal_height)
        choose = max if self.spec.crop_mode == "border" else min
        ratio = choose(height / goal_height, width / goal_width)
        return max(1, round(height / ratio)), max(1, round(width / ratio))

    def _resize(self, image: Tensor, size: tuple[int, int]) -> Tensor:
        if tuple(image.shape[-2:]) == size:
            return image
        if self._fits_torch(image, size):
            mode = _TORCH[self.spec.interpolation]
            resized: Tensor = functional.resize(
                image, list(size), interpolation=mode, antialias=True
            )
            return resized
        return _resize_by_pillow(image, size, _PILLOW[self.spec.interpolation])

    def _fits_torch(self, image: Tensor, size: tuple[int, int]) -> bool:
        """Whether torch, 2 to 5 times faster, gives Pillow's pixels to one level of 255.

        Bilinear: always. Bicubic overshoots and is cut to [0, 255] between its two passes, and on
        tall pictures Pillow 13 swaps the passes: up to 20 levels apart. Enlarging rounds
        differently, too (2 levels on a few pixels of a million).
        """
        if self.spec.interpolation == "bilinear":
            return True
        height, width = image.shape[-2:]
        smaller = size[0] <= height and size[1] <= width
        wide = self.spec.interpolation == "bicubic" and image.dtype == torch.uint8
        return wide and smaller and width >= height

    def _crop(self, image: Tensor) -> Tensor:
        goal_height, goal_width = self.spec.size
        height, width = image.shape[-2:]
        if height < goal_height or width < goal_width:
            image = self._pad(image, max(goal_height, height), max(goal_width, width))
            height, width = image.shape[-2:]
        whole = math.floor if self.spec.crop_offset == "down" else round
        top, left = whole((height - goal_height) / 2), whole((width - goal_width) / 2)
        return image[..., top : top + goal_height, left : left + goal_width]

    def _pad(self, image: Tensor, height: int, width: int) -> Tensor:
        """Put the picture in the middle of its mean colour."""
        levels = torch.tensor([round(255 * value) for value in self.spec.mean])
        colour = levels / 255 if image.is_floating_point() else levels
        padded = colour.to(image.dtype)[:, None, None].repeat(1, height, width)
        top, left = (height - image.shape[-2]) // 2, (width - image.shape[-1]) // 2
        padded[:, top : top + image.shape[-2], left : left + image.shape[-1]] = image
        return padded


def _resize_by_pillow(image: Tensor, size: tuple[int, int], resampling: Image.Resampling) -> Tensor:
    width_height = size[::-1]  # Pillow says width first
    if image.dtype == torch.uint8 and len(image) == 3:
        picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        return torch.from_numpy(np.array(picture.resize(width_height, resampling))).permute(2, 0, 1)
    channels = [Image.fromarray(np.ascontiguousarray(channel.numpy())) for channel in image]
    arrays = [np.array(channel.resize(width_height, resampling)) for channel in channels]
    resized = torch.from_numpy(np.stack(arrays))
    return resized.clamp_(0, 1) if resized.is_floating_point() else resized
