"""What is known, beside what would have been forecast: residuals, and what is out of the band."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..data.series_frames import FrameForm
from ..data.series_samples import Origins, Scale, SeriesSamples
from ..data.series_table import SeriesTable, names_of
from ..errors import InvalidValueError, NoDataError, check_count, unknown_name
from .forecast_results import probabilities_of
from .forecasting import Array, forecast, units_before
from .series_inputs import read_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")

_CHUNK = 1024
"""Windows whose intervals are computed at a time."""


@dataclass(frozen=True, repr=False)
class Residuals:
    """Values of series beside forecasts that did not see them, R of them in the order of time.

    Args:
        series: The series of each value.
        times: When it was.
        values: What happened, (R,); NaN where nothing was observed.
        expected: What was forecast, (R,).
        model: What made the forecasts.
        form: What the data frame that came in looks like; answers look alike.
    """

    series: tuple[str, ...]
    times: Sequence[Any]  # Any: pandas timestamps, or integers
    values: Array
    expected: Array
    model: tuple[str, ...]
    form: FrameForm

    def __len__(self) -> int:
        return len(self.series)

    @property
    def residuals(self) -> Array:
        """By how much each value lies above its forecast, (R,); NaN where none was observed."""
        answer: Array = self.values - self.expected
        return answer

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with a row per value."""
        return self.form.frame(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        return {
            "series": list(self.series),
            "time": list(self.times),
            "value": self.values.tolist(),
            "expected": self.expected.tolist(),
            "residual": self.residuals.tolist(),
            "model": list(self.model),
        }

    def __repr__(self) -> str:
        many = len(set(self.series))
        head = f"Residuals of {len(self):,} values of {many:,} series"
        return f"{head}\n{pd.DataFrame(self._columns()).head(10).to_string(index=False)}"


@dataclass(frozen=True, repr=False)
class Anomalies(Residuals):
    """Values of series, and which of them lie outside of the interval that was forecast for them.

    Args:
        series: See `Residuals`, like all up to ``form``.
        times: See `Residuals`.
        values: See `Residuals`.
        expected: See `Residuals`.
        model: See `Residuals`.
        form: See `Residuals`.
        level: Of the interval, in percent: of usual values, 100 - level % lie outside.
        low: Its lower end, (R,).
        high: Its upper end, (R,).
        flags: Which values lie outside, (R,) of bool; never one that was not observed.
    """

    level: float
    low: Array
    high: Array
    flags: Array

    def _columns(self) -> dict[str, list[Any]]:
        columns = super()._columns()
        model = columns.pop("model")
        del columns["residual"]
        ends = {"low": self.low.tolist(), "high": self.high.tolist()}
        return {**columns, **ends, "anomaly": self.flags.tolist(), "model": model}

    def plot(self, series: str | None = None) -> Figure:
        """Draw one series, its interval and what lies outside (needs ``mealkit[plots]``).

        Args:
            series: Its name; None for the first one.

        Raises:
            UnknownNameError: There is no such series.
        """
        from ..plots import plot_anomalies

        if series is not None and series not in self.series:
            raise unknown_name("series", series, dict.fromkeys(self.series))
        return plot_anomalies(self, self.series[0] if series is None else series)

    def __repr__(self) -> str:
        found = pd.DataFrame(self._columns())[self.flags]
        head = f"{len(found):,} of {len(self):,} values lie outside of {self.level:g} % intervals"
        return head if not len(found) else f"{head}\n{found.head(10).to_string(index=False)}"

    def _repr_html_(self) -> str:
        frame = pd.DataFrame(self._columns())[self.flags]
        return f"<p>{repr(self).splitlines()[0]}</p>{frame.head(20).to_html(index=False)}"


@dataclass(frozen=True)
class _Seen:
    """Windows over what is known, one behind the other, and their forecasts.

    Args:
        samples: W windows.
        mean: (W, step).
        model: What made each.
        inside: Which steps of the windows the series have, (W, step).
        form: Of the data frame that came in.
    """

    samples: SeriesSamples
    mean: Array
    model: list[str]
    inside: Array
    form: FrameForm

    def flat(self) -> dict[str, Any]:  # Any: the fields of `Residuals`
        """Answer with a value per step, in the order of series and time."""
        table, origins = self.samples.table, self.samples.origins
        starts = table.offsets[:-1][origins.series] + origins.steps
        places = (starts[:, None] + np.arange(self.mean.shape[1]))[self.inside]
        counts = self.inside.sum(1)
        numbers = np.repeat(origins.series, counts)
        times: list[Any] = []
        for number in dict.fromkeys(origins.series.tolist()):
            count = int((numbers == number).sum())
            times += table.times_after(number, back=count, count=count)
        return {
            "series": tuple(table.ids[number] for number in numbers),
            "times": times,
            "values": np.where(table.observed[places], table.values[places], np.nan),
            "expected": self.mean[self.inside],
            "model": tuple(np.repeat(np.array(self.model, dtype=object), counts).tolist()),
            "form": self.form,
        }


def find_residuals(task: Forecaster, data: Any, *, step: int, last: int | None) -> Residuals:
    """Forecast what is known; see `Forecaster.residuals`."""
    return Residuals(**_look_back(task, data, step, last).flat())


def find_anomalies(
    task: Forecaster, data: Any, *, level: float, step: int, last: int | None
) -> Anomalies:
    """Compare what is known with intervals; see `Forecaster.anomalies`."""
    ends = np.array(probabilities_of([level]))
    seen = _look_back(task, data, step, last)
    known = dict(zip(task.memory.ids, task.memory.units.cpu().tolist(), strict=True))
    units = units_before(seen.samples, known, task.spec.season)
    ids, calibration = seen.samples.ids, task.calibration("model")
    bands = [
        calibration.quantiles(
            seen.mean[start : start + _CHUNK],
            units[start : start + _CHUNK],
            ids[start : start + _CHUNK],
            ends,
        )
        for start in range(0, len(ids), _CHUNK)
    ]
    low, high = np.moveaxis(np.concatenate(bands)[seen.inside], -1, 0)
    fields = seen.flat()
    # Forecasts of a constant may differ from it by what rounding leaves.
    room = 1e-9 * np.abs(fields["expected"]) + 1e-6 * np.repeat(units, seen.inside.sum(1))
    values = fields["values"]
    with np.errstate(invalid="ignore"):
        flags = (values < low - room) | (values > high + room)
    return Anomalies(**fields, level=level, low=low, high=high, flags=flags)


def _look_back(task: Forecaster, data: Any, step: int, last: int | None) -> _Seen:
    horizon, net = task.spec.horizon_steps, task.net
    check_count("step", step)
    if step > horizon:
        raise InvalidValueError(
            f"step={step}: expected at least 1 and at most the {horizon} steps of the horizon."
        )
    if last is not None:
        check_count("last", last)
    table, form = _table(task, data)
    first = np.full(len(table), net.needs_steps)
    if last is not None:
        first = np.maximum(first, table.lengths - last)
    short = np.flatnonzero(table.lengths <= first)
    if len(short) == len(table):
        raise NoDataError(
            f"No series has more than the {net.needs_steps} steps that {task.model!r} needs before "
            f"a forecast; the longest has {table.lengths.max()}. Bring longer series."
        )
    if len(short):
        names = names_of([table.ids[number] for number in short])
        _log.warning(f"Too short for {task.model!r} to look back on: {names}.")
    origins = Origins.lay_out(first, table.lengths - 1, stride=step)
    # The scale comes from what was learnt from, or what precedes all windows, so that no value can
    # reach its forecast.
    fresh = Scale.learn(table, np.minimum(first, table.lengths))
    scale = task.memory.scale_of(table.ids, fresh)
    samples = SeriesSamples(table, scale, origins, horizon=horizon)
    mean, model = forecast(net, samples, horizon=step)
    left = table.lengths[origins.series] - origins.steps
    return _Seen(samples, mean, model, np.arange(step) < left[:, None], form)


def _table(task: Forecaster, data: Any) -> tuple[SeriesTable, FrameForm]:
    if data is None and task.data is not None:
        return read_table(task, task.data)
    return read_table(task, data)
