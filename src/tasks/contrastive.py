"""The contrastive strategy: for few labels, move texts of a class together, then solve the head."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..data.module import Data, Loader
from ..data.stream_loader import StreamLoader
from ..errors import InvalidValueError, NoDataError, check_count
from .objectives import PairCosines

if TYPE_CHECKING:
    from ..data.samples import Samples
    from ..specs import Batch, InputSpec
    from .task import Task


@dataclass(frozen=True)
class Contrastive:
    """Train the backbone on pairs of inputs of one class or of two, then solve the head.

    The recipe of Tunstall et al. 2022 (arXiv:2209.11055) for a handful of labels per class: the
    cosine of two inputs is drawn to 1 where their classes are the same and to 0 where not. All
    pairs within a batch count: 32 inputs, encoded once, give 496. Batches are drawn class by class,
    so that a fair share of their pairs are of one class. No pair is ever stored.

    Args:
        num_steps: Batches of pairs; None for 200 (not tuned).
        lr: Peak learning rate of that stage (not tuned).
        batch_size: Inputs in a batch.
        num_each: Inputs of a class in a batch.
    """

    num_steps: int | None = None
    lr: float = 5e-5
    batch_size: int = 32
    num_each: int = 4

    def __post_init__(self) -> None:
        if self.num_steps is not None:
            check_count("num_steps", self.num_steps)
        check_count("batch_size", self.batch_size)
        check_count("num_each", self.num_each)
        if not 0 < self.lr < math.inf:
            raise InvalidValueError(f"lr={self.lr}: expected a positive number.")
        if not 2 <= self.num_each <= self.batch_size // 2:
            raise InvalidValueError(
                f"num_each={self.num_each} of batches of {self.batch_size}: expected at least 2 "
                "inputs of a class and at least 2 classes."
            )

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer 0: behind the stage of pairs, only the head is fitted."""
        return 0.0

    def before(self, task: Task, data: Data) -> None:
        """Train the backbone on pairs of the training part, with a Trainer of our own.

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
            num_batches=NUM_STEPS if self.num_steps is None else self.num_steps,
            batch_size=self.batch_size,
            num_each=self.num_each,
            seed=data.seed,
        )
        stage = _Drawn(spec=data.spec, train=drawn, report=data.report, seed=data.seed)
        stage.num_workers = data.num_workers
        stage.batch_size = self.batch_size
        task.fit_stage(stage, objective=PairCosines(), lr=self.lr)
        task.reset_head()  # what it had learnt, it had learnt of other features


NUM_STEPS = 200
"""Batches of pairs by default."""


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
        return "all pairs of each batch"


class ClassDraws:
    """Samples of samples: batch after batch, some inputs of some classes.

    What stands where is a pure function of (seed, batch): nothing is stored for a draw, however
    many there are. Every class comes as often as every other, to one.

    Args:
        samples: What is drawn from.
        targets: Positions of their classes, (N,).
        num_batches: How many batches there are.
        batch_size: Rows of each.
        num_each: Rows of a class in a batch, where there are enough classes to fill it.
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
        if max(len(rows) for rows in self._rows) < 2:
            raise NoDataError(
                "No class has two training inputs, so there are no pairs of one class. Add labels, "
                "or use strategy='freeze'."
            )
        self._num_classes = min(len(self._rows), batch_size // num_each)
        self._batch_size, self._num_batches, self._seed = batch_size, num_batches, seed

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
        return self._num_batches * self._batch_size

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch the rows that were drawn for these places."""
        drawn = {number: self._draw(number) for number in {i // self._batch_size for i in indices}}
        rows = [drawn[index // self._batch_size][index % self._batch_size] for index in indices]
        return self._samples.__getitems__(rows)

    def why(self, index: int) -> str:
        """Say why an input cannot be read."""
        return self._samples.why(index)

    def _draw(self, number: int) -> list[int]:
        chosen = self._classes_of(number)
        each = math.ceil(self._batch_size / self._num_classes)
        generator = _generator(self._seed, "batch", number)
        rows: list[int] = []
        for rank in chosen:
            own = self._rows[rank]
            order = torch.randperm(len(own), generator=generator)
            rows += own[order.repeat(-(-each // len(own)))[:each]].tolist()
        return rows[: self._batch_size]

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
