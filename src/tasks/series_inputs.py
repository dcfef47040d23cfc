"""Series that a forecaster is asked about, read as its own were: tables, arrays, what it keeps."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..data.frames import is_frame
from ..data.report import Report
from ..data.series import SeriesData
from ..data.series_build import build_table
from ..data.series_columns import Rows, read_rows, rows_of_arrays
from ..data.series_covariates import Wanted
from ..data.series_entries import is_dataset, rows_of_dataset
from ..data.series_frames import FrameForm, as_frame, is_series, with_index
from ..data.series_future import with_future
from ..data.series_table import SeriesTable, names_of
from ..data.series_time import Frequency
from ..data.text_sources import read_table as read_file
from ..errors import NoDataError

if TYPE_CHECKING:
    from ..specs import SeriesDataSpec
    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")


def read_table(task: Forecaster, inputs: Any) -> tuple[SeriesTable, FrameForm]:
    """Read series as the task's own were read; None for those that it keeps.

    Any: a path, a data frame, arrays, or `SeriesData`.

    Raises:
        NoDataError: The task keeps none.
        DataError: The inputs lack a column, or cannot be put on the grid.
    """
    spec = task.spec
    if inputs is None:
        if not len(task.memory):
            raise NoDataError(
                "This task keeps no series: it was saved with history=False, or was not fitted. "
                "Say what to go on from: task.predict(data)."
            )
        frequency, named = Frequency.parse(spec.frequency), spec.covariates
        return task.memory.table(frequency, spec.season, named=named), task._form
    if isinstance(inputs, SeriesData):
        task.check_data(inputs)
        return inputs.table, inputs.form
    report = Report()
    rows, form, frame = read_rows_of(spec, inputs, report)
    if frame is not None and spec.series is None and spec.target:
        _tell_other_columns(spec, frame)
    dated = None if rows.times is None else spec.frequency
    table = build_table(rows, frequency=dated, season=spec.season, report=report)
    if len(report):
        _log.warning(f"{report}")
    return table, form


def _tell_other_columns(spec: SeriesDataSpec, frame: Any) -> None:  # Any: of pandas or polars
    """Say which columns of a wide table are no series: a new one there is easily taken for one."""
    known = {spec.time, *spec.target, *Wanted.as_in(spec)}
    other = [str(name) for name in frame.columns if str(name) not in known]
    if other:
        _log.info(
            f"Not forecast, for they were not learnt from: the columns {names_of(other)}. New "
            "series need a row per series and time, or a task of their own."
        )


def read_rows_of(spec: SeriesDataSpec, inputs: Any, report: Report) -> tuple[Rows, FrameForm, Any]:
    """Read rows by the columns that were learnt from.

    Any: a path, a data frame or arrays; the last of the answers is the frame, or None.

    Raises:
        DataError: The inputs lack a column.
    """
    if isinstance(inputs, (str, Path)):
        inputs = read_file(inputs)
    # What was learnt from arrays, or from a row per series, has names that a series lacks.
    if not is_series(inputs) or spec.series is None or spec.time is not None:
        inputs = as_frame(inputs, target=spec.target[0] if len(spec.target) == 1 else None)
    if is_dataset(inputs):
        _, rows, _ = rows_of_dataset(
            inputs,
            time=spec.time,
            target=spec.target[0] if spec.target else "target",
            series=spec.series,
            frequency=spec.frequency,
        )
        return rows, FrameForm(), None
    if not is_frame(inputs):
        return rows_of_arrays(inputs, ids=None), FrameForm(), None
    frame = with_index(inputs, time=spec.time)
    roles, rows = read_rows(
        frame,
        time=spec.time,
        target=spec.target or None,
        series=spec.series,
        covariates=Wanted.as_in(spec),
        report=report,
    )
    return rows, FrameForm.of(frame, roles), frame


def read_future(task: Forecaster, table: SeriesTable, future: Any, *, steps: int) -> SeriesTable:
    """Put what is known ahead of time behind the series that are to be forecast.

    Any: a path or a data frame; None for what the table holds itself.

    Raises:
        DataError: Something is missing, or is of no step that is forecast.
    """
    frame = read_file(future) if isinstance(future, (str, Path)) else future
    frame = None if frame is None else with_index(as_frame(frame), time=task.spec.time)
    needed = bool(task.net.input_spec.future)
    report = Report()
    made = with_future(table, frame, spec=task.spec, steps=steps, needed=needed, report=report)
    if frame is not None and not needed:
        _log.warning(f"{task.model} uses no future covariates: future= changes nothing.")
    if len(report):
        _log.warning(f"{report}")
    return made
