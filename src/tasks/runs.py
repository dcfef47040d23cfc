"""Run folders: what a run leaves on disk, and how one that was stopped is taken up again."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytorch_lightning as pl

from ..errors import InvalidValueError, MissingPackageError, RunError, check_path, check_switch
from .checkpoint import CHECKPOINT, UNFINISHED, Checkpoints, read_fingerprint
from .fingerprint import PLAN, Fingerprint, fingerprint, refuse_changes
from .record import Recorder, run_settings
from .results import History
from .saved import restore_task

if TYPE_CHECKING:
    from ..data.module import Data
    from .task import Task

_log = logging.getLogger("mealkit")
FOUND = "found_batch_size"
"""Under which name a run keeps the size that ``batch_size=\"auto\"`` came to."""

_SETTINGS, _HISTORY, _FINISHED, _TASK = "settings.json", "history.csv", "finished.json", "task"


def open_run(
    run: str | Path | None,
    *,
    resume: bool,
    task: Task,
    data: Data,
    asked: Mapping[str, Any],  # Any: whatever finetune takes
    trainer: pl.Trainer | None,
) -> Run | None:
    """Look what is in a run folder, before anything is trained; None where no folder is named.

    Args:
        run: As `Task.finetune` takes it, like the others.
        resume: Whether a run that is there goes on.
        task: With its plan made.
        data: What is trained on.
        asked: Other arguments by name, None for those that were left out.
        trainer: The user's own.

    Raises:
        InvalidValueError: There is no folder to resume from.
        RunError: See `Run`.
    """
    check_switch("resume", resume)
    if run is None:
        if resume:
            raise InvalidValueError(
                "resume=True without run=: there is no folder to go on from. Name it with run=."
            )
        return None
    check_path("run", run, what="a folder")
    data.prepare(task.input_spec)
    made_with = fingerprint(task, data, asked=asked, trainer=trainer)
    is_first = trainer is None or trainer.is_global_zero
    return Run(Path(run), fingerprint=made_with, resume=resume, is_first=is_first)


def found_size(run: object, *, resume: bool) -> int | None:
    """Answer with the batch size that a run found when it began, if it is to go on; else None.

    Another one might fit by now, and would be another run.
    """
    if not resume or not isinstance(run, str | Path):
        return None
    try:
        size = _made_with(Path(run)).get(FOUND)
    except RunError:  # it is said where the run is opened
        return None
    return None if size is None else int(size)


class Run:
    """A folder that is new, holds a run that was stopped, or one that is finished.

    Args:
        folder: Of the run.
        fingerprint: What it is made with now.
        resume: Whether a run that is there goes on; otherwise a folder that holds anything is
            refused.
        is_first: Whether this process is the one that writes.

    Raises:
        RunError: The folder is in use and is not to be resumed, holds something that is no run,
            or a run that was made otherwise.
    """

    def __init__(
        self, folder: Path, *, fingerprint: Fingerprint, resume: bool, is_first: bool
    ) -> None:
        self.folder = folder
        self._fingerprint = fingerprint
        in_use = folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
        if in_use and is_first and not resume:  # the first process may have begun already
            raise RunError(
                f"The run folder {folder} exists and is not empty. Runs are never overwritten: "
                "name another folder with run=, remove this one, or go on with it by resume=True."
            )
        self.finished = resume and (folder / _FINISHED).is_file()
        if resume and in_use:
            but = PLAN if self.finished else None
            refuse_changes(folder, _made_with(folder), fingerprint, but=but)
        begun = resume and not self.finished and (folder / CHECKPOINT).is_file()
        self.checkpoint = folder / CHECKPOINT if begun else None
        """What the run goes on from; None where it starts."""

    def callbacks(self, *, task: Task, data: Data, recorder: Recorder) -> list[pl.Callback]:
        """Answer with what writes into the folder during the run."""
        fingerprint = self._fingerprint
        writer = _Writer(
            self.folder, task=task, data=data, recorder=recorder, fingerprint=fingerprint
        )
        return [writer, Checkpoints(self.folder, fingerprint)]

    def record(self, history: History) -> None:
        """Write the history of another fit than the one that was followed."""
        _write(self.folder / _HISTORY, pd.DataFrame(history.rows).to_csv(index=False))

    def finish(self, task: Task, history: History) -> None:
        """Add the saved task and the curves, which need ``mealkit[plots]``; nothing goes on."""
        task.save(self.folder / _TASK)
        try:
            history.plot().savefig(self.folder / "curves.png")
        except MissingPackageError as error:
            _log.warning(f"The run has no curves.png. {error}")
        _write(self.folder / _FINISHED, json.dumps({"best_epoch": history.best_epoch}) + "\n")
        for path in (self.folder / CHECKPOINT, self.folder / UNFINISHED):
            path.unlink(missing_ok=True)

    def take_over(self, task: Task) -> History:
        """Put the weights of the finished run into the task, and answer with its history."""
        restore_task(task, self.folder / _TASK)
        _log.info(f"The run in {self.folder} is finished: its weights are in the task.")
        with (self.folder / _HISTORY).open(encoding="utf-8", newline="") as file:
            rows = [
                {name: float(value) for name, value in row.items() if value}
                for row in csv.DictReader(file)
            ]
        finished = json.loads((self.folder / _FINISHED).read_text(encoding="utf-8"))
        return History(
            [{**row, "epoch": int(row["epoch"])} for row in rows], finished["best_epoch"]
        )


def _made_with(folder: Path) -> Mapping[str, Any]:  # Any: JSON
    """Answer with the fingerprint of the run in a folder.

    Raises:
        RunError: There is none.
    """
    found = read_fingerprint(folder)
    if found is not None:
        return found
    try:
        settings = json.loads((folder / _SETTINGS).read_text(encoding="utf-8"))
        made_with: Mapping[str, Any] = settings["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder} holds no run that can be resumed: expected {_SETTINGS} with a "
            "fingerprint in it. Name another folder with run=."
        ) from error
    return made_with


class _Writer(pl.Callback):
    """Write settings and history as the run goes."""

    def __init__(
        self,
        folder: Path,
        *,
        task: Task,
        data: Data,
        recorder: Recorder,
        fingerprint: Fingerprint,
    ) -> None:
        self._folder = folder
        self._task, self._data = task, data
        self._recorder = recorder
        self._fingerprint = fingerprint

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the settings before the first batch; those of a run that goes on stay."""
        if not trainer.is_global_zero:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._recorder.rows:  # the row of an epoch that will be repeated may be there
            self._write_history()
        if not (self._folder / _SETTINGS).exists():
            settings = run_settings(self._task, self._data, trainer)
            settings["fingerprint"] = self._fingerprint
            text = json.dumps(settings, indent=2, ensure_ascii=False)
            _write(self._folder / _SETTINGS, text + "\n")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the history after every epoch, so that a killed run leaves its rows."""
        if trainer.is_global_zero:
            self._write_history()

    def _write_history(self) -> None:
        frame = pd.DataFrame(self._recorder.rows)
        _write(self._folder / _HISTORY, frame.to_csv(index=False))


def _write(path: Path, text: str) -> None:
    """Write a file as a whole or not at all."""
    new = path.with_name(f".{path.name}.new")
    new.write_text(text, encoding="utf-8", newline="\n")
    new.replace(path)
