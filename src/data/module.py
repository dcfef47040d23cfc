"""The DataModule that all kinds share: loaders, reproducible order, caching, reports."""

from __future__ import annotations

import difflib
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from ..errors import InvalidValueError, NoDataError, UnreadableError, check_count, check_seed
from ..specs import Batch
from .ahead import read_ahead
from .balance import Balance, draw_rows, row_weights
from .report import Report
from .samples import Fetch, Samples
from .stream_loader import StreamLoader
from .stream_samples import StreamSamples
from .streams import Order

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import DataSpec, InputSpec

_log = logging.getLogger("mealkit")

BATCH_SIZE = 32
"""Rows in a batch when nobody says otherwise."""


NUM_SORTED = 50
"""Batches that are drawn and sorted together where inputs vary in length."""


class EpochSampler(DistributedSampler[int]):
    """An order that is a pure function of (seed, epoch), split over processes, resumable.

    It is torch's ``DistributedSampler`` also in one process, because Lightning leaves that one in
    place and calls its ``set_epoch``. Where inputs vary in length, those of a batch are alike:
    unshuffled, the longest come first; shuffled, `NUM_SORTED` batches at a time are drawn, sorted
    by length and cut, and the batches shuffled again.

    Args:
        samples: What is put in order.
        batch_size: Rows that the loader puts into a batch.
        shuffle: Whether every epoch has an order of its own.
        seed: Decides the orders.
        num_processes: How many processes share the samples.
        rank: Which of them this one is.
        weights: Makes an epoch as many draws with replacement, each row as often as it weighs,
            (N,); None for every row once.
    """

    start: int = 0
    """How many of this process's positions to pass over in the next iteration."""

    def __init__(
        self,
        samples: Samples,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int = 0,
        num_processes: int = 1,
        rank: int = 0,
        weights: Tensor | None = None,
    ) -> None:
        super().__init__(
            samples,  # type: ignore[arg-type]  # only its length is used
            num_replicas=num_processes,
            rank=rank,
            shuffle=shuffle,
            seed=seed,
        )
        self._samples = samples
        self._batch_size = batch_size
        self._weights = weights

    def __iter__(self) -> Iterator[int]:
        if self._weights is None:
            positions, padding = self._split(list(super().__iter__()))
        else:  # every process draws for all of them, and takes its own
            drawn = draw_rows(self._weights, self.total_size, seed=self.seed, epoch=self.epoch)
            positions, padding = drawn[self.rank : self.total_size : self.num_replicas], []
        lengths = self._samples.lengths
        if lengths is not None:
            positions = self._by_length(positions, lengths.tolist())
        positions += padding
        start, self.start = self.start, 0
        return iter(positions[start:])

    def is_padding(self, positions: list[int]) -> bool:
        """Whether a batch stands here only so that all processes have as many."""
        spread = self.num_replicas > 1 and not self.shuffle
        return spread and all(position % self.num_replicas != self.rank for position in positions)

    def _split(self, positions: list[int]) -> tuple[list[int], list[int]]:
        """Keep apart what torch adds to fill up the last round of a part that is scored.

        It would be scored twice, so it is left out, but for where this process would then have a
        batch less than the others.
        """
        own = [position for position in positions if not self.is_padding([position])]
        num_batches = math.ceil(len(positions) / self._batch_size)
        if math.ceil(len(own) / self._batch_size) == num_batches:
            return own, []
        return own, positions[-1:]

    def _by_length(self, positions: list[int], lengths: list[int]) -> list[int]:
        longest_first = sorted(positions, key=lambda position: -lengths[position])
        if not self.shuffle:
            return longest_first
        size, batches = self._batch_size, []
        for start in range(0, len(positions), size * NUM_SORTED):
            drawn = positions[start : start + size * NUM_SORTED]
            drawn.sort(key=lambda position: -lengths[position])
            batches += [drawn[first : first + size] for first in range(0, len(drawn), size)]
        # Only the last batch may be short: the loader cuts the order every `size` positions.
        short = [batch for batch in batches if len(batch) < size]
        full = [batch for batch in batches if len(batch) == size]
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        shuffled = [full[place] for place in torch.randperm(len(full), generator=generator)]
        return [position for batch in [*shuffled, *short] for position in batch]


