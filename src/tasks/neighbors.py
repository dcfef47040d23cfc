"""Nearest neighbours among the training inputs, by the features of the backbone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import InvalidValueError

TEMPERATURE = 0.07
"""Of the votes of neighbours; Wu et al. 2018 (arXiv:1805.01978, section 3.4), and DINO."""

_CHUNK = 1_024  # queries compared at a time: the table of similarities stays small


@dataclass(frozen=True, eq=False)
class Bank:
    """The readable training inputs, as a backbone sees them.

    Args:
        ids: Their ids, N of them.
        targets: Positions of their classes, (N,).
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
        if not 1 <= k <= len(self.ids):
            raise InvalidValueError(
                f"k={k}: expected at least 1 and at most the {len(self.ids):,} training inputs."
            )
        queries = functional.normalize(features, dim=1)
        chunks = [
            (queries[start : start + _CHUNK] @ self.features.T).topk(k)
            for start in range(0, len(queries), _CHUNK)
        ]
        return torch.cat([one.values for one in chunks]), torch.cat([one.indices for one in chunks])

    def vote(self, features: Tensor, k: int, *, num_classes: int) -> Tensor:
        """Classify features (B, F) by their k nearest inputs, and answer with shares, (B, K).

        Each neighbour votes for its class with the weight exp(similarity / `TEMPERATURE`), as in
        Wu et al. 2018 (arXiv:1805.01978) and DINO (Caron et al. 2021, arXiv:2104.14294).
        """
        similarities, positions = self.nearest(features, k)
        weights = (similarities / TEMPERATURE).softmax(1)  # the weights, with a sum of 1
        shares = torch.zeros(len(features), num_classes)
        return shares.scatter_add_(1, self.targets[positions], weights)


def fingerprint(module: nn.Module) -> str:
    """Hash the weights of a module: they are the same only if nothing has trained or loaded it."""
    digest = hashlib.blake2b(digest_size=16)
    for name, value in module.state_dict().items():
        digest.update(name.encode())
        digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
