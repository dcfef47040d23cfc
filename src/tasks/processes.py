"""What a task does differently on several processes: share work, agree, and bring results home."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    ModelParallelStrategy,
)
from torch import Tensor, distributed

from ..errors import InvalidValueError
from .results import History

if TYPE_CHECKING:
    from .record import Recorder
    from .task import Task

NUM_ROWS = 4096
"""Rows of features that are exchanged at a time: on GPUs they pass through the device's memory."""


def refuse_sharded_weights(trainer: pl.Trainer) -> None:
    """Refuse a Trainer under which no process has all weights, before it wraps the model.

    Freezing after the wrap, best weights in memory, the head that is solved and the saved task
    rely on whole tensors, which no process has then.

    Raises:
        InvalidValueError: The Trainer shards the weights.
    """
    kinds = FSDPStrategy | ModelParallelStrategy | DeepSpeedStrategy
    if isinstance(trainer.strategy, kinds):
        raise InvalidValueError(
            f"trainer= shards the weights of the net ({type(trainer.strategy).__name__}), which "
            "tasks do not support: expected a net that each device holds as a whole. Make the "
            "Trainer with strategy='ddp'; a net whose training does not fit may fit with "
            "finetune(strategy='lora')."
        )


def allow_frozen_blocks(task: Task, trainer: pl.Trainer) -> None:
    """Tell DDP, before it wraps the model, that some parameters have no gradient in some epochs.

    DDP waits for the gradient of every parameter that could be trained when it wrapped the model,
    and blocks are frozen after that (see `Phases`). It must be told to look for those that are
    missing, which costs it a walk over the graph in each step; where nothing is ever frozen, it is
    left as it was.

    Raises:
        InvalidValueError: The Trainer forbids it.
    """
    strategy = trainer.strategy
    if not isinstance(strategy, DDPStrategy):
        return
    schedule = task.schedule(trainer)
    if all(all(schedule.row(epoch)) for epoch in range(schedule.num_epochs)):
        return
    # Lightning has no public way to set this on a strategy that is already made.
    options: dict[str, Any] | None = getattr(strategy, "_ddp_kwargs", None)  # Any: of DDP
    if options is not None and not options.get("static_graph"):
        options.setdefault("find_unused_parameters", True)
    if options is None or not options.get("find_unused_parameters"):
        raise InvalidValueError(
            "Blocks of the backbone are frozen in some epochs, and DDP would wait for their "
            'gradients. Make the Trainer with strategy="ddp_find_unused_parameters_true" (without '
            "static_graph), or train by one of the strategies full and layer_decay."
        )


def share_rows(values: Tensor, *, device: torch.device) -> None:
    """Fill in, on every process, the rows that the others computed; in place.

    Args:
        values: (N, ...); what another process computes is zero here.
        device: Where the processes exchange tensors.
    """
    for part in torch.split(values, NUM_ROWS):
        moved = part.to(device)
        distributed.all_reduce(moved)  # sums; one summand is not zero
        part.copy_(moved)


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every process what the first one has, in place."""
    for tensor in tensors:
        distributed.broadcast(tensor, src=0)


def gather_predictions(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Put what ``Trainer.predict`` answered on all processes into input order, each input once.

    Samplers fill up the last round with inputs that were seen, so that every process has as many;
    here they count once. Call it on every process; without several, it only orders.

    Args:
        parts: What ``predict_step`` answered, one dict a batch.

    Returns:
        The same entries on the CPU, one row per input that could be read; ``index`` says which.

    Example:
        >>> late = {"index": torch.tensor([2, 0]), "probabilities": torch.tensor([[0.3], [0.1]])}
        >>> early = {"index": torch.tensor([1, 0]), "probabilities": torch.tensor([[0.2], [0.1]])}
        >>> gather_predictions([late, early])["index"].tolist()
        [0, 1, 2]
    """
    own = [{name: value.cpu() for name, value in part.items()} for part in parts]
    every: list[list[dict[str, Tensor]]] = [own]
    if distributed.is_available() and distributed.is_initialized():
        every = [[] for _ in range(distributed.get_world_size())]
        distributed.all_gather_object(every, own)
    flat = [part for parts_of_one in every for part in parts_of_one]
    if not flat:
        raise InvalidValueError("No process has predicted anything: there is nothing to gather.")
    joint = {name: torch.cat([part[name] for part in flat]) for name in flat[0]}
    first = {index: row for row, index in reversed(list(enumerate(joint["index"].tolist())))}
    rows = [first[index] for index in sorted(first)]
    return {name: value[rows] for name, value in joint.items()}


class Messenger(pl.Callback):
    """Bring home what a fit came to where Lightning runs it in processes that it forks or spawns.

    Lightning brings back the weights; history, best epoch and precision stayed in those processes.
    It writes a file there, on this machine, which is read and removed here.

    Args:
        task: What is trained.
        recorder: Whose rows are brought home.
    """

    def __init__(self, task: Task, recorder: Recorder) -> None:
        self._task, self._recorder = task, recorder
        self._home = os.getpid()
        self._path = Path(tempfile.gettempdir()) / f"mealkit-{uuid.uuid4().hex}.json"

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write, in the first of the processes, if it is not the one that asked."""
        if os.getpid() == self._home or not trainer.is_global_zero:
            return
        said = {
            "rows": self._recorder.rows,
            "best_epoch": self._task.best_epoch,
            "precision": self._task.precision,
            "pretrained": self._task.backbone.pretrained,
            "lr": self._task.plan.lr,
            "settings": self._task.settings(),
        }
        self._path.write_text(json.dumps(said), encoding="utf-8")

    def history(self) -> History:
        """Answer with the history of the fit that is over, wherever it ran."""
        if not self._path.exists():
            return History(self._recorder.rows, self._task.best_epoch)
        said = json.loads(self._path.read_text(encoding="utf-8"))
        self._path.unlink()
        self._task.precision = said["precision"]
        self._task.backbone.pretrained = said["pretrained"]
        self._task.plan = replace(self._task.plan, lr=said["lr"], finds_lr=False)
        self._task.take_settings(said["settings"])
        return History(said["rows"], said["best_epoch"])


class OwnChance(pl.Callback):
    """Let every process draw dropout of its own: all were seeded alike, to build the same weights.

    Args:
        seed: Of the run; one process alone goes on as it was seeded.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seed again; a resumed run puts its own random states back after this."""
        if trainer.world_size > 1:
            torch.manual_seed(self._seed + trainer.global_rank)
