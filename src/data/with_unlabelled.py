"""Labelled data with unlabelled inputs beside every batch, for semi-supervised learning."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from ..errors import InvalidValueError, NoDataError
from .beside import Beside, PairedBatches
from .module import BATCH_SIZE, Data, EpochSampler

if TYPE_CHECKING:
    from ..specs import Batch
    from .samples import Samples


class WeakAndStrong(Protocol):
    """The two views of unlabelled inputs of a kind; one class per kind, in `weak_strong`."""

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> tuple[Batch, Batch]:
        """Make the weak and the strong view of a batch of unlabelled inputs.

        Args:
            batch: With ``draw`` (B,) beside ``index``: chance depends on it.
            seed: The seed of the data.
            epoch: Counted from 0.
        """

    def alike(self, labelled: Batch, others: Batch) -> tuple[Batch, Batch]:
        """Give the entries of two batches one type and width, so that they can be put together."""

    def plain(self) -> Data:
        """Answer with the labelled data, of which nothing is changed by chance."""

    @property
    def sees(self) -> str:
        """What the strong view does, in words for the table of what trains when."""


class WithUnlabelled(Data):
    """Labelled inputs, with unlabelled ones beside every training batch.

    An epoch is one pass over the unlabelled inputs (over the labelled ones, where that takes more
    batches); labelled inputs come again and again in it. An unlabelled input has two views: the
    *weak* one is what the labelled data's own augmentation makes of it, the *strong* one is changed
    further.

    Args:
        labelled: Whose parts, order and settings these data have.
        unlabelled: The other inputs.
        views: Makes the two views of these.
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
        labelled: Data,
        unlabelled: Samples,
        *,
        views: WeakAndStrong,
        ratio: int,
        method: str,
        length_ratio: int | None = None,
    ) -> None:
        if labelled.train is None:
            raise NoDataError("There are no labelled inputs to train on.")
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
        self.batch_size, self.num_workers = labelled.batch_size, labelled.num_workers
        self.balance = labelled.balance
        self._labelled, self._unlabelled, self._pair = labelled, unlabelled, views
        self._ratio, self._method = ratio, method
        self._length_ratio = ratio if length_ratio is None else length_ratio

    def alone(self) -> WithUnlabelled:
        """Answer with batches of the labelled inputs alone, as many of them in an epoch."""
        return WithUnlabelled(
            self._labelled,
            self._unlabelled,
            views=self._pair,
            ratio=0,
            method="labels alone",
            length_ratio=self._length_ratio,
        )

    def as_they_are(self) -> Data:
        """Answer with the labelled data, of which nothing is changed by chance."""
        return self._pair.plain()

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
        """Change labelled inputs as ever, and make two views of each of the others."""
        index, beside = batch["index"], batch.get("unlabelled")
        given = {name: value for name, value in batch.items() if name != "unlabelled"}
        changed = self._labelled.augment_batch({**given, "index": batch["draw"]}, epoch=epoch)
        changed["index"] = index
        if beside is None:
            return changed
        inner: Batch = beside  # type: ignore[assignment]  # the one batch in a batch
        weak, strong = self._pair(inner, seed=self.seed, epoch=epoch)
        changed, strong = self._pair.alike(changed, strong)
        views = {"index": inner["index"], "weak": weak, "strong": strong}
        changed["unlabelled"] = views  # type: ignore[assignment]
        return changed

    @property
    def caches(self) -> bool:
        """False: inputs without labels have other views in every epoch."""
        return False

    @property
    def mixes(self) -> bool:
        """Whether labelled inputs are made of several."""
        return self._labelled.mixes

    @property
    def sees(self) -> str:
        """What a training batch holds, in words for the table of what trains when."""
        if not self._ratio:
            return f"{self._labelled.sees}; {self._method}"
        others = f"{self._ratio} of {len(self._unlabelled):,} unlabelled beside each"
        return f"{self._labelled.sees}, {others}{self._pair.sees}; {self._method}"
