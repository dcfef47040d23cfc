"""What a window is made of: trend, season and rest, which add up to it."""

from __future__ import annotations

import torch
from torch import Tensor

KERNEL = 25
"""Steps of the moving average where there is no season, as in DLinear (arXiv:2205.13504)."""


def split(past: Tensor, season: int) -> dict[str, Tensor]:
    """Take windows apart by moving averages, the classical additive way.

    The trend is the average over a season around each step; the season is the mean of what is left
    at each of its phases. At the ends the season repeats, so that a window that does nothing else
    has a flat trend. Windows of less than two seasons have only trend and rest.

    Args:
        past: (B, L).
        season: Steps of the season, 1 where there is none.

    Returns:
        ``trend``, ``season`` where there is one, and ``rest``, (B, L) each.
    """
    length = past.shape[1]
    if season == 1 or length < 2 * season:
        trend = _average(past, min(KERNEL, length), repeats=1)
        return {"trend": trend, "rest": past - trend}
    trend = _average(past, season, repeats=season)
    left = past - trend
    phases = torch.arange(length, device=past.device) % season
    shares = torch.nn.functional.one_hot(phases, season).to(past.dtype)
    figure = (left @ shares) / shares.sum(0)
    figure = figure - figure.mean(1, keepdim=True)
    repeated = figure[:, phases]
    return {"trend": trend, "season": repeated, "rest": left - repeated}


def _average(past: Tensor, steps: int, *, repeats: int) -> Tensor:
    """Average around each step; the ends go on with the values of ``repeats`` steps before."""
    reach, length = steps // 2, past.shape[1]
    # An even number of steps has no middle, so the two outermost count by half.
    kernel = past.new_ones(2 * reach + 1)
    if steps % 2 == 0:
        kernel[0] = kernel[-1] = 0.5
    places = torch.arange(-reach, length + reach, device=past.device)
    while bool(((places < 0) | (places >= length)).any()):
        places = torch.where(places < 0, places + repeats, places)
        places = torch.where(places >= length, places - repeats, places)
    windows = past[:, places].unfold(1, len(kernel), 1)
    return windows @ (kernel / kernel.sum())
