"""The head of a frozen backbone: regularised logistic regression on features computed once.

Standardised features, an L2 penalty chosen by cross-validation, solved by L-BFGS: the ordinary
linear probe of the literature (Kornblith et al. 2019, arXiv:1805.08974, sec. 3.2), for images and
texts alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

PENALTIES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0)
"""L2 penalties tried, relative to the mean cross-entropy."""

PATIENCE = 2
"""Penalties in a row that are no better than the best before the search ends."""

MAX_ROWS = 20_000
"""Rows that choose the penalty; with more, a seeded sample of them does."""

MAX_NUMBERS = 1 << 26
"""Numbers that are standardised at once (256 MiB): features may lie in a file that is larger than
the memory, and are then read through for every step of the solver."""


@dataclass(frozen=True)
class Probe:
    """A solved head.

    Args:
        weight: (K, F), on the scale of the raw features.
        bias: (K,).
        penalty: The L2 penalty that cross-validation chose.
        accuracy: Its cross-validated accuracy, in [0, 1].
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    accuracy: float


def fit_probe(
    features: Tensor,
    targets: Tensor,
    *,
    num_classes: int,
    weights: Tensor | None = None,
    num_views: int = 1,
    num_folds: int = 3,
    seed: int = 0,
) -> Probe:
    """Solve the head of a frozen backbone.

    Args:
        features: (N, F), on the device of the targets, or on the CPU where that is too small.
        targets: (N,) of class positions.
        num_classes: K; classes without a row get the smallest logit the penalty allows.
        weights: How much each row counts in loss and accuracy, (N,), of mean 1; None for all the
            same.
        num_views: Rows that follow each other and are versions of one input: they count as one row
            in all, and stay together in the cross-validation.
        num_folds: Parts of the cross-validation.
        seed: Decides the folds.
    """
    features = features.float()
    mean = features.mean(0)
    # A feature that never moves carries nothing: 1 keeps it at zero instead of blowing up noise.
    std = features.std(0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, torch.ones_like(std))
    mean, std = mean.to(targets.device), std.to(targets.device)
    weights = torch.ones_like(targets, dtype=torch.float32) if weights is None else weights
    rows = _Rows(features, targets, weights, num_classes, mean, std)
    penalty, accuracy, start = _choose(rows, num_views, num_folds, seed)
    weight, bias = _solve(rows, penalty, start, max_iter=200)
    weight = weight / std
    return Probe(weight, bias - weight @ mean, penalty, accuracy)


@dataclass(frozen=True)
class _Rows:
    """What is solved on."""

    features: Tensor
    targets: Tensor
    weights: Tensor
    num_classes: int
    mean: Tensor
    std: Tensor

    def __getitem__(self, rows: Tensor) -> _Rows:
        chosen = self.features[rows], self.targets[rows], self.weights[rows]
        return _Rows(*chosen, self.num_classes, self.mean, self.std)

    def pieces(self) -> Iterator[_Piece]:
        """Standardise the features, as many rows at a time as memory is meant to hold."""
        size = max(1, MAX_NUMBERS // self.features.shape[1])
        for start in range(0, len(self.targets), size):
            rows = slice(start, start + size)
            features = self.features[rows].to(self.targets.device)
            scaled = (features - self.mean) / self.std
            yield _Piece(scaled, self.targets[rows], self.weights[rows])


@dataclass(frozen=True)
class _Piece:
    """Some rows, standardised."""

    features: Tensor
    targets: Tensor
    weights: Tensor


def _choose(
    rows: _Rows, num_views: int, num_folds: int, seed: int
) -> tuple[float, float, tuple[Tensor, Tensor]]:
    targets = rows.targets[::num_views].cpu()  # of inputs, each of several rows
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)[: max(1, MAX_ROWS // num_views)]
    # Dealing out inputs sorted by class keeps every class in every fold that it can fill.
    order = order[torch.argsort(targets[order], stable=True)]
    fold = torch.arange(len(order)) % min(num_folds, len(order))

    def rows_of(inputs: Tensor) -> Tensor:
        return (inputs[:, None] * num_views + torch.arange(num_views)).flatten()

    splits = [
        (rows[rows_of(order[fold != part])], rows[rows_of(order[fold == part])])
        for part in range(int(fold.max()) + 1)
    ]
    starts: list[tuple[Tensor, Tensor] | None] = [None] * len(splits)
    right: dict[float, float] = {}
    solved: dict[float, tuple[Tensor, Tensor]] = {}
    for penalty in sorted(PENALTIES, reverse=True):
        right[penalty] = 0
        for part, (rest, held) in enumerate(splits):
            # From strong to weak, each solution starts the next one.
            solution = _solve(rest, penalty, starts[part], max_iter=15)
            for piece in held.pieces():
                hits = functional.linear(piece.features, *solution).argmax(1) == piece.targets
                right[penalty] += float((hits * piece.weights).sum())
            starts[part] = solved[penalty] = solution
        if len(right) - list(right.values()).index(max(right.values())) > PATIENCE:
            break  # weaker ones overfit more, and take the longest to solve
    best = max(right, key=lambda penalty: (right[penalty], penalty))
    return best, right[best] / float(rows.weights[rows_of(order)].sum()), solved[best]


def _solve(
    rows: _Rows, penalty: float, start: tuple[Tensor, Tensor] | None, *, max_iter: int
) -> tuple[Tensor, Tensor]:
    if start is None:
        start = (
            rows.mean.new_zeros(rows.num_classes, len(rows.mean)),
            rows.mean.new_zeros(rows.num_classes),
        )
    pieces = rows.pieces()
    first, second = next(pieces), next(pieces, None)
    kept = [first] if second is None else None  # what is small is standardised once
    del first, second, pieces
    weight, bias = (value.clone().requires_grad_() for value in start)
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iter,
        tolerance_grad=1e-4,
        tolerance_change=1e-6,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        total = 0.5 * penalty * weight.square().sum()
        total.backward()  # type: ignore[no-untyped-call]
        for piece in rows.pieces() if kept is None else kept:
            logits = functional.linear(piece.features, weight, bias)
            losses = functional.cross_entropy(logits, piece.targets, reduction="none")
            loss = (losses * piece.weights).sum() / len(rows.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            total = total.detach() + loss.detach()
        return total

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
