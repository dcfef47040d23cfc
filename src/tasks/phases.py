"""The callback that carries out a strategy: freezes, unfreezes, and runs a frozen backbone once."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch import nn

from ..data.module import Data, Loader, Views
from .feature_cache import Features, features_of, fits_memory
from .processes import copy_from_first
from .strategies import Lora, Schedule
from .training import resolve_precision

if TYPE_CHECKING:
    from .task import Task

_log = logging.getLogger("mealkit")
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Phases(pl.Callback):
    """Set before each epoch what trains in it.

    Blocks are frozen in ``on_train_start`` and not before: a block that is frozen when DDP wraps
    the model is never synchronised once it is unfrozen, and the processes drift apart.

    Args:
        task: Whose strategy is carried out.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._schedule: Schedule | None = None
        self.solves: bool | None = None
        """Whether frozen epochs solve the head; known at the start and kept for a resumed run, of
        which the head is not fresh any more."""
        self._solved = False
        self._fixed: set[int] = set()  # what the net itself keeps fixed is never opened

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start from one known state; an earlier prediction left the task in eval mode."""
        self._task.train()
        resolve_precision(str(trainer.precision))  # which refuses what predict cannot repeat
        if trainer.precision != resolve_precision(self._task.precision):
            self._task.precision = str(trainer.precision)  # what it is trained in, it predicts in
        parameters = self._task.parameters()
        self._fixed = {id(parameter) for parameter in parameters if not parameter.requires_grad}
        self._schedule = self._task.schedule(trainer)
        if self.solves is None:
            self.solves = self._task.solves_head(trainer)
            self._solved = not self.solves

    def state_dict(self) -> dict[str, Any]:  # Any: plain values, for Lightning
        """Answer with what a resumed run cannot see from its weights."""
        penalty = self._task.plan.penalty
        return {"solves": self.solves, "solved": self._solved, "penalty": penalty}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as it was decided at the start."""
        self.solves, self._solved = state_dict["solves"], state_dict["solved"]
        self._task.plan = replace(self._task.plan, penalty=state_dict["penalty"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what trains when, and freeze; also when a run is resumed."""
        if trainer.is_global_zero:
            _log.info(self._table(trainer))
            if _views(trainer) is not None and not self._get_schedule().num_frozen_epochs:
                _log.warning("data.n_views changes nothing in this run: no epoch is frozen.")
        self.apply(trainer.current_epoch)
        if trainer.fit_loop.restarted_mid_epoch:  # whose start is not told again
            self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze and unfreeze for this epoch; switch the loaders between inputs and features."""
        epoch = trainer.current_epoch
        self.apply(epoch)
        schedule = self._get_schedule()
        if epoch < schedule.num_frozen_epochs and self._task.caches_features(trainer):
            self._cache(trainer)
        else:
            for loader in _loaders(trainer):
                loader.fetch.uncache()

    def apply(self, epoch: int) -> None:
        """Freeze and unfreeze as this epoch asks for."""
        task = self._task
        named = dict(task.backbone.named_parameters())
        row = self._get_schedule().row(epoch)
        for module in task.backbone.modules():  # those that span blocks follow the whole
            module.training = any(row) or not row  # a net without blocks is all head
        for block, multiplier in zip(task.backbone.blocks, row, strict=True):
            for name in block.parameters:
                fixed = id(named[name]) in self._fixed
                named[name].requires_grad_(multiplier > 0 and not fixed)
            for module in block.modules:
                module.training = multiplier > 0
        if task.freezes_batch_norm:
            for module in task.backbone.modules():
                if isinstance(module, _BATCH_NORMS):
                    module.training = False

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count a trained backbone as pretrained from now on; let processes agree on statistics."""
        schedule = self._get_schedule()
        if schedule.num_frozen_epochs < schedule.num_epochs:
            self._task.backbone.pretrained = True
        if trainer.world_size > 1:  # batch statistics have moved apart since the last validation
            copy_from_first(self._task.buffers())

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave nothing frozen behind, and free the features."""
        for parameter in self._task.parameters():
            parameter.requires_grad_(id(parameter) not in self._fixed)
        for loader in _loaders(trainer):
            loader.fetch.uncache()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave nothing frozen behind after a failure either."""
        self.on_fit_end(trainer, pl_module)

    def _get_schedule(self) -> Schedule:
        if self._schedule is None:
            raise RuntimeError("The strategy is known from on_fit_start on.")
        return self._schedule

    def _cache(self, trainer: pl.Trainer) -> None:
        loaders = _loaders(trainer)
        started = time.perf_counter()
        made: list[tuple[Loader, Features]] = []
        for loader in [loader for loader in loaders if not loader.fetch.cached]:
            views = _views(trainer) if loader is loaders[0] else None
            with trainer.precision_plugin.forward_context():
                found = features_of(self._task, loader, trainer, views=views)
            count = 1 if views is None else views.count
            loader.fetch.cache(found.values, found.present, num_views=count)
            made.append((loader, found))
        if made and trainer.is_global_zero:
            self._say_made(made, time.perf_counter() - started)
        if not self._solved:
            if trainer.is_global_zero:
                self._solve(trainer, loaders[0])
            if trainer.world_size > 1:
                copy_from_first(self._task.head.state_dict().values())
            self._solved = True

    @staticmethod
    def _say_made(made: Sequence[tuple[Loader, Features]], seconds: float) -> None:
        for loader, found in made:
            if found.file is not None:
                _log.info(f"Read features of {len(loader.fetch):,} inputs from {found.file}.")
        run = [loader for loader, found in made if found.file is None]
        if run:
            count = sum(len(loader.fetch) for loader in run)
            _log.info(f"Ran the frozen backbone once over {count:,} inputs ({seconds:.1f} s).")

    def _solve(self, trainer: pl.Trainer, loader: Loader) -> None:
        features, targets, rows = loader.fetch.rows()
        data = getattr(trainer, "datamodule", None)
        # Drawing rare classes more often is, for a head that sees all rows at once, their weight.
        weights = data.train_weights() if isinstance(data, Data) else None
        views = _views(trainer)
        started = time.perf_counter()
        device = self._task.device
        words = self._task.objective.solve(
            self._task,
            features.to(device) if fits_memory(*features.shape) else features,
            targets.to(device),
            weights=None if weights is None else weights[rows].to(device),
            num_views=1 if views is None else views.count,
        )
        seconds = time.perf_counter() - started
        _log.info(f"Solved the head on them: {words} ({seconds:.1f} s).")

    def _table(self, trainer: pl.Trainer) -> str:
        schedule, task = self._get_schedule(), self._task
        cached, solves = task.caches_features(trainer), self.solves
        data = getattr(trainer, "datamodule", None)
        inputs = data.sees if isinstance(data, Data) else "batches of your loader"
        views = _views(trainer)
        once = "features" if views is None else f"features of {views.count} views"
        lines = [f"{'epochs':<8} {'trains':<22} {'rate':<20} {'sees'}"]
        for first, last, row in schedule.phases():
            epochs = f"{first + 1}" if first == last else f"{first + 1}-{last + 1}"
            open_blocks = [value for value in row if value > 0]
            frozen = last < schedule.num_frozen_epochs
            solved = solves and frozen
            opens = f" + {len(open_blocks)} of {len(row)} blocks" if open_blocks else ""
            opens = " + adapters" if opens and isinstance(task.plan.strategy, Lora) else opens
            trains = f"{task.trains_beside}{opens}"
            rate = task.plan.rates(open_blocks)
            sees = f"{once} computed once" if cached and frozen else inputs
            lines.append(f"{epochs:<8} {trains:<22} {'solved' if solved else rate:<20} {sees}")
        norm = "frozen" if task.freezes_batch_norm else "moving"
        head = f"Training by {task.plan}, {trainer.precision}, batch statistics {norm}"
        if isinstance(data, Data) and data.balance is not None:
            head += f", classes balanced by {data.balance}"
        return "\n  ".join([f"{head}:", *lines])


def _loaders(trainer: pl.Trainer) -> list[Loader]:
    """Answer with our own loaders of a run, training first."""
    found = [trainer.train_dataloader, trainer.val_dataloaders]
    flat = [one for item in found for one in (item if isinstance(item, list) else [item])]
    return [loader for loader in flat if isinstance(loader, Loader)]


def _views(trainer: pl.Trainer) -> Views | None:
    data = getattr(trainer, "datamodule", None)
    return data.views if isinstance(data, Data) else None


def is_cacheable(trainer: pl.Trainer) -> bool:
    """Whether a run's inputs are the same each epoch and come through our own loaders."""
    data = getattr(trainer, "datamodule", None)
    trainer.fit_loop.setup_data()
    return isinstance(data, Data) and data.caches and isinstance(trainer.train_dataloader, Loader)
