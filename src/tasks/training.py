"""How a training run is set up: settings, precision, and the Trainer built when none is given."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import distributed as dist

from ..errors import InvalidValueError, check_count, check_seed, shown, unknown_name
from .progress import make_bar
from .strategies import Strategy, name_of

_log = logging.getLogger("mealkit")

Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


_WHOLE, _NUMBER = (Integral, "a whole number"), (Real, "a number")

_KINDS: dict[str, tuple[type, str]] = {
    "weight_decay": _NUMBER,
    "warmup": _NUMBER,
    "label_smoothing": _NUMBER,
    "accumulate": _WHOLE,
    "clip_norm": _NUMBER,
    "seed": _WHOLE,
    "ema": _NUMBER,
    "patience": _WHOLE,
    "time_limit_seconds": _NUMBER,
}

_MOST_SECONDS = timedelta.max.total_seconds()

_OPTIONAL = ("label_smoothing", "clip_norm", "ema", "patience", "time_limit_seconds")


@dataclass(frozen=True, kw_only=True)
class Training:
    """The settings of a training run that are changed once in a while.

    The everyday ones (epochs, strategy, lr, batch size) are arguments of ``finetune``.

    Args:
        weight_decay: Decoupled weight decay of AdamW (Loshchilov and Hutter, arXiv:1711.05101);
            biases, norms and what the backbone excludes have none.
        warmup: Share of the unfrozen steps in which the rate rises linearly; a cosine follows. 0.4
            was measured against 0.2, see the page of results.
        label_smoothing: Share of the target spread over all classes (arXiv:1512.00567, sec. 7);
            None for 0.1 where an input has one label, and for 0 where it has any number of them:
            there 0.1 took about a point of mean average precision, see the page on images.
        accumulate: Batches whose gradients are added up before a step.
        clip_norm: Gradients longer than this are shortened; None leaves them alone.
        batch_norm: Whether batch-norm statistics move while fine-tuning: ``"frozen"``, ``"moving"``
            or ``"auto"``, which freezes those of pretrained backbones and moves those of others.
        seed: Decides dropout and whatever else is random in training.
        ema: Decay of a moving average of the weights that is validated and kept in their place,
            such as 0.99 for runs of some hundred steps; see `Averaging`. None for the weights.
        patience: Epochs without a better validation metric after which the run ends; frozen epochs
            in front of others do not count. None runs all epochs.
        time_limit_seconds: Ends the run after the batch in which this much time has passed; it is
            validated, and the best weights are kept. None for no limit.

    Raises:
        InvalidValueError: A value that cannot be meant.

    Example:
        >>> Training(label_smoothing=0.0).warmup
        0.4
    """

    weight_decay: float = 0.05
    warmup: float = 0.4
    label_smoothing: float | None = None
    accumulate: int = 1
    clip_norm: float | None = 1.0
    batch_norm: Literal["auto", "frozen", "moving"] = "auto"
    seed: int = 0
    ema: float | None = None
    patience: int | None = None
    time_limit_seconds: float | None = None

    def __post_init__(self) -> None:
        problems = self._problems_of_types()
        problems = problems or [*self._problems_of_length(), *self._problems_of_steps()]
        if problems:
            raise InvalidValueError(f"Training cannot start: {'; '.join(problems)}.")
        if self.batch_norm not in ("auto", "frozen", "moving"):
            raise unknown_name("batch_norm setting", self.batch_norm, ("auto", "frozen", "moving"))
        for name, (kind, _) in _KINDS.items():  # those of NumPy are nothing to JSON and timedelta
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, int(value) if kind is Integral else float(value))
        check_seed(self.seed)

    def _problems_of_types(self) -> list[str]:
        problems = []
        for name, (kind, words) in _KINDS.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            if isinstance(value, bool) or not isinstance(value, kind):
                problems.append(f"{name}={value!r}: expected {words}")
            elif not math.isfinite(getattr(self, name)):
                problems.append(f"{name}={value!r}: expected a finite number")
        return problems

    def _problems_of_steps(self) -> list[str]:
        problems = []
        if self.weight_decay < 0:
            problems.append(f"weight_decay={self.weight_decay}: expected at least 0")
        if not 0 <= self.warmup < 1:
            problems.append(f"warmup={self.warmup}: expected a share in [0, 1)")
        if self.label_smoothing is not None and not 0 <= self.label_smoothing < 1:
            problems.append(f"label_smoothing={self.label_smoothing}: expected a share in [0, 1)")
        if self.accumulate < 1:
            problems.append(f"accumulate={self.accumulate}: expected at least 1")
        if self.clip_norm is not None and self.clip_norm <= 0:
            problems.append(f"clip_norm={self.clip_norm}: expected a positive number or None")
        if self.ema is not None and not 0 < self.ema < 1:
            problems.append(f"ema={self.ema}: expected a decay in (0, 1), or None")
        return problems

    def _problems_of_length(self) -> list[str]:
        problems = []
        if self.patience is not None and self.patience < 1:
            problems.append(f"patience={self.patience}: expected at least 1 epoch, or None")
        limit = self.time_limit_seconds
        if limit is not None and not 0 < limit <= _MOST_SECONDS:
            problems.append(f"time_limit_seconds={limit}: expected a positive number, or None")
        return problems


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a task does when a Trainer fits it: strategy, rate and settings.

    Args:
        strategy: Which block trains when.
        lr: The peak learning rate.
        training: The other settings.
        finds_lr: Whether a range test decides the rate before the first step, and ``lr`` is only
            what is taken where it finds none.
        stage_done: Whether the stage that the strategy has ahead of a run has been trained.
        penalty: Of a head that is solved; None for the one that cross-validation chooses.
    """

    strategy: Strategy
    lr: float
    training: Training
    finds_lr: bool = False
    stage_done: bool = False
    penalty: float | None = None

    def __post_init__(self) -> None:
        number = isinstance(self.lr, Real) and not isinstance(self.lr, bool)
        if not number or not 0 < self.lr < math.inf:
            raise InvalidValueError(f"lr={self.lr!r}: expected a positive number.")
        object.__setattr__(self, "lr", float(self.lr))

    def __str__(self) -> str:
        rate = "a rate to be found" if self.finds_lr else f"{self.lr:g}"
        return f"{name_of(self.strategy)}, AdamW at {rate}"

    def rates(self, multipliers: Sequence[float]) -> str:
        """Say the peak rates of the head and of blocks with these multipliers."""
        low, high = min(multipliers, default=1.0), max([*multipliers, 1.0])
        if self.finds_lr:
            return "to be found"
        rate = f"{self.lr * high:.2g}"
        return f"{self.lr * low:.2g} to {rate}" if low < high else rate


