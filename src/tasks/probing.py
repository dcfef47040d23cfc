"""Probes: how good the features are, told on a few labelled inputs while a backbone learns."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from ..data.module import Data, Loader
from ..data.samples import Fetch, Samples, Subset
from ..errors import InvalidValueError, NoDataError, check_count
from .classification import targets_of
from .neighbors import Bank
from .pretext import Pretext
from .probe import fit_probe
from .running import encode

if TYPE_CHECKING:
    from .task import Task

_log = logging.getLogger("mealkit")

MOST_SHARE = 0.05
"""Of the forward passes of a run, what probes may take where nobody says how often they run."""

NUM_PROBES = 10
"""Probes of a run behind the first, where nobody says how often they run; fewer to keep the share,
but for the last one."""

MOST_ROWS = 4_000
"""Labelled inputs that a probe looks at: half of them are asked, half of them answer, or so."""

NUM_NEIGHBORS = 20
"""As in DINO (arXiv:2104.14294), or as many as there are."""


def probe_features(
    train: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], *, num_classes: int
) -> dict[str, float]:
    """Answer with the accuracy of nearest neighbours (``knn``) and of a linear head (``linear``).

    Args:
        train: Features that are learnt from, (N, F), and their classes, (N,).
        held: Features that are scored, (M, F), and their classes, (M,).
        num_classes: K.
    """
    features, targets = train
    others, wanted = held
    ids = [str(row) for row in range(len(features))]
    bank = Bank.of(ids, targets, features, torch.ones(len(features), dtype=torch.bool))
    votes = bank.vote(others, min(NUM_NEIGHBORS, len(features)), num_classes=num_classes)
    probe = fit_probe(features, targets, num_classes=num_classes)
    said = functional.linear(others.float(), probe.weight, probe.bias)
    return {
        "knn": float((votes.argmax(1) == wanted).float().mean()),
        "linear": float((said.argmax(1) == wanted).float().mean()),
    }


def single_labels(samples: Samples) -> Tensor:
    """Answer with the class positions of inputs with one label each, (N,).

    Raises:
        InvalidValueError: They have several labels each.
        NoDataError: They have none.
    """
    targets = targets_of(samples)
    if targets.ndim != 1:
        raise InvalidValueError(
            "Features are measured on inputs with one label each, and these have several. Choose "
            "one of the labels, or fine-tune on all of them and score that."
        )
    return targets


def some_rows(targets: Tensor, most: int, *, seed: int) -> list[int]:
    """Draw rows of all classes in equal shares, at most so many, in their order."""
    if len(targets) <= most:
        return list(range(len(targets)))
    order = torch.randperm(len(targets), generator=torch.Generator().manual_seed(seed))
    ranks = torch.empty_like(order)
    for target in sorted(set(targets.tolist())):  # the n-th of its class comes before any n+1-th
        own = order[targets[order] == target]
        ranks[own] = torch.arange(len(own))
    first = torch.argsort(ranks * len(targets) + torch.argsort(order))[:most]
    return sorted(first.tolist())


class Probing(pl.Callback):
    """Probe the backbone before the first step and every few epochs, without gradients.

    Values are in the history, as ``probe/knn`` and ``probe/linear``, and those before the first
    step as ``untrained/knn`` and ``untrained/linear``. They also go to the loggers.

    Args:
        task: Whose backbone it is.
        data: Labelled: the training part is learnt from, the validation part is scored.
        every: Epochs from one probe to the next; None for as many as keep the share `MOST_SHARE`.

    Raises:
        NoDataError: There is no validation part, or not a label.
        InvalidValueError: ``every`` is below 1.
    """

    def __init__(self, task: Task, data: Data, *, every: int | None) -> None:
        if every is not None:
            check_count("probe_every", every)
        held = data.val if data.val is not None else data.test
        if data.train is None or held is None:
            raise NoDataError(
                "A probe learns from one part of labelled data and is scored on another, and these "
                "have one part only. Give val=, or leave split= above 0."
            )
        self._task, self._every = task, every
        self._untrained: dict[str, float] = {}
        self._parts: list[Samples] = []
        for part in (data.train, held):
            rows = some_rows(single_labels(part), MOST_ROWS // 2, seed=data.seed)
            self._parts.append(Subset(part, rows))
        self._num_classes = len(data.classes)

    @property
    def num_rows(self) -> int:
        """How many inputs a probe looks at."""
        return sum(map(len, self._parts))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Tell the labelled inputs what the backbone wants to see."""
        for part in self._parts:
            part.prepare(self._task.input_spec)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Choose how often to probe, and probe before the first step.

        A resumed run has the values of before it; those that no row of the history has yet are told
        again.
        """
        epochs = self._epochs(trainer)
        if trainer.is_global_zero:
            _log.info(self._plan(trainer, epochs))
        if self._untrained:
            if trainer.current_epoch == 0:
                self._task.measured |= self._untrained
        elif trainer.global_step == 0:
            self._untrained = self._probe(trainer, "untrained")

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # Any: as in Lightning
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Probe behind the last batch of an epoch, ahead of its row in the history."""
        is_last = batch_idx + 1 >= trainer.num_training_batches
        if is_last and trainer.current_epoch in self._epochs(trainer):
            self._probe(trainer, "probe")

    def _epochs(self, trainer: pl.Trainer) -> set[int]:
        """Answer with the epochs behind which is probed; the last is one of them."""
        num_epochs = self._task.schedule(trainer).num_epochs
        every = self._every
        if every is None:
            passes = MOST_SHARE * self._passes_per_epoch(trainer) * num_epochs
            num_probes = min(NUM_PROBES, int(passes / self.num_rows) - 1)  # one is the first
            every = math.ceil(num_epochs / max(1, num_probes))
        return {*range(every - 1, num_epochs, every), num_epochs - 1}

    def _passes_per_epoch(self, trainer: pl.Trainer) -> float:
        objective = self._task.objective
        passes = objective.passes if isinstance(objective, Pretext) else 3.0
        data = getattr(trainer, "datamodule", None)
        num_rows = len(data.train) if isinstance(data, Data) and data.train is not None else 1
        return passes * num_rows

    def _plan(self, trainer: pl.Trainer, epochs: set[int]) -> str:
        num_epochs = self._task.schedule(trainer).num_epochs
        share = (len(epochs) + 1) * self.num_rows / (self._passes_per_epoch(trainer) * num_epochs)
        return (
            f"Probing on {self.num_rows:,} labelled inputs before the first step and after "
            f"{len(epochs)} of {num_epochs} epochs, {share:.1%} of the passes of the run."
        )

    def state_dict(self) -> dict[str, Any]:  # Any: plain values, for Lightning
        """Answer with what a resumed run cannot measure any more."""
        return {"untrained": self._untrained}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self._untrained = dict(state_dict["untrained"])

    def _probe(self, trainer: pl.Trainer, prefix: str) -> dict[str, float]:
        parts = []
        for samples in self._parts:
            loader = Loader(Fetch(samples))
            with trainer.precision_plugin.forward_context():
                features, present = encode(
                    self._task, loader, num_processes=trainer.world_size, rank=trainer.global_rank
                )
            parts.append((features[present], targets_of(samples)[present]))
        found = probe_features(parts[0], parts[1], num_classes=self._num_classes)
        named = {f"{prefix}/{name}": value for name, value in found.items()}
        self._task.measured |= named
        for logger in trainer.loggers:
            points = {f"probe/{name}": value for name, value in found.items()}
            logger.log_metrics(points, step=trainer.global_step)
        if trainer.is_global_zero and prefix == "untrained":
            words = ", ".join(f"{name} {value:.3f}" for name, value in found.items())
            _log.info(f"The backbone as it is: {words}.")
        return named
