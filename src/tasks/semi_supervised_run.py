"""A run with unlabelled inputs: the stage of labels alone ahead of it, and the guard behind it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from torch import Tensor

from ..data.stream_samples import StreamSamples
from ..data.unlabelled_inputs import check_unlabelled
from ..data.with_unlabelled import WithUnlabelled
from ..errors import InvalidValueError
from .classification import evaluate_classes
from .objectives import Supervised
from .semi_supervised import SemiSupervised, resolve_method
from .strategies import Lora, Schedule, Staged, Strategy, freeze, name_of
from .training import Training

if TYPE_CHECKING:
    from ..data.module import Data
    from ..data.samples import Samples
    from ..data.with_unlabelled import WeakAndStrong
    from .task import Task

_log = logging.getLogger("mealkit")


@dataclass(frozen=True)
class SupervisedFirst:
    """A strategy with a stage of labels alone ahead of it, of as many steps.

    The head of a pretrained backbone is solved before either.

    The run behind it starts from what the stage came to, so that its first pseudo-labels are worth
    something, and the hold-out can say whether unlabelled inputs have helped.

    Args:
        strategy: Which block trains when, in both.
        guard: Keeps what the stage came to.
        epochs: Of either.
        batch_size: Labelled rows in a batch; None for the data's own.
    """

    strategy: Strategy
    guard: Guard
    epochs: int
    batch_size: int | None

    @property
    def __name__(self) -> str:
        """The name that run folders and tables have for it."""
        return f"{name_of(self.strategy)}, labels alone first"

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer as the strategy does."""
        return self.strategy(epoch, num_epochs, block, num_blocks)

    def before(self, task: Task, data: Data) -> None:
        """Train on labels alone, and keep that."""
        both: Any = data  # Any: WithUnlabelled, which `finetune` made
        stage: WithUnlabelled = both.alone()
        stage.batch_size = data.batch_size if self.batch_size is None else self.batch_size
        pretrained, objective = task.backbone.pretrained, task.objective
        if pretrained and task.head_is_fresh:
            # A solved head: the first pseudo-labels of a head that has seen few steps are all of
            # one class, and the run behind would confirm them.
            task.fit_stage(
                both.as_they_are(), objective=Supervised(), lr=task.plan.lr, strategy=freeze
            )
            if data.val is not None:
                self.guard.keep(task, data.val)
        task.fit_stage(
            stage,
            objective=Supervised(),
            lr=task.plan.lr,
            epochs=self.epochs,
            strategy=self.strategy,
        )
        # What the stage has trained is no more pretrained than before: statistics go on moving.
        task.backbone.pretrained = pretrained
        self.guard.keep(task, data.val)
        if isinstance(objective, SemiSupervised):
            objective.start(task)


class Guard(pl.Callback):
    """Put back what labels alone came to, where the hold-out says that it is better.

    That is the better of the solved head of a pretrained backbone, which has not moved yet, and of
    the stage behind it, which has trained both.
    """

    def __init__(self) -> None:
        self._accuracy: float | None = None
        self._weights: dict[str, Tensor] = {}

    def keep(self, task: Task, held: Samples | None) -> None:
        """Score the task on the hold-out, and copy it unless what was copied before is better."""
        if held is None:
            _log.info(
                "There is no validation part, so nothing will tell whether the unlabelled inputs "
                "have helped; the last weights stay."
            )
            return
        accuracy = evaluate_classes(task, held, batch_size=32).metrics["accuracy"]
        if self._accuracy is not None and accuracy < self._accuracy:
            _log.info(
                f"Labels alone: validation accuracy {accuracy:.4f}; the solved head on the "
                f"backbone as it was has {self._accuracy:.4f}, and is what the run must come up to."
            )
            return
        self._accuracy = accuracy
        self._weights = {
            name: value.detach().to("cpu", copy=True) for name, value in _saved(task).items()
        }
        _log.info(f"Labels alone: validation accuracy {accuracy:.4f}.")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Compare, once the best weights of the run are in the task."""
        task: Any = pl_module  # Any: the Task, whose best epoch is looked at
        best = task.best_value
        if self._accuracy is None or best is None:
            return
        if best >= self._accuracy:
            _log.info(
                f"With unlabelled inputs: validation accuracy {best:.4f} ({self._accuracy:.4f} by "
                "labels alone)."
            )
            return
        _log.warning(
            f"Unlabelled inputs have not helped: validation accuracy {best:.4f}, by labels alone "
            f"{self._accuracy:.4f}. The task holds the weights of labels alone."
        )
        task.load_state_dict({**task.state_dict(), **self._weights})
        task.forget_best()

    def state_dict(self) -> dict[str, Any]:  # Any: tensors and plain values, for Lightning
        """Answer with what the stage came to, which a resumed run does not repeat."""
        return {"accuracy": self._accuracy, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with it."""
        self._accuracy, self._weights = state_dict["accuracy"], state_dict["weights"]


