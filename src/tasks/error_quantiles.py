"""Intervals by what a model missed: conformal calibration on windows that it did not learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

Array = np.ndarray[Any, np.dtype[Any]]  # Any: shapes are said in docstrings

GRID = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025),
    *(round(0.05 * step, 2) for step in range(1, 20)),
    *(0.975, 0.99, 0.995, 0.9975, 0.999),
)
"""Probabilities that the quantiles are kept for; those between them are interpolated."""

LEAST_OWN = 20
"""Windows, told apart, that a series needs for quantiles of its own; others share those of all."""

_NORMAL = 1.2533  # standard deviation of a normal distribution over its mean absolute deviation


class ErrorQuantiles(nn.Module):
    """Quantiles of the errors of a model, by step ahead, in units of each series' own error.

    They come from forecasts of validation windows, so they hold for any model, and the quantiles of
    one step come from one sample, so they never cross. The finite sample is corrected for as in
    split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173); exchangeable
    errors, which that asks for, series do not have, so the coverage is also measured.

    Args:
        horizon: Steps ahead, H.
        season: Steps of the season; says how the normal errors grow that stand in where nothing was
            calibrated.
        own: Series that have quantiles of their own, R of them.
    """

    def __init__(self, horizon: int, *, season: int, own: Sequence[str] = ()) -> None:
        super().__init__()
        self.horizon, self.season, self.own = horizon, season, tuple(own)
        self.calibrated = False
        seasons = np.arange(horizon) // season
        normal = torch.special.ndtri(torch.tensor(GRID, dtype=torch.float64))
        growth = torch.from_numpy(np.sqrt(1.0 + seasons))
        table = _NORMAL * growth[:, None] * normal
        self.table = nn.Buffer(table.expand(1 + len(self.own), -1, -1).clone())

    @classmethod
    def learn(
        cls,
        errors: Array,
        series: Array,
        ids: Sequence[str],
        *,
        season: int,
        alike: float = 1.0,
    ) -> ErrorQuantiles:
        """Learn from forecasts of windows.

        Args:
            errors: (target - forecast) / unit of the series, (W, H); NaN where not observed.
            series: Which series each window is of, (W,).
            ids: Names of all series.
            season: Steps of the season.
            alike: How many windows tell as much as an independent one: as many count as one when
                the finite sample is corrected for.
        """
        counts = np.bincount(series, minlength=len(ids)) / alike
        own = [number for number in range(len(ids)) if counts[number] >= LEAST_OWN]
        own = own if len(own) <= 2000 else []  # a table of more would be larger than the data
        made = cls(errors.shape[1], season=season, own=[ids[number] for number in own])
        fallback = made.table[0].numpy()
        rows = [_quantiles(errors, fallback, alike)]
        rows += [_quantiles(errors[series == number], rows[0], alike) for number in own]
        made.table.copy_(torch.from_numpy(np.stack(rows)))
        made.calibrated = True
        return made

    def quantiles(self, mean: Array, units: Array, ids: Sequence[str], levels: Array) -> Array:
        """Put quantiles around forecasts.

        Args:
            mean: (N, H); steps beyond those that were calibrated widen with the square root.
            units: Of each series, (N,).
            ids: Names of the series.
            levels: Probabilities, (Q,).

        Returns:
            (N, H, Q), rising along Q where the levels rise.
        """
        rows = {id: number + 1 for number, id in enumerate(self.own)}
        # Forecasts are many and series few: what is worked out once per series is only spread here.
        numbers = np.array([rows.get(id, 0) for id in ids], dtype=np.intp)
        used, row_of = np.unique(numbers, return_inverse=True)
        steps = np.arange(mean.shape[1])
        widen = np.sqrt(np.maximum(1.0, (steps + 1) / self.horizon))
        chosen = self.table.cpu().numpy()[used]
        chosen = chosen[:, np.minimum(steps, self.horizon - 1)] * widen[:, None]
        right = np.clip(np.searchsorted(GRID, levels), 1, len(GRID) - 1)
        low, high = np.array(GRID)[right - 1], np.array(GRID)[right]
        share = np.clip((levels - low) / (high - low), 0, 1)
        offsets = chosen[..., right - 1] * (1 - share) + chosen[..., right] * share
        answer: Array = mean[..., None] + units[:, None, None] * offsets[row_of]
        return answer

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside the table."""
        return {
            "horizon": self.horizon,
            "season": self.season,
            "own": list(self.own),
            "calibrated": self.calibrated,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> ErrorQuantiles:  # Any: plain JSON values
        """Build what was saved, but for the table."""
        made = cls(settings["horizon"], season=settings["season"], own=settings["own"])
        made.calibrated = settings["calibrated"]
        return made


def _quantiles(errors: Array, fallback: Array, alike: float) -> Array:
    """Answer with the corrected quantiles of each step, (H, len(GRID))."""
    answer = fallback.copy()
    for step in range(errors.shape[1]):
        sample = errors[:, step]
        sample = sample[np.isfinite(sample)]
        if not len(sample):
            continue
        count = max(1.0, len(sample) / alike)
        share = (count + 1) / count
        grid = np.array(GRID)
        corrected = np.where(grid > 0.5, grid * share, 1 - (1 - grid) * share)
        corrected[grid == 0.5] = 0.5
        answer[step] = np.quantile(sample, np.clip(corrected, 0, 1))
    return answer
