"""Every loss equals a reference in float64 that was written from its paper, and lightly's."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from mealkit.tasks import pretext_losses as losses

B, D, Q, K = 12, 7, 20, 9


def rows(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(row: Tensor) -> Tensor:
    return row / row.square().sum().sqrt()


FIRST, SECOND = rows(0, B, D), rows(1, B, D)


# The references loop over inputs and dimensions, as the papers' formulas do.


def reference_nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    views = [unit(row) for row in [*first, *second]]
    total = torch.zeros((), dtype=torch.float64)
    for i, own in enumerate(views):
        j = (i + len(first)) % len(views)
        scores = [torch.exp(own @ other / temperature) for other in views]
        rest = sum(score for k, score in enumerate(scores) if k != i)
        total -= torch.log(scores[j] / rest)
    return total / len(views)


def reference_info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for one, two in zip(query, key, strict=True):
        own = torch.exp(unit(one) @ unit(two) / temperature)
        others = sum(torch.exp(unit(one) @ old / temperature) for old in queue)
        total -= torch.log(own / (own + others))
    return total / len(query)


def reference_byol(prediction: Tensor, target: Tensor) -> Tensor:
    pairs = zip(prediction, target, strict=True)
    return torch.stack([(unit(p) - unit(t)).square().sum() for p, t in pairs]).mean()


def reference_barlow(first: Tensor, second: Tensor, weight: float) -> Tensor:
    one, two = first - first.mean(0), second - second.mean(0)
    total = torch.zeros((), dtype=torch.float64)
    for i in range(D):
        for j in range(D):
            norms = (one[:, i].square().mean() * two[:, j].square().mean()).sqrt()
            c = (one[:, i] * two[:, j]).mean() / norms
            total += (1 - c) ** 2 if i == j else weight * c**2
    return total


def reference_vicreg(first: Tensor, second: Tensor) -> Tensor:
    distance = (first - second).square().sum() / (B * D)
    total = 25 * distance
    for z in (first, second):
        spread = sum(max(0.0, 1 - math.sqrt(float(z[:, j].var()) + 1e-4)) for j in range(D)) / D
        covariance = torch.cov(z.T)
        off = sum(covariance[i, j] ** 2 for i in range(D) for j in range(D) if i != j) / D
        total = total + 25 * spread / 2 + off
    return total


def reference_dino(student: list[Tensor], teacher: list[Tensor], centre: Tensor) -> Tensor:
    terms = []
    for t, wanted in enumerate(teacher):
        for s, said in enumerate(student):
            if s == t:
                continue
            for row, answer in zip(wanted, said, strict=True):
                scores = torch.exp((row - centre) / 0.04)
                logits = torch.exp(answer / 0.1)
                terms.append(-(scores / scores.sum() * torch.log(logits / logits.sum())).sum())
    return torch.stack(terms).mean()


def reference_masked(guess: Tensor, patches: Tensor, hidden: Tensor) -> Tensor:
    terms = []
    for b, row in (hidden.nonzero()).tolist():
        patch = patches[b, row]
        wanted = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
        terms.append((guess[b, row] - wanted).square().mean())
    return torch.stack(terms).mean()


QUEUE = torch.stack([unit(row) for row in rows(2, Q, D)])
STUDENT = [rows(seed, B, K) for seed in (3, 4, 5, 6)]
TEACHER = [rows(seed, B, K) * 0.1 for seed in (7, 8)]
CENTRE = rows(9, K) * 0.1


def reference_rebuilt(guess: Tensor, patches: Tensor, counts: Tensor) -> Tensor:
    each = []
    for b in range(len(guess)):
        places = counts[b].nonzero().tolist()
        errors = [(guess[b, row, step] - patches[b, row, step]).square() for row, step in places]
        each.append(torch.stack(errors).mean() if errors else guess.new_zeros(()))
    return torch.stack(each).mean()


PATCHES, GUESS = rows(10, 3, 5, 8), rows(11, 3, 5, 8)
HIDDEN = torch.tensor([[1, 0, 1, 0, 1], [0, 0, 1, 1, 1], [1, 1, 1, 0, 0]]).bool()
COUNTS = HIDDEN[..., None] & (rows(12, 3, 5, 8) > -0.5)
COUNTS[2] = False  # a window of which nothing was observed

CASES = {
    "nt_xent": (
        lambda a, b: losses.nt_xent(a, b, temperature=0.2),
        lambda a, b: reference_nt_xent(a, b, 0.2),
        (FIRST, SECOND),
    ),
    "info_nce": (
        lambda q, k, queue: losses.info_nce(q, k, queue, temperature=0.2),
        lambda q, k, queue: reference_info_nce(q, k, queue, 0.2),
        (FIRST, SECOND, QUEUE),
    ),
    "byol": (losses.byol, reference_byol, (FIRST, SECOND)),
    "negative_cosine": (
        losses.negative_cosine,
        lambda p, t: reference_byol(p, t) / 2 - 1,
        (FIRST, SECOND),
    ),
    "barlow_twins": (
        lambda a, b: losses.barlow_twins(a, b, off_diagonal=5e-3),
        lambda a, b: reference_barlow(a, b, 5e-3),
        (FIRST, SECOND),
    ),
    "vicreg": (
        lambda a, b: losses.vicreg(a, b, invariance=25, variance=25, covariance=1),
        reference_vicreg,
        (FIRST * 0.3, SECOND * 0.3),
    ),
    "dino": (
        lambda *given: losses.dino(
            given[:4], given[4:6], given[6], student_temperature=0.1, teacher_temperature=0.04
        ),
        lambda *given: reference_dino(list(given[:4]), list(given[4:6]), given[6]),
        (*STUDENT, *TEACHER, CENTRE),
    ),
    "masked_patches": (
        lambda guess, patches: losses.masked_patches(guess, patches, HIDDEN),
        lambda guess, patches: reference_masked(guess, patches, HIDDEN),
        (GUESS, PATCHES),
    ),
    "rebuilt_patches": (
        lambda guess, patches: losses.rebuilt_patches(guess, patches, COUNTS),
        lambda guess, patches: reference_rebuilt(guess, patches, COUNTS),
        (GUESS, PATCHES),
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("name", CASES)
def test_loss_is_that_of_the_paper(name: str, dtype: torch.dtype) -> None:
    ours, reference, given = CASES[name]
    found = ours(*(value.to(dtype) for value in given))
    assert found.dtype == dtype
    assert float(found) == pytest.approx(float(reference(*given)), rel=2e-5, abs=1e-5)


def test_every_loss_is_here() -> None:
    public = [n for n, v in vars(losses).items() if not n.startswith("_") and callable(v)]
    own = {n for n in public if getattr(losses, n).__module__ == losses.__name__}
    assert own == set(CASES)


@pytest.mark.parametrize("name", ["byol", "negative_cosine", "dino"])
def test_targets_do_not_move(name: str) -> None:
    ours, _, given = CASES[name]
    values = [value.clone().requires_grad_() for value in given]
    ours(*values).backward()
    held = {"byol": [1], "negative_cosine": [1], "dino": [4, 5, 6]}[name]
    for place, value in enumerate(values):
        still = value.grad is None or not bool(value.grad.any())
        assert still is (place in held)


def lightly_losses() -> dict[str, Tensor]:
    lightly = pytest.importorskip("lightly.loss")
    first, second = FIRST.float(), SECOND.float()
    return {
        "nt_xent": lightly.NTXentLoss(temperature=0.2)(first, second),
        "negative_cosine": lightly.NegativeCosineSimilarity()(first, second),
        "barlow_twins": lightly.BarlowTwinsLoss(lambda_param=5e-3)(first, second),
        "vicreg": lightly.VICRegLoss()(first * 0.3, second * 0.3),
        "dino": lightly_dino(lightly),
        "info_nce": lightly_info_nce(lightly),
    }


def lightly_dino(lightly) -> Tensor:
    loss = lightly.DINOLoss(output_dim=K, teacher_temp=0.04, warmup_teacher_temp_epochs=0)
    loss.center.copy_(CENTRE.float().reshape(loss.center.shape))
    teacher, student = ([one.float() for one in views] for views in (TEACHER, STUDENT))
    return loss(teacher, student, teacher_temp=0.04)


def lightly_info_nce(lightly) -> Tensor:
    loss = lightly.NTXentLoss(temperature=0.2, memory_bank_size=(Q, D))
    loss.memory_bank.bank = QUEUE.float()
    loss.memory_bank.bank_ptr = torch.zeros(1, dtype=torch.int64)
    return loss(FIRST.float(), SECOND.float())


@pytest.mark.filterwarnings("ignore")
def test_losses_are_those_of_lightly() -> None:
    """Where lightly is installed: the second opinion on what the papers mean."""
    for name, theirs in lightly_losses().items():
        ours, _, given = CASES[name]
        found = float(ours(*(value.float() for value in given)))
        assert found == pytest.approx(float(theirs), rel=1e-5, abs=1e-5), name
