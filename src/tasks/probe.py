"""The head of a frozen backbone: regularised logistic regression on features computed once.

Standardised features, an L2 penalty chosen by cross-validation, solved by L-BFGS: the ordinary
linear probe of the literature (Kornblith et al. 2019, arXiv:1805.08974, sec. 3.2), for images and
texts alike.
"""

from __future__ import annotations

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
    features: Tensor, targets: Tensor, *, num_classes: int, num_folds: int = 3, seed: int = 0
) -> Probe:
    """Solve the head of a frozen backbone.

    Args:
        features: (N, F).
        targets: (N,) of class positions.
        num_classes: K; classes without a row get the smallest logit the penalty allows.
        num_folds: Parts of the cross-validation.
        seed: Decides the folds.
    """
    features = features.float()
    mean = features.mean(0)
    # A feature that never moves carries nothing: 1 keeps it at zero instead of blowing up noise.
    std = features.std(0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, torch.ones_like(std))
    scaled = (features - mean) / std
    penalty, accuracy, start = _choose(scaled, targets, num_classes, num_folds, seed)
    weight, bias = _solve(scaled, targets, num_classes, penalty, start, max_iter=200)
    weight = weight / std
    return Probe(weight, bias - weight @ mean, penalty, accuracy)


def _choose(
    features: Tensor, targets: Tensor, num_classes: int, num_folds: int, seed: int
) -> tuple[float, float, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(targets), generator=generator)[:MAX_ROWS]
    # Dealing out rows sorted by class keeps every class in every fold that it can fill.
    order = order[torch.argsort(targets[order].cpu(), stable=True)]
    fold = torch.arange(len(order)) % min(num_folds, len(order))
    splits = [(order[fold != part], order[fold == part]) for part in range(int(fold.max()) + 1)]
    starts: list[tuple[Tensor, Tensor] | None] = [None] * len(splits)
    right: dict[float, int] = {}
    solved: dict[float, tuple[Tensor, Tensor]] = {}
    for penalty in sorted(PENALTIES, reverse=True):
        right[penalty] = 0
        for part, (rest, held) in enumerate(splits):
            # From strong to weak, each solution starts the next one.
            solution = _solve(
                features[rest], targets[rest], num_classes, penalty, starts[part], max_iter=15
            )
            logits = functional.linear(features[held], *solution)
            right[penalty] += int((logits.argmax(1) == targets[held]).sum())
            starts[part] = solved[penalty] = solution
        if len(right) - list(right.values()).index(max(right.values())) > PATIENCE:
            break  # weaker ones overfit more, and take the longest to solve
    best = max(right, key=lambda penalty: (right[penalty], penalty))
    return best, right[best] / len(order), solved[best]


def _solve(
    features: Tensor,
    targets: Tensor,
    num_classes: int,
    penalty: float,
    start: tuple[Tensor, Tensor] | None,
    *,
    max_iter: int,
) -> tuple[Tensor, Tensor]:
    if start is None:
        start = (
            features.new_zeros(num_classes, features.shape[1]),
            features.new_zeros(num_classes),
        )
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
        loss = functional.cross_entropy(functional.linear(features, weight, bias), targets)
        loss = loss + 0.5 * penalty * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
