"""The last values of each series, kept with a task so that it can forecast without being asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ..data.series_covariates import Covariates, Named
from ..data.series_samples import Scale
from ..data.series_table import SeriesTable
from ..data.series_time import Frequency


class Memory(nn.Module):
    """The ends of series and how each is scaled; no ends where they were left out of a saved task.

    Its length is the number of series whose ends are kept.
    """

    def __init__(self) -> None:
        super().__init__()
        self.ids: tuple[str, ...] = ()
        self.last: tuple[int, ...] = ()
        self.dated, self.zone = False, ""
        self.scaled = False
        self.sizes: list[int] | None = None  # of the covariates
        self._allocate(0, 0)

    def _allocate(self, num_series: int, num_values: int) -> None:
        self.values = nn.Buffer(torch.zeros(num_values, dtype=torch.float64))
        self.observed = nn.Buffer(torch.zeros(num_values, dtype=torch.bool))
        self.offsets = nn.Buffer(torch.zeros(num_series + 1, dtype=torch.int64))
        self.units = nn.Buffer(torch.zeros(num_series, dtype=torch.float64))

    @classmethod
    def of(
        cls,
        table: SeriesTable,
        units: np.ndarray[Any, Any],
        *,
        steps: int,
        scale: Scale | None = None,
    ) -> Self:
        """Keep the last steps of each series, and what is known beside them.

        Args:
            table: The series.
            units: The size of each series' errors, (N,).
            steps: How many at most; 0 for all.
            scale: How each series was scaled when it was learnt from; NaN where it was not.
        """
        made = cls()
        made.ids, made.dated = table.ids, table.last.dtype.kind == "M"
        made.last = tuple(int(value) for value in table.last.astype(np.int64))
        made.zone = table.zone or ""
        starts = table.offsets[:-1]
        if steps:
            starts = np.maximum(starts, table.offsets[1:] - steps)
        parts = [np.arange(s, e) for s, e in zip(starts, table.offsets[1:], strict=True)]
        places = np.concatenate(parts)
        made.values = nn.Buffer(torch.from_numpy(table.values[places]))
        made.observed = nn.Buffer(torch.from_numpy(table.observed[places]))
        ends = np.cumsum([0, *(len(part) for part in parts)])
        made.offsets = nn.Buffer(torch.from_numpy(ends.astype(np.int64)))
        made.units = nn.Buffer(torch.from_numpy(np.asarray(units, dtype=float)))
        if scale is not None:
            made._keep_scale(scale)
        if table.covariates is not None:
            made._keep_beside(table.covariates.from_step(starts - table.offsets[:-1], places))
        return made

    def _keep_scale(self, scale: Scale) -> None:
        self.scaled = True
        self.center = nn.Buffer(torch.from_numpy(scale.center.astype(float)))
        self.spread = nn.Buffer(torch.from_numpy(scale.spread.astype(float)))

    def _keep_beside(self, beside: Covariates) -> None:
        arrays = (beside.static, beside.past, beside.future)
        self.sizes = [len(beside.future), *(array.shape[1] for array in arrays)]
        self.static = nn.Buffer(torch.from_numpy(beside.static))
        self.past = nn.Buffer(torch.from_numpy(beside.past))
        self.future = nn.Buffer(torch.from_numpy(beside.future))
        self.reaches = nn.Buffer(torch.from_numpy(beside.offsets))

    def __len__(self) -> int:
        return len(self.ids) if len(self.values) else 0

    def without_values(self) -> Memory:
        """Answer with the names of series and how each is scaled, and no value of any."""
        made = Memory()
        made.ids, made.last = self.ids, (0,) * len(self.ids)
        made._allocate(len(self.ids), 0)
        made.units = nn.Buffer(self.units)
        if self.scaled:
            made._keep_scale(Scale(self.center.cpu().numpy(), self.spread.cpu().numpy()))
        return made

    def scale_of(self, ids: Sequence[str], fresh: Scale) -> Scale:
        """Answer with how series are scaled: as they were learnt from, or else as they are told.

        Args:
            ids: Names of the series.
            fresh: What the series tell themselves.
        """
        if not self.scaled:
            return fresh
        places = {id: place for place, id in enumerate(self.ids)}
        rows = np.array([places.get(id, -1) for id in ids], dtype=np.int64)
        center, spread = self.center.cpu().numpy()[rows], self.spread.cpu().numpy()[rows]
        known = (rows >= 0) & np.isfinite(spread)
        return Scale(np.where(known, center, fresh.center), np.where(known, spread, fresh.spread))

    def table(
        self, frequency: Frequency, season: int, *, named: Named | None = None
    ) -> SeriesTable:
        """Answer with the series, as far as they are kept.

        Args:
            frequency: Their grid.
            season: Steps of their season.
            named: What their covariates are.
        """
        beside = None
        if self.sizes is not None:
            arrays = (self.static, self.past, self.future, self.reaches)
            beside = Covariates(named or {}, *(array.cpu().numpy() for array in arrays))
        kind = "datetime64[s]" if self.dated else "int64"
        return SeriesTable(
            ids=self.ids,
            values=self.values.cpu().numpy(),
            observed=self.observed.cpu().numpy(),
            offsets=self.offsets.cpu().numpy(),
            last=np.array(self.last, dtype=np.int64).astype(kind),
            frequency=frequency,
            season=season,
            zone=self.zone or None,
            covariates=beside,
        )

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside the tensors."""
        return {
            "ids": list(self.ids),
            "last": list(self.last),
            "dated": self.dated,
            "zone": self.zone,
            "num_values": len(self.values),
            "scaled": self.scaled,
            "beside": self.sizes,
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:  # Any: plain JSON values
        """Build what was saved, but for the tensors."""
        made = cls()
        made.ids, made.last = tuple(settings["ids"]), tuple(settings["last"])
        made.dated, made.zone = bool(settings["dated"]), str(settings["zone"])
        made._allocate(len(made.ids), int(settings["num_values"]))
        # Tasks that were saved before there were covariates keep neither.
        if settings.get("scaled"):
            made._keep_scale(Scale(np.zeros(len(made.ids)), np.ones(len(made.ids))))
        if settings.get("beside"):
            made._keep_beside(_room(settings["beside"], len(made.ids), len(made.values)))
        return made


def _room(sizes: Sequence[int], num_series: int, num_values: int) -> Covariates:
    """Make room for covariates of these sizes."""
    num_future, *widths = sizes
    rows = (num_series, num_values, num_future)
    static, past, future = (np.zeros(shape) for shape in zip(rows, widths, strict=True))
    return Covariates({}, static, past, future, np.zeros(num_series + 1, dtype=np.int64))
