"""The simple methods that every forecast has to beat; none of them has anything to train."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from .series_base import SeriesBackbone

Array = np.ndarray[Any, np.dtype[np.float64]]  # Any: shapes are said in docstrings


class Naive(SeriesBackbone):
    """The last value, for ever."""

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Repeat the last value, (B, horizon)."""
        (past,) = tensors
        return past[:, -1:].expand(-1, horizon)


class SeasonalNaive(SeriesBackbone):
    """The last season, again and again."""

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Repeat the last season, (B, horizon)."""
        (past,) = tensors
        steps = torch.arange(horizon, device=past.device) % self.season
        return past[:, -self.season :][:, steps]


class Drift(SeriesBackbone):
    """The straight line through the first and the last value (Hyndman and Athanasopoulos 2021)."""

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Go on along the line, (B, horizon)."""
        past, length = tensors
        last = past[:, -1]
        first = past.gather(1, (past.shape[1] - length)[:, None]).squeeze(1)
        slope = (last - first) / (length - 1).clamp(min=1)
        steps = torch.arange(1, horizon + 1, device=past.device)
        return last[:, None] + slope[:, None] * steps


class Naive2(SeriesBackbone):
    """The last value without its season, and the season put back: the yardstick of M4.

    Series of at least three seasons whose autocorrelation at the season is significant (90 %) are
    decomposed; multiplicatively, as in M4, where all values are positive, else additively
    (Makridakis, Spiliotis and Assimakopoulos 2020, https://doi.org/10.1016/j.ijforecast.2019.04.014).
    """

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Repeat the last adjusted value, with the season, (B, horizon)."""
        past, length = tensors
        answers = np.empty((len(past), horizon))
        for row, series in enumerate(_rows(past, length)):
            season = Season.of(series, self.season)
            level = season.without(series)[-1:]
            answers[row] = season.onto(np.repeat(level, horizon), start=len(series))
        return torch.from_numpy(answers)


class Theta(SeriesBackbone):
    """The theta method on the seasonally adjusted series: half a trend line, half smoothed.

    Assimakopoulos and Nikolopoulos 2000 (https://doi.org/10.1016/S0169-2070(00)00066-2), as in M4:
    the mean of the regression line and of simple exponential smoothing of the theta line 2, whose
    weight and first level have the least squared error in the past.
    """

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast, (B, horizon)."""
        past, length = tensors
        rows = _rows(past, length)
        seasons = [Season.of(series, self.season) for series in rows]
        adjusted = [s.without(series) for s, series in zip(seasons, rows, strict=True)]
        lines = [_line(series) for series in adjusted]
        longest = past.shape[1]
        doubled = np.zeros((len(rows), longest))
        for row, (series, (start, slope)) in enumerate(zip(adjusted, lines, strict=True)):
            line = start + slope * np.arange(len(series))
            doubled[row, longest - len(series) :] = 2 * series - line
        levels = smooth(doubled, length.cpu().numpy())
        answers = np.empty((len(rows), horizon))
        for row, (series, (start, slope)) in enumerate(zip(rows, lines, strict=True)):
            ahead = start + slope * np.arange(len(series), len(series) + horizon)
            answers[row] = seasons[row].onto((ahead + levels[row]) / 2, start=len(series))
        return torch.from_numpy(answers)


class Season:
    """What a series repeats every season, as factors or as summands.

    Args:
        figure: One value per step of the season, from the series' first step on; None for none.
        multiplies: Whether the values are factors.
    """

    def __init__(self, figure: Array | None, *, multiplies: bool) -> None:
        self.figure, self.multiplies = figure, multiplies

    @classmethod
    def of(cls, series: Array, season: int) -> Season:
        """Decompose a series by moving averages where its season is significant."""
        if season == 1 or len(series) < 3 * season or not _is_seasonal(series, season):
            return cls(None, multiplies=False)
        kernel = np.ones(season) / season
        if season % 2 == 0:
            kernel = np.concatenate([[0.5], np.ones(season - 1), [0.5]]) / season
        trend = np.convolve(series, kernel, mode="valid")
        reach = (len(kernel) - 1) // 2
        middle = series[reach : reach + len(trend)]
        multiplies = bool((series > 0).all())
        rest = middle / trend if multiplies else middle - trend
        phases = (np.arange(len(rest)) + reach) % season
        figure = np.bincount(phases, rest, minlength=season) / np.bincount(phases, minlength=season)
        figure = figure / figure.mean() if multiplies else figure - figure.mean()
        return cls(figure, multiplies=multiplies)

    def without(self, series: Array) -> Array:
        """Answer with the series adjusted for the season."""
        if self.figure is None:
            return series
        repeated = np.resize(self.figure, len(series))
        return series / repeated if self.multiplies else series - repeated

    def onto(self, values: Array, *, start: int) -> Array:
        """Put the season on values that start at a step of the series."""
        if self.figure is None:
            return values
        repeated = self.figure[(start + np.arange(len(values))) % len(self.figure)]
        return values * repeated if self.multiplies else values + repeated


def smooth(series: Array, lengths: Array) -> Array:
    """Answer with the last level of simple exponential smoothing, (B,).

    The fit is exact in the first level, in which the squared error is a parabola, and searched in
    the weight, first on a grid and then around its best point.

    Args:
        series: Flush right, (B, T).
        lengths: How many of the last columns are values, (B,).
    """
    grid = np.linspace(0.0001, 0.9999, 21)
    weights = np.broadcast_to(grid, (len(series), len(grid)))
    _, best = _smooth_with(series, lengths, weights)
    finer = np.linspace(-0.05, 0.05, 21)
    around = np.clip(weights[np.arange(len(best)), best][:, None] + finer, 0.0001, 0.9999)
    levels, best = _smooth_with(series, lengths, around)
    answer: Array = levels[np.arange(len(best)), best]
    return answer


def _smooth_with(series: Array, lengths: Array, weights: Array) -> tuple[Array, Array]:
    """Smooth with several weights each, (B, A): the last levels, and which weight was best."""
    # A level is c * first level + d, so an error is y - d - c * first level.
    c, d = np.ones_like(weights), np.zeros_like(weights)
    cc, cy, yy = np.zeros_like(weights), np.zeros_like(weights), np.zeros_like(weights)
    steps = series.shape[1]
    for step in range(steps):
        inside = (step >= steps - lengths)[:, None]
        error = series[:, step, None] - d
        cc += np.where(inside, c * c, 0)
        cy += np.where(inside, c * error, 0)
        yy += np.where(inside, error * error, 0)
        d = np.where(inside, d + weights * error, d)
        c = np.where(inside, c * (1 - weights), c)
    first = cy / np.maximum(cc, 1e-300)
    best = (yy - cy * first).argmin(1)
    return c * first + d, best


def _rows(past: Tensor, length: Tensor) -> list[Array]:
    values = past.detach().cpu().double().numpy()
    steps = values.shape[1]
    return [values[row, steps - int(count) :] for row, count in enumerate(length)]


def _line(series: Array) -> tuple[float, float]:
    """Answer with value at step 0 and slope of the regression line."""
    steps = np.arange(len(series)) - (len(series) - 1) / 2
    power = float(np.square(steps).sum())
    slope = float((steps * series).sum()) / power if power else 0.0
    return float(series.mean()) - slope * (len(series) - 1) / 2, slope


def _is_seasonal(series: Array, season: int) -> bool:
    centred = series - series.mean()
    power = float(np.square(centred).sum())
    if power <= 0:
        return False
    found = np.array([(centred[lag:] * centred[:-lag]).sum() for lag in range(1, season + 1)])
    found = found / power
    limit = 1.645 * np.sqrt((1 + 2 * np.square(found[:-1]).sum()) / len(series))
    return bool(abs(found[-1]) > limit)
