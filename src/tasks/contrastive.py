"""The contrastive strategy: for few labels, move texts of a class together, then solve the head."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.module import BATCH_SIZE, Data, Loader
from ..data.stream_loader import StreamLoader
from ..errors import InvalidValueError, NoDataError, check_count, check_positive
from .objectives import SupervisedContrast
from .probe import fit_probe

if TYPE_CHECKING:
    from ..data.samples import Samples
    from ..specs import Batch, InputSpec
    from .task import Task


@dataclass(frozen=True)
class Contrastive:
    """Train the backbone to bring inputs of one class together, then solve the head.

    The two stages of Tunstall et al. 2022 (SetFit, arXiv:2209.11055) for a handful of labels per
    class, with three changes that were measured, see the page of results. The loss is the
    supervised contrastive one of Khosla et al. 2020 (arXiv:2004.11362), which compares every input
    with all others of its batch; the paper's squared error of cosines was no better than features
    that are left alone. Few inputs are soon learnt by heart, so the steps are few, too. And the
    penalty of the head is chosen ahead of the stage: on features that were trained on these very
    inputs, a cross-validation finds everything easy.

    Batches are drawn class by class. No pair is ever stored.

    Args:
        num_steps: Batches. 25 took half as long as 50 and were as good; after 75 all was lost again
            that had been won after 25.
        lr: Peak learning rate (5e-5 alone was tried with this loss).
        batch_size: Inputs in a batch, at most; fewer where there are not as many.
        num_each: Inputs of a class in a batch, at least; 2 leave room for the most classes.
        temperature: Cosines are divided by it. 0.05 and 0.2 were about as good as 0.1.

    Raises:
        InvalidValueError: A value that cannot be meant.

    Example:
        >>> Contrastive(num_steps=100).batch_size
        64
    """

    num_steps: int = 25
    lr: float = 5e-5
    batch_size: int = 64
    num_each: int = 2
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "num_each"):
            check_count(name, getattr(self, name))
        for name in ("lr", "temperature"):
            check_positive(name, getattr(self, name))
        if not 2 <= self.num_each <= self.batch_size // 2:
            raise InvalidValueError(
                f"num_each={self.num_each} of batches of {self.batch_size}: expected at least 2 "
                "inputs of a class and at least 2 classes."
            )

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer 0: behind this stage, only the head is fitted."""
        return 0.0

    def before(self, task: Task, data: Data) -> None:
        """Train the backbone on the training part, with a Trainer of our own.

        Where it is stopped, the weights are again those it began with, so that it can be repeated.

        Raises:
            NoDataError: No class has two inputs.
            InvalidValueError: Inputs have any number of labels.
        """
        if data.train is None or data.train.targets is None:
            raise NoDataError("Pairs are made of labelled training inputs, and there are none.")
        if data.spec.multi_label:
            raise InvalidValueError(
                "strategy='contrastive' draws inputs of one class together and of two apart, and "
                "these have any number of labels. Use strategy='freeze' or 'freeze_unfreeze'."
            )
        drawn = ClassDraws(
            data.train,
            data.train.targets,
            num_batches=self.num_steps,
            batch_size=self.batch_size,
            num_each=self.num_each,
            seed=data.seed,
        )
        stage = _Drawn(spec=data.spec, train=drawn, report=data.report, seed=data.seed)
        stage.num_workers = data.num_workers
        stage.batch_size = drawn.batch_size
        penalty = _choose_penalty(task, data, data.train)
        start = {name: value.clone() for name, value in task.backbone.state_dict().items()}
        try:
            task.fit_stage(stage, objective=SupervisedContrast(self.temperature), lr=self.lr)
        except BaseException:  # a user who stops it too
            task.backbone.load_state_dict(start)
            raise
        task.plan = replace(task.plan, penalty=penalty)
        task.reset_head()  # what it had learnt, it had learnt of other features


