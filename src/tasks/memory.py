"""The last values of each series, kept with a task so that it can forecast without being asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from ..data.series_table import SeriesTable
from ..data.series_time import Frequency


class Memory(nn.Module):
    """The ends of series; nothing where none was learnt or it was left out of a saved task."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: tuple[str, ...] = ()
        self.last: tuple[int, ...] = ()
        self.dated, self.zone = False, ""
        self._allocate(0, 0)

    def _allocate(self, num_series: int, num_values: int) -> None:
        self.values = nn.Buffer(torch.zeros(num_values, dtype=torch.float64))
        self.observed = nn.Buffer(torch.zeros(num_values, dtype=torch.bool))
        self.offsets = nn.Buffer(torch.zeros(num_series + 1, dtype=torch.int64))
        self.units = nn.Buffer(torch.zeros(num_series, dtype=torch.float64))

    @classmethod
    def of(cls, table: SeriesTable, units: np.ndarray[Any, Any], *, steps: int) -> Self:
        """Keep the last steps of each series.

        Args:
            table: The series.
            units: The size of each series' errors, (N,).
            steps: How many at most; 0 for all.
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
        return made

    def __len__(self) -> int:
        return len(self.ids)

    def table(self, frequency: Frequency, season: int) -> SeriesTable:
        """Answer with the series, as far as they are kept."""
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
        )

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside the tensors."""
        return {
            "ids": list(self.ids),
            "last": list(self.last),
            "dated": self.dated,
            "zone": self.zone,
            "num_values": len(self.values),
        }

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> Self:  # Any: plain JSON values
        """Build what was saved, but for the tensors."""
        made = cls()
        made.ids, made.last = tuple(settings["ids"]), tuple(settings["last"])
        made.dated, made.zone = bool(settings["dated"]), str(settings["zone"])
        made._allocate(len(made.ids), int(settings["num_values"]))
        return made
