"""Linear nets: one map, or one each for trend and rest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .series_net import WindowNet, WindowShape
from .series_parts import split


class NLinear(WindowNet):
    """One linear layer on a window relative to its last value.

    Zeng et al. 2022 (arXiv:2205.13504), as published: squared error, nothing divided by the spread.
    The rate was chosen on the validation months of ETTh1, at four horizons.
    """

    lr: ClassVar[float] = 5e-3
    defaults: ClassVar[Mapping[str, object]] = {"center": "last", "spread": "none", "loss": "mse"}

    def __init__(self, shape: WindowShape) -> None:
        super().__init__()
        self.season = shape.season
        self.linear = nn.Linear(shape.context, shape.horizon)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    splits: ClassVar[bool] = True

    def parts(self, past: Tensor) -> dict[str, Tensor]:
        """Forecast trend, season and rest of windows: the map is linear, so they add up."""
        found = {
            name: functional.linear(part, self.linear.weight)
            for name, part in split(past, self.season).items()
        }
        return {**found, "trend": found["trend"] + self.linear.bias}

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context)."""
        forecast: Tensor = self.linear(past)
        return forecast


class DLinear(WindowNet):
    """A linear layer for the moving average of a window and one for what is left of it.

    Zeng et al. 2022 (arXiv:2205.13504), as published: squared error, windows as they are. Both
    layers start as the mean of the window, as in the authors' code.

    Args:
        shape: Of a window.
        kernel: Steps of the moving average, an odd number; the ends are repeated.
    """

    lr: ClassVar[float] = 2e-3
    defaults: ClassVar[Mapping[str, object]] = {
        "center": "none",
        "spread": "none",
        "loss": "mse",
        "kernel": 25,
    }
    splits: ClassVar[bool] = True

    def __init__(self, shape: WindowShape, *, kernel: int = 25) -> None:
        super().__init__()
        self.kernel = kernel + (kernel + 1) % 2  # the middle of an even one is no step
        self.trend = nn.Linear(shape.context, shape.horizon)
        self.rest = nn.Linear(shape.context, shape.horizon)
        for layer in (self.trend, self.rest):
            nn.init.constant_(layer.weight, 1 / shape.context)
            nn.init.zeros_(layer.bias)

    def parts(self, past: Tensor) -> dict[str, Tensor]:
        """Forecast trend and rest, (B, horizon) each, from windows (B, context)."""
        reach = self.kernel // 2
        padded = functional.pad(past[:, None], (reach, reach), mode="replicate")
        trend = functional.avg_pool1d(padded, self.kernel, stride=1)[:, 0]
        return {"trend": self.trend(trend), "rest": self.rest(past - trend)}

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context)."""
        return torch.stack(list(self.parts(past).values())).sum(0)
