"""What makes a killed run go on exactly: what a checkpoint holds, and when one is written."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Checkpoint
from torch import distributed

from ..data.module import Loader
from ..data.stream_loader import StreamLoader
from ..errors import RunError

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import STEP_OUTPUT

CHECKPOINT = "last.ckpt"
"""Name of the checkpoint in a run folder."""

UNFINISHED = "last.new"
"""Name of one that is being written, and that a kill may leave behind."""

EVERY_SECONDS = 300.0
"""In mid-epoch, a checkpoint is written when the last one is as old as this: so much work a kill
costs at most."""

MOST_SHARE = 0.05
"""Of the time of a run, what checkpoints may take. Epochs on cached features last milliseconds, and
writing all weights after each would take longer than the training."""

_KEY = "mealkit"


class Position(pl.Callback):
    """Put into the checkpoints of any Trainer what Lightning leaves out: chance, and the batch.

    Random states are those of torch, NumPy and Python, one set per process. Lightning stores the
    position of the loader but hands it back only to loaders that are made after a checkpoint is
    read; ours is made before, because the schedule asks for its length.
    """

    def __init__(self) -> None:
        self._state: Mapping[str, Any] | None = None  # Any: tensors and plain values

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add random states and position."""
        loader = trainer.train_dataloader
        position = loader.state_dict() if isinstance(loader, Loader | StreamLoader) else None
        checkpoint[_KEY] = {"random": _gather(random_states()), "loader": position}

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep them until training starts."""
        self._state = checkpoint.get(_KEY)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Go on where the checkpoint was written; nothing is drawn between here and a batch."""
        if self._state is None:
            return
        loader, states = trainer.train_dataloader, self._state["random"]
        if isinstance(loader, Loader | StreamLoader) and self._state["loader"] is not None:
            loader.load_state_dict(self._state["loader"])
        if len(states) == trainer.world_size:
            set_random_states(states[trainer.global_rank])
        self._state = None


class Checkpoints(Checkpoint):
    """Keep one checkpoint in a run folder, from which the run goes on after a kill.

    It is written before the first step, after every epoch but the last, and within an epoch after
    an optimiser step where the last one is old (`EVERY_SECONDS`); less often where writing takes
    more than its share of time (`MOST_SHARE`). A checkpoint is complete or absent: it is written
    beside and moved into place.

    Lightning runs callbacks of this base class after all others, which have their say first.

    Args:
        folder: Of the run.
        fingerprint: What the run is made with.
    """

    def __init__(self, folder: Path, fingerprint: Mapping[str, Any]) -> None:
        self._path = folder / CHECKPOINT
        self._fingerprint = dict(fingerprint)
        self._written: float | None = None  # seconds on a clock; None before the first
        self._cost = 0.0
        self._num_steps = 0
        self._resumed = False

    def state_dict(self) -> dict[str, Any]:  # Any: plain values
        """Answer with what the run was made with."""
        return {"fingerprint": self._fingerprint}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Note that there is a checkpoint already."""
        self._resumed = True

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write down where the run starts: a net with random weights has no other record."""
        self._num_steps = trainer.global_step
        if self._resumed:
            self._written = time.monotonic()
        else:
            self._write(trainer)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,  # Any: Lightning's
        batch_idx: int,
    ) -> None:
        """Write within an epoch; between two steps, gradients that add up would be lost."""
        stepped, self._num_steps = trainer.global_step > self._num_steps, trainer.global_step
        is_last = batch_idx + 1 >= trainer.num_training_batches  # the epoch's own follows soon
        if stepped and not is_last and self._due(trainer, EVERY_SECONDS):
            self._write(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write after an epoch; the last one is followed by the end of the run itself."""
        if not _ends(trainer) and self._due(trainer, 0.0):
            self._write(trainer)

    def _due(self, trainer: pl.Trainer, seconds: float) -> bool:
        age = time.monotonic() - (self._written or 0.0)
        due = age >= max(seconds, self._cost / MOST_SHARE)
        if trainer.world_size > 1:  # clocks differ, and all processes must take part
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        return due

    def _write(self, trainer: pl.Trainer) -> None:
        started = time.monotonic()
        new = self._path.with_name(UNFINISHED)
        trainer.save_checkpoint(new, weights_only=False)
        if trainer.is_global_zero:
            if self._written is None:
                _check(new)
            with new.open("rb") as file:  # else a power cut could leave the name without the bytes
                os.fsync(file.fileno())
            new.replace(self._path)
        self._written = time.monotonic()
        self._cost = self._written - started


def read_fingerprint(folder: Path) -> Mapping[str, Any] | None:
    """Answer with what the checkpoint in a run folder was made with; None where there is none."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    states = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["callbacks"]
    state: Mapping[str, Any] = states[Checkpoints.__qualname__]
    fingerprint: Mapping[str, Any] = state["fingerprint"]
    return fingerprint


def random_states() -> dict[str, Any]:
    """Answer with the random states of this process as tensors and plain values."""
    _, words, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [torch.from_numpy(np.asarray(words).astype(np.int64)), *rest],
        "python": [version, torch.tensor(numbers), gauss],
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go on with the random states that `random_states` answered with."""
    torch.set_rng_state(states["torch"].cpu())
    words, *rest = states["numpy"]
    np.random.set_state(("MT19937", words.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers.tolist()), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())


def _gather(states: dict[str, Any]) -> list[dict[str, Any]]:
    if not distributed.is_available():
        return [states]
    if not distributed.is_initialized():
        return [states]
    every: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(every, states)
    return every


def _ends(trainer: pl.Trainer) -> bool:
    epochs, steps = trainer.max_epochs, trainer.max_steps
    is_last = epochs is not None and 0 < epochs <= trainer.current_epoch + 1
    return is_last or trainer.should_stop or 0 < steps <= trainer.global_step


def _check(path: Path) -> None:
    """Find out now, and not after a kill, whether the checkpoint can be read."""
    try:
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises several kinds
        path.unlink()
        raise RunError(
            "The checkpoint of this run cannot be read without running code from it: the state of "
            f"a callback holds more than tensors and plain values ({error}). Leave that callback "
            "out, or run= away."
        ) from error
