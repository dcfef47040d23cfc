"""What a forecaster answers with: forecasts with their intervals, and scores beside the naive."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd

from ..data.series_frames import FrameForm
from ..errors import InvalidValueError, unknown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ..data.series_table import SeriesTable

Array = np.ndarray[Any, np.dtype[Any]]  # Any: shapes are said in docstrings
Times = Sequence[Any]  # Any: pandas timestamps, or integers


@dataclass(frozen=True, repr=False)
class Forecasts:
    """Forecasts of N series, H steps each, in the order of the data.

    Args:
        series: Names of the series.
        mean: (N, H).
        probabilities: Of the quantiles, rising, Q of them.
        quantiles: (N, H, Q); along Q they never fall.
        naive: What the seasonal naive method says, (N, H).
        model: What made each forecast; a simpler method where a series was too short.
        table: The series that were forecast.
        numbers: Which of the table's series each forecast is of, (N,).
        back: How many steps each forecast starts before its series' end, (N,).
        form: What the data frame that came in looks like; answers look alike.
    """

    series: tuple[str, ...]
    mean: Array
    probabilities: tuple[float, ...]
    quantiles: Array
    naive: Array
    model: tuple[str, ...]
    table: SeriesTable
    numbers: Array
    back: Array
    form: FrameForm = field(default_factory=FrameForm)

    def __len__(self) -> int:
        return len(self.series)

    def interval(self, level: float) -> tuple[Array, Array]:
        """Answer with the lower and the upper end of an interval, each (N, H).

        Args:
            level: In percent, one of those that were asked for.

        Raises:
            InvalidValueError: It was not asked for.
        """
        ends = probabilities_of([level])
        if not set(ends) <= set(self.probabilities):
            known = [f"{p:g}" for p in self.probabilities]
            raise InvalidValueError(
                f"These forecasts have no {level:g} % interval, only the quantiles "
                f"{', '.join(known)}. Ask for it: predict(level=[{level:g}])."
            )
        low, high = (self.probabilities.index(end) for end in (ends[0], ends[-1]))
        return self.quantiles[..., low], self.quantiles[..., high]

    @property
    def times(self) -> list[Times]:
        """What each step of each forecast is called, N times H."""
        return [self.times_of(row) for row in range(len(self))]

    def times_of(self, row: int) -> Times:
        """Answer with what each step of one forecast is called."""
        number, back = int(self.numbers[row]), int(self.back[row])
        return self.table.times_after(number, back=back, count=self.mean.shape[1])

    def past_of(self, row: int, steps: int) -> tuple[Times, Array]:
        """Answer with times and values before a forecast, NaN where none was observed."""
        table, number, back = self.table, int(self.numbers[row]), int(self.back[row])
        count = min(steps, int(table.lengths[number]) - back)
        end = int(table.offsets[number + 1]) - back
        part = slice(end - count, end)
        values = np.where(table.observed[part], table.values[part], np.nan)
        return table.times_after(number, back=back + count, count=count), values

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with a row per series and step.

        The columns are series, time, mean, one per quantile (named by its probability),
        seasonal_naive and model.
        """
        return self.form.frame(self._columns())

    def _columns(self) -> dict[str, list[Any]]:
        steps = self.mean.shape[1]
        columns: dict[str, list[Any]] = {
            "series": [name for name in self.series for _ in range(steps)],
            "time": [time for times in self.times for time in times],
            "mean": self.mean.reshape(-1).tolist(),
        }
        for place, probability in enumerate(self.probabilities):
            columns[f"{probability:g}"] = self.quantiles[..., place].reshape(-1).tolist()
        columns["seasonal_naive"] = self.naive.reshape(-1).tolist()
        columns["model"] = [name for name in self.model for _ in range(steps)]
        return columns

    def plot(self, series: str | Sequence[str] | None = None) -> Figure:
        """Draw past, forecast, intervals and the naive method (needs ``mealkit[plots]``).

        Args:
            series: Names to draw; None for the first six.

        Raises:
            UnknownNameError: There is no such series.
            InvalidValueError: They are no names.
        """
        from ..plots import plot_forecasts

        names = [series] if isinstance(series, str) else series
        if names is not None and not isinstance(names, Sequence):
            raise InvalidValueError(
                f"series={series!r}: expected the name of a series, or several, such as "
                f"{self.series[0]!r}."
            )
        for name in names or ():
            if name not in self.series:
                raise unknown_name("series", name, self.series)
        return plot_forecasts(self, list(names or self.series[:6]))

    def __repr__(self) -> str:
        steps = self.mean.shape[1]
        models = ", ".join(dict.fromkeys(self.model))
        head = f"Forecasts of {len(self):,} series, {steps:,} steps each, by {models}"
        return f"{head}\n{self._head(10).to_string(index=False)}"

    def _repr_html_(self) -> str:
        return str(self._head(20).to_html(index=False))

    def _head(self, count: int) -> pd.DataFrame:
        rows = slice(0, -(-count // self.mean.shape[1]))
        few = replace(
            self,
            series=self.series[rows],
            mean=self.mean[rows],
            quantiles=self.quantiles[rows],
            naive=self.naive[rows],
            model=self.model[rows],
        )
        return pd.DataFrame(few._columns()).head(count)


@dataclass(frozen=True, repr=False)
class ForecastEvaluation:
    """How well forecasts did, beside the seasonal naive method on the same windows.

    Args:
        model: What made the forecasts.
        metrics: Plain names to plain numbers: ``mase``, ``rmsse``, ``smape``, ``wql``, ``sql``,
            ``crps``, ``msis``, ``coverage_80``, ``coverage_95``. What no window can tell is left
            out.
        naive: The same of the seasonal naive method.
        forecasts: One per window.
        actual: What happened, (W, H); NaN where it is not known.
    """

    model: str
    metrics: Mapping[str, float]
    naive: Mapping[str, float]
    forecasts: Forecasts
    actual: Array

    def by_series(self) -> Self:
        """Answer with the same windows in the order of series, those of each by their cutoffs."""
        made = self.forecasts
        order = np.lexsort((-made.back, made.numbers))
        forecasts = replace(
            made,
            series=tuple(made.series[row] for row in order),
            mean=made.mean[order],
            quantiles=made.quantiles[order],
            naive=made.naive[order],
            model=tuple(made.model[row] for row in order),
            numbers=made.numbers[order],
            back=made.back[order],
        )
        return replace(self, forecasts=forecasts, actual=self.actual[order])

    @property
    def skill(self) -> dict[str, float]:
        """By which share each error is below the naive one's; below 0 where it is above."""
        return {
            name: 1 - value / self.naive[name]
            for name, value in self.metrics.items()
            if not name.startswith("coverage") and self.naive.get(name)
        }

    @property
    def cutoffs(self) -> Times:
        """The last time that was known to each forecast, W of them."""
        made = self.forecasts
        pairs = zip(made.numbers.tolist(), made.back.tolist(), strict=True)
        return [made.table.times_after(n, back=back + 1, count=1)[0] for n, back in pairs]

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with one row per metric: the model's, the naive one's, the skill.

        In pandas, the metrics are the index; in polars, the column ``metric``.
        """
        table = self._table()
        if self.forecasts.form.kind == "pandas":
            return table
        return self.forecasts.form.frame(
            {str(name): list(cells) for name, cells in table.reset_index().items()}
        )

    def _table(self) -> pd.DataFrame:
        columns = {self.model: dict(self.metrics), "seasonal_naive": dict(self.naive)}
        frame = pd.DataFrame(columns, index=pd.Index(list(self.metrics), name="metric"))
        return frame.assign(skill=pd.Series(self.skill, dtype=float))

    def to_windows(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with every forecast beside what happened: a row per window and step."""
        forecasts, steps = self.forecasts._columns(), self.actual.shape[1]
        columns: dict[str, list[Any]] = {
            "series": forecasts.pop("series"),
            "cutoff": [cutoff for cutoff in self.cutoffs for _ in range(steps)],
            "time": forecasts.pop("time"),
            "actual": self.actual.reshape(-1).tolist(),
        }
        return self.forecasts.form.frame({**columns, **forecasts})

    def __repr__(self) -> str:
        head = f"Evaluation of {self.model} on {len(self.forecasts):,} windows"
        return f"{head}\n{self._table().round(4).to_string()}"

    def _repr_html_(self) -> str:
        return str(self._table().round(4).to_html())


def probabilities_of(levels: float | Sequence[float]) -> tuple[float, ...]:
    """Answer with the probabilities of the ends of intervals, rising.

    Args:
        levels: In percent, one or several.

    Raises:
        InvalidValueError: A level lies outside of (0, 100).
    """
    if isinstance(levels, Real) and not isinstance(levels, bool):
        levels = [float(levels)]
    if isinstance(levels, str) or not isinstance(levels, Iterable):
        raise InvalidValueError(f"level={levels!r}: expected percentages, such as level=[80, 95].")
    levels = list(levels)
    wrong = [v for v in levels if not isinstance(v, Real) or v is True or not 0 < v < 100]
    if wrong:
        raise InvalidValueError(f"level={wrong[0]!r}: expected percentages between 0 and 100.")
    ends = [end for level in levels for end in (50 - float(level) / 2, 50 + float(level) / 2)]
    return tuple(sorted({round(end / 100, 10) for end in ends}))
