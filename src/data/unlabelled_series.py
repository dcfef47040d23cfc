"""UnlabelledSeries: windows of series to learn from, with nothing to forecast behind them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import DataError, InvalidValueError, NoDataError, check_count
from ..specs import SeriesDataSpec
from . import frames, text_sources
from .drawn_windows import drawn_loader
from .module import Data
from .report import Report
from .series import DRAWN_BATCH_SIZE, EPOCH_STEPS, SeriesData, spec_of, tell
from .series_build import Duplicates, build_table
from .series_columns import Roles, Target, read_rows, rows_of_arrays
from .series_covariates import Wanted
from .series_frames import as_frame, with_index
from .series_samples import Origins, Scale, SeriesSamples
from .series_table import SeriesTable, names_of

if TYPE_CHECKING:
    from ..specs import Batch, InputSpec
    from .module import Loader
    from .samples import Samples
    from .stream_loader import StreamLoader

_log = logging.getLogger("mealkit")


class KnownWindows(SeriesSamples):
    """Windows of what is known of series.

    Args:
        table: The series.
        scale: How their values are scaled.
        origins: The steps that the windows precede.
        complete: Whether only windows that can be learnt from are kept: those that are whole, and
            at least half of whose values were observed.
    """

    def __init__(
        self, table: SeriesTable, scale: Scale, origins: Origins, *, complete: bool = False
    ) -> None:
        super().__init__(table, scale, origins, horizon=0, complete=complete)

    @classmethod
    def last(cls, table: SeriesTable) -> Self:
        """Answer with the last window of each series."""
        ends = Origins(np.arange(len(table)), table.lengths)
        return cls(table, Scale.learn(table, table.lengths), ends)

    def prepare(self, input_spec: InputSpec) -> None:
        """Learn how much of a series the net wants to see.

        Raises:
            DataError: A window is wanted of a series that has fewer steps.
        """
        super().prepare(input_spec)
        spec = self.input_spec
        short = np.flatnonzero(self.history < (0 if spec is None else spec.context_steps))
        if spec is not None and len(short):
            names = [self.table.ids[number] for number in self.origins.series[short]]
            raise DataError(
                f"{len(short):,} of {len(self):,} series have fewer than the {spec.context_steps} "
                f"steps that the net sees: {names_of(names)}. Leave them out."
            )

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Gather windows.

        Returns:
            ``past`` (B, L) and which of it was ``observed`` (B, L); ``series``, ``history`` (how
            many steps precede the window's end) and ``index``, (B,) each.
        """
        batch = super().__getitems__(indices)
        context = batch["past"].shape[1]
        places = self._places[batch["index"]]
        seen = self._observed.unfold(0, context, 1)[places - context]
        kept = {name: batch[name] for name in ("index", "series", "history", "past")}
        return {**kept, "observed": seen}


