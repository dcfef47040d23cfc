"""New observations of the series that a forecaster knows, taken up without fitting it again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.frames import is_frame
from ..data.report import Report
from ..data.series_append import append
from ..data.series_columns import Rows
from ..data.series_covariates import Wanted
from ..data.series_samples import Scale
from ..data.series_time import Frequency
from ..errors import DataError, NoDataError
from .series_inputs import read_rows_of

if TYPE_CHECKING:
    from ..data.series import SeriesData
    from ..specs import SeriesDataSpec
    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")


def update(task: Forecaster, new: Any) -> None:  # Any: see `Forecaster.update`
    """Put new rows behind what a task knows; see `Forecaster.update`."""
    spec, memory = task.spec, task.memory
    if not len(memory):
        raise NoDataError(
            "This task keeps no series that rows could follow: it was not fitted yet, or was saved "
            "with history=False. Pass whole series: task.predict(data)."
        )
    report = Report()
    rows, form, frame = read_rows_of(spec, new, report)
    if frame is not None and spec.target:
        _refuse_other_columns(spec, frame)
    known = memory.table(Frequency.parse(spec.frequency), spec.season, named=spec.covariates)
    joint = append(known, rows, report=report)
    longer = _longer(task, task.data, rows)
    unknown = np.full(len(joint), np.nan)
    task.keep(joint, task.units(joint), memory.scale_of(joint.ids, Scale(unknown, unknown)))
    task._form = task._form.and_names(form)
    if longer is not None:
        task.data = longer
    if len(report):
        _log.warning(f"{report}")
    fresh = len(joint) - len(known)
    count = len(joint.values) - len(known.values)
    _log.info(
        f"Took up {count:,} steps; {len(set(rows.ids)):,} series have new values, {fresh:,} of "
        "them were not known. The model and its intervals stay as they were fitted."
    )


def _refuse_other_columns(spec: SeriesDataSpec, frame: Any) -> None:  # Any: a data frame
    roles = (spec.time, spec.series, *spec.target, *Wanted.as_in(spec))
    wanted = [name for name in roles if name is not None]
    other = [str(name) for name in frame.columns if str(name) not in wanted]
    if other and is_frame(frame):
        raise DataError(
            f"The new rows have columns that this task was not fitted with: "
            f"{', '.join(map(repr, other[:5]))}. It knows {', '.join(map(repr, wanted))}. Leave "
            "the others out; a new column of series needs a task that is fitted again."
        )


def _longer(task: Forecaster, data: SeriesData | None, rows: Rows) -> SeriesData | None:
    """Answer with the task's data and the rows behind them; None where it knows other series.

    What was held back as test is none any more: rows that follow what is known reveal it.
    """
    if data is None:
        return None
    known = data.table.cut(data.known)
    ends = tuple(int(value) for value in known.last.astype(np.int64))
    if (known.ids, ends) != (task.memory.ids, task.memory.last):
        return None
    if data.test is not None:
        _log.warning(
            "The steps that were held back as test are dropped from task.data: the new rows take "
            "their place."
        )
    return data.replaced(append(known, rows, report=data.report))
