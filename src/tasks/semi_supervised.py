"""Semi-supervised objectives: a few labels, and many inputs without one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional

from ..data.stream_samples import StreamSamples
from ..data.with_unlabelled import WithUnlabelled, check_unlabelled
from ..errors import InvalidValueError, check_count, unknown_name
from .classification import evaluate_classes
from .objectives import SMOOTHING, Step, Supervised
from .strategies import Lora, Schedule, Staged, Strategy, freeze, name_of
from .training import Training

if TYPE_CHECKING:
    from ..data.images import ImageData
    from ..data.module import Data
    from ..data.samples import Samples
    from ..specs import Batch
    from .task import Task

_log = logging.getLogger("mealkit")

_ONE_CLASS = 0.5  # of the pseudo-labels: above it, one class may be swallowing the others


class SemiSupervised(Supervised):
    """Cross-entropy of labelled inputs, and a method's own loss of unlabelled ones beside them.

    Subclasses say in `unlabelled_loss` what they ask of ``batch["unlabelled"]``, which has two
    views of each input: a weak one and a strong one.

    Args:
        ratio: Unlabelled rows for each labelled one in a batch.
        weight: Of the loss of unlabelled inputs.
        ema: Decay of the moving average of the weights, which is validated and kept, where
            `Training` names none.
    """

    solves = False

    name: ClassVar[str]
    """Under which `METHODS` has it."""

    def __init__(self, *, ratio: int, weight: float, ema: float) -> None:
        super().__init__()
        check_count("ratio", ratio)
        _check_share("ema", ema)
        if not weight > 0:
            raise InvalidValueError(f"weight={weight}: expected a positive number.")
        self.ratio, self.weight, self.ema = ratio, weight, ema
        self._counts: Tensor

    def start(self, task: Task) -> None:
        """Get ready for a run of a task; the stage of labels alone is behind it."""
        # Rows, those that count, those of them on which both views agree, and each class of them.
        counts = torch.zeros(3 + len(task.spec.classes), device=task.device)
        self.register_buffer("_counts", counts)

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Classify labelled and unlabelled rows and add up both losses."""
        if not training:
            return super().step(task, batch, training=False)
        beside: dict[str, Batch] = batch["unlabelled"]  # type: ignore[assignment]  # see `Beside`
        strong, count = beside["strong"], len(batch["index"])
        # In one pass, so that batch norm sees both kinds of rows together.
        names = task.backbone.inputs
        logits = task({name: torch.cat([batch[name], strong[name]]) for name in names})
        loss = self.training_loss(task, logits[:count], batch)
        if len(strong["index"]):
            loss = loss + self.weight * self.unlabelled_loss(task, logits[count:], beside["weak"])
        return Step(loss, logits[:count])

    def unlabelled_loss(self, task: Task, strong: Tensor, weak: Batch) -> Tensor:
        """Compare what was said of strong views, logits (B, K), with the weak views; a scalar."""
        raise NotImplementedError

    def after_step(self, task: Task) -> None:
        """At the end of an epoch, hand the shares over to the history."""
        if not task.trainer.is_last_batch:
            return
        rows, counted, agreed, *classes = self._counts.tolist()
        self._counts.zero_()
        if not rows:
            return
        task.measured["unlabelled/mask_rate"] = counted / rows
        if not counted:
            return
        largest = max(range(len(classes)), key=classes.__getitem__)
        task.measured["unlabelled/agreement"] = agreed / counted
        task.measured["unlabelled/largest_class"] = classes[largest] / counted
        is_last = task.trainer.current_epoch + 1 == task.trainer.max_epochs
        if is_last and len(classes) > 2 and classes[largest] > _ONE_CLASS * counted:
            _log.warning(
                f"{classes[largest] / counted:.0%} of the pseudo-labels are "
                f"{task.spec.classes[largest]!r}: the net may be confirming its own mistakes. "
                "Compare with a run without unlabelled=, or add labels of other classes."
            )

    def count(self, labels: Tensor, strong: Tensor, mask: Tensor) -> None:
        """Add to the shares of an epoch.

        Args:
            labels: Pseudo-labels, (B,).
            strong: Logits of the strong views, (B, K).
            mask: Which rows count, (B,) of bool.
        """
        agreed = (strong.detach().argmax(1) == labels) & mask
        rows = torch.ones_like(mask)
        sums = torch.stack([rows.sum(), mask.sum(), agreed.sum()])
        classes = torch.bincount(labels[mask], minlength=strong.shape[1])
        self._counts += torch.cat([sums, classes]).to(self._counts)


