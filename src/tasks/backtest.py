"""Forecasts of the past: of what was held back, and of a time after which nothing was known."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.series import SeriesData
from ..data.series_frames import FrameForm
from ..data.series_samples import Origins, Scale, SeriesSamples
from ..data.series_table import SeriesTable, infer_season
from ..errors import InvalidValueError, NoDataError, check_count
from .forecast_metrics import QUANTILES
from .forecast_results import ForecastEvaluation, Forecasts, probabilities_of
from .forecasting import LEVELS, Array, Scores, actual, forecast, seasonal_naive, units_before
from .series_inputs import read_table

if TYPE_CHECKING:
    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")

_CHUNK = 1024
"""Windows that are scored at a time."""

_ROUNDING = 1e-6
"""Share of an error that tells nothing: windows are scaled and scaled back in single precision."""


def evaluate(task: Forecaster, data: Any, *, step: int | None) -> ForecastEvaluation:
    """Score a fitted task; see `Forecaster.evaluate`."""
    horizon = task.spec.horizon_steps
    if data is None or isinstance(data, SeriesData):
        series = task.data if data is None else data
        if series is None or series.test is None:
            raise NoDataError(
                "There is no test part to score. Hold steps back when the data are read "
                f"(test={horizon}), pass a table, or use task.backtest()."
            )
        task.check_data(series)
        samples = series.windows(series.known, series.table.lengths, stride=_step(step, horizon))
        return _score([(task, samples)], series.form)
    if step is not None:
        raise InvalidValueError("step= is of the test part of SeriesData, and others were given.")
    table, form = read_table(task, data)
    known = table.lengths - horizon
    long = np.flatnonzero(known >= 1)
    if not len(long):
        raise NoDataError(
            f"No series has the {horizon} steps to compare with and one before them; the longest "
            f"has {table.lengths.max()}."
        )
    scale = task.memory.scale_of(table.ids, Scale.learn(table, np.maximum(known, 1)))
    samples = SeriesSamples(table, scale, Origins(long, known[long]), horizon=horizon)
    return _score([(task, samples)], form)


def backtest(
    task: Forecaster,
    data: SeriesData | None,
    *,
    windows: int,
    step: int | None,
    refit: bool | int = False,
    warns: bool = True,
) -> ForecastEvaluation:
    """Fit copies to the past and score them; see `Forecaster.backtest`.

    Args:
        task: What is asked.
        data: See `Forecaster.backtest`, like all below.
        windows: See there.
        step: See there.
        refit: See there.
        warns: Whether a model that loses to the seasonal naive method is warned of.
    """
    series = task.data if data is None else data
    if series is None:
        raise NoDataError("This task has no data to go back in. Pass them: task.backtest(data).")
    check_count("windows", windows)
    every = windows if refit is False else 1 if refit is True else refit
    check_count("refit", every)
    task.check_data(series)
    horizon = task.spec.horizon_steps
    stride = _step(step, horizon)
    # Of window number w, the first target is step origin + w * stride.
    origin = series.known - horizon - (windows - 1) * stride
    # A series that is too short for all windows has its last ones.
    missing = np.maximum(0, -(-(1 - origin) // stride))
    long = missing < windows
    if not long.any():
        raise NoDataError(
            f"No series is long enough for a forecast of {horizon} steps in its past; the longest "
            f"has {series.known.max()}."
        )
    if missing[long].any():
        _log.warning(
            f"{int((missing[long] > 0).sum()):,} series are too short for {windows} windows and "
            "are scored on fewer."
        )
    season: int | None = None
    parts = []
    for number in range(0, windows, every):
        until = min(number + every, windows) - 1
        if not (missing <= until).any():
            continue  # all are too short for windows so early
        first = origin + np.maximum(number, missing) * stride
        past = series.table.cut(np.where(missing <= until, first, 0))
        if season is None:
            season = infer_season(past, past.lengths) if series.finds_season else past.season
        known = _known(series, replace(past, season=season))
        fresh = _learnt(task, known)
        samples = _windows_after(
            series, known, np.flatnonzero(missing <= until), first, origin + until * stride, stride
        )
        parts.append((fresh, samples))
    return _score(parts, series.form, warns=warns)


def _known(series: SeriesData, past: SeriesTable) -> SeriesData:
    """Answer with what was known of series at a time."""
    return SeriesData(past, spec=replace(series.spec, season=past.season), seed=series.seed)


def _learnt(task: Forecaster, known: SeriesData) -> Forecaster:
    """Answer with a copy of a task that has learnt from what was known, and from nothing else."""
    fresh = task.fresh(known)
    if task.zero_shot:
        fresh.look()
    else:
        fresh.finetune(**task.fitting)
    return fresh


def _windows_after(
    series: SeriesData, known: SeriesData, numbers: Array, first: Array, last: Array, stride: int
) -> SeriesSamples:
    """Lay windows out over the whole series, scaled by what precedes all of them.

    Args:
        series: All there is.
        known: What was learnt from.
        numbers: Which series have windows.
        first: Where the first target of each series' first window is, (N,).
        last: Where that of its last window is, (N,).
        stride: Steps from one to the next.
    """
    horizon = series.spec.horizon_steps
    table = series.table.cut(np.where(np.isin(np.arange(len(first)), numbers), series.known, 0))
    origins = Origins.lay_out(first[numbers], last[numbers], stride=stride)
    return SeriesSamples(table, known.scale, origins, horizon=horizon)


def _step(step: int | None, horizon: int) -> int:
    if step is None:
        return horizon
    check_count("step", step)
    return step


def _score(
    parts: Sequence[tuple[Forecaster, SeriesSamples]], form: FrameForm, *, warns: bool = True
) -> ForecastEvaluation:
    """Forecast windows, and score the model beside the seasonal naive method.

    Args:
        parts: Tasks, and the windows that each of them forecasts.
        form: What the answers look like.
        warns: Whether a model that loses is warned of.
    """
    season = parts[0][0].spec.season
    scores = {"model": Scores(season), "naive": Scores(season)}
    made = [_forecast_part(task, samples, scores, form) for task, samples in parts]
    models = list(dict.fromkeys(task.model for task, _ in parts))
    evaluation = ForecastEvaluation(
        model=", ".join(models),
        metrics=scores["model"].compute(),
        naive=scores["naive"].compute(),
        forecasts=_joined([forecasts for forecasts, _ in made]),
        actual=np.concatenate([truth for _, truth in made]),
    )
    if len(parts) > 1:
        evaluation = evaluation.by_series()
    if warns:
        _warn_of_loss(evaluation)
    return evaluation


def _forecast_part(
    task: Forecaster, samples: SeriesSamples, scores: Mapping[str, Scores], form: FrameForm
) -> tuple[Forecasts, Array]:
    """Forecast the windows of one task and add up how good that was."""
    season, horizon, table = task.spec.season, task.spec.horizon_steps, samples.table
    mean, model = forecast(task.net, samples, horizon=horizon)
    naive, _ = seasonal_naive(samples, season=season, horizon=horizon)
    ends = probabilities_of(LEVELS)
    probabilities = sorted({*QUANTILES, *ends})
    kept = [probabilities.index(p) for p in ends]
    sizes = dict(zip(task.memory.ids, task.memory.units.cpu().tolist(), strict=True))
    units = units_before(samples, sizes, season)
    quantiles = []
    for start in range(0, len(samples), _CHUNK):  # all quantiles of all windows would be large
        rows = slice(start, start + _CHUNK)
        part = samples.part(rows)
        for name, values in (("model", mean[rows]), ("naive", naive[rows])):
            around = task.calibration(name).quantiles(
                values, units[rows], part.ids, np.array(probabilities)
            )
            named = {p: around[..., place] for place, p in enumerate(probabilities)}
            scores[name].add(part, values, named)
            if name == "model":
                quantiles.append(around[..., kept])
    forecasts = Forecasts(
        series=tuple(samples.ids),
        mean=mean,
        probabilities=ends,
        quantiles=np.concatenate(quantiles),
        naive=naive,
        model=tuple(model),
        table=table,
        numbers=samples.origins.series,
        back=table.lengths[samples.origins.series] - samples.history,
        form=form,
    )
    return forecasts, actual(samples)


def _joined(parts: Sequence[Forecasts]) -> Forecasts:
    """Put forecasts of the same series behind each other; later parts may have more series."""
    last = parts[-1]
    if len(parts) == 1:
        return last
    places = {id: number for number, id in enumerate(last.table.ids)}
    return replace(
        last,
        series=tuple(name for part in parts for name in part.series),
        mean=np.concatenate([part.mean for part in parts]),
        quantiles=np.concatenate([part.quantiles for part in parts]),
        naive=np.concatenate([part.naive for part in parts]),
        model=tuple(name for part in parts for name in part.model),
        numbers=np.array([places[name] for part in parts for name in part.series]),
        back=np.concatenate([part.back for part in parts]),
    )


def _warn_of_loss(evaluation: ForecastEvaluation) -> None:
    skill = evaluation.skill.get("mase")
    if skill is not None and skill < -_ROUNDING:
        _log.warning(
            f"{evaluation.model} loses to seasonal-naive here: MASE "
            f"{evaluation.metrics['mase']:.3f} against {evaluation.naive['mase']:.3f}."
        )
