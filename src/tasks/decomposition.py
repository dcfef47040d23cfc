"""What forecasts are the sum of: trend, season and rest, where the model can tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..data.series_frames import FrameForm
from ..data.series_samples import Scale
from ..errors import InvalidValueError
from .forecasting import Array, forecast, samples_at
from .running import move, plain_loader
from .series_inputs import read_future, read_table

if TYPE_CHECKING:
    from ..data.series_table import SeriesTable
    from .forecaster import Forecaster


@dataclass(frozen=True, repr=False)
class Decomposition:
    """Forecasts of N series, H steps each, and the parts that add up to them.

    Args:
        series: Names of the series.
        mean: (N, H).
        parts: By name, (N, H) each; the first holds the level.
        model: What made each forecast.
        table: The series.
        form: What the data frame that came in looks like; answers look alike.
    """

    series: tuple[str, ...]
    mean: Array
    parts: Mapping[str, Array]
    model: tuple[str, ...]
    table: SeriesTable
    form: FrameForm = field(default_factory=FrameForm)

    def __len__(self) -> int:
        return len(self.series)

    def to_frame(self) -> Any:  # Any: the kind of frame that came in, pandas or polars
        """Answer with a row per series and step: series, time, mean, the parts, model."""
        steps = self.mean.shape[1]
        numbers = range(len(self))
        columns: dict[str, list[Any]] = {
            "series": [name for name in self.series for _ in range(steps)],
            "time": [
                time for n in numbers for time in self.table.times_after(n, back=0, count=steps)
            ],
            "mean": self.mean.reshape(-1).tolist(),
        }
        for name, values in self.parts.items():
            columns[name] = values.reshape(-1).tolist()
        columns["model"] = [name for name in self.model for _ in range(steps)]
        return self.form.frame(columns)

    def __repr__(self) -> str:
        names = ", ".join(self.parts)
        return f"Decomposition of {len(self):,} forecasts, {self.mean.shape[1]:,} steps: {names}"


def decompose(task: Forecaster, inputs: Any, future: Any) -> Decomposition:
    """Take forecasts apart; see `Forecaster.decompose`.

    Any: as in `Forecaster.predict`.
    """
    net = task.net
    if not net.splits:
        raise InvalidValueError(
            f"{task.model!r} does not say what its forecasts are made of. Those that do: "
            "backbone='ridge', 'nlinear', 'dlinear' and 'nbeats'."
        )
    table, form = read_table(task, inputs)
    horizon = task.spec.horizon_steps
    table = read_future(task, table, future, steps=horizon)
    scale = task.memory.scale_of(table.ids, Scale.learn(table, table.lengths))
    samples = samples_at(table, table.lengths, horizon, scale=scale)
    mean, model = forecast(net, samples, horizon=net.horizon_steps)
    net.cpu().eval()
    found: dict[str, list[Array]] = {}
    for batch in plain_loader(samples, batch_size=1024):
        moved = move(batch, torch.device("cpu"))
        with torch.inference_mode():
            parts = net.parts(*(moved[name] for name in net.inputs))
        for name, values in parts.items():
            found.setdefault(name, []).append(values.double().numpy())
    whole = {name: np.concatenate(arrays) for name, arrays in found.items()}
    if net.input_spec.scaled:
        whole = {name: part * samples.scale.spread[:, None] for name, part in whole.items()}
        first = next(iter(whole))
        whole[first] = whole[first] + samples.scale.center[:, None]
    # A simpler method that stands in for the model says nothing more than its forecast.
    replaced = np.array([name != net.name for name in model])[:, None]
    for place, (name, part) in enumerate(whole.items()):
        whole[name] = np.where(replaced, mean if place == 0 else 0.0, part)
    return Decomposition(table.ids, mean, whole, tuple(model), table, form)