class UnlabelledSeries(Data):
    """Series on a regular grid of time to learn from, as a ``LightningDataModule``.

    An epoch is 100 batches of windows that are drawn, each series as often as any other, as where a
    net learns to forecast. There is no validation part. Gaps stay on the grid: they are filled from
    earlier values, and what was filled is not learnt from. Columns that are known beside a series
    are not looked at.

    Args:
        table: The series.
        spec: How they were read; its horizon is 0.
        test: Steps at the end of each series that are not learnt from.
        report: What was found wrong.
        seed: Decides which windows are drawn.

    Raises:
        NoDataError: Nothing is left to learn from.

    Example:
        >>> data = UnlabelledSeries.from_arrays([[3.0, 1.0, 2.0] * 20, [1.0, 2.0] * 40], test=6)
        >>> data.table.lengths.tolist()
        [54, 74]
    """

    spec: SeriesDataSpec
    train: KnownWindows

    def __init__(
        self,
        table: SeriesTable,
        *,
        spec: SeriesDataSpec,
        test: int = 0,
        report: Report | None = None,
        seed: int = 0,
    ) -> None:
        if test < 0:
            raise InvalidValueError(f"test={test}: expected at least 0 steps.")
        known = np.maximum(table.lengths - test, 0)
        if not known.any():
            raise NoDataError(
                f"test={test} leaves nothing to learn from: the longest series has "
                f"{int(table.lengths.max()):,} steps. Hold back fewer."
            )
        self.table = replace(table, covariates=None).cut(known)
        lengths = self.table.lengths
        origins = Origins.lay_out(np.ones_like(lengths), lengths)
        scale = Scale.learn(self.table, lengths)
        super().__init__(
            spec=replace(
                spec.replace_covariates({}), horizon_steps=0, length_steps=int(np.median(lengths))
            ),
            train=KnownWindows(self.table, scale, origins, complete=True),
            report=report,
            seed=seed,
        )

    def prepare(self, input_spec: InputSpec) -> None:
        """Tell the windows what the net wants to see, and say which series are too short for it.

        Raises:
            DataError: All of them are.
        """
        known = self.train.input_spec == input_spec
        super().prepare(input_spec)
        spec = self.train.input_spec
        if known or spec is None:
            return
        steps = spec.context_steps
        learnt = set(self.train.origins.series.tolist())
        lost = [id for number, id in enumerate(self.table.ids) if number not in learnt]
        if not learnt:
            raise DataError(
                f"No series has the {steps} steps that the net sees, half of them observed. Give "
                "context= fewer, or bring more history."
            )
        if lost:
            _log.warning(
                f"Left out {len(lost):,} of {len(self.table):,} series, which have fewer than the "
                f"{steps} steps that the net sees: {names_of(lost)}."
            )

    @property
    def sees(self) -> str:
        """What a training batch holds, in words."""
        return "windows without what follows them"

    @property
    def caches(self) -> bool:
        """False: nothing of the net is frozen."""
        return False

    @property
    def usual_batch_size(self) -> int:
        """Windows in a batch where nobody says otherwise."""
        return DRAWN_BATCH_SIZE

    def loader(
        self, samples: Samples, *, batch_size: int | None = None, shuffle: bool = False
    ) -> Loader | StreamLoader:
        """Build a loader over windows that were prepared; shuffled ones are drawn."""
        size = self.batch_size if batch_size is None else batch_size
        size = self.usual_batch_size if size is None else size
        check_count("batch_size", size)
        if not (shuffle and isinstance(samples, SeriesSamples)):
            return super().loader(samples, batch_size=size, shuffle=shuffle)
        return drawn_loader(self, samples, batch_size=size, num_steps=EPOCH_STEPS)

    # Sources.

    @classmethod
    def from_data(cls, data: SeriesData) -> Self:
        """Take the part of series that a forecaster trains on: what validates and tests stays out.

        Args:
            data: As `Forecaster` takes them.

        Raises:
            NoDataError: All of the series is held back.
        """
        if not isinstance(data, SeriesData):
            raise InvalidValueError(f"Expected SeriesData, got {type(data).__name__}.")
        if not data.learnt.any():
            raise NoDataError("Of these series nothing trains: all steps validate or test.")
        table = data.table.cut(data.learnt)
        return cls(table, spec=data.spec, report=data.report, seed=data.seed)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read series from a CSV file (or one with tabs: .tsv), long or wide.

        The arguments are those of `SeriesData.from_csv`; the season is needed to fill gaps only.

        Raises:
            NoDataError: The file is absent or empty, or holds no number.
            DataError: Columns, times or numbers cannot be used; rows and candidates are named.
        """
        return cls.from_data_frame(
            frames.read_csv(path),
            time=time,
            target=target,
            series=series,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            test=test,
            seed=seed,
        )

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read series from a parquet file (needs ``mealkit[parquet]``); see `from_csv`."""
        return cls.from_data_frame(
            text_sources.read_parquet(path),
            time=time,
            target=target,
            series=series,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            test=test,
            seed=seed,
        )

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame, LazyFrame or Series of pandas or polars
        *,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read series from a pandas or polars DataFrame; see `from_csv`."""
        report = Report()
        roles, rows = read_rows(
            with_index(as_frame(frame)),
            time=time,
            target=target,
            series=series,
            covariates=Wanted.of(static=(), past=(), future=()),
            report=report,
        )
        table = build_table(
            rows,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            held_back=test,
            report=report,
        )
        return cls._of(table, roles, report, season, test, seed)

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,  # Any: an array (T,) or (T, N), a list of arrays (T,), or a dict of them
        *,
        ids: Sequence[str] | None = None,
        season: int = 1,
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Take series in memory, without times; see `SeriesData.from_arrays`.

        Raises:
            NoDataError: There are no numbers.
        """
        report = Report()
        table = build_table(rows_of_arrays(arrays, ids=ids), season=season, report=report)
        return cls._of(table, Roles(None, ("value",), "series"), report, season, test, seed)

    @classmethod
    def _of(
        cls,
        table: SeriesTable,
        roles: Roles,
        report: Report,
        season: int | None,
        test: int,
        seed: int,
    ) -> Self:
        spec = spec_of(table, 0, roles)
        data = cls(table, spec=spec, test=test, report=report, seed=seed)
        tell(table, spec, report, given_season=season)
        return data