class FixMatch(SemiSupervised):
    """Train the strong view on the label of the weak one, where that is sure enough.

    Sohn et al. 2020 (arXiv:2001.07685). Threshold, ratio and weight are the paper's. With label
    smoothing no class can reach 1; the threshold is a share of what it can reach.

    Args:
        threshold: Least probability of a pseudo-label.
        ratio: Unlabelled rows for each labelled one in a batch.
        weight: Of the loss of unlabelled inputs.
        ema: Decay of the moving average of the weights. The paper's 0.999 is for a million steps.

    Example:
        >>> FixMatch(threshold=0.9).ratio
        7
    """

    name = "fixmatch"

    def __init__(
        self, *, threshold: float = 0.95, ratio: int = 7, weight: float = 1.0, ema: float = 0.99
    ) -> None:
        super().__init__(ratio=ratio, weight=weight, ema=ema)
        _check_share("threshold", threshold)
        self.threshold = threshold

    def unlabelled_loss(self, task: Task, strong: Tensor, weak: Batch) -> Tensor:
        """Cross-entropy of the strong views against sure labels of the weak ones."""
        with torch.no_grad():
            probabilities = task(weak).softmax(1)
        mask = self.mask(probabilities, task)
        labels = probabilities.argmax(1)
        self.count(labels, strong, mask)
        losses = functional.cross_entropy(strong, labels, reduction="none")
        return (losses * mask).mean()

    def mask(self, probabilities: Tensor, task: Task) -> Tensor:
        """Say which weak views are sure enough, (B,)."""
        given = task.plan.training.label_smoothing
        most = highest_probability(SMOOTHING if given is None else given, probabilities.shape[1])
        return probabilities.amax(1) >= self.threshold * most


class FreeMatch(FixMatch):
    """FixMatch with thresholds that follow how sure the net is, for each class, and fair shares.

    Wang et al. 2023 (arXiv:2205.07246). The momentum of the paper, 0.999, is for a million steps;
    ours is 0.99 (not tuned).

    Args:
        momentum: How much of the running means stays at a step.
        fairness: Weight of the loss that keeps the classes of strong views as frequent as those of
            weak ones.
        ratio: Unlabelled rows for each labelled one in a batch.
        weight: Of the loss of unlabelled inputs.
        ema: Decay of the moving average of the weights.
    """

    name = "freematch"

    def __init__(
        self,
        *,
        momentum: float = 0.99,
        fairness: float = 0.01,
        ratio: int = 7,
        weight: float = 1.0,
        ema: float = 0.99,
    ) -> None:
        super().__init__(ratio=ratio, weight=weight, ema=ema)
        _check_share("momentum", momentum)
        self.momentum, self.fairness = momentum, fairness
        self._sure: Tensor
        self._shares: Tensor
        self._frequent: Tensor

    def start(self, task: Task) -> None:
        """Begin with even shares of all classes, and as unsure as a net can be."""
        super().start(task)
        even = torch.full((len(task.spec.classes),), 1 / len(task.spec.classes), device=task.device)
        self.register_buffer("_sure", even[0].clone())
        self.register_buffer("_shares", even.clone())
        self.register_buffer("_frequent", even.clone())

    def mask(self, probabilities: Tensor, task: Task) -> Tensor:
        """Move the running means, and hold each weak view to the threshold of its class."""
        sure, labels = probabilities.max(1)
        frequent = torch.bincount(labels, minlength=probabilities.shape[1]) / len(labels)
        share = 1 - self.momentum
        self._sure.lerp_(sure.mean(), share)
        self._shares.lerp_(probabilities.mean(0), share)
        self._frequent.lerp_(frequent.to(self._frequent), share)
        return sure >= self._sure * (self._shares / self._shares.max())[labels]

    def unlabelled_loss(self, task: Task, strong: Tensor, weak: Batch) -> Tensor:
        """Add the fairness of classes (the paper's equation 11)."""
        return super().unlabelled_loss(task, strong, weak) + self.fairness * self._unfair(strong)

    def _unfair(self, strong: Tensor) -> Tensor:
        probabilities = strong.softmax(1)
        seen = torch.bincount(probabilities.argmax(1), minlength=strong.shape[1]) / len(strong)
        wanted = _normalised(self._shares, self._frequent)
        given = _normalised(probabilities.mean(0), seen)
        return (wanted * given.clamp_min(1e-12).log()).sum()


