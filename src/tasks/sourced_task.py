"""SourcedTask: a task over series, made from wherever its series are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from torch import nn

from ..data.series import SeriesData
from ..data.series_build import Duplicates
from ..data.series_columns import Target
from ..data.series_covariates import Columns
from .choosing import (
    Quality,
)
from .series_task import SeriesTask


class SourcedTask(SeriesTask):
    """What every source of series leads to: data, and a task that is made from them."""

    @classmethod
    def from_data(
        cls,
        data: SeriesData,
        *,
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from series that are read already."""
        raise NotImplementedError

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
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from a CSV table (or one with tabs: .tsv) of dates and numbers.

        See `SeriesData.from_csv` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_csv(
            path,
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
        return cls.from_data(data, backbone=backbone, quality=quality, context=context)

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
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from a parquet table of dates and numbers (needs ``mealkit[parquet]``).

        See `SeriesData.from_csv` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_parquet(
            path,
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
        return cls.from_data(data, backbone=backbone, quality=quality, context=context)

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
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
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from a data frame of dates and numbers, pandas or polars.

        See `SeriesData.from_csv` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_data_frame(
            frame,
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
        return cls.from_data(data, backbone=backbone, quality=quality, context=context)

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
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from series in memory, without times.

        See `SeriesData.from_arrays` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_arrays(
            arrays, horizon=horizon, ids=ids, season=season, val=val, test=test, seed=seed
        )
        return cls.from_data(data, backbone=backbone, quality=quality, context=context)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,  # Any: whatever answers with entries
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
        backbone: str | Path | nn.Module | None = None,
        quality: Quality = "fast",
        context: int | None = None,
    ) -> Self:
        """Make a task from a dataset with one entry a series: GluonTS, Hugging Face, torch, a list.

        See `SeriesData.from_dataset` for the source and `Forecaster` for the model.
        """
        data = SeriesData.from_dataset(
            dataset,
            horizon=horizon,
            time=time,
            target=target,
            series=series,
            frequency=frequency,
            season=season,
            duplicates=duplicates,
            val=val,
            test=test,
            seed=seed,
        )
        return cls.from_data(data, backbone=backbone, quality=quality, context=context)
