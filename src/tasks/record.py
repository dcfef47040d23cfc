"""The callback that writes down what happens in a run: history, progress lines, run folder."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytorch_lightning as pl
import torch

from ..errors import MissingPackageError, RunError
from .saved import describe_task
from .strategies import name_of

if TYPE_CHECKING:
    from ..data.module import Data
    from .results import History
    from .task import Task

_log = logging.getLogger("mealkit")
_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "timm", "transformers")


class Recorder(pl.Callback):
    """Collect one row per epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []
        self._started = 0.0
        self._loss_sum: torch.Tensor | float = 0.0
        self._num_rows = 0
        self._lr = 0.0
        self._validated = False

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of an epoch, ahead of a backbone that is run once in it."""
        self._started = time.perf_counter()
        self._loss_sum, self._num_rows, self._lr = 0.0, 0, 0.0
        self._validated = False

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Mapping[str, torch.Tensor],
        batch_idx: int,
    ) -> None:
        """Note the rate before the schedule moves it on."""
        groups = [group for one in trainer.optimizers for group in one.param_groups]
        self._lr = max([self._lr, *(float(group["lr"]) for group in groups)])

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # Any: what Lightning makes of the loss
        batch: Mapping[str, torch.Tensor],
        batch_idx: int,
    ) -> None:
        """Add up the loss of each row; a step of a closed-form model has none."""
        if outputs is None or "loss" not in outputs:
            return
        count = len(batch["index"])
        # Lightning has divided the loss by the number of batches it accumulates.
        loss = outputs["loss"].detach() * trainer.accumulate_grad_batches
        self._loss_sum = self._loss_sum + loss * count
        self._num_rows += count

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Note that this epoch has validation metrics of its own."""
        self._validated = True

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Close the row of this epoch and say it."""
        row: dict[str, float] = {"epoch": trainer.current_epoch}
        if self._num_rows:
            row["train/loss"] = float(self._loss_sum) / self._num_rows
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and self._validated:
                row[name] = float(value)
        row["lr"] = self._lr
        row["seconds"] = time.perf_counter() - self._started
        self.rows.append(row)
        if trainer.is_global_zero:
            _log.info(_line(row, trainer.max_epochs))


class RunFolder(pl.Callback):
    """Write settings, history and curves of a run as it goes.

    Args:
        folder: Absent or empty; what is there is never overwritten.
        task: What is trained.
        data: What it is trained on.
        recorder: Where the rows come from.

    Raises:
        RunError: The folder holds something already.
    """

    def __init__(self, folder: Path, *, task: Task, data: Data, recorder: Recorder) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"The run folder {folder} exists and is not empty. Runs are never overwritten: "
                "name another folder with run=, or remove this one."
            )
        self.folder = folder
        self._task, self._data = task, data
        self._recorder = recorder

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the settings before the first batch."""
        if trainer.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            settings = run_settings(self._task, self._data, trainer)
            text = json.dumps(settings, indent=2, ensure_ascii=False)
            (self.folder / "settings.json").write_text(text + "\n", encoding="utf-8")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the history after every epoch, so that a killed run leaves its rows."""
        if trainer.is_global_zero:
            frame = pd.DataFrame(self._recorder.rows)
            frame.to_csv(self.folder / "history.csv", index=False)


def run_settings(task: Task, data: Data, trainer: pl.Trainer) -> dict[str, Any]:  # Any: JSON
    """Answer with everything that says how a run was made, as plain values."""
    splits = {"train": data.train, "val": data.val, "test": data.test}
    counts = {name: None if part is None else len(part) for name, part in splits.items()}
    return {
        "task": describe_task(task),
        "epochs": task.schedule(trainer).num_epochs,
        "precision": str(trainer.precision),
        "strategy": name_of(task.plan.strategy),
        "lr": "auto" if task.plan.finds_lr else task.plan.lr,
        "training": asdict(task.plan.training),
        "data": {
            **counts,
            "seed": data.seed,
            "batch_size": getattr(trainer.train_dataloader, "batch_size", None),
            "num_workers": data.num_workers,
            "sees": data.sees,
            "balance": data.balance
            if data.balance is None or isinstance(data.balance, str)
            else dict(data.balance),
        },
        "versions": {name: version(name) for name in _PACKAGES},
    }


def finish_run(task: Task, folder: Path, history: History) -> None:
    """Add the saved task and the curves to a run folder; the curves need ``mealkit[plots]``."""
    task.save(folder / "task")
    try:
        history.plot().savefig(folder / "curves.png")
    except MissingPackageError as error:
        _log.warning(f"The run has no curves.png. {error}")


def _line(row: Mapping[str, float], num_epochs: int | None) -> str:
    numbers = [f"{name} {value:.4f}" for name, value in row.items() if "/" in name]
    of = f"/{num_epochs}" if num_epochs and num_epochs > 0 else ""
    seconds = f"{row['seconds']:.1f} s"
    return f"epoch {int(row['epoch']) + 1}{of}: {', '.join(numbers)}, {seconds}"
