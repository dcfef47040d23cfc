"""Above which probability an input has a label: one threshold per class, from validation."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from ..data.module import Loader
from .running import encode

if TYPE_CHECKING:
    from .evaluation import Array
    from .task import Task

_log = logging.getLogger("mealkit")

HALF = 0.5
"""The threshold of a class of which validation knows nothing."""

GAP = 1e-5
"""Probabilities nearer to each other than this differ by rounding: no threshold lies between."""


def best_thresholds(probabilities: Array, targets: Array) -> tuple[float, ...]:
    """Find for each class the threshold with the highest F1.

    It lies midway between two probabilities that were seen. Of several that are as good, the one
    nearest to 1/2 is taken. A class that no input has, or every one, keeps 1/2. Thresholds that
    maximise F1 are low where a classifier cannot tell a class from others (Lipton et al. 2014,
    arXiv:1402.1892): it is then given often.

    Args:
        probabilities: Of inputs that were not trained on, (N, K).
        targets: 0 and 1, (N, K).

    Returns:
        One number in [0, 1] per class, K of them.
    """
    return tuple(
        _best_threshold(probabilities[:, place].astype(np.float64), targets[:, place])
        for place in range(targets.shape[1])
    )


def _best_threshold(probabilities: Array, targets: Array) -> float:
    num_with = int(targets.sum())
    if num_with in (0, len(targets)):
        return HALF
    order = np.argsort(-probabilities, kind="stable")
    falling = probabilities[order]
    right = np.cumsum(targets[order], dtype=np.int64)
    # A cut is possible behind each probability that differs from the next one, and behind the last.
    cuts = np.flatnonzero(np.append(falling[:-1] - falling[1:] > GAP, True))
    f1 = 2 * right[cuts] / (cuts + 1 + num_with)
    middle = (falling[cuts] + np.append(falling[1:], 0.0)[cuts]) / 2
    best = np.flatnonzero(f1 >= f1.max() - 1e-12)
    # Where 1/2 itself lies between the two probabilities of a cut, it is as good as their middle.
    low, high = np.append(falling[1:], 0.0)[cuts[best]], falling[cuts[best]]
    if bool(((low < HALF) & (high >= HALF)).any()):
        return HALF
    return float(min(middle[best], key=lambda value: abs(value - HALF)))


def macro_f1(decisions: Array, targets: Array) -> float:
    """Answer with the F1 of decisions (N, K), averaged over classes; 0 for one that is nowhere."""
    right = (decisions & (targets == 1)).sum(0)
    return float((2 * right / np.maximum(decisions.sum(0) + targets.sum(0), 1)).mean())


class Thresholds(pl.Callback):
    """Find thresholds on the validation part when training is over and the best weights are back.

    Several processes compute a share of the inputs each and come to the same thresholds.

    Args:
        task: What is trained.
        take: Takes over what was found, (K,).
    """

    def __init__(self, task: Task, take: Callable[[tuple[float, ...]], None]) -> None:
        self._task, self._take = task, take

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at the validation part once more, or at its features where they are at hand."""
        found = trainer.val_dataloaders
        loader = found[0] if isinstance(found, list) and found else found
        if not isinstance(loader, Loader) or loader.fetch.samples.targets is None:
            if trainer.is_global_zero:
                _log.info(
                    "No validation part: labels are given from a probability of 0.5 on, in every "
                    "class. With val=, or split= above 0, thresholds are tuned."
                )
            return
        probabilities, targets = (value.numpy() for value in self._answers(trainer, loader))
        if not np.isfinite(probabilities).all():
            return  # training diverged, which is said elsewhere
        # Probabilities may differ in the last digit from process to process, thresholds must not.
        thresholds = trainer.strategy.broadcast(best_thresholds(probabilities, targets))
        self._take(thresholds)
        if trainer.is_global_zero:
            before = macro_f1(probabilities >= HALF, targets)
            after = macro_f1(probabilities >= np.array(thresholds), targets)
            _log.info(
                f"Tuned the thresholds of {len(thresholds)} classes on {len(targets):,} "
                f"validation inputs: macro F1 {before:.3f} at 0.5, {after:.3f} with thresholds "
                f"from {min(thresholds):.2f} to {max(thresholds):.2f}."
            )

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Find thresholds also when the user stops a run, whose best weights stay.

        Of several processes some may be gone by then, and the others would wait for them.
        """
        if isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1:
            self.on_train_end(trainer, pl_module)

    def _answers(self, trainer: pl.Trainer, loader: Loader) -> tuple[Tensor, Tensor]:
        task = self._task
        if loader.fetch.cached:
            features, targets, _ = loader.fetch.rows()
        else:
            with trainer.precision_plugin.forward_context():
                every, present = encode(
                    task, loader, num_processes=trainer.world_size, rank=trainer.global_rank
                )
            known = loader.fetch.samples.targets
            features, targets = every[present], torch.as_tensor(known)[present]
        with torch.no_grad():
            modes = task.head.training
            logits = task.head.eval()(features.to(task.device))
            task.head.train(modes)
        return task.probabilities(logits).cpu(), targets