@dataclass(frozen=True)
class SemiSupervisedRun:
    """What `finetune` is called with for a run with unlabelled inputs.

    Args:
        data: Both kinds of inputs.
        strategy: With its stage.
        training: With what the method needs.
        guard: A callback.
    """

    data: WithUnlabelled
    strategy: SupervisedFirst
    training: Training
    guard: Guard

    @classmethod
    def plan(
        cls,
        task: Task,
        data: Data,
        unlabelled: Samples,
        views: WeakAndStrong,
        *,
        method: SemiSupervised,
        epochs: int,
        strategy: Strategy,
        batch_size: int | None,
        training: Training | None,
    ) -> SemiSupervisedRun:
        """Check that everything fits, before anything is trained.

        Raises:
            InvalidValueError: The strategy trains nothing that unlabelled inputs could help, or
                has a stage or adapters of its own; inputs have any number of labels, or are a
                stream.
        """
        if task.spec.multi_label:
            raise InvalidValueError(
                "unlabelled= with any number of labels per input: the methods label an input with "
                "the one class that is most probable. Leave it out."
            )
        if isinstance(data.train, StreamSamples):
            raise InvalidValueError(
                "unlabelled= beside a stream of labelled inputs: batches of both kinds are drawn "
                "by position. Give labelled inputs that have a length, such as from_folders."
            )
        if isinstance(strategy, Staged | Lora):
            raise InvalidValueError(
                f"strategy={name_of(strategy)!r} beside unlabelled=: expected one that trains the "
                "backbone's own weights in one stage, such as 'full' or 'freeze_unfreeze'."
            )
        schedule = Schedule(strategy, epochs, len(task.backbone.blocks))
        if schedule.num_frozen_epochs == epochs:
            raise InvalidValueError(
                f"strategy={name_of(strategy)!r} over {epochs} epochs beside unlabelled=: the "
                "backbone never trains, and a head alone learns nothing from inputs without "
                "labels. Use 'full', or more epochs."
            )
        samples = check_unlabelled(unlabelled, data)
        guard = Guard()
        # Smoothed targets would keep the net from ever being sure.
        settings = Training() if training is None else training
        if settings.label_smoothing is None:
            settings = replace(settings, label_smoothing=0.0)
        if settings.ema is None:
            settings = replace(settings, ema=method.ema)
        return cls(
            data=WithUnlabelled(data, samples, views=views, ratio=method.ratio, method=method.name),
            strategy=SupervisedFirst(strategy, guard, epochs, batch_size),
            training=settings,
            guard=guard,
        )


def check_call(
    unlabelled: object,
    method: str | SemiSupervised | None,
    *,
    trainer: pl.Trainer | None,
    is_auto: bool,
) -> SemiSupervised:
    """Answer with the method that `finetune` was called with beside unlabelled inputs.

    Args:
        unlabelled: As in `finetune`.
        method: As in `finetune`.
        trainer: As in `finetune`.
        is_auto: Whether a batch size is to be found.

    Raises:
        UnknownNameError: There is no such method.
        InvalidValueError: One of the two is missing, or what else was given does not go with them.
    """
    if unlabelled is None:
        raise InvalidValueError(
            f"method={method!r} without unlabelled=: say where the unlabelled inputs are."
        )
    objective = resolve_method(method)
    if trainer is not None or is_auto:
        name = "trainer=" if trainer is not None else "batch_size='auto'"
        raise InvalidValueError(
            f"{name} beside unlabelled=: it trains in two stages, with Trainers of its own and "
            "batches of two kinds. Leave it out."
        )
    return objective


def _saved(task: Task) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in task.state_dict().items()
        if name.startswith(("backbone.", "head."))
    }
