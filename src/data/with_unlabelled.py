"""Labelled data with unlabelled inputs beside every batch, for semi-supervised learning."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from copy import copy
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidValueError, NoDataError, UnreadableError
from .augment import light, resolve
from .image_samples import ImageSamples
from .images import ImageData
from .module import BATCH_SIZE, EpochSampler
from .pixels import to_floats
from .rand_augment import strong
from .samples import Samples, Subset

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec
    from .module import Data

_log = logging.getLogger("mealkit")


class Beside:
    """Labelled samples, and unlabelled ones behind them, as samples of one kind.

    A position stands for a *draw* of an input: position ``turn * len(samples) + row`` is the row in
    its ``turn``-th pass of an epoch, so that an input which comes several times in an epoch is
    changed by chance in another way each time. A batch has ``draw`` (B,) beside ``index`` (B,), and
    under ``unlabelled`` a batch of its own with ``image``, ``index`` and ``draw``.

    Args:
        labelled: With targets.
        unlabelled: Whose targets, if they have any, are not looked at; None for none.
    """

    def __init__(self, labelled: Samples, unlabelled: Samples | None) -> None:
        self.labelled = labelled
        self.unlabelled = unlabelled

    @property
    def ids(self) -> Sequence[str]:
        """Names of the labelled inputs, then of the others."""
        return [*self.labelled.ids, *(() if self.unlabelled is None else self.unlabelled.ids)]

    @property
    def targets(self) -> Tensor | None:
        """What is to be predicted of the labelled inputs."""
        return self.labelled.targets

    @property
    def lengths(self) -> None:
        """None: pictures of a batch are of one size."""

    def prepare(self, input_spec: InputSpec) -> None:
        """Tell both what the backbone wants to see."""
        self.labelled.prepare(input_spec)
        if self.unlabelled is not None:
            self.unlabelled.prepare(input_spec)

    def __len__(self) -> int:
        return len(self.labelled) + (0 if self.unlabelled is None else len(self.unlabelled))

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch the labelled rows, and the others beside them."""
        total, count = len(self), len(self.labelled)
        own = [index for index in indices if index % total < count]
        others = [index for index in indices if index % total >= count]
        batch = _drawn(self.labelled, own, total=total, first=0)
        if self.unlabelled is None:
            return batch
        beside = _drawn(self.unlabelled, others, total=total, first=count)
        beside.pop("target", None)
        failed = [part.pop("failed") for part in (batch, beside) if "failed" in part]
        batch["unlabelled"] = beside  # type: ignore[assignment]  # the one batch in a batch
        if failed:
            batch["failed"] = torch.cat(failed)
        return batch

    def why(self, index: int) -> str:
        """Say why an input listed in ``failed`` cannot be read."""
        count = len(self.labelled)
        if index < count or self.unlabelled is None:
            return self.labelled.why(index)
        return self.unlabelled.why(index - count)


def _drawn(samples: Samples, draws: Sequence[int], *, total: int, first: int) -> Batch:
    """Fetch draws as a batch; positions in ``failed`` count from the first of all samples."""
    batch = samples.__getitems__([draw % total - first for draw in draws])
    failed = set(batch["failed"].tolist()) if "failed" in batch else set()
    read = [draw for draw in draws if draw % total - first not in failed]
    batch["draw"] = torch.tensor(read, dtype=torch.int64)
    if failed:
        batch["failed"] = batch["failed"] + first
    return batch


