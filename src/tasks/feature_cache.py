"""Features of a frozen backbone: in memory, or mapped from a file where they are many.

A file is named by everything that decides what is in it, and nothing else is ever read from under
that name. So the folder needs no upkeep, and may be deleted at any time, also while a run is on.
"""

from __future__ import annotations

import json
import logging
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..data.digest import digest_of
from ..data.module import Views
from ..data.samples import Identified
from ..errors import RunError
from .processes import NUM_ROWS, share_rows
from .running import encode, in_eval_mode, own_loader, view_features

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from ..data.module import Loader
    from .task import Task

_log = logging.getLogger("mealkit")

IN_MEMORY_BYTES = 1 << 30
"""Features that take more bytes than this (a million inputs of 256 numbers, say) are kept in a file
that is mapped into memory, and are found there by the next run."""

FOLDER_VARIABLE = "MEALKIT_CACHE"
"""Environment variable with the folder of such files."""

Array = np.ndarray[Any, np.dtype[Any]]  # Any: what is read from a file is checked

_FORMAT = 1
_STALE_SECONDS = 7 * 24 * 3600
_UNFINISHED = ".new"
_MOST_APART = 0.02
"""How far, relative to their length, kept features may be from those computed again: bf16 rounds by
0.004, and another net is apart by about 1."""


@dataclass(frozen=True)
class Features:
    """What a frozen backbone made of samples.

    Args:
        values: Rows of each sample, one after the other, (N * views, F), in fp32 on the CPU.
        present: Which samples could be read, (N,) of bool.
        file: Where they were read from; None where they were computed.
    """

    values: Tensor
    present: Tensor
    file: Path | None = None


