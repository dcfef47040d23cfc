"""Residual multi-layer perceptrons for series."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from .series_net import WindowNet, WindowShape


def seasonal(past: Tensor, horizon: int, season: int) -> Tensor:
    """Repeat the last season of windows, or their last value where they are shorter, (B, H)."""
    length = season if season <= past.shape[1] else 1
    steps = torch.arange(horizon, device=past.device) % length
    return past[:, -length:][:, steps]


def silent(layer: nn.Linear) -> nn.Linear:
    """Start a layer at zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class ResidualBlock(nn.Module):
    """Layers that explain a part of a window and forecast what follows from it.

    Args:
        shape: Of a window.
        width: Of the hidden layers.
        depth: How many hidden layers.
        explains: Whether a later block sees what this one leaves.
    """

    def __init__(self, shape: WindowShape, *, width: int, depth: int, explains: bool) -> None:
        super().__init__()
        sizes = [shape.context, *[width] * depth]
        layers = [
            layer
            for before, after in pairwise(sizes)
            for layer in (nn.Linear(before, after), nn.ReLU())
        ]
        self.hidden = nn.Sequential(*layers)
        self.explained = nn.Linear(width, shape.context) if explains else None
        self.forecast = silent(nn.Linear(width, shape.horizon))

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with what it leaves of a window, (B, context), and a forecast, (B, horizon)."""
        hidden = self.hidden(past)
        left = past if self.explained is None else past - self.explained(hidden)
        return left, self.forecast(hidden)


class ResMLP(WindowNet):
    """Blocks that each explain what the earlier ones left of a window, on top of the naive method.

    The generic architecture of N-BEATS (Oreshkin et al. 2020, arXiv:1905.10437), small, and as a
    correction of the seasonal naive forecast that starts at zero.

    Args:
        shape: Of a window.
        num_blocks: How many blocks.
        width: Of their hidden layers.
        depth: Hidden layers of a block.
    """

    defaults: ClassVar[Mapping[str, object]] = {"num_blocks": 3, "width": 256, "depth": 2}

    def __init__(
        self, shape: WindowShape, *, num_blocks: int = 3, width: int = 256, depth: int = 2
    ) -> None:
        super().__init__()
        self.shape = shape
        self.blocks = nn.ModuleList(
            ResidualBlock(shape, width=width, depth=depth, explains=left > 0)
            for left in reversed(range(num_blocks))
        )

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context)."""
        forecast = seasonal(past, self.shape.horizon, self.shape.season)
        for block in self.blocks:
            past, correction = block(past)
            forecast = forecast + correction
        return forecast