def _choose_penalty(task: Task, data: Data, samples: Samples) -> float:
    """Answer with the penalty that cross-validation chooses for a head on features of now."""
    from .running import run  # not above: it knows strategies, and those know this one

    found = list(
        run(
            task,
            samples,
            lambda batch: {
                "index": batch["index"],
                "target": batch["target"],
                "features": task.features(batch).float(),
            },
            batch_size=BATCH_SIZE,
        )
    )
    index, targets, features = (
        torch.cat([values[name] for values in found]) for name in ("index", "target", "features")
    )
    weights = data.train_weights()
    return fit_probe(
        features,
        targets,
        num_classes=len(data.classes),
        weights=None if weights is None else weights[index],
        seed=task.plan.training.seed,
    ).penalty


class _Drawn(Data):
    """Training batches as they were drawn: their order is their content."""

    def train_dataloader(self) -> Loader | StreamLoader:
        if self.train is None:
            raise NoDataError("There is nothing to draw from.")
        return self.loader(self.train)

    @property
    def caches(self) -> bool:
        return False

    @property
    def sees(self) -> str:
        return "inputs of some classes"


class ClassDraws:
    """Samples of samples: batch after batch, some inputs of some classes.

    What stands where is a pure function of (seed, batch): nothing is stored for a draw, however
    many there are. Every class comes as often as every other, to one.

    Args:
        samples: What is drawn from.
        targets: Positions of their classes, (N,).
        num_batches: How many batches there are.
        batch_size: Rows of each, at most.
        num_each: Rows of a class in a batch; more where there are too few classes to fill it, up to
            all rows of the largest. Rows of smaller classes then come several times.
        seed: Decides the draws.

    Raises:
        NoDataError: No class has two inputs.
    """

    def __init__(
        self,
        samples: Samples,
        targets: Tensor,
        *,
        num_batches: int,
        batch_size: int,
        num_each: int,
        seed: int,
    ) -> None:
        self._samples = samples
        self._rows = [
            (targets == target).nonzero()[:, 0] for target in sorted(set(targets.tolist()))
        ]
        largest = max(len(rows) for rows in self._rows)
        if largest < 2:
            raise NoDataError(
                "No class has two training inputs, so there are no pairs of one class. Add labels, "
                "or use strategy='freeze'."
            )
        self._num_classes = min(len(self._rows), batch_size // num_each)
        self._num_each = min(-(-batch_size // self._num_classes), max(largest, num_each))
        self.batch_size = min(batch_size, self._num_classes * self._num_each)
        """Rows of each batch."""
        self._num_batches, self._seed = num_batches, seed

    @property
    def ids(self) -> Sequence[str]:
        """Names of the inputs that are drawn from."""
        return self._samples.ids

    @property
    def targets(self) -> Tensor | None:
        """Classes of the inputs that are drawn from; `__len__` counts draws, not these."""
        return self._samples.targets

    @property
    def lengths(self) -> None:
        """None: a batch holds what was drawn together, of any length."""

    def prepare(self, input_spec: InputSpec) -> None:
        """Prepare what is drawn from."""
        self._samples.prepare(input_spec)

    def __len__(self) -> int:
        return self._num_batches * self.batch_size

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch the rows that were drawn for these places."""
        drawn = {number: self._draw(number) for number in {i // self.batch_size for i in indices}}
        rows = [drawn[index // self.batch_size][index % self.batch_size] for index in indices]
        return self._samples.__getitems__(rows)

    def why(self, index: int) -> str:
        """Say why an input cannot be read."""
        return self._samples.why(index)

    def _draw(self, number: int) -> list[int]:
        chosen = self._classes_of(number)
        each = self._num_each
        generator = _generator(self._seed, "batch", number)
        rows: list[int] = []
        for rank in chosen:
            own = self._rows[rank]
            order = torch.randperm(len(own), generator=generator)
            rows += own[order.repeat(-(-each // len(own)))[:each]].tolist()
        return rows[: self.batch_size]

    def _classes_of(self, number: int) -> list[int]:
        """Take turns along a ring of all classes, which is dealt anew when all have come as often.

        A batch is a stretch of one ring, so that no class comes twice in it.
        """
        total, at_once = len(self._rows), self._num_classes
        turn, within = divmod(number, total // math.gcd(total, at_once))
        ring = torch.randperm(total, generator=_generator(self._seed, "ring", turn)).tolist()
        return [ring[(within * at_once + place) % total] for place in range(at_once)]


def _generator(*given: object) -> torch.Generator:
    digest = hashlib.blake2b(repr(given).encode(), digest_size=7).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
