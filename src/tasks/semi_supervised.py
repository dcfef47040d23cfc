"""Semi-supervised objectives: a few labels, and many inputs without one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InvalidValueError, check_count, check_number, check_positive, unknown_name
from .objectives import SMOOTHING, Step, Supervised

if TYPE_CHECKING:
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
        check_number("ema", ema, "(0, 1)")
        check_positive("weight", weight)
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
        logits = task(_together(batch, strong, task.backbone.inputs))
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

    Sohn et al. 2020 (arXiv:2001.07685). Ratio and weight are the paper's. Its threshold of 0.95 is
    for a million steps; in runs of 90 and 150 on digits, no more than a third of the inputs ever
    reached it. Ours is 0.7, which beat 0.8 on average over six draws of digits that the page of
    results does not have. With label smoothing no class can reach 1; the threshold is a share of
    what it can reach.

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
        self, *, threshold: float = 0.7, ratio: int = 7, weight: float = 1.0, ema: float = 0.99
    ) -> None:
        super().__init__(ratio=ratio, weight=weight, ema=ema)
        check_number("threshold", threshold, "(0, 1)")
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
        check_number("momentum", momentum, "(0, 1)")
        check_number("fairness", fairness, "[0, inf)")
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
        check_number("rise", rise, "(0, 1)")
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


def highest_probability(label_smoothing: float, num_classes: int) -> float:
    """Answer with the probability that training with smoothed labels draws the true class to."""
    return 1 - label_smoothing + label_smoothing / num_classes


def _together(first: Batch, second: Batch, names: Sequence[str]) -> Batch:
    """Put two batches of one width together, those of texts in windows too."""
    both = {name: torch.cat([first[name], second[name]]) for name in (*names, "index")}
    if "piece_of" in first or "piece_of" in second:
        own, others = (
            one.get("piece_of", torch.arange(len(one["index"]), device=one["index"].device))
            for one in (first, second)
        )
        both["piece_of"] = torch.cat([own, others + len(first["index"])])
    return both


def _learnt(task: Task) -> dict[str, Tensor]:
    """Answer with the weights of backbone and head, by the names that the task has for them."""
    return {
        name: value
        for name, value in task.named_parameters()
        if name.startswith(("backbone.", "head."))
    }


def _normalised(values: Tensor, by: Tensor) -> Tensor:
    """Divide shares by frequencies and make them add up to 1; classes that never came have 0."""
    parts = torch.where(by > 0, values / by.clamp_min(1e-12), 0.0)
    return parts / parts.sum().clamp_min(1e-12)
