"""Nearest neighbours among the training inputs, by the features of the backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.samples import Samples
from ..data.split import classes_of
from ..errors import InvalidValueError, NoDataError, check_count
from .classification import compute_features, targets_of, to_evaluation, to_predictions
from .evaluation import Evaluation
from .results import Embeddings
from .training import resolve_precision

if TYPE_CHECKING:
    from .task import Task

TEMPERATURE = 0.07
"""Of the votes of neighbours; Wu et al. 2018 (arXiv:1805.01978, section 3.4), and DINO."""

_CHUNK = 1_024  # queries compared at a time: the table of similarities stays small


@dataclass(frozen=True, eq=False)
class Bank:
    """The readable training inputs, as a backbone sees them.

    Args:
        ids: Their ids, N of them.
        targets: Positions of their classes, (N,), or 0 and 1 for each class, (N, K).
        features: Of length 1 each, (N, F).
    """

    ids: Sequence[str]
    targets: Tensor
    features: Tensor

    @classmethod
    def of(cls, ids: Sequence[str], targets: Tensor, features: Tensor, read: Tensor) -> Bank:
        """Keep the inputs that could be read."""
        kept = [ids[row] for row in read.nonzero().flatten().tolist()]
        return cls(kept, targets[read], functional.normalize(features[read], dim=1))

    def nearest(self, features: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Find the inputs of the highest cosine similarity to features, (B, F).

        Returns:
            Similarities in falling order, (B, k), and the positions of the inputs, (B, k).

        Raises:
            InvalidValueError: There are not that many inputs.
        """
        count = len(self.ids)
        if isinstance(k, Integral) and not 1 <= k <= count:
            raise InvalidValueError(
                f"k={k}: expected at least 1 and at most the {count:,} training inputs."
            )
        check_count("k", k)
        queries = functional.normalize(features, dim=1)
        chunks = [
            (queries[start : start + _CHUNK] @ self.features.T).topk(k)
            for start in range(0, len(queries), _CHUNK)
        ]
        return torch.cat([one.values for one in chunks]), torch.cat([one.indices for one in chunks])

    def vote(self, features: Tensor, k: int, *, num_classes: int) -> Tensor:
        """Classify features (B, F) by their k nearest inputs, and answer with shares, (B, K).

        Each neighbour votes for its class with the weight exp(similarity / `TEMPERATURE`), as in
        Wu et al. 2018 (arXiv:1805.01978) and DINO (Caron et al. 2021, arXiv:2104.14294). One with
        several labels gives its whole vote to each of them, so that shares are by class.
        """
        similarities, positions = self.nearest(features, k)
        weights = (similarities / TEMPERATURE).softmax(1)  # the weights, with a sum of 1
        if self.targets.ndim == 2:
            return torch.einsum("bk,bkc->bc", weights, self.targets[positions].float())
        shares = torch.zeros(len(features), num_classes)
        return shares.scatter_add_(1, self.targets[positions], weights)


class BankCache:
    """The bank of the training inputs that were asked last, as long as it holds."""

    def __init__(self) -> None:
        self._key: tuple[Samples, str, str] | None = None
        self._bank: Bank | None = None

    def get(self, task: Task, samples: Samples | None, *, batch_size: int) -> Bank:
        """Answer with the bank of samples, computed once per weights and precision.

        Raises:
            NoDataError: There are no samples, or they have no labels.
        """
        if samples is None:
            raise NoDataError("These data have no training part, so there are no neighbours.")
        key = (samples, fingerprint(task.backbone), resolve_precision(task.precision))
        if self._bank is None or self._key != key:
            targets = targets_of(samples)
            features, read = compute_features(task, samples, batch_size=batch_size)
            self._key = key
            self._bank = Bank.of(samples.ids, targets, features, read)
        return self._bank


def evaluate_by_neighbors(
    task: Task, bank: Bank, samples: Samples, *, k: int, batch_size: int
) -> Evaluation:
    """Score what the neighbours of labelled samples say of them."""
    targets, classes = targets_of(samples), task.spec.classes
    features, read = compute_features(task, samples, batch_size=batch_size)
    shares = torch.full((len(samples), len(classes)), torch.nan)
    shares[read] = bank.vote(features[read], k, num_classes=len(classes))
    errors = {row: samples.why(row) for row in (~read).nonzero().flatten().tolist()}
    # More than half of the votes give a label; the head's own thresholds are of other numbers.
    thresholds = (0.5,) * len(classes) if task.spec.multi_label else None
    predictions = to_predictions(samples, classes, shares, errors, thresholds=thresholds)
    return to_evaluation(predictions, targets)


def neighbor_columns(
    bank: Bank, embeddings: Embeddings, *, k: int, classes: Sequence[str]
) -> dict[str, list[Any]]:  # Any: texts and numbers
    """List the k nearest inputs of each embedding, the nearest first."""
    similarities, positions = bank.nearest(torch.from_numpy(embeddings.values), k)
    found = positions.flatten().tolist()
    return {
        "input": [id for id in embeddings.ids for _ in range(k)],
        "rank": [*range(1, k + 1)] * len(embeddings),
        "neighbor": [bank.ids[place] for place in found],
        "label": labels_of(bank.targets[found], classes),
        "similarity": similarities.flatten().tolist(),
    }


def labels_of(targets: Tensor, classes: Sequence[str]) -> list[Any]:
    """Name the classes of inputs: a name each, or a tuple of names where they have any number.

    Any in the type: the one or the other.
    """
    if targets.ndim == 1:
        return [classes[target] for target in targets.tolist()]
    return [tuple(classes[place] for place in several) for several in classes_of(targets)]


def fingerprint(module: nn.Module) -> str:
    """Hash the weights of a module: they are the same only if nothing has trained or loaded it."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