class Loader(DataLoader["Batch"]):
    """A ``DataLoader`` that fetches one batch ahead, knows its position and reports what failed.

    Without worker processes the next batch is read in a thread while the current one is computed
    on, so scripts need no ``__main__`` guard. The position travels in Lightning's checkpoints:
    without it, resuming in mid-epoch would replay batches that were already seen.
    """

    def __init__(
        self,
        dataset: Fetch,
        *,
        batch_size: int | None = 1,
        sampler: Sampler[int] | None = None,
        batch_sampler: Sampler[list[int]] | None = None,
        shuffle: bool | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
        report: Report | None = None,
    ) -> None:
        # Lightning makes loaders anew from attributes of these names, for predictions and for
        # several processes. Hence three arguments that nobody here passes.
        super().__init__(
            dataset,  # type: ignore[arg-type]  # torch asks for __getitem__ and calls __getitems__
            batch_size=batch_size,
            sampler=sampler,
            batch_sampler=batch_sampler,
            shuffle=shuffle,
            drop_last=drop_last,
            num_workers=num_workers,
            collate_fn=_as_it_is,
            generator=torch.Generator(),  # else every epoch draws from the global generator
        )
        self.report = report
        self._position = 0
        self._resume: tuple[int, int] | None = None  # (epoch, batches already seen)

    @property
    def fetch(self) -> Fetch:
        """The dataset, which a frozen phase switches to cached features."""
        fetch: Fetch = self.dataset  # type: ignore[assignment]
        return fetch

    @property
    def _epoch(self) -> int:
        return self.sampler.epoch if isinstance(self.sampler, EpochSampler) else 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch names its own iterator
        self._position = 0
        resume, self._resume = self._resume, None
        if resume is not None and isinstance(self.sampler, EpochSampler):
            epoch, position = resume
            if epoch == self._epoch and position < len(self):
                self._position = position
                # A sampler of whole batches counts them itself.
                self.sampler.start = position * (self.batch_size or 1)
        for batch in self._batches():
            self._position += 1
            readable = self._without_failed(batch)
            if len(readable["index"]):  # the loss of no rows would be NaN
                yield self._marked(readable)
            else:
                self._refuse_to_pass_over()

    def _batches(self) -> Iterator[Batch]:
        if not self.fetch.cached:
            batches = super().__iter__()
            return batches if self.num_workers or self.fetch.is_quick else read_ahead(batches)
        # Features lie in memory, or are mapped into it: workers would only copy them.
        whole = self.batch_sampler is None  # then the sampler deals out whole batches
        positions: Iterable[list[int]] = self.sampler if whole else self.batch_sampler  # type: ignore[assignment]
        return map(self.fetch.__getitems__, positions)

    def _without_failed(self, batch: Batch) -> Batch:
        failed = batch.pop("failed", None)
        if failed is not None and self.report is not None:
            for index in failed.tolist():
                samples = self.fetch.samples
                self.report.add(samples.ids[index], samples.why(index))
        return batch

    def _refuse_to_pass_over(self) -> None:
        if isinstance(self.sampler, EpochSampler) and self.sampler.num_replicas > 1:
            raise UnreadableError(
                "Not one row of a batch can be read. It would be passed over, but the other "
                "processes would wait for this one. The report of the data names the rows: leave "
                "them out, or make batches larger."
            )

    def _marked(self, batch: Batch) -> Batch:
        sampler = self.sampler
        if isinstance(sampler, EpochSampler) and sampler.is_padding(batch["index"].tolist()):
            batch["padding"] = torch.ones(1, dtype=torch.bool)
        return batch

    def state_dict(self) -> dict[str, int]:
        """Answer with the epoch and the number of batches that were handed out in it."""
        return {"epoch": self._epoch, "position": self._position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that were handed out before the state was taken."""
        self._resume = (state["epoch"], state["position"])


@dataclass(frozen=True)
class Views:
    """Versions of each training input over which a frozen backbone is run, once each.

    Args:
        count: How many.
        make: Makes the version of a number, from 0 on, of a batch on the device.
        name: Tells these versions from others; None where nobody can.
    """

    count: int
    make: Callable[[Batch, int], Batch]
    name: str | None


class Data(pl.LightningDataModule):
    """Samples for training, validation and test, and how batches are made of them.

    Subclasses, one per kind of input, add the sources (``from_*``) and the augmentation.

    Args:
        spec: What these data tell the net that is built for them.
        train: Samples to train on.
        val: Samples that choose the best epoch; None for none.
        test: Samples that are scored once; None for none.
        report: What was found wrong with the inputs.
        seed: Decides order and augmentation.
    """

    batch_size: int | None = None
    """Rows in a training batch; None leaves the choice to `finetune`."""

    keys: Sequence[str] | None = None
    """What each training input is, its group or else its content: equal ones must not be split up.
    None where the source does not know."""

    num_workers: int = 0
    """Loader processes. 0 reads in threads and needs no ``__main__`` guard in scripts."""

    balance: Balance = None
    """What is done for rare classes in training; validation and test stay as they are.

    ``"weights"`` gives all classes the same weight in the loss, ``"sampler"`` draws rows of all
    classes equally often, with replacement, and a dict says the weight of a row by its class. Where
    inputs have any number of labels, ``"weights"`` makes those with a label weigh as much in all as
    those without it, class by class, a dict says how many times as much one with the label weighs,
    and there is no ``"sampler"``.
    """

    def __init__(
        self,
        *,
        spec: DataSpec,
        train: Samples | None,
        val: Samples | None = None,
        test: Samples | None = None,
        report: Report | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.train, self.val, self.test = train, val, test
        self.report = Report() if report is None else report
        self.seed = check_seed(seed)
        self._ready = False

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, and warn where its name is nearly that of a setting."""
        known = name.startswith("_") or name in self.__dict__ or hasattr(type(self), name)
        if not known:
            self._warn_of_near_miss(name)
        super().__setattr__(name, value)

    def _warn_of_near_miss(self, name: str) -> None:
        settings = [
            own
            for kind in type(self).__mro__
            if issubclass(kind, Data)
            for own in kind.__annotations__
            if not own.startswith("_") and hasattr(kind, own)  # a default: the user may set it
        ]
        near = difflib.get_close_matches(name, settings, n=1, cutoff=0.7)
        if near:
            _log.warning(
                f"data.{name} is no setting of {type(self).__name__} and changes nothing. Did you "
                f"mean data.{near[0]}?"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the logits."""
        return self.spec.classes

    def prepare(self, input_spec: InputSpec) -> None:
        """Tell every split what the backbone wants to see. A task does this by itself."""
        for samples in (self.train, self.val, self.test):
            if samples is not None:
                samples.prepare(input_spec)
        self._ready = True

    def with_train(self, samples: Samples) -> Self:
        """Answer with the same data but for the training part."""
        other = copy(self)
        other.train, other.keys = samples, None
        other.trainer, other._ready = None, False
        return other

    @property
    def usual_batch_size(self) -> int:
        """Rows in a training batch where nobody says otherwise."""
        return BATCH_SIZE

    def train_dataloader(self) -> Loader | StreamLoader:
        """Batches of the training part, in an order decided by (seed, epoch)."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> Loader | StreamLoader | list[Loader]:
        """Batches of the validation part; an empty list where there is none."""
        return self._loader("val") if self.val is not None else []

    def test_dataloader(self) -> Loader | StreamLoader:
        """Batches of the test part."""
        return self._loader("test")

    def loader(
        self, samples: Samples, *, batch_size: int | None = None, shuffle: bool = False
    ) -> Loader | StreamLoader:
        """Build a loader over samples that were prepared.

        Raises:
            InvalidValueError: The batch size is below 1.
        """
        chosen = self.batch_size if batch_size is None else batch_size
        size = check_count("batch_size", self.usual_batch_size if chosen is None else chosen)
        num_workers = check_count("num_workers", self.num_workers, least=0)
        num_processes, rank = self.processes
        if shuffle:
            size = _no_single_row(math.ceil(len(samples) / num_processes), size)
        weights = self.train_weights() if samples is self.train and shuffle else None
        if isinstance(samples, StreamSamples):
            order = Order(shuffle, seed=self.seed, num_processes=num_processes, rank=rank)
            return StreamLoader(
                samples,
                batch_size=size,
                order=order,
                num_workers=num_workers,
                report=self.report,
            )
        draws = self.balance == "sampler"
        drawn = weights if draws else None
        batches = self._whole_batches(samples) if shuffle and samples is self.train else None
        return Loader(
            Fetch(samples, weights=None if draws else weights),
            batch_size=size if batches is None else None,
            sampler=self._order(samples, size, shuffle, drawn) if batches is None else batches,
            num_workers=num_workers,
            report=self.report,
        )

    @property
    def processes(self) -> tuple[int, int]:
        """How many processes share these data, and which of them this one is."""
        trainer = self.trainer
        return (trainer.world_size, trainer.global_rank) if trainer else (1, 0)

    def _order(
        self, samples: Samples, size: int, shuffle: bool, weights: Tensor | None
    ) -> EpochSampler:
        num_processes, rank = self.processes
        return EpochSampler(
            samples,
            batch_size=size,
            shuffle=shuffle,
            seed=self.seed,
            num_processes=num_processes,
            rank=rank,
            weights=weights,
        )

    def _whole_batches(self, samples: Samples) -> EpochSampler | None:
        """Answer with what deals out whole training batches; None for so many rows in each."""
        return None

    def _loader(self, split: str, *, shuffle: bool = False) -> Loader | StreamLoader:
        samples: Samples | None = {"train": self.train, "val": self.val, "test": self.test}[split]
        if samples is None:
            raise NoDataError(
                f"These data have no {split} part. Give one: from_*(..., {split}=...)."
            )
        if not self._ready:
            raise InvalidValueError(
                "These data do not know yet which size and form the backbone wants. Pass them as "
                "datamodule= (or to task.finetune), or call data.prepare(task.input_spec) first."
            )
        return self.loader(samples, shuffle=shuffle)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches, on the device they are trained on."""
        trainer = self.trainer
        if trainer is None or not trainer.training or "features" in batch:
            return batch
        return self.augment_batch(batch, epoch=trainer.current_epoch)

    def train_weights(self) -> Tensor | None:
        """Answer with a weight per training row, (N,), of mean 1; None where nothing is balanced.

        Where rows have any number of labels it is a weight per row and class, (N, K).

        Raises:
            InvalidValueError: `balance` cannot be meant, or the training part is a stream.
        """
        if self.balance is None:
            return None
        if isinstance(self.train, StreamSamples):
            raise InvalidValueError(
                f"balance={self.balance!r} with a stream, whose labels are not known beforehand. "
                "Leave balance at None."
            )
        targets = None if self.train is None else self.train.targets
        return row_weights(self.balance, targets, self.classes, multi_label=self.spec.multi_label)

    def augment_batch(self, batch: Batch, *, epoch: int) -> Batch:
        """Change a training batch at random, as a pure function of (seed, epoch, index)."""
        return batch

    @property
    def caches(self) -> bool:
        """Whether a frozen backbone may be run once per input: inputs are the same each epoch.

        Those of a stream are not kept.
        """
        return not isinstance(self.train, StreamSamples)

    @property
    def views(self) -> Views | None:
        """The versions of training inputs that a frozen backbone sees; None for inputs as such."""
        return None

    @property
    def mixes(self) -> bool:
        """Whether training inputs are made of several, with targets of several."""
        return False

    @property
    def sees(self) -> str:
        """What a training batch holds, in words for the table of what trains when."""
        return "inputs as they are"


def _as_it_is(batch: Any) -> Any:  # Any: what a DataLoader hands to its collate function
    return batch


def _no_single_row(num_rows: int, batch_size: int) -> int:
    """Change the batch size until no batch has a single row, which batch norm cannot train on.

    A smaller one is looked for first; 13 rows in batches of 4 leave only 5.
    """
    if batch_size == 1 or num_rows <= 1:
        return batch_size
    candidates = [*range(batch_size, max(1, batch_size // 2), -1), batch_size + 1]
    return next((size for size in candidates if num_rows % size != 1), batch_size)
