"""Windows in, forecasts and scores out: the loop below predict, evaluate and backtest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torchmetrics import Metric

from ..backbones.series_base import SeriesBackbone
from ..data.series_samples import Origins, Scale, SeriesSamples
from ..data.series_table import RunningErrors, SeriesTable
from .forecast_metrics import CRPS, MASE, MSIS, QUANTILES, RMSSE, SMAPE, SQL, WQL, Coverage
from .running import move, plain_loader
from .training import best_device

Array = np.ndarray[Any, np.dtype[Any]]  # Any: shapes are said in docstrings

LEVELS = (80, 95)
"""Intervals that are scored, in percent."""

_BATCH_STEPS = 2_000_000  # most values of a batch of whole histories


def samples_at(
    table: SeriesTable,
    steps: Array,
    horizon: int,
    *,
    scale: Scale | None = None,
    ahead: int | None = None,
) -> SeriesSamples:
    """Answer with one window of each series.

    Args:
        table: The series.
        steps: How many steps precede each window's target, (N,).
        horizon: Steps that the net was built for.
        scale: How the series are scaled; None for what these steps tell.
        ahead: Steps of future covariates; None for the horizon.
    """
    origins = Origins(np.arange(len(table)), np.asarray(steps))
    known = Scale.learn(table, steps) if scale is None else scale
    return SeriesSamples(table, known, origins, horizon=horizon, ahead=ahead)


def forecast(
    net: SeriesBackbone, samples: SeriesSamples, *, horizon: int, batch_size: int = 1024
) -> tuple[Array, list[str]]:
    """Forecast every window, whatever its history.

    Where a series is too short for the net, or the net answers with no number, the seasonal naive
    method answers, and where even a season is missing, the last value.

    Returns:
        Means in the scale of the data, (W, horizon), and what made each.
    """
    samples.prepare(net.input_spec)
    mean = np.empty((len(samples), horizon))
    # Whole histories are float64, which not every accelerator knows, and loop in numpy anyway.
    device = best_device() if net.input_spec.scaled else torch.device("cpu")
    net.to(device).eval()
    size = min(batch_size, net.most_rows or batch_size)
    if not net.input_spec.context_steps and len(samples):
        size = int(np.clip(_BATCH_STEPS // max(1, samples.history.max()), 1, size))
    for batch in plain_loader(samples, batch_size=size):
        tensors = [move(batch, device)[name] for name in net.inputs]
        with torch.inference_mode():
            answer = net.forecast(*tensors, horizon=horizon)
        mean[batch["index"].numpy()] = answer.cpu().double().numpy()
    series = samples.origins.series
    if net.input_spec.scaled:
        center, spread = samples.scale.center[series], samples.scale.spread[series]
        mean = mean * spread[:, None] + center[:, None]
    naive, simple = seasonal_naive(samples, season=net.season, horizon=horizon)
    replaced = (samples.history < net.needs_steps) | ~np.isfinite(mean).all(1)
    mean[replaced] = naive[replaced]
    names = [simple[row] if replaced[row] else net.name for row in range(len(mean))]
    return mean, names


def seasonal_naive(samples: SeriesSamples, *, season: int, horizon: int) -> tuple[Array, list[str]]:
    """Repeat the last season of every window, or the last value where less is known."""
    known = samples.history
    steps = np.where(known >= season, season, 1)
    ends = samples.table.offsets[:-1][samples.origins.series] + known
    places = (ends - steps)[:, None] + np.arange(horizon) % steps[:, None]
    names = ["seasonal-naive" if count == season else "naive" for count in steps]
    return samples.table.values[places], names


def actual(samples: SeriesSamples) -> Array:
    """Answer with what happened in each window, (W, H); NaN where it was not observed."""
    table = samples.table
    starts = table.offsets[:-1][samples.origins.series] + samples.history
    places = starts[:, None] + np.arange(samples.horizon)
    return np.where(table.observed[places], table.values[places], np.nan)


@dataclass(frozen=True)
class Scales:
    """Errors of the seasonal naive method in what precedes each window, (W,).

    Args:
        absolute: Mean absolute one.
        squared: Root of the mean squared one.
    """

    absolute: Array
    squared: Array

    @classmethod
    def of(cls, samples: SeriesSamples, season: int) -> Scales:
        """Measure; NaN where less than a season and a step is known."""
        series = samples.origins.series
        absolute, squared = (
            RunningErrors.of(samples.table, season, power=power).mean(series, 0, samples.history)
            for power in (1, 2)
        )
        return cls(absolute, np.sqrt(squared))


def units_of(table: SeriesTable, season: int, lengths: Array) -> Array:
    """Measure the size of each series' errors in its first steps, (N,); 0 where nothing changes.

    That is the error of the seasonal naive method, or that of the naive one in shorter series.
    """
    answer = np.zeros(len(table))
    for steps in (1, season):
        errors = RunningErrors.of(table, steps)
        found = errors.mean(np.arange(len(table)), 0, np.maximum(lengths, 1))
        answer = np.where(np.isfinite(found), found, answer)
    return answer


def units_at(samples: SeriesSamples, units: Array, season: int) -> Array:
    """Measure the size of errors that is to be expected in each window, (W,).

    That is the geometric mean of the series' own size and of that of its latest steps, as many as a
    horizon and two seasons at least: errors are larger in restless times.

    Args:
        samples: The windows.
        units: Of all series, (N,), from `units_of`.
        season: Steps of the season.
    """
    return _restless(samples, units[samples.origins.series], season)


def units_before(samples: SeriesSamples, units: Mapping[str, float], season: int) -> Array:
    """Measure the same, (W,), for series some of which have no known size.

    What precedes a window tells the size of those; nothing that comes later does.

    Args:
        samples: The windows.
        units: The sizes that are known, by the name of the series.
        season: Steps of the season.
    """
    table, series = samples.table, samples.origins.series
    known = np.array([units.get(id, np.nan) for id in table.ids])
    own = np.zeros(len(samples))
    for steps in (1, season):
        found = RunningErrors.of(table, steps).mean(series, 0, samples.history)
        own = np.where(np.isfinite(found), found, own)
    return _restless(samples, np.where(np.isfinite(known[series]), known[series], own), season)


def _restless(samples: SeriesSamples, own: Array, season: int) -> Array:
    series, last = samples.origins.series, samples.history
    first = np.maximum(0, last - max(samples.horizon, 2 * season))
    late = RunningErrors.of(samples.table, season).mean(series, first, last)
    answer: Array = np.sqrt(own * np.where(late > 0, late, own))
    return answer


def mase(mean: Array, samples: SeriesSamples, season: int) -> float:
    """Answer with the MASE of forecasts of windows; NaN where no window can tell."""
    metric = MASE()
    target = actual(samples)
    scale = Scales.of(samples, season).absolute
    observed = np.isfinite(target)
    metric.update(*_tensors(mean, np.nan_to_num(target), scale, observed))
    return float(metric.compute())


class Scores:
    """Every metric, added up over windows.

    Args:
        season: Steps of the season.
    """

    def __init__(self, season: int) -> None:
        self._season = season
        self.scaled = {"mase": MASE(), "rmsse": RMSSE(), "sql": SQL(), "msis": MSIS(max(LEVELS))}
        self.plain = {"smape": SMAPE(), "wql": WQL(), "crps": CRPS()}
        self.coverage = {level: Coverage() for level in LEVELS}

    def add(self, samples: SeriesSamples, mean: Array, quantiles: Mapping[float, Array]) -> None:
        """Add windows.

        Args:
            samples: The windows, W of them.
            mean: (W, H).
            quantiles: Of `QUANTILES` and of the ends of `LEVELS`, by probability, (W, H) each.
        """
        target = actual(samples)
        scales = Scales.of(samples, self._season)
        forecast, truth, observed = _tensors(mean, np.nan_to_num(target), np.isfinite(target))
        absolute, squared = _tensors(scales.absolute, scales.squared)
        (each,) = _tensors(np.stack([quantiles[p] for p in QUANTILES], axis=-1))
        self.scaled["mase"].update(forecast, truth, absolute, observed)
        self.scaled["rmsse"].update(forecast, truth, squared, observed)
        self.scaled["sql"].update(each, truth, absolute, observed)
        self.plain["smape"].update(forecast, truth, observed)
        for name in ("wql", "crps"):
            self.plain[name].update(each, truth, observed)
        for level, metric in self.coverage.items():
            low, high = _tensors(*(quantiles[p] for p in ends_of(level)))
            metric.update(low, high, truth, observed)
        low, high = _tensors(*(quantiles[p] for p in ends_of(max(LEVELS))))
        self.scaled["msis"].update(low, high, truth, absolute, observed)

    def compute(self) -> dict[str, float]:
        """Answer with the metrics by name; those that no window can tell are left out."""
        named: dict[str, Metric] = {
            name: (self.scaled | self.plain)[name]
            for name in ("mase", "rmsse", "smape", "wql", "sql", "crps", "msis")
        }
        named |= {f"coverage_{level}": metric for level, metric in self.coverage.items()}
        values = {name: float(metric.compute()) for name, metric in named.items()}
        return {name: value for name, value in values.items() if np.isfinite(value)}


def ends_of(level: float) -> tuple[float, float]:
    """Answer with the probabilities of the two ends of an interval, given in percent."""
    return round((50 - level / 2) / 100, 10), round((50 + level / 2) / 100, 10)


def _tensors(*arrays: Array) -> list[torch.Tensor]:
    return [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
