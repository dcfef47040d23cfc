"""Fine-tuning strategies: which part of a backbone trains when, and how fast.

A strategy is a pure function ``(epoch, num_epochs, block, num_blocks) -> multiplier`` of the
learning rate. Block 0 is at the input side; 0 means frozen, 1 the full rate. The head is not asked
about: it trains always. Adding a strategy is one function and one line in `STRATEGIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ..errors import (
    InvalidValueError,
    can_be_called,
    check_count,
    check_number,
    unknown_name,
)
from .contrastive import Contrastive

if TYPE_CHECKING:
    from ..data.module import Data
    from .task import Task

Strategy = Callable[[int, int, int, int], float]


@runtime_checkable
class Staged(Protocol):
    """A strategy with a stage of training of its own, which `finetune` carries out first."""

    def before(self, task: Task, data: Data) -> None:
        """Train ahead of the run that the strategy's multipliers describe."""


def full(epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
    """Train everything from the first step."""
    return 1.0


def freeze(epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
    """Train the head only; weights and batch-norm statistics stay bit-identical."""
    return 0.0


@dataclass(frozen=True)
class FreezeUnfreeze:
    """Train the head first, then everything (Kumar et al. 2022, arXiv:2202.10054).

    A fresh head sends large gradients of no meaning into a pretrained net; a head that already
    fits its features does not.

    Args:
        epochs: How many epochs the backbone stays frozen.
    """

    epochs: int = 1

    def __post_init__(self) -> None:
        check_count("epochs", self.epochs)

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer 0 in the frozen epochs and 1 after them."""
        return 0.0 if epoch < self.epochs else 1.0


@dataclass(frozen=True)
class Gradual:
    """Unfreeze from the output side, a share of the blocks each epoch (arXiv:1801.06146).

    The first epoch trains the head only, the last trains every block.
    """

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer 1 for the blocks that are open in this epoch."""
        if num_epochs == 1:
            return 0.0
        num_open = -(-epoch * num_blocks // (num_epochs - 1))  # rounded up
        return 1.0 if block >= num_blocks - num_open else 0.0


@dataclass(frozen=True)
class Lora:
    """Train the head, then small matrices beside the linear layers (arXiv:2106.09685).

    The weights of the backbone do not move until the run ends: then the matrices are added to
    them, and the net is a plain one again. Gradients and the optimiser's state take far less
    memory. Convolutions of 1x1 are linear layers; others, and norms, have no adapters. The extra
    ``mealkit[peft]`` is needed.

    Args:
        rank: Length of the shorter side of the matrices.
        scale: What is added to a layer is multiplied by this (alpha over rank, in the paper).
    """

    rank: int = 8
    scale: float = 2.0

    def __post_init__(self) -> None:
        check_count("rank", self.rank)
        check_number("scale", self.scale, "(0, inf)")

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer 0 in the first of several epochs, in which the head is solved, and then 1."""
        return 0.0 if epoch == 0 and num_epochs > 1 else 1.0


@dataclass(frozen=True)
class LayerDecay:
    """Train everything, each block slower than the one behind it (arXiv:2106.08254, sec. 2.4).

    Args:
        decay: Rate of a block over the rate of the next one, in (0, 1].
    """

    decay: float = 0.75

    def __post_init__(self) -> None:
        check_number("decay", self.decay, "(0, 1]")

    def __call__(self, epoch: int, num_epochs: int, block: int, num_blocks: int) -> float:
        """Answer ``decay`` to the power of the distance from the head."""
        return self.decay ** (num_blocks - block)


STRATEGIES: dict[str, Strategy] = {
    "full": full,
    "freeze": freeze,
    "freeze_unfreeze": FreezeUnfreeze(),
    "gradual": Gradual(),
    "layer_decay": LayerDecay(),
    "contrastive": Contrastive(),
    "lora": Lora(),
}


def resolve(strategy: str | Strategy) -> Strategy:
    """Turn a name into its strategy; a strategy passes through.

    Raises:
        UnknownNameError: The name is not in `STRATEGIES`.
        InvalidValueError: It is neither a name nor a function.

    Example:
        >>> resolve("layer_decay")(0, 5, 11, 12)
        0.75
    """
    if isinstance(strategy, type) or not (isinstance(strategy, str) or callable(strategy)):
        called = f" (a class: call it, {strategy.__name__}())" if isinstance(strategy, type) else ""
        raise InvalidValueError(
            f"strategy={strategy!r}{called}: expected a name ({', '.join(STRATEGIES)}) or a "
            "function (epoch, num_epochs, block, num_blocks) -> multiplier."
        )
    if not isinstance(strategy, str):
        if not can_be_called(strategy, 0, 1, 0, 1):
            raise InvalidValueError(
                f"strategy={strategy!r} cannot be called with (epoch, num_epochs, block, "
                "num_blocks): expected a function of these four that answers with a multiplier."
            )
        return strategy
    if strategy not in STRATEGIES:
        raise unknown_name("strategy", strategy, STRATEGIES)
    return STRATEGIES[strategy]


def name_of(strategy: Strategy) -> str:
    """Answer with the name under which a strategy is known, or what it prints as."""
    for name, known in STRATEGIES.items():
        if strategy == known:
            return name
    return getattr(strategy, "__name__", repr(strategy))


@dataclass(frozen=True)
class Schedule:
    """A strategy laid out over the epochs and blocks of one training run.

    Args:
        strategy: The pure function.
        num_epochs: Epochs of the run.
        num_blocks: Blocks of the backbone.
    """

    strategy: Strategy
    num_epochs: int
    num_blocks: int

    def row(self, epoch: int) -> tuple[float, ...]:
        """Answer with the multiplier of every block in one epoch."""
        count = self.num_blocks
        row = tuple(self.strategy(epoch, self.num_epochs, block, count) for block in range(count))
        for value in row:
            check_number(
                f"The strategy {name_of(self.strategy)} in epoch {epoch}", value, "[0, inf)"
            )
        return row

    def frozen(self, epoch: int) -> bool:
        """Whether no block trains in this epoch."""
        return not any(self.row(epoch))

    @property
    def num_frozen_epochs(self) -> int:
        """How many epochs at the start train the head only."""
        frozen = [self.frozen(epoch) for epoch in range(self.num_epochs)]
        return frozen.index(False) if False in frozen else self.num_epochs

    def phases(self) -> list[tuple[int, int, tuple[float, ...]]]:
        """Answer with runs of like epochs: first, last (both included), multipliers."""
        phases: list[tuple[int, int, tuple[float, ...]]] = []
        for epoch in range(self.num_epochs):
            row = self.row(epoch)
            if phases and phases[-1][2] == row:
                phases[-1] = (phases[-1][0], epoch, row)
            else:
                phases.append((epoch, epoch, row))
        return phases
