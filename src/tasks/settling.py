"""What follows a fit: which model is used, how far off it is, and how good its intervals are."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from ..backbones.series_ridge import Ridge
from ..data.series import SeriesData
from ..data.series_samples import SeriesSamples
from .error_quantiles import ErrorQuantiles
from .forecasting import LEVELS, Array, actual, forecast, mase, seasonal_naive, units_at, units_of
from .least_squares import LeastSquares

if TYPE_CHECKING:
    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")

_MEASURED = 0.4
"""Share of the validation windows, the latest, on which coverage is measured."""


def settle(task: Forecaster, data: SeriesData) -> None:
    """Choose between model and baselines, and calibrate the intervals, on validation windows.

    Args:
        task: Fitted to what precedes the validation windows.
        data: With the validation windows.
    """
    season, horizon = task.spec.season, task.spec.horizon_steps
    if data.val is None:
        if task.chooses and task.net.solved:
            _log.warning("No window validates, so the seasonal naive method is used.")
            task.use("seasonal-naive")
        _log.warning("No window validates: the intervals are normal guesses, not calibrated.")
        for name in ("model", "naive"):
            task.head[name] = ErrorQuantiles(horizon, season=season)
        return
    mean = validate(task, data.val)
    naive, _ = seasonal_naive(data.val, season=season, horizon=horizon)
    calibrate(task, data, data.val, _choose(task, data.val, mean, naive))


def validate(task: Forecaster, samples: SeriesSamples) -> Array:
    """Answer with forecasts of validation windows, (W, H), with the setting that they choose."""
    _sharpen(task, samples)
    mean, _ = forecast(task.net, samples, horizon=task.spec.horizon_steps)
    return mean


def calibrate(task: Forecaster, data: SeriesData, samples: SeriesSamples, mean: Array) -> None:
    """Learn the intervals from what forecasts of validation windows missed, and measure them.

    Args:
        task: Whose intervals they are.
        data: With the validation windows.
        samples: These windows, W of them.
        mean: What was forecast, (W, H).
    """
    season = task.spec.season
    naive, _ = seasonal_naive(samples, season=season, horizon=task.spec.horizon_steps)
    units = units_at(samples, units_of(data.table, season, data.learnt), season)
    said = _measure(mean, samples, units, season)
    for name, forecasts in (("model", mean), ("naive", naive)):
        errors = _errors(forecasts, samples, units)
        series = samples.origins.series
        task.head[name] = ErrorQuantiles.learn(
            errors, series, data.table.ids, season=season, alike=_alike(errors, samples)
        )
    _log.info(f"Calibrated the intervals on {len(mean):,} validation windows; {said}.")


def _sharpen(task: Forecaster, samples: SeriesSamples) -> None:
    """Take the setting of ridge that has the lowest MASE, of those with the least squared error."""
    objective, net = task.objective, task.net
    if not (isinstance(objective, LeastSquares) and isinstance(net, Ridge)):
        return
    scores = []
    for choice in objective.candidates:
        objective.take(net, choice)
        mean, _ = forecast(net, samples, horizon=net.horizon_steps)
        scores.append(mase(mean, samples, net.season))
    if scores:
        objective.take(net, objective.candidates[int(np.nanargmin([*scores, np.inf]))])
        _log.info(f"Solved {net.name}: {objective.choice}, as validation windows want it.")


def _choose(task: Forecaster, samples: SeriesSamples, mean: Array, naive: Array) -> Array:
    """Compare the model with the naive methods; take the best, or warn where one was named."""
    season, horizon = task.spec.season, task.spec.horizon_steps
    last, _ = seasonal_naive(samples, season=1, horizon=horizon)
    candidates = {task.model: mean, "seasonal-naive": naive, "naive": last}
    scores = {name: mase(values, samples, season) for name, values in candidates.items()}
    known = {name: value for name, value in scores.items() if np.isfinite(value)}
    best = min(known, key=lambda name: known[name]) if known else task.model
    words = ", ".join(f"{name} {value:.3f}" for name, value in known.items())
    said = f"MASE on {len(samples):,} validation windows: {words or 'not defined'}"
    if known.get(task.model) == known.get(best):
        best = task.model
    if best == task.model:
        _log.info(f"{task.model} is used. {said}.")
        return mean
    if task.chooses:
        task.use(best)
        _log.info(f"{best} is used: nothing that was tried is better. {said}.")
        return candidates[best]
    _log.warning(
        f"{task.model} forecasts worse than {best}. {said}. Consider backbone={best!r}, or "
        "leave backbone= out."
    )
    return mean


def _errors(mean: Array, samples: SeriesSamples, units: Array) -> Array:
    """Answer with errors in units of each window, NaN where nothing was observed, (W, H)."""
    own = units[:, None]
    answer: Array = (actual(samples) - mean) / np.where(own > 0, own, 1.0)
    return np.where(own > 0, answer, np.nan)


def _alike(errors: Array, samples: SeriesSamples) -> float:
    """Say how many neighbouring windows tell as much as one that is independent of the others.

    That is (1 + r) / (1 - r) with the autocorrelation r of the errors of one step from window to
    window, as for an autoregressive process; at most as many as share a step.
    """
    series, steps = samples.origins.series, samples.origins.steps
    follows = np.diff(series) == 0
    first, second = errors[:-1][follows], errors[1:][follows]
    both = np.isfinite(first) & np.isfinite(second)
    if both.sum() < 10:
        return 1.0
    power = float(np.square(first[both]).sum() * np.square(second[both]).sum()) ** 0.5
    alike = float((first[both] * second[both]).sum()) / power if power > 0 else 0.0
    alike = min(max(alike, 0.0), 0.99)
    shared = samples.horizon / float(np.diff(steps)[follows].mean())
    return min((1 + alike) / (1 - alike), max(1.0, shared))


def _measure(mean: Array, samples: SeriesSamples, units: Array, season: int) -> str:
    """Calibrate on the earlier windows and count in the later ones, and say what came of it."""
    series, steps = samples.origins.series, samples.origins.steps
    num_series = len(samples.table)
    first = np.full(num_series, np.iinfo(np.int64).max)
    last = np.zeros(num_series, dtype=np.int64)
    np.minimum.at(first, series, steps)
    np.maximum.at(last, series, steps)
    border = (last - _MEASURED * (last - first))[series]
    early, late = steps + samples.horizon <= border, steps >= border
    ids = samples.table.ids
    if early.sum() < 10 or not late.any():
        return "there are too few windows to measure how much they hold"
    errors = _errors(mean, samples, units)
    calibration = ErrorQuantiles.learn(
        errors[early], series[early], ids, season=season, alike=_alike(errors, samples)
    )
    names = [ids[number] for number in series[late]]
    levels = np.array([p for level in LEVELS for p in (0.5 - level / 200, 0.5 + level / 200)])
    ends = calibration.quantiles(mean[late], units[late], names, levels)
    target = actual(samples)[late]
    seen = np.isfinite(target)
    words = []
    for place, level in enumerate(LEVELS):
        inside = (ends[..., 2 * place] <= target) & (target <= ends[..., 2 * place + 1])
        words.append(f"{level} % intervals held {100 * inside[seen].mean():.1f} %")
    return f"calibrated on the earlier and measured on the later of them, {', '.join(words)}"