def resolve_precision(precision: str) -> str:
    """Turn ``"auto"`` into bf16 where the hardware runs it faster, into fp32 elsewhere.

    That is CUDA with bf16 units, and CPUs that multiply bf16 in hardware (AMX or AVX-512 BF16, see
    the page of results); on others bf16 is emulated and slower.

    Raises:
        UnknownNameError: Not one of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif torch.backends.mps.is_available():
        fast = False
    else:
        fast = _cpu_multiplies_bf16()
    return "bf16-mixed" if fast else "32-true"


def count_epochs(trainer: pl.Trainer) -> tuple[int, int]:
    """Answer with the number of epochs a Trainer will run, and of optimiser steps in each.

    Raises:
        InvalidValueError: It has neither max_epochs nor max_steps, or the loader has no length.
    """
    trainer.fit_loop.setup_data()  # else the number of batches is not known yet
    num_batches = trainer.num_training_batches
    if math.isinf(num_batches):
        raise InvalidValueError(
            "The training loader has no length, so nobody knows when a cycle of the learning rate "
            "ends. Give the Trainer limit_train_batches=, or the loader a length."
        )
    steps_per_epoch = max(1, math.ceil(num_batches / trainer.accumulate_grad_batches))
    limits = [trainer.max_epochs] if trainer.max_epochs and trainer.max_epochs > 0 else []
    if trainer.max_steps > 0:
        limits.append(math.ceil(trainer.max_steps / steps_per_epoch))
    if not limits:
        raise InvalidValueError(
            "The Trainer has neither max_epochs nor max_steps, so the learning rate has no "
            "schedule. Give it one of them; max_time= may end the run earlier."
        )
    return min(limits), steps_per_epoch


def _cpu_multiplies_bf16() -> bool:
    ask: Callable[[], dict[str, object]] | None = getattr(torch.cpu, "get_capabilities", None)
    if ask is None:  # older torch cannot say
        return False
    has = ask()
    return bool(has.get("amx_bf16") or has.get("avx512_bf16"))


def best_device() -> torch.device:
    """Answer with the accelerator of this machine, else the CPU."""
    # Without the question, a CUDA build on a machine without a driver answers "cuda".
    accelerator = (
        torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    )
    return torch.device("cpu") if accelerator is None else accelerator


class Fit(Protocol):
    """One call that trains a task on data."""

    def __call__(
        self,
        task: pl.LightningModule,
        data: pl.LightningDataModule,
        *,
        checkpoint: Path | None = None,
    ) -> None:
        """Train, from a checkpoint on where there is one."""


def fit_quietly(
    *,
    epochs: int,
    precision: str,
    training: Training,
    logger: Logger | None,
    callbacks: Sequence[pl.Callback],
) -> Fit:
    """Build the Trainer of a run for which the user gave none.

    Args:
        epochs: How often every training row is seen.
        precision: A resolved precision.
        training: Settings that belong to the Trainer: accumulation and clipping.
        logger: Where metrics go beside the history.
        callbacks: Ours and the user's.
    """
    check_count("epochs", epochs)
    _warn_of_launcher()
    bar = make_bar()
    has_bar = any(isinstance(one, pl.callbacks.ProgressBar) for one in callbacks)
    every = [*callbacks, bar] if bar is not None and not has_bar else list(callbacks)
    with quiet_lightning():
        trainer = pl.Trainer(
            accelerator="auto",
            devices=1,  # more is the user's to ask for, through trainer=
            max_epochs=epochs,
            precision=precision,  # type: ignore[arg-type]  # Lightning's literals are private
            accumulate_grad_batches=training.accumulate,
            gradient_clip_val=training.clip_norm,
            logger=logger if logger is not None else False,
            callbacks=every,
            enable_checkpointing=any(isinstance(one, pl.callbacks.Checkpoint) for one in every),
            enable_model_summary=False,
            enable_progress_bar=any(isinstance(one, pl.callbacks.ProgressBar) for one in every),
            num_sanity_val_steps=0,  # the check before the first batch is ours, and complete
        )

    def fit(
        task: pl.LightningModule,
        data: pl.LightningDataModule,
        *,
        checkpoint: Path | None = None,
    ) -> None:
        with quiet_lightning(), honest_interrupt():
            trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)

    return fit


def _warn_of_launcher() -> None:
    """Say that each of several processes that know nothing of each other trains the same thing."""
    count = os.environ.get("WORLD_SIZE", "1")
    if dist.is_torchelastic_launched() and count != "1" and os.environ.get("RANK", "0") == "0":
        _log.warning(
            f"torchrun has started {count} processes, and without trainer= each trains by itself. "
            "To share the work, pass trainer=pytorch_lightning.Trainer(devices=..., "
            "strategy='ddp', ...)."
        )


def fit_with(trainer: pl.Trainer, callbacks: Sequence[pl.Callback]) -> Fit:
    """Train with the user's Trainer, which has its own callbacks back afterwards."""

    def fit(
        task: pl.LightningModule,
        data: pl.LightningDataModule,
        *,
        checkpoint: Path | None = None,
    ) -> None:
        before = list(trainer.callbacks)  # type: ignore[attr-defined]  # set by a connector
        trainer.callbacks = [*callbacks, *before]  # type: ignore[attr-defined]
        try:
            with honest_interrupt():
                trainer.fit(task, datamodule=data, ckpt_path=checkpoint, weights_only=True)
        finally:
            trainer.callbacks = before  # type: ignore[attr-defined]

    return fit


