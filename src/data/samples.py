"""The one fetch path: what every source of every kind looks like to a loader."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch

from ..errors import InvalidValueError
from .digest import digest_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec


class Samples(Protocol):
    """Inputs that can be fetched by position, a whole batch at a time.

    torch's ``DataLoader`` calls ``__getitems__`` once a batch. Images, texts, windows of series and
    cached features are all fetched this way.
    """

    @property
    def ids(self) -> Sequence[str]:
        """A name per input that a user recognises: a path, a row, a position."""

    @property
    def targets(self) -> Tensor | None:
        """What is to be predicted, one row per input; None where it is not known."""

    @property
    def lengths(self) -> Tensor | None:
        """How long each input is, (N,), where that varies and batches should hold like lengths.

        Known from `prepare` on; None where all inputs are of one size.
        """

    def prepare(self, input_spec: InputSpec) -> None:
        """Learn what the backbone wants to see; needed before the first fetch."""

    def __len__(self) -> int:
        """Answer with the number of inputs."""

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch inputs by position, together with ``index`` and, where known, ``target``.

        Inputs that cannot be read are left out, and their positions stand in ``failed``.
        """

    def why(self, index: int) -> str:
        """Say why an input listed in ``failed`` cannot be read."""


@runtime_checkable
class Identified(Protocol):
    """Samples that know whether they are the same as those of another process."""

    def identity(self) -> str | None:
        """Answer with a digest that changes when an input does; None where that cannot be known."""


class Subset:
    """Some rows of samples, as samples of their own: positions count from 0 again.

    Args:
        samples: Where they come from, of any kind.
        rows: Which ones, in their new order.
    """

    def __init__(self, samples: Samples, rows: Sequence[int]) -> None:
        self._samples = samples
        self._rows = list(rows)
        self._place = {row: place for place, row in enumerate(self._rows)}
        self._targets = None if samples.targets is None else samples.targets[self._rows]

    @property
    def ids(self) -> Sequence[str]:
        """A name per input."""
        ids = self._samples.ids
        return [ids[row] for row in self._rows]

    @property
    def targets(self) -> Tensor | None:
        """What is to be predicted; None where it is not known."""
        return self._targets

    @property
    def lengths(self) -> Tensor | None:
        """How long each input is; None where all are of one size."""
        lengths = self._samples.lengths
        return None if lengths is None else lengths[self._rows]

    def prepare(self, input_spec: InputSpec) -> None:
        """Tell the samples below what the backbone wants to see."""
        self._samples.prepare(input_spec)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch inputs by their new positions."""
        batch = self._samples.__getitems__([self._rows[index] for index in indices])
        for name in ("index", "failed"):
            if name in batch:
                places = [self._place[row] for row in batch[name].tolist()]
                batch[name] = torch.tensor(places, dtype=torch.int64)
        return batch

    def why(self, index: int) -> str:
        """Say why an input listed in ``failed`` cannot be read."""
        return self._samples.why(self._rows[index])

    def identity(self) -> str | None:
        """Answer with a digest of which rows of what; None where the samples below have none."""
        below = self._samples.identity() if isinstance(self._samples, Identified) else None
        return None if below is None else digest_of([below, repr(self._rows)])


class Fetch:
    """The dataset a loader sees: samples, or the features that a frozen backbone made of them.

    Args:
        samples: Where inputs come from as long as no features are set.
        weights: How much each sample counts in the loss, (N,), as ``weight`` of a batch; None
            leaves that entry out.
    """

    def __init__(self, samples: Samples, *, weights: Tensor | None = None) -> None:
        self.samples = samples
        self._weights = weights
        self._features: Tensor | None = None
        self._present: Tensor | None = None
        self._num_views = 1

    @property
    def cached(self) -> bool:
        """Whether batches hold ``features`` in place of inputs."""
        return self._features is not None

    @property
    def is_quick(self) -> bool:
        """Whether a batch is a gather from memory, for which no thread has to read ahead."""
        return self.cached or getattr(self.samples, "is_quick", False)

    def cache(self, features: Tensor, present: Tensor, *, num_views: int = 1) -> None:
        """Answer with features from now on.

        Args:
            features: The rows of each sample, one after the other, (N * num_views, F).
            present: Which samples were readable, (N,) of bool; others are left out of batches.
            num_views: Rows of each sample. A batch has all of them, so each counts as a share.
        """
        self._features, self._present, self._num_views = features, present, num_views

    def uncache(self) -> None:
        """Answer with inputs again."""
        self._features = self._present = None

    def rows(self) -> tuple[Tensor, Tensor, Tensor]:
        """Answer with the cached features of the readable samples, their targets and positions.

        Returns:
            (R, F), (R,) and (R,); the views of a sample follow each other.

        Raises:
            InvalidValueError: Nothing is cached, or the targets are not known.
        """
        targets = self.samples.targets
        if self._features is None or self._present is None or targets is None:
            raise InvalidValueError("Features with targets were asked for before they were cached.")
        present = self._present.nonzero()[:, 0].repeat_interleave(self._num_views)
        # All of them are not copied: they may be mapped from a file larger than the memory.
        whole = bool(self._present.all())
        features = self._features if whole else self._features[self._rows_of(self._present)]
        return features, targets[present], present

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch that a sampler put together as a whole."""
        return self.__getitems__(indices)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch a batch of inputs or of cached features."""
        batch = self._get(indices)
        if self._weights is not None:
            batch["weight"] = self._weights[batch["index"]]
        return batch

    def _get(self, indices: Sequence[int]) -> Batch:
        if self._features is None or self._present is None:
            return self.samples.__getitems__(indices)
        index = torch.as_tensor(indices, dtype=torch.int64)
        index = index[self._present[index]]
        batch = {"features": self._features[self._rows_of(index)]}
        batch["index"] = index.repeat_interleave(self._num_views)
        if self.samples.targets is not None:
            batch["target"] = self.samples.targets[batch["index"]]
        return batch

    def _rows_of(self, samples: Tensor) -> Tensor:
        """Answer with the rows of features of samples by position, (B,), or by a mask, (N,)."""
        index = samples.nonzero()[:, 0] if samples.dtype == torch.bool else samples
        return (index[:, None] * self._num_views + torch.arange(self._num_views)).flatten()
