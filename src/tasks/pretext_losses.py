"""The losses of learning without labels, as their papers write them.

All take what a whole batch was turned into, (B, D), of all processes together (`joint_batch`), and
answer with a scalar. Tests compare each with a reference in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, *, temperature: float) -> Tensor:
    """Tell the other view of an input from all others of the batch (arXiv:2002.05709, eq. 1)."""
    embeddings = functional.normalize(torch.cat([first, second]), dim=1)
    similarities = embeddings @ embeddings.T / temperature
    similarities.fill_diagonal_(-torch.inf)
    count = len(first)
    others = torch.arange(2 * count, device=first.device).roll(count)
    return functional.cross_entropy(similarities, others)


def info_nce(query: Tensor, key: Tensor, queue: Tensor, *, temperature: float) -> Tensor:
    """Tell the key of a query from a queue of earlier keys, (Q, D) (arXiv:1911.05722, eq. 1).

    Rows of the queue have length 1.
    """
    query, key = functional.normalize(query, dim=1), functional.normalize(key, dim=1)
    own = (query * key).sum(1, keepdim=True)
    logits = torch.cat([own, query @ queue.T], dim=1) / temperature
    return functional.cross_entropy(logits, logits.new_zeros(len(logits), dtype=torch.int64))


def negative_cosine(prediction: Tensor, target: Tensor) -> Tensor:
    """Draw predictions to targets, which do not move (arXiv:2011.10566, eq. 1)."""
    return -functional.cosine_similarity(prediction, target.detach(), dim=1).mean()


def byol(prediction: Tensor, target: Tensor) -> Tensor:
    """Answer with the squared distance of both at length 1 (arXiv:2006.07733, eq. 2)."""
    return 2 + 2 * negative_cosine(prediction, target)


def barlow_twins(first: Tensor, second: Tensor, *, off_diagonal: float) -> Tensor:
    """Make dimensions of two views agree each and differ from others (arXiv:2103.03230, eq. 1-2).

    Args:
        first: Embeddings of one view, (B, D).
        second: Of the other.
        off_diagonal: Weight of the correlations between different dimensions.
    """
    one, two = (_standardised(view) for view in (first, second))
    correlations = one.T @ two / len(one)
    agree = (correlations.diagonal() - 1).square().sum()
    rest = correlations.square().sum() - correlations.diagonal().square().sum()
    return agree + off_diagonal * rest


def _standardised(rows: Tensor) -> Tensor:
    centred = rows - rows.mean(0)
    return centred / (centred.square().mean(0) + 1e-5).sqrt()


def vicreg(
    first: Tensor, second: Tensor, *, invariance: float, variance: float, covariance: float
) -> Tensor:
    """Weigh agreement, spread and independence of dimensions (arXiv:2105.04906, eq. 6).

    The spread of both views is averaged, as in the code that the paper's weights were tuned with.
    """
    spread = decorrelation = first.new_zeros(())
    for view in (first, second):
        centred = view - view.mean(0)
        deviations = (centred.square().sum(0) / (len(view) - 1) + 1e-4).sqrt()
        spread = spread + functional.relu(1 - deviations).mean() / 2
        products = centred.T @ centred / (len(view) - 1)
        rest = products.square().sum() - products.diagonal().square().sum()
        decorrelation = decorrelation + rest / view.shape[1]
    agreement = functional.mse_loss(first, second)
    return invariance * agreement + variance * spread + covariance * decorrelation


def dino(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    centre: Tensor,
    *,
    student_temperature: float,
    teacher_temperature: float,
) -> Tensor:
    """Match what a teacher says of one view in all others (arXiv:2104.14294, eq. 3 and alg. 1).

    Args:
        student: Scores of prototypes of every view, (B, K) each.
        teacher: Of the first views, the large ones.
        centre: Running mean of the teacher's scores, (K,), which is taken off.
        student_temperature: Divides the student's scores.
        teacher_temperature: Divides the teacher's; lower, to sharpen them.
    """
    wanted = [((one - centre) / teacher_temperature).softmax(1).detach() for one in teacher]
    logs = [(one / student_temperature).log_softmax(1) for one in student]
    pairs = product(range(len(wanted)), range(len(logs)))
    losses = [-(wanted[t] * logs[s]).sum(1).mean() for t, s in pairs if t != s]
    return torch.stack(losses).mean()


def masked_patches(guess: Tensor, patches: Tensor, hidden: Tensor) -> Tensor:
    """Compare hidden patches at mean 0 and deviation 1 each (arXiv:2111.06377, section 4.1).

    Args:
        guess: (B, L, P), of P values a patch.
        patches: The true ones, (B, L, P).
        hidden: Which patches count, (B, L) of bool.
    """
    mean, var = patches.mean(-1, keepdim=True), patches.var(-1, keepdim=True)
    wanted = (patches - mean) / (var + 1e-6).sqrt()
    return (guess - wanted).square().mean(-1)[hidden].mean()


def rebuilt_patches(guess: Tensor, patches: Tensor, counts: Tensor) -> Tensor:
    """Compare the values of patches that count, each window alike (arXiv:2211.14730, section 3.2).

    Where all values of hidden patches count, and as many patches of each window are hidden, this is
    the mean squared error over hidden patches.

    Args:
        guess: (B, L, P), of P values a patch.
        patches: The true ones, (B, L, P).
        counts: Which values count, (B, L, P) of bool.
    """
    squared = torch.where(counts, (guess - patches).square(), 0.0)
    return (squared.sum((1, 2)) / counts.sum((1, 2)).clamp_min(1)).mean()