def check_training(training: object) -> None:
    """Refuse what are no settings; None passes through.

    Raises:
        InvalidValueError: It is something else.
    """
    if training is not None and not isinstance(training, Training):
        raise InvalidValueError(
            f"training={shown(training)}: expected mealkit.tasks.Training(...), such as "
            "Training(patience=3)."
        )


def check_attached(logger: object, callbacks: Any) -> None:  # Any: whatever was given
    """Refuse what cannot be added to a Trainer as a logger or as callbacks.

    Raises:
        InvalidValueError: It is something else.
    """
    if logger is not None and not isinstance(logger, Logger):
        raise InvalidValueError(
            f"logger={logger!r}: expected a logger of pytorch_lightning, such as "
            "pytorch_lightning.loggers.CSVLogger('logs')."
        )
    several = isinstance(callbacks, Sequence)
    if not several or not all(isinstance(each, pl.Callback) for each in callbacks):
        raise InvalidValueError(
            f"callbacks={callbacks!r}: expected a list of callbacks of pytorch_lightning."
        )


def check_trainer(trainer: object) -> None:
    """Refuse what is no Trainer of the package that we train with.

    Raises:
        InvalidValueError: It is something else, such as the Trainer of ``lightning.pytorch``.
    """
    if not isinstance(trainer, pl.Trainer):
        kind = f"{type(trainer).__module__}.{type(trainer).__qualname__}"
        raise InvalidValueError(f"trainer= is a {kind}: expected a pytorch_lightning.Trainer.")


def refuse_beside_trainer(given: Mapping[str, object]) -> None:
    """Refuse arguments that a Trainer of the user's own decides.

    Args:
        given: Arguments by name; None for those that were not given.

    Raises:
        InvalidValueError: One of them is not None.
    """
    named = [f"{name}=" for name, value in given.items() if value is not None]
    if named:
        raise InvalidValueError(
            f"{', '.join(named)} beside trainer=: a Trainer of your own decides that. Give it to "
            "the Trainer, or leave trainer= out."
        )


@contextmanager
def honest_interrupt() -> Iterator[None]:
    """Raise KeyboardInterrupt when the user stops a run; Lightning would leave the interpreter."""
    try:
        yield
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise error.__context__ from None
        raise


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """Keep Lightning's advice about a Trainer that we built to itself, and put everything back."""
    names = ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero")
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for message in _KNOWN:
            warnings.filterwarnings("ignore", message=message)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


_KNOWN = (
    ".*does not have many workers.*",  # default loading reads in threads
    ".*LeafSpec.*",  # Lightning 2.6 on torch 2.15
    ".*in eval mode at the start of training.*",  # frozen blocks are
    ".*[Tt]otal length of .* across ranks is zero.*",  # no validation was asked for
    ".*you defined a `validation_step` but have no `val_dataloader`.*",
    ".*configure_optimizers` returned `None`.*",  # methods that are solved have none
    ".*training_step` returned `None`.*",
    ".*number of training batches .* is smaller than the logging interval.*",
)