def cache_folder() -> Path:
    """Answer with the folder of files that only save time: ``MEALKIT_CACHE``, or one in the home.

    Without that variable, it is ``mealkit`` in ``XDG_CACHE_HOME`` or in ``~/.cache``.
    """
    chosen = os.environ.get(FOLDER_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "mealkit"


def fits_memory(num_rows: int, num_features: int) -> bool:
    """Whether so many features in fp32 are kept in memory."""
    return 4 * num_rows * num_features <= IN_MEMORY_BYTES


def features_of(
    task: Task, loader: Loader, trainer: pl.Trainer, *, views: Views | None = None
) -> Features:
    """Run a frozen backbone once over the samples of a loader, or find what it made of them before.

    Called on every process of a run; each computes a share, and all have everything afterwards.

    Args:
        task: Whose backbone it is.
        loader: Whose samples they are.
        trainer: Of the run.
        views: The versions of each sample; None for samples as they are.

    Raises:
        RunError: The file cannot be written.
    """
    num_rows = len(loader.fetch) * (1 if views is None else views.count)
    if not fits_memory(num_rows, task.backbone.num_features):
        return _Kept(task, loader, trainer, views, num_rows).get()
    values, present = encode(
        task, loader, views=views, num_processes=trainer.world_size, rank=trainer.global_rank
    )
    if trainer.world_size > 1:
        share_rows(values, device=task.device)
        present = _shared(present, task)
    return Features(values, present)


class _Kept:
    """Features in a file, of which the processes of one machine have one together."""

    def __init__(
        self, task: Task, loader: Loader, trainer: pl.Trainer, views: Views | None, num_rows: int
    ) -> None:
        self._task, self._loader, self._trainer, self._views = task, loader, trainer, views
        self._shape = (num_rows, task.backbone.num_features)
        self._folder = cache_folder() / "features"
        key = feature_key(task, loader, views=views, precision=str(trainer.precision))
        self._file = None if key is None else self._folder / f"{key}.npy"

    def get(self) -> Features:
        """Find the file of an earlier run, or make it."""
        found = None if self._file is None else self._open(self._file, mode="c")
        if self._all(found is not None) and found is not None:
            if self._all(self._is_true(found)):
                return Features(found, torch.ones(len(self._loader.fetch)).bool(), self._file)
            if self._trainer.is_global_zero:
                _log.warning(
                    f"The features in {self._file} are not what the backbone makes of these "
                    "inputs now, perhaps because its code has changed; they are computed anew."
                )
        return self._make()

    def _make(self) -> Features:
        trainer = self._trainer
        name = trainer.strategy.broadcast(uuid.uuid4().hex)
        new = self._folder / f"{name}-{trainer.node_rank}{_UNFINISHED}"
        problem = self._create(new) if trainer.local_rank == 0 else None
        if not self._all(problem is None):
            with suppress(OSError):
                new.unlink()
            raise RunError(
                f"Features of {len(self._loader.fetch):,} inputs take {self._gib:.1f} GiB and "
                f"cannot be written to {self._folder} ({problem or 'see the other processes'}). "
                f"Make room there, or name another folder by the environment variable "
                f"{FOLDER_VARIABLE}."
            )
        values = self._open(new, mode="r+")
        if not self._all(values is not None) or values is None:
            raise RunError(
                f"{new} was written and is gone, or other processes of this machine do not see it. "
                f"Name a folder by the environment variable {FOLDER_VARIABLE} that they share."
            )
        try:
            present = self._fill(values)
        except BaseException:
            with suppress(OSError):
                new.unlink()
            raise
        trainer.strategy.barrier()
        if trainer.local_rank == 0:
            self._publish(new, complete=bool(present.all()))
        return Features(values, present)

    def _fill(self, values: Tensor) -> Tensor:
        trainer = self._trainer
        _, present = encode(
            self._task,
            self._loader,
            views=self._views,
            into=values,
            num_processes=trainer.world_size,
            rank=trainer.global_rank,
        )
        if trainer.world_size == 1:
            return present
        own = present.repeat_interleave(self._shape[0] // len(present))
        for start in range(0, self._shape[0], NUM_ROWS):
            rows = slice(start, start + NUM_ROWS)
            # The file already has the rows of this machine's others: each counts by its own.
            part = torch.where(own[rows, None], values[rows], 0.0)
            share_rows(part, device=self._task.device)
            if trainer.local_rank == 0:
                values[rows] = part
        return _shared(present, self._task)

    def _create(self, new: Path) -> str | None:
        """Reserve the whole file, and answer with why that is not possible.

        A file with holes would take the process with it when the disk is full in the midst of it.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            _remove_stale(self._folder)
            np.lib.format.open_memmap(new, mode="w+", dtype=np.float32, shape=self._shape)
            if hasattr(os, "posix_fallocate"):
                with new.open("r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, new.stat().st_size)
        except OSError as error:
            return error.strerror or str(error)
        return None

    def _open(self, file: Path, *, mode: Literal["r+", "c"]) -> Tensor | None:
        """Map a file into memory; None where it is absent or not whole."""
        try:
            mapped: Array = np.load(file, mmap_mode=mode, allow_pickle=False)
        except (OSError, ValueError):
            return None
        fits = mapped.shape == self._shape and mapped.dtype == np.float32
        return torch.from_numpy(mapped) if fits else None

    def _is_true(self, values: Tensor) -> bool:
        """Whether the backbone makes of a first batch what is kept: code is in no key."""
        batch = next(iter(own_loader(self._loader, num_processes=1, rank=0)), None)
        if batch is None:  # not one input can be read any more
            return False
        rows = batch["index"] * (1 if self._views is None else self._views.count)
        with in_eval_mode(self._task):
            made = view_features(self._task, batch, views=self._views, number=0)
        return bool((made - values[rows]).norm() <= _MOST_APART * made.norm())

    def _publish(self, new: Path, *, complete: bool) -> None:
        """Give the file its name, or none: who has it open keeps what is in it."""
        try:
            if complete and self._file is not None:
                new.replace(self._file)
                _log.info(
                    f"Keeping the features ({self._gib:.1f} GiB) in {self._file}; it may be "
                    "deleted at any time."
                )
            else:  # what could not be read today may be readable tomorrow
                new.unlink()
        except OSError as error:  # the folder was deleted, or Windows holds on to the file
            _log.info(f"The features are not kept for another run ({error}).")

    @property
    def _gib(self) -> float:
        return 4 * self._shape[0] * self._shape[1] / (1 << 30)

    def _all(self, value: bool) -> bool:
        """Whether something is so on all processes, which must go the same way."""
        return self._trainer.strategy.reduce_boolean_decision(value, all=True)


def feature_key(task: Task, loader: Loader, *, views: Views | None, precision: str) -> str | None:
    """Digest all that decides features; None where inputs or views cannot be told from others."""
    samples = loader.fetch.samples
    identity = samples.identity() if isinstance(samples, Identified) else None
    if identity is None or (views is not None and views.name is None):
        return None
    backbone, spec = task.backbone, task.input_spec
    parts: list[str | bytes] = [
        f"{_FORMAT} {torch.__version__} {precision} {task.device.type}",
        json.dumps([spec.to_json(), spec.files(), backbone.config], default=str, sort_keys=True),
        str(backbone),  # settings of layers that have no tensors
        identity,
        "" if views is None else f"{views.count} {views.name}",
    ]
    for module in (backbone, task.preprocess):
        for name, value in [*module.named_parameters(), *module.named_buffers()]:
            parts.append(f"{name} {value.dtype} {tuple(value.shape)}")
            raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            parts.append(raw.numpy().tobytes())
    return digest_of(parts)


def _shared(present: Tensor, task: Task) -> Tensor:
    counts = present.long()  # no process exchanges bools
    share_rows(counts, device=task.device)
    return counts.bool()


def _remove_stale(folder: Path) -> None:
    """Remove what killed runs left half written."""
    for file in folder.glob(f"*{_UNFINISHED}"):
        if time.time() - file.stat().st_mtime > _STALE_SECONDS:
            file.unlink(missing_ok=True)
