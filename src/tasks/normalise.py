"""Normalise: pixels become what a backbone was trained on, as the first module of a task."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..specs import ImageSpec


class Normalise(nn.Module):
    """Scale pixels to [0, 1] and normalise them, on the device: (B, C, H, W) to the same.

    Args:
        spec: Whose mean and standard deviation are used.
        channels_last: Whether the backbone computes in that memory format.
    """

    def __init__(self, spec: ImageSpec, *, channels_last: bool) -> None:
        super().__init__()
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("std", std.view(-1, 1, 1), persistent=False)
        self._format = torch.channels_last if channels_last else torch.contiguous_format

    mean: Tensor
    std: Tensor

    def forward(self, images: Tensor) -> tuple[Tensor]:
        """Turn uint8 pixels, or floats in [0, 1], into what the backbone was trained on."""
        scale = 255.0 if images.dtype == torch.uint8 else 1.0
        floats = images.to(torch.float32, memory_format=self._format, copy=True)
        # In place, and as one multiplication and one subtraction: a batch is large.
        return (floats.mul_(1 / (scale * self.std)).sub_(self.mean / self.std),)
