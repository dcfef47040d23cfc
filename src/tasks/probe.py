"""The head of a frozen backbone: regularised logistic regression on features computed once.

Standardised features, an L2 penalty chosen by cross-validation, solved by L-BFGS: the ordinary
linear probe of the literature (Kornblith et al. 2019, arXiv:1805.08974, sec. 3.2), for images and
texts alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

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
        penalty: The L2 penalty that was given, or that cross-validation chose.
        accuracy: Its cross-validated accuracy, in [0, 1]; None where it was given.
    """

    weight: Tensor
    bias: Tensor
    penalty: float
    accuracy: float | None


@dataclass(frozen=True)
class Probes:
    """A solved head of classes that an input has or has not, each by itself.

    Args:
        weight: (K, F), on the scale of the raw features.
        bias: (K,).
        penalties: The L2 penalty that cross-validation chose for each class, (K,).
        loss: Their cross-validated binary cross-entropy, the mean over classes.
    """

    weight: Tensor
    bias: Tensor
    penalties: Tensor
    loss: float


def fit_probe(
    features: Tensor,
    targets: Tensor,
    *,
    num_classes: int,
    weights: Tensor | None = None,
    num_views: int = 1,
    num_folds: int = 3,
    seed: int = 0,
    penalty: float | None = None,
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
        penalty: The L2 penalty; None to choose it by cross-validation.
    """
    mean, std = _scale(features, targets.device)
    weights = torch.ones_like(targets, dtype=torch.float32) if weights is None else weights
    rows = _Rows(features, targets, weights, mean, std, num_classes)
    accuracy: float | None = None
    start: Solution | None = None
    if penalty is None:
        penalty, accuracy, start = _choose(rows, num_views, num_folds, seed)
    weight, bias = _solve(rows, _all_alike(rows, penalty), start, max_iter=200)
    weight = weight / std
    return Probe(weight, bias - weight @ mean, penalty, accuracy)


def fit_probes(
    features: Tensor,
    targets: Tensor,
    *,
    weights: Tensor | None = None,
    num_views: int = 1,
    num_folds: int = 3,
    seed: int = 0,
) -> Probes:
    """Solve the head of a frozen backbone for inputs with any number of labels.

    One logistic regression per class, all in one L-BFGS. Each class has the penalty of its own
    lowest cross-validated loss: not of its accuracy, which for a rare class is highest where it is
    never given.

    Args:
        features: (N, F), on the device of the targets, or on the CPU where that is too small.
        targets: 0 and 1, (N, K).
        weights: How much each row counts for each class, (N, K); None for all the same.
        num_views: Rows that follow each other and are versions of one input: they count as one row
            in all, and stay together in the cross-validation.
        num_folds: Parts of the cross-validation.
        seed: Decides the folds.
    """
    mean, std = _scale(features, targets.device)
    known = targets.float()
    weights = torch.ones_like(known) if weights is None else weights
    rows = _Rows(features, known, weights, mean, std)
    penalties, loss, start = _choose_each(rows, num_views, num_folds, seed)
    weight, bias = _solve(rows, penalties, start, max_iter=200)
    weight = weight / std
    return Probes(weight, bias - weight @ mean, penalties, loss)


def _scale(features: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Answer with means and deviations of features, (F,) each."""
    features = features.float()
    mean = features.mean(0)
    # A feature that never moves carries nothing: 1 keeps it at zero instead of blowing up noise.
    std = features.std(0, correction=0)
    std = torch.where(std > 1e-6 * std.max().clamp_min(1e-12), std, torch.ones_like(std))
    return mean.to(device), std.to(device)


@dataclass(frozen=True)
class _Rows:
    """What is solved on.

    Args:
        features: (N, F), as they were given.
        targets: Positions of classes, (N,), or 0 and 1 for each class, (N, K).
        weights: Of the same shape as the targets.
        mean: Of each feature over all rows that are solved on, (F,).
        std: Their deviations, (F,).
        classes: K; None where the targets say it.
    """

    features: Tensor
    targets: Tensor
    weights: Tensor
    mean: Tensor
    std: Tensor
    classes: int | None = None

    def __getitem__(self, rows: Tensor | slice) -> _Rows:
        return replace(
            self,
            features=self.features[rows],
            targets=self.targets[rows],
            weights=self.weights[rows],
        )

    def pieces(self) -> Iterator[_Rows]:
        """Standardise the features, as many rows at a time as memory is meant to hold."""
        size = max(1, MAX_NUMBERS // self.features.shape[1])
        for start in range(0, len(self.targets), size):
            piece = self[slice(start, start + size)]
            features = piece.features.to(self.targets.device).float()
            yield replace(piece, features=(features - self.mean) / self.std)

    @property
    def num_classes(self) -> int:
        return self.targets.shape[1] if self.classes is None else self.classes

    def losses(self, logits: Tensor) -> Tensor:
        """Answer with the weighted mean loss: a scalar, or (K,) where classes are independent."""
        if self.targets.ndim == 1:
            values = functional.cross_entropy(logits, self.targets, reduction="none")
        else:
            values = functional.binary_cross_entropy_with_logits(
                logits, self.targets, reduction="none"
            )
        return (values * self.weights).mean(0)


Solution = tuple[Tensor, Tensor]
"""Weight (K, F) and bias (K,) of standardised features."""


def _split(rows: _Rows, order: Tensor, num_views: int, num_folds: int) -> list[tuple[_Rows, _Rows]]:
    """Deal inputs out in turn, and answer with what each fold leaves and what it holds."""
    fold = torch.arange(len(order)) % min(num_folds, len(order))
    return [
        (
            rows[_rows_of(order[fold != part], num_views)],
            rows[_rows_of(order[fold == part], num_views)],
        )
        for part in range(int(fold.max()) + 1)
    ]


def _rows_of(inputs: Tensor, num_views: int) -> Tensor:
    return (inputs[:, None] * num_views + torch.arange(num_views)).flatten()


def _some_inputs(num_inputs: int, num_views: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randperm(num_inputs, generator=generator)[: max(1, MAX_ROWS // num_views)]


def _choose(
    rows: _Rows, num_views: int, num_folds: int, seed: int
) -> tuple[float, float, Solution]:
    targets = rows.targets[::num_views].cpu()  # of inputs, each of several rows
    order = _some_inputs(len(targets), num_views, seed)
    # Dealing out inputs sorted by class keeps every class in every fold that it can fill.
    order = order[torch.argsort(targets[order], stable=True)]
    splits = _split(rows, order, num_views, num_folds)
    starts: list[Solution | None] = [None] * len(splits)
    right: dict[float, float] = {}
    solved: dict[float, Solution] = {}
    for penalty in sorted(PENALTIES, reverse=True):
        right[penalty] = 0
        for part, (rest, held) in enumerate(splits):
            # From strong to weak, each solution starts the next one.
            solution = _solve(rest, _all_alike(rows, penalty), starts[part], max_iter=15)
            for piece in held.pieces():
                hits = functional.linear(piece.features, *solution).argmax(1) == piece.targets
                right[penalty] += float((hits * piece.weights).sum())
            starts[part] = solved[penalty] = solution
        if len(right) - list(right.values()).index(max(right.values())) > PATIENCE:
            break  # weaker ones overfit more, and take the longest to solve
    best = max(right, key=lambda penalty: (right[penalty], penalty))
    counted = rows.weights[_rows_of(order, num_views)]
    return best, right[best] / float(counted.sum()), solved[best]


def _choose_each(
    rows: _Rows, num_views: int, num_folds: int, seed: int
) -> tuple[Tensor, float, Solution]:
    """Choose a penalty per class by its held-out loss; start each class where that one ended."""
    targets = rows.targets[::num_views].cpu()  # of inputs, each of several rows
    order = _some_inputs(len(targets), num_views, seed)
    # Dealing out inputs by their rarest class keeps rare classes in every fold they can fill.
    order = order[torch.argsort(_rarest(targets[order]), stable=True)]
    splits = _split(rows, order, num_views, num_folds)
    starts: list[Solution | None] = [None] * len(splits)
    losses: list[Tensor] = []
    solved: list[Solution] = []
    penalties = sorted(PENALTIES, reverse=True)
    for penalty in penalties:
        held_out = rows.mean.new_zeros(rows.num_classes)
        for part, (rest, held) in enumerate(splits):
            solution = _solve(rest, _all_alike(rows, penalty), starts[part], max_iter=15)
            for piece in held.pieces():
                losses_of = piece.losses(functional.linear(piece.features, *solution))
                held_out += losses_of * len(piece.targets) / (len(order) * num_views)
            starts[part] = solution
        losses.append(held_out)
        solved.append(solution)
        if int((len(losses) - torch.stack(losses).argmin(0)).min()) > PATIENCE:
            break  # not one class is better off with the weaker ones
    table = torch.stack(losses)
    best = table.argmin(0)
    every = torch.arange(rows.num_classes, device=best.device)
    start = tuple(torch.stack(values)[best, every] for values in zip(*solved, strict=True))
    chosen = rows.mean.new_tensor(penalties)[best]
    return chosen, float(table[best, every].mean()), (start[0], start[1])


def _rarest(targets: Tensor) -> Tensor:
    """Answer with the rarest class that each row has, (N,), and with K for rows without one."""
    num_classes = targets.shape[1]
    rank = targets.sum(0).argsort(stable=True).argsort()
    ranks = torch.where(targets > 0, rank, num_classes)
    return ranks.amin(1)


def _all_alike(rows: _Rows, penalty: float) -> Tensor:
    return rows.mean.new_full((rows.num_classes,), penalty)


def _solve(rows: _Rows, penalties: Tensor, start: Solution | None, *, max_iter: int) -> Solution:
    """Minimise mean loss plus half of each class's penalty (K,) times its squared weights."""
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
        total = 0.5 * (penalties * weight.square().sum(1)).sum()
        total.backward()  # type: ignore[no-untyped-call]
        for piece in rows.pieces() if kept is None else kept:
            share = len(piece.targets) / len(rows.targets)
            losses = piece.losses(functional.linear(piece.features, weight, bias))
            loss = losses.sum() * share
            loss.backward()  # type: ignore[no-untyped-call]
            total = total.detach() + loss.detach()
        return total

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