class PairedBatches(EpochSampler):
    """Whole batches of labelled and unlabelled draws, as a pure function of (seed, epoch).

    Both are dealt in orders of their own, and dealt anew when they have all come. Processes get
    batches in turn, and as many.

    Args:
        samples: What is dealt.
        num_rows: Labelled rows of a batch.
        ratio: Unlabelled rows for each labelled one.
        num_batches: Of an epoch, on all processes together.
        seed: Decides the orders.
        num_processes: How many processes share the samples.
        rank: Which of them this one is.
    """

    def __init__(
        self,
        samples: Beside,
        *,
        num_rows: int,
        ratio: int,
        num_batches: int,
        seed: int = 0,
        num_processes: int = 1,
        rank: int = 0,
    ) -> None:
        super().__init__(
            samples,
            batch_size=1,
            shuffle=True,
            seed=seed,
            num_processes=num_processes,
            rank=rank,
        )
        count = len(samples.labelled)
        self._num_rows, self._ratio = num_rows, ratio
        self._counts = (count, len(samples) - count)
        self._num_batches = math.ceil(num_batches / num_processes)

    def __len__(self) -> int:
        """Batches of an epoch of this process."""
        return self._num_batches

    def __iter__(self) -> Iterator[list[int]]:  # type: ignore[override]  # batches, not positions
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        count = self._num_batches * self.num_replicas
        total = sum(self._counts)
        parts = []
        for rows, first, size in (
            (self._num_rows, 0, self._counts[0]),
            (self._num_rows * self._ratio, self._counts[0], self._counts[1]),
        ):
            turns = -(-count * rows // size) if size else 0
            dealt = [
                torch.randperm(size, generator=generator) + first + turn * total
                for turn in range(turns)
            ]
            every = torch.cat(dealt)[: count * rows] if dealt else torch.empty(0, dtype=torch.int64)
            parts.append(every.view(count, -1))
        batches = torch.cat(parts, 1)[self.rank :: self.num_replicas]
        start, self.start = self.start, 0
        return iter(batches[start:].tolist())


class WithUnlabelled(ImageData):
    """Labelled pictures, with unlabelled ones beside every training batch.

    An epoch is one pass over the unlabelled pictures (over the labelled ones, where that takes more
    batches); labelled pictures come again and again in it. An unlabelled picture has two views: the
    *weak* one is what the labelled data's own augmentation makes of it, the *strong* one that,
    drawn anew, under `strong`.

    Args:
        labelled: Whose parts, order and settings these data have.
        unlabelled: The other pictures.
        ratio: Unlabelled rows for each labelled one in a batch; 0 leaves them out, in epochs of
            the length that ``length_ratio`` decides.
        method: What makes use of them, in words.
        length_ratio: The ratio that decides how many batches an epoch has; None for ``ratio``.

    Raises:
        NoDataError: There is no labelled training part.
        InvalidValueError: Rows are to be drawn by their class, which the pairs do not.
    """

    def __init__(
        self,
        labelled: ImageData,
        unlabelled: Samples,
        *,
        ratio: int,
        method: str,
        length_ratio: int | None = None,
    ) -> None:
        if labelled.train is None:
            raise NoDataError("There are no labelled pictures to train on.")
        if labelled.balance == "sampler":
            raise InvalidValueError(
                "balance='sampler' beside unlabelled=: labelled rows are dealt out in turns there. "
                "Use balance='weights'."
            )
        super().__init__(
            spec=labelled.spec,
            train=Beside(labelled.train, unlabelled if ratio else None),
            val=labelled.val,
            test=labelled.test,
            report=labelled.report,
            seed=labelled.seed,
        )
        for name in ("batch_size", "num_workers", "balance", "augment", "mix"):
            setattr(self, name, getattr(labelled, name))
        self._labelled, self._unlabelled = labelled, unlabelled
        self._ratio, self._method = ratio, method
        self._length_ratio = ratio if length_ratio is None else length_ratio

    def alone(self) -> WithUnlabelled:
        """Answer with batches of the labelled pictures alone, as many of them in an epoch."""
        return WithUnlabelled(
            self._labelled,
            self._unlabelled,
            ratio=0,
            method="labels alone",
            length_ratio=self._length_ratio,
        )

    def as_they_are(self) -> ImageData:
        """Answer with the labelled data, of which nothing is changed by chance."""
        plain = copy(self._labelled)
        plain.augment, plain.mix, plain.trainer = "none", None, None
        return plain

    def _whole_batches(self, samples: Samples) -> EpochSampler | None:
        if not isinstance(samples, Beside):
            return None
        count = len(samples.labelled)
        num_rows = min(BATCH_SIZE if self.batch_size is None else self.batch_size, count)
        needed = max(1, self._length_ratio) * num_rows
        num_batches = max(-(-len(self._unlabelled) // needed), -(-count // num_rows))
        num_processes, rank = self.processes
        return PairedBatches(
            samples,
            num_rows=num_rows,
            ratio=self._ratio,
            num_batches=num_batches,
            seed=self.seed,
            num_processes=num_processes,
            rank=rank,
        )

    def augment_batch(self, batch: Batch, *, epoch: int) -> Batch:
        """Change labelled pictures as ever, and make two views of each of the others."""
        index, beside = batch["index"], batch.get("unlabelled")
        given = {name: value for name, value in batch.items() if name != "unlabelled"}
        changed = super().augment_batch({**given, "index": batch["draw"]}, epoch=epoch)
        changed["index"] = index
        if beside is None:
            return changed
        inner: Batch = beside  # type: ignore[assignment]  # the one batch in a batch
        images, draws = inner["image"], inner["draw"]
        if images.dtype != changed["image"].dtype:  # some files, some arrays of floats
            images, changed["image"] = to_floats(images), to_floats(changed["image"])
        seeds = (self.seed + 1, self.seed + 2)  # else pairs would share moves
        weak, base = (self._weak(images, seed=seed, epoch=epoch, index=draws) for seed in seeds)
        views = {
            "index": inner["index"],
            "weak": {"image": weak, "index": inner["index"]},
            "strong": {
                "image": strong(base, seed=self.seed, epoch=epoch, index=draws),
                "index": inner["index"],
            },
        }
        changed["unlabelled"] = views  # type: ignore[assignment]
        return changed

    def _weak(self, images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
        change = light if self.augment is None else resolve(self.augment)
        return images if change is None else change(images, seed=seed, epoch=epoch, index=index)

    @property
    def caches(self) -> bool:
        """False: pictures without labels have other views in every epoch."""
        return False

    @property
    def sees(self) -> str:
        """What a training batch holds, in words for the table of what trains when."""
        beside = f", {self._ratio} of {len(self._unlabelled):,} unlabelled beside each"
        return f"{super().sees}{beside if self._ratio else ''}; {self._method}"


def check_unlabelled(samples: Samples, data: Data) -> Samples:
    """Look at every unlabelled picture before the first batch; answer with those to be read.

    Unreadable ones, and exact copies of pictures that are scored, are reported in the data.

    Args:
        samples: The unlabelled pictures.
        data: Whose validation and test parts must not be among them.

    Raises:
        NoDataError: There are none.
        UnreadableError: Not one can be read.
    """
    if not len(samples):
        raise NoDataError("unlabelled= holds no pictures: it is empty.")
    if not isinstance(samples, ImageSamples):
        return samples
    found = samples.contents()
    broken = [row for row, (_, reason) in enumerate(found) if reason is not None]
    for row in broken:
        data.report.add(samples.ids[row], str(found[row][1]))
    if len(broken) == len(found):
        raise UnreadableError(
            f"None of the {len(found):,} unlabelled pictures can be read; the first is "
            f"{samples.ids[0]}: {found[0][1]}."
        )
    if broken:
        _log.warning(
            f"Left out {len(broken):,} of {len(found):,} unlabelled pictures that cannot be read; "
            f"data.report lists them ({samples.ids[broken[0]]}: {found[broken[0]][1]})."
        )
    _report_leaks(samples, [key for key, _ in found], data)
    if not broken:
        return samples
    unread = set(broken)
    return Subset(samples, [row for row in range(len(found)) if row not in unread])


def _report_leaks(samples: ImageSamples, keys: Sequence[str], data: Data) -> None:
    """Report unlabelled pictures that are scored: the net must not see those at all."""
    num_leaks = 0
    for name, part in (("val", data.val), ("test", data.test)):
        if not isinstance(part, ImageSamples):
            continue
        rows = {key: row for row, (key, reason) in enumerate(part.contents()) if reason is None}
        for place, key in enumerate(keys):
            if key in rows and samples.same(place, part, rows[key]):
                num_leaks += 1
                copied = f"an exact copy, unlabelled, of {part.ids[rows[key]]} in the {name} part"
                data.report.add(samples.ids[place], copied)
    if num_leaks:
        _log.warning(
            f"{num_leaks:,} of the unlabelled pictures are in the validation or test part, which "
            "makes scores too good; data.report lists them. Leave them out."
        )
