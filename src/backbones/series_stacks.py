"""Stacks of multi-layer perceptrons that each explain a part of a window: N-BEATS and N-HiTS."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import unknown_name
from .series_mlp import silent
from .series_net import WindowNet, WindowShape

STACKS = ("trend", "seasonality", "generic")


def layers(context: int, *, width: int, depth: int) -> nn.Sequential:
    """Build hidden layers over a window."""
    sizes = [context, *[width] * depth]
    pairs = ((nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes))
    return nn.Sequential(*(layer for pair in pairs for layer in pair))


def basis(kind: str, steps: int, *, degree: int) -> Tensor:
    """Answer with the curves that a stack adds up, (number of curves, steps).

    A trend is a polynomial, a seasonality the harmonics of the steps (section 3.3 of N-BEATS).
    """
    time = torch.arange(steps) / steps
    if kind == "trend":
        return torch.stack([time**power for power in range(degree + 1)])
    angles = 2 * torch.pi * torch.arange(max(1, steps // 2))[:, None] * time
    return torch.cat([angles.cos(), angles.sin()[1:]])


class BasisBlock(nn.Module):
    """Layers that explain a window by curves of one kind and forecast by curves of that kind.

    Args:
        kind: One of `STACKS`; generic ones learn their curves.
        shape: Of a window.
        width: Of the hidden layers.
        depth: How many hidden layers.
        degree: Of the polynomial of a trend.
        explains: Whether a later block sees what this one leaves.
    """

    def __init__(
        self,
        kind: str,
        shape: WindowShape,
        *,
        width: int,
        depth: int,
        degree: int,
        explains: bool,
    ) -> None:
        super().__init__()
        self.hidden = layers(shape.context, width=width, depth=depth)
        ahead = behind = None
        if kind != "generic":
            ahead = basis(kind, shape.horizon, degree=degree)
            behind = basis(kind, shape.context, degree=degree)
        self.ahead: Tensor | None
        self.behind: Tensor | None
        self.register_buffer("ahead", ahead, persistent=False)
        self.register_buffer("behind", behind if explains else None, persistent=False)
        num_ahead = shape.horizon if ahead is None else len(ahead)
        num_behind = shape.context if behind is None else len(behind)
        self.explained = nn.Linear(width, num_behind) if explains else None
        self.forecast = silent(nn.Linear(width, num_ahead))

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with what it leaves of a window, (B, context), and a forecast, (B, horizon)."""
        hidden = self.hidden(past)
        forecast = self.forecast(hidden)
        if self.ahead is not None:
            forecast = forecast @ self.ahead
        if self.explained is None:
            return past, forecast
        explained = self.explained(hidden)
        return past - (explained if self.behind is None else explained @ self.behind), forecast


class NBeats(WindowNet):
    """N-BEATS (Oreshkin et al. 2020, arXiv:1905.10437): stacks that each explain what is left.

    The forecast is the sum of what its stacks say, which `parts` tells apart: a polynomial trend,
    harmonics, and what neither can say. The paper's interpretable net is
    ``stacks=("trend", "seasonality")`` with 3 blocks of one stack, its generic one 30 blocks.

    Args:
        shape: Of a window.
        stacks: Of `STACKS`, in the order in which they see the window.
        num_blocks: Blocks of each stack.
        width: Of the hidden layers.
        depth: Hidden layers of a block.
        degree: Of the polynomial of a trend.

    Raises:
        UnknownNameError: There is no such stack.
    """

    defaults: ClassVar[Mapping[str, object]] = {
        "stacks": STACKS,
        "num_blocks": 1,
        "width": 256,
        "depth": 4,
        "degree": 2,
    }
    splits: ClassVar[bool] = True

    def __init__(
        self,
        shape: WindowShape,
        *,
        stacks: tuple[str, ...] = STACKS,
        num_blocks: int = 1,
        width: int = 256,
        depth: int = 4,
        degree: int = 2,
    ) -> None:
        super().__init__()
        for kind in stacks:
            if kind not in STACKS:
                raise unknown_name("stack", kind, STACKS)
        self.kinds = [kind for kind in stacks for _ in range(num_blocks)]
        self.blocks = nn.ModuleList(
            BasisBlock(
                kind,
                shape,
                width=width,
                depth=depth,
                degree=degree,
                explains=place < len(self.kinds) - 1,
            )
            for place, kind in enumerate(self.kinds)
        )

    def parts(self, past: Tensor) -> dict[str, Tensor]:
        """Forecast by each kind of stack, (B, horizon) each, from windows (B, context)."""
        found: dict[str, Tensor] = {}
        for kind, block in zip(self.kinds, self.blocks, strict=True):
            past, forecast = block(past)
            found[kind] = found[kind] + forecast if kind in found else forecast
        return found

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context)."""
        return torch.stack(list(self.parts(past).values())).sum(0)


class PooledBlock(nn.Module):
    """Layers over a window at one resolution, with a forecast that is interpolated.

    Args:
        shape: Of a window.
        pool: Steps whose largest value stands for them.
        knots: Steps that are forecast; those between them are interpolated.
        width: Of the hidden layers.
        depth: How many hidden layers.
        explains: Whether a later block sees what this one leaves.
    """

    def __init__(
        self,
        shape: WindowShape,
        *,
        pool: int,
        knots: int,
        width: int,
        depth: int,
        explains: bool,
    ) -> None:
        super().__init__()
        self.pool, self.horizon = pool, shape.horizon
        self.hidden = layers(-(-shape.context // pool), width=width, depth=depth)
        self.explained = nn.Linear(width, shape.context) if explains else None
        self.forecast = silent(nn.Linear(width, knots))

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with what it leaves of a window, (B, context), and a forecast, (B, horizon)."""
        pooled = functional.max_pool1d(past[:, None], self.pool, ceil_mode=True)[:, 0]
        hidden = self.hidden(pooled)
        knots = self.forecast(hidden)[:, None]
        forecast = functional.interpolate(
            knots, size=self.horizon, mode="linear", align_corners=False
        )[:, 0]
        left = past if self.explained is None else past - self.explained(hidden)
        return left, forecast


class NHiTS(WindowNet):
    """N-HiTS (Challu et al. 2023, arXiv:2201.12886): from coarse to fine, for long horizons.

    Each block sees the window at another resolution and forecasts at another one. Kernels and knots
    are those of the authors' library; rate and centre were chosen on the last two months of the
    first year of ETTh1.

    Args:
        shape: Of a window.
        pools: Steps that each block pools.
        strides: Steps of the horizon for one knot of each block.
        width: Of the hidden layers.
        depth: Hidden layers of a block.
    """

    lr: ClassVar[float] = 2e-3
    defaults: ClassVar[Mapping[str, object]] = {
        "center": "mean",
        "pools": (2, 2, 1),
        "strides": (4, 2, 1),
        "width": 256,
        "depth": 2,
    }

    def __init__(
        self,
        shape: WindowShape,
        *,
        pools: tuple[int, ...] = (2, 2, 1),
        strides: tuple[int, ...] = (4, 2, 1),
        width: int = 256,
        depth: int = 2,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PooledBlock(
                shape,
                pool=min(pool, shape.context),
                knots=max(1, shape.horizon // stride),
                width=width,
                depth=depth,
                explains=place < len(pools) - 1,
            )
            for place, (pool, stride) in enumerate(zip(pools, strides, strict=True))
        )

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context)."""
        forecasts = []
        for block in self.blocks:
            past, forecast = block(past)
            forecasts.append(forecast)
        return torch.stack(forecasts).sum(0)
