"""SeriesData: series from a table of dates and numbers, checked, on their grid, split by time."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import DataError, InvalidValueError, check_count
from ..specs import SeriesDataSpec
from . import frames, text_sources
from .drawn_windows import drawn_loader
from .module import Data
from .report import Report
from .samples import Samples
from .series_build import Duplicates, build_table
from .series_columns import Roles, Rows, Target, read_rows, rows_of_arrays
from .series_covariates import Columns, Wanted
from .series_entries import rows_of_dataset
from .series_frames import FrameForm, as_frame, with_index
from .series_samples import Origins, Scale, SeriesSamples
from .series_table import SeriesTable, names_of
from .series_time import Array

if TYPE_CHECKING:
    from .module import Loader
    from .stream_loader import StreamLoader

_log = logging.getLogger("mealkit")

VAL_SHARE = 1 / 3
"""Share of each series that validates by default, from one to `MOST_VAL` horizons of it.

Intervals must have seen quiet and restless times. On the part of ETTh1 that
fev-bench scores, 80 % intervals from a fifth hold 73 % of the values, those from a third 78 %.
"""
MOST_VAL = 40
VAL_ORIGINS = 8
"""Origins of validation windows per horizon: neighbours an eighth of it apart say little new."""
MOST_ORIGINS = 256
"""Validation windows of a series at most."""

BATCH_SIZE = 1024
"""Windows of a batch that are added up."""
DRAWN_BATCH_SIZE = 256
"""Windows of a batch that is drawn to train a net on."""
EPOCH_STEPS = 100
"""Batches of an epoch of drawn windows: between two validations, however long the series are."""
MOST_WATCHED = 4096
"""Validation windows at most that choose the best epoch; all of them calibrate."""


class SeriesData(Data):
    """Series on a regular grid of time, their ends held back, as a ``LightningDataModule``.

    All ways in share these arguments. The last ``test`` steps of each series are held back to be
    scored once; the ``val`` steps before them choose and calibrate (None for a third of the series,
    at least one horizon; 0 for none). ``frequency`` and ``season`` are told from the data where
    they can be, and said in one line. Gaps stay on the grid: they are filled from earlier values,
    masked, and listed in ``data.report``, like everything that was found wrong. What is missing of
    covariates is taken as it was before. Columns of texts become one number per text (50 at most).

    Args:
        table: The series.
        spec: What the data tell the net.
        val: Steps that validate, or None.
        test: Steps that are held back.
        report: What was found wrong.
        seed: Decides the order of windows.
        form: What the data frame that came in looks like; answers look alike.

    Example:
        >>> data = SeriesData.from_arrays([[3.0, 1.0, 2.0] * 20], horizon=3, season=3)
        >>> data.spec.season, data.table.lengths.tolist()
        (3, [60])
    """

    spec: SeriesDataSpec
    train: SeriesSamples
    val: SeriesSamples | None
    test: SeriesSamples | None
    draws: bool = False
    """Whether training windows are drawn at random, `EPOCH_STEPS` batches an epoch, each series as
    often as any other; a task that is trained by steps sets it. Else each window comes once."""

    finds_season: bool = False
    """Whether the season was told from the values; in the past, those of the past tell it."""

    def __init__(
        self,
        table: SeriesTable,
        *,
        spec: SeriesDataSpec,
        val: int | None = None,
        test: int = 0,
        report: Report | None = None,
        seed: int = 0,
        form: FrameForm | None = None,
    ) -> None:
        check_count("seed", seed, least=0)
        spec.check_horizon()
        horizon = spec.horizon_steps
        for name, steps in (("val", val), ("test", test)):
            if steps is not None:
                check_count(name, steps, least=0)
            if steps and steps < horizon:
                raise InvalidValueError(
                    f"{name}={steps}: expected 0 or at least the {horizon} steps of the horizon."
                )
        self.table, self.form, self._val = table, form or FrameForm(), val
        self.known = np.maximum(table.lengths - test, 0)
        if not self.known.any():
            raise DataError(
                f"test={test} holds back all there is: the longest series has "
                f"{table.lengths.max():,} steps. Hold back fewer, or bring more history."
            )
        held = _val_steps(self.known, horizon) if val is None else np.full(len(table), val)
        self.learnt = np.maximum(self.known - held, 0)
        self.scale = Scale.learn(table, self.learnt)
        most = int((self.known - self.learnt).max()) - horizon
        stride = max(1, horizon // VAL_ORIGINS, -(-most // MOST_ORIGINS))
        while math.gcd(stride, spec.season) > 1:  # else some hours of the day are never looked at
            stride += 1
        beside = table.covariates
        if beside is not None:
            spec = spec.replace_covariates(beside.measured(table.offsets, self.learnt))
        super().__init__(
            spec=replace(spec, length_steps=int(np.median(self.learnt))),
            train=self.windows(np.ones_like(held), self.learnt, complete=True, spec=spec),
            val=self.windows(self.learnt, self.known, stride=stride, spec=spec)
            if val != 0
            else None,
            test=self.windows(self.known, table.lengths, spec=spec) if test else None,
            report=report,
            seed=seed,
        )
        if self.val is not None and not len(self.val):
            self.val = None

    def windows(
        self,
        start: Array,
        end: Array,
        *,
        stride: int = 1,
        complete: bool = False,
        spec: SeriesDataSpec | None = None,
    ) -> SeriesSamples:
        """Answer with the windows whose targets lie between two steps of each series.

        Args:
            start: Where the first target starts, (N,).
            end: Where the last target ends, (N,); series that have none are left out.
            stride: Steps from one origin to the next.
            complete: Whether only windows that can be learnt from are kept.
            spec: Says the horizon; None for that of the data.
        """
        horizon = (spec or self.spec).horizon_steps
        origins = Origins.lay_out(start, np.where(end > start, end - horizon, -1), stride=stride)
        return SeriesSamples(self.table, self.scale, origins, horizon=horizon, complete=complete)

    def scale_of(self, ids: Sequence[str]) -> Scale:
        """Answer with how some of the series are scaled; NaN for those with nothing to learn."""
        places = {id: place for place, id in enumerate(self.table.ids)}
        rows = [places[id] for id in ids]
        spread = np.where(self.learnt > 1, self.scale.spread, np.nan)
        return Scale(self.scale.center[rows], spread[rows])

    def replaced(self, table: SeriesTable) -> Self:
        """Answer with other series, split alike, of which nothing is held back as test."""
        made = type(self)(
            table,
            spec=self.spec,
            val=self._val,
            report=self.report,
            seed=self.seed,
            form=self.form,
        )
        made.batch_size, made.finds_season = self.batch_size, self.finds_season
        return made

    def whole(self) -> SeriesData:
        """Answer with the same series, of which all windows train that are not held back."""
        made = SeriesData(
            self.table.cut(self.known),
            spec=self.spec,
            val=0,
            seed=self.seed,
            form=self.form,
        )
        made.batch_size = self.batch_size
        return made

    def rest(self) -> SeriesSamples:
        """Answer with the training windows that reach into the steps that validated."""
        first = self.learnt - self.spec.horizon_steps + 1
        return self.windows(first, self.known, complete=True)

    @property
    def sees(self) -> str:
        """What a training batch holds, in words for the table of what trains when."""
        return "windows"

    @property
    def caches(self) -> bool:
        """Nothing is kept of windows: no part of a net for series is a frozen map of features."""
        return False

    @property
    def usual_batch_size(self) -> int:
        """Windows in a batch where nobody says otherwise."""
        return DRAWN_BATCH_SIZE if self.draws else BATCH_SIZE

    def loader(
        self, samples: Samples, *, batch_size: int | None = None, shuffle: bool = False
    ) -> Loader | StreamLoader:
        """Build a loader over windows that were prepared; shuffled ones are drawn, if `draws`."""
        size = self.batch_size if batch_size is None else batch_size
        size = self.usual_batch_size if size is None else size
        check_count("batch_size", size)
        if not (shuffle and self.draws and isinstance(samples, SeriesSamples)):
            return super().loader(samples, batch_size=size, shuffle=shuffle)
        return drawn_loader(self, samples, batch_size=size, num_steps=EPOCH_STEPS)

    def val_dataloader(self) -> Loader | StreamLoader | list[Loader]:
        """Batches of validation windows; of some of them, evenly spread, if `draws`."""
        if self.val is None or not self.draws or self.val.input_spec is None:
            return super().val_dataloader()
        watched = self.val.part(slice(None, None, -(-len(self.val) // MOST_WATCHED)))
        watched.prepare(self.val.input_spec)
        return self.loader(watched, batch_size=BATCH_SIZE)

    # Sources.

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        horizon: int,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        static: Columns = (),
        past: Columns = (),
        future: Columns = (),
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read series from a CSV file (or one with tabs: .tsv).

        Three forms are told apart: long (a row per series and time), wide (a row per time, a column
        per series), and a series per row without times.

        Args:
            path: File with a header.
            horizon: How many steps are to be forecast.
            time: Column of dates or integers; None to find it, or to take rows as they follow.
            target: Column to forecast, or several; None to find it.
            series: Column that tells series apart; None to find it, or for none.
            static: Columns that hold for a whole series, of numbers or texts: the kind of shop.
            past: Columns that are known up to the last value only: the weather that was measured.
            future: Columns that are known ahead of time as well: the price, holidays.
            frequency: The step of time, as pandas or polars spell it, or an integer where times
                are integers; None to find it.
            season: Steps of the season; None for the usual one of the frequency, if the values
                repeat with it, else 1.
            duplicates: What happens to rows of one series and one time: ``"raise"``, or the
                ``"mean"`` or the ``"last"`` of them is taken.
            val: See the class, like all below.
            test: Steps at the end of each series to be scored once.
            seed: Decides the order of windows.

        Raises:
            NoDataError: The file is absent or empty, or holds no number.
            DataError: Columns, times or numbers cannot be used; rows and candidates are named.
        """
        return cls.from_data_frame(
            frames.read_csv(path),
            horizon=horizon,
            time=time,
            target=target,
            series=series,
            static=static,
            past=past,
            future=future,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            val=val,
            test=test,
            seed=seed,
        )

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        horizon: int,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        static: Columns = (),
        past: Columns = (),
        future: Columns = (),
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read series from a parquet file (needs ``mealkit[parquet]``).

        The arguments are those of `from_csv`.
        """
        return cls.from_data_frame(
            text_sources.read_parquet(path),
            horizon=horizon,
            time=time,
            target=target,
            series=series,
            static=static,
            past=past,
            future=future,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            val=val,
            test=test,
            seed=seed,
        )

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame, LazyFrame or Series of pandas or polars
        *,
        horizon: int,
        time: str | None = None,
        target: Target | None = None,
        series: str | None = None,
        static: Columns = (),
        past: Columns = (),
        future: Columns = (),
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read series from a pandas or polars DataFrame; an index of times is a column.

        A series of either library is a frame of one column, a LazyFrame is collected. The other
        arguments are those of `from_csv`.
        """
        report = Report()
        given = with_index(as_frame(frame))
        roles, rows = read_rows(
            given,
            time=time,
            target=target,
            series=series,
            covariates=Wanted.of(static=static, past=past, future=future),
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
        data = cls(
            table,
            spec=spec_of(table, horizon, roles),
            val=val,
            test=test,
            report=report,
            seed=seed,
            form=FrameForm.of(given, roles),
        )
        data.finds_season = season is None
        tell(table, data.spec, data.report, given_season=season)
        return data

    @classmethod
    def from_arrays(
        cls,
        arrays: Any,  # Any: an array (T,) or (T, N), a list of arrays (T,), or a dict of them
        *,
        horizon: int,
        ids: Sequence[str] | None = None,
        season: int = 1,
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Take series in memory, without times.

        Args:
            arrays: One series (T,), several of one length (T, N), a list of series of any lengths,
                or a dict of them by name.
            horizon: How many steps are to be forecast.
            ids: Names of the series; None for the keys of a dict, or "series 0" and so on.
            season: Steps of the season.
            val: See the class, like all below.
            test: Steps at the end of each series to be scored once.
            seed: Decides the order of windows.

        Raises:
            NoDataError: There are no numbers.
        """
        rows: Rows = rows_of_arrays(arrays, ids=ids)
        report = Report()
        table = build_table(rows, season=season, report=report)
        roles = Roles(None, ("value",), "series")
        spec = spec_of(table, horizon, roles)
        data = cls(table, spec=spec, val=val, test=test, report=report, seed=seed)
        tell(table, data.spec, data.report, given_season=season)
        return data

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,  # Any: whatever answers with entries; see Args
        *,
        horizon: int,
        time: str | None = None,
        target: str = "target",
        series: str | None = None,
        frequency: str | int | None = None,
        season: int | None = None,
        duplicates: Duplicates = "raise",
        val: int | None = None,
        test: int = 0,
        seed: int = 0,
    ) -> Self:
        """Read a dataset with one entry a series, of GluonTS, Hugging Face, torch or a list.

        Args:
            dataset: Entries are dicts with values, a first time or all times, and a name; or arrays
                (T,) without times.
            horizon: How many steps are to be forecast.
            time: The field of the first time, or of a time for each value; None for ``start`` or
                ``timestamp``, whichever there is.
            target: The field of the values: (T,), or (C, T) for C series.
            series: The field of the name; None for ``item_id``, ``id``, ``unique_id`` or
                ``series_id``.
            frequency: The grid of time; needed with a first time that does not carry it, as a
                pandas Period does.
            season: See `from_csv`, like all below.
            duplicates: See there.
            val: See there.
            test: See there.
            seed: See there.

        Raises:
            DataError: An entry lacks a field, or has one that cannot be read.
            NoDataError: There are no entries.
            InvalidValueError: The frequency is needed.

        Example:
            >>> entries = [{"item_id": "a", "start": "2024-01-01", "target": [3.0, 1.0, 2.0] * 20}]
            >>> data = SeriesData.from_dataset(entries, horizon=3, frequency="D", season=3)
            >>> data.table.ids, str(data.table.last[0])[:10]
            (('a',), '2024-02-29')
        """
        roles, rows, grid = rows_of_dataset(
            dataset, time=time, target=target, series=series, frequency=frequency
        )
        report = Report()
        table = build_table(
            rows,
            frequency=grid,
            season=season,
            duplicates=duplicates,
            held_back=test,
            report=report,
        )
        spec = spec_of(table, horizon, roles)
        data = cls(table, spec=spec, val=val, test=test, report=report, seed=seed)
        data.finds_season = season is None
        tell(table, data.spec, data.report, given_season=season)
        return data


def spec_of(table: SeriesTable, horizon: int, roles: Roles) -> SeriesDataSpec:
    """Say what a table tells, and how it was read.

    Raises:
        DataError: No series is longer than the horizon.
    """
    longest = int(table.lengths.max())
    spec = SeriesDataSpec(
        horizon_steps=horizon,
        season=table.season,
        frequency=str(table.frequency),
        time=roles.time,
        target=() if roles.rows else roles.target,
        series=roles.series,
    )
    if horizon >= longest and longest > 1:
        raise DataError(
            f"horizon={horizon} is longer than the longest series, which has {longest:,} steps. "
            "Ask for fewer steps, or bring more history."
        )
    return spec


def _val_steps(lengths: Array, horizon: int) -> Array:
    """Decide how many steps of each series validate; none of those too short to learn as well."""
    wanted = np.clip((VAL_SHARE * lengths).astype(np.int64), horizon, MOST_VAL * horizon)
    return np.where(lengths - wanted >= horizon + 1, wanted, 0)


def tell(
    table: SeriesTable, spec: SeriesDataSpec, report: Report, *, given_season: int | None
) -> None:
    """Say in one line what the table was taken for."""
    many = f"{len(table):,} series" if len(table) > 1 else "1 series"
    low, high = int(table.lengths.min()), int(table.lengths.max())
    steps = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    columns = [f"target {names_of(spec.target) if spec.target else 'the numbers of each row'}"]
    columns += [f"series {spec.series!r}"] if spec.series is not None else []
    columns += [f"time {spec.time!r}" if spec.time is not None else "rows in order"]
    columns += [
        f"{kind} {names_of(list(dict.fromkeys(c.column for c in several)))}"
        for kind, several in spec.covariates.items()
    ]
    grid = f"a step of {table.frequency}" if spec.time is not None else "no dates"
    how = "given" if given_season is not None else "found"
    missing = int((~table.observed).sum())
    ahead = f"horizon {spec.horizon_steps}; " if spec.horizon_steps else ""
    _log.info(
        f"{many} of {steps} steps ({', '.join(columns)}); {grid}, season {table.season} ({how}), "
        f"{ahead}{missing:,} missing values, {len(report):,} problems in data.report."
    )
