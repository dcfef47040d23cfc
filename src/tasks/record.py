"""What a run is told by: the callback that collects its history, and its settings."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from ..data.balance import plain_balance
from .saved import describe_task
from .strategies import name_of

if TYPE_CHECKING:
    from ..data.module import Data
    from .task import Task

_log = logging.getLogger("mealkit")
_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "timm", "transformers")


class Recorder(pl.Callback):
    """Collect one row per epoch; over several processes, the sums of all of them."""

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
        loss_sum, num_rows = self._sums(trainer)
        if num_rows:
            row["train/loss"] = float(loss_sum) / num_rows
        for name, value in trainer.callback_metrics.items():
            if name.startswith("val/") and self._validated:
                row[name] = float(value)
        measured: dict[str, float] = getattr(pl_module, "measured", {})
        row |= measured
        measured.clear()
        row["lr"] = self._lr
        row["seconds"] = time.perf_counter() - self._started
        self.rows.append(row)
        if trainer.is_global_zero:
            _log.info(_line(row, trainer.max_epochs))

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write down the rows so far, and the sums of an epoch that is not over."""
        loss_sum, num_rows = self._sums(trainer)
        checkpoint["history"] = {
            "rows": self.rows,
            "loss_sum": torch.as_tensor(loss_sum).cpu(),
            "num_rows": num_rows,
            "lr": self._lr,
            "seconds": time.perf_counter() - self._started,
        }

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with them; the time in between does not count."""
        if "history" not in checkpoint:
            return
        saved = checkpoint["history"]
        self.rows[:] = saved["rows"]
        self._lr = saved["lr"]
        self._started = time.perf_counter() - saved["seconds"]
        if trainer.is_global_zero:  # the sums of all processes are in one
            self._loss_sum = saved["loss_sum"].to(trainer.strategy.root_device)
            self._num_rows = saved["num_rows"]

    def _sums(self, trainer: pl.Trainer) -> tuple[torch.Tensor | float, int]:
        if trainer.world_size == 1:
            return self._loss_sum, self._num_rows
        device = trainer.strategy.root_device
        sums = torch.stack(
            [
                torch.as_tensor(self._loss_sum, device=device).float(),
                torch.tensor(float(self._num_rows), device=device),
            ]
        )
        reduced = trainer.strategy.reduce(sums, reduce_op="sum")
        return reduced[0], int(reduced[1])


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
            "balance": plain_balance(data.balance),
        },
        "versions": {name: version(name) for name in _PACKAGES},
    }


def _line(row: Mapping[str, float], num_epochs: int | None) -> str:
    numbers = [f"{name} {value:.4f}" for name, value in row.items() if "/" in name]
    of = f"/{num_epochs}" if num_epochs and num_epochs > 0 else ""
    seconds = f"{row['seconds']:.1f} s"
    return f"epoch {int(row['epoch']) + 1}{of}: {', '.join(numbers)}, {seconds}"