class MeanTeacher(SemiSupervised):
    """Draw what is said of the strong view to what an averaged teacher says of the weak one.

    Tarvainen and Valpola 2017 (arXiv:1703.01780): the squared distance of the probabilities, whose
    weight rises over the first 40 % of the run. The weight of 50 and that share are those of Wang
    et al. 2022 (USB, arXiv:2208.07204); the paper's views differ by shifts and noise, ours by what
    FixMatch has. All rows count, so ``mask_rate`` is 1.

    Args:
        ratio: Unlabelled rows for each labelled one in a batch.
        weight: Of the loss of unlabelled inputs, at its highest.
        rise: Share of the steps in which it rises.
        ema: Decay of the teacher, and of the moving average that is validated.
    """

    name = "mean_teacher"

    def __init__(
        self, *, ratio: int = 7, weight: float = 50.0, rise: float = 0.4, ema: float = 0.99
    ) -> None:
        super().__init__(ratio=ratio, weight=weight, ema=ema)
        _check_share("rise", rise)
        self.rise = rise
        self._moved: Tensor

    def start(self, task: Task) -> None:
        """Copy the weights as they are: the teacher's, as buffers that no optimiser moves."""
        super().start(task)
        self.register_buffer("_moved", torch.zeros((), device=task.device))
        for number, value in enumerate(_learnt(task).values()):
            self.register_buffer(f"_teacher{number}", value.detach().clone())

    def unlabelled_loss(self, task: Task, strong: Tensor, weak: Batch) -> Tensor:
        """Squared distance of probabilities from the teacher's, a mean over classes."""
        with torch.no_grad():
            teacher = dict(zip(_learnt(task), self._teacher(), strict=True))
            # A call of the task itself, by other weights; its statistics move with the student's.
            said: Tensor = torch.func.functional_call(task, teacher, (weak,)).softmax(1)
        self.count(said.argmax(1), strong, said.new_ones(len(said), dtype=torch.bool))
        distance = functional.mse_loss(strong.softmax(1), said)
        return distance * self._risen(task)

    def _risen(self, task: Task) -> float:
        """Answer with the share of the weight at this step (the paper's section 4.1)."""
        steps = task.trainer.estimated_stepping_batches * self.rise
        progress = min(1.0, task.trainer.global_step / max(1.0, steps))
        return math.exp(-5 * (1 - progress) ** 2)

    def _teacher(self) -> list[Tensor]:
        names = [name for name in self._buffers if name.startswith("_teacher")]
        return [self.get_buffer(name) for name in names]

    def after_step(self, task: Task) -> None:
        """Move the teacher, faster in the first steps."""
        share = max(1 - self.ema, 9 / (10 + self._moved.item()))
        self._moved += 1
        for own, value in zip(self._teacher(), _learnt(task).values(), strict=True):
            own.lerp_(value.detach(), share)
        super().after_step(task)


METHODS: dict[str, Callable[[], SemiSupervised]] = {
    "fixmatch": FixMatch,
    "freematch": FreeMatch,
    "mean_teacher": MeanTeacher,
}
"""What ``finetune(unlabelled=..., method=...)`` knows by name."""


def resolve_method(method: str | SemiSupervised | None) -> SemiSupervised:
    """Turn a name into its method; an object passes through.

    Raises:
        UnknownNameError: There is no such method.
        InvalidValueError: Neither a name nor a method, or none at all.
    """
    if isinstance(method, SemiSupervised):
        return method
    if method is None:
        raise InvalidValueError(
            "unlabelled= without method=: say what makes use of the unlabelled inputs, "
            f"{', '.join(map(repr, METHODS))}."
        )
    if not isinstance(method, str):
        raise InvalidValueError(
            f"method={method!r}: expected a name ({', '.join(METHODS)}) or an object such as "
            "FixMatch(threshold=0.9)."
        )
    if method not in METHODS:
        raise unknown_name("semi-supervised method", method, METHODS)
    return METHODS[method]()


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
    """Put back what labels alone came to, where the hold-out says that it is better."""

    def __init__(self) -> None:
        self._accuracy: float | None = None
        self._weights: dict[str, Tensor] = {}

    def keep(self, task: Task, held: Samples | None) -> None:
        """Score the task on the hold-out and copy it."""
        if held is None:
            _log.info(
                "There is no validation part, so nothing will tell whether the unlabelled inputs "
                "have helped; the last weights stay."
            )
            return
        self._accuracy = evaluate_classes(task, held, batch_size=32).metrics["accuracy"]
        self._weights = {
            name: value.detach().to("cpu", copy=True) for name, value in _saved(task).items()
        }
        _log.info(f"Labels alone: validation accuracy {self._accuracy:.4f}.")

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
        data: ImageData,
        unlabelled: Samples,
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
            data=WithUnlabelled(data, samples, ratio=method.ratio, method=method.name),
            strategy=SupervisedFirst(strategy, guard, epochs, batch_size),
            training=settings,
            guard=guard,
        )


def highest_probability(label_smoothing: float, num_classes: int) -> float:
    """Answer with the probability that training with smoothed labels draws the true class to."""
    return 1 - label_smoothing + label_smoothing / num_classes


def _learnt(task: Task) -> dict[str, Tensor]:
    """Answer with the weights of backbone and head, by the names that the task has for them."""
    return {
        name: value
        for name, value in task.named_parameters()
        if name.startswith(("backbone.", "head."))
    }


def _saved(task: Task) -> dict[str, Tensor]:
    return {
        name: value
        for name, value in task.state_dict().items()
        if name.startswith(("backbone.", "head."))
    }


def _normalised(values: Tensor, by: Tensor) -> Tensor:
    """Divide shares by frequencies and make them add up to 1; classes that never came have 0."""
    parts = torch.where(by > 0, values / by.clamp_min(1e-12), 0.0)
    return parts / parts.sum().clamp_min(1e-12)


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise InvalidValueError(f"{name}={value}: expected a number in (0, 1).")
