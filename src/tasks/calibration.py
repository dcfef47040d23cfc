"""Calibration: probabilities that are as sure as they are right, and sets that hold what they say.

Both are learnt from the validation part after training, and are a handful of numbers in the saved
task.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import InvalidValueError, check_number
from .evaluation import calibration_error
from .multi_label import binary_losses
from .multi_label_results import label_calibration_error

_log = logging.getLogger("mealkit")

MAX_SCORES = 1_000
"""Conformal scores that a task keeps; of more, as many in even steps. A coverage is at most so much
(a thousandth) higher than asked, and never lower."""


@dataclass(frozen=True)
class Calibration:
    """What calibration did to the probabilities of the validation part.

    Args:
        temperature: The logits are divided by it from now on; above 1 makes a task less sure.
        num_inputs: Validation inputs it was fitted on.
        ece_before: Expected calibration error at temperature 1.
        ece: The same at the new one.
        loss_before: Mean negative log-likelihood at temperature 1, of the classes by themselves
            where inputs have any number of them.
        loss: The same at the new one.
    """

    temperature: float
    num_inputs: int
    ece_before: float
    ece: float
    loss_before: float
    loss: float


@dataclass(frozen=True)
class Conformal:
    """How strange the true class looked on inputs that the task was not trained on.

    The score of an input is 1 minus the probability of its true class: the least ambiguous sets of
    Sadinle et al. 2019 (arXiv:1609.00451), split conformal prediction. A set holds every class
    whose score is at most the quantile of these scores that the coverage asks for; on inputs drawn
    as the validation part was, it holds the true class at least that often.

    Args:
        scores: In rising order; all of them, or `MAX_SCORES` in even steps.
        num_inputs: How many there were.
    """

    scores: tuple[float, ...]
    num_inputs: int

    @classmethod
    def of(cls, probabilities: Tensor, targets: Tensor) -> Conformal:
        """Score inputs (N, K) by their true classes (N,)."""
        scores, _ = (1 - probabilities.gather(1, targets[:, None])).flatten().sort()
        num = len(scores)
        size = min(num, MAX_SCORES)
        ranks = [_kept_rank(place, num, size) for place in range(1, size + 1)]
        return cls(tuple(float(scores[rank - 1]) for rank in ranks), num)

    def highest_score(self, coverage: float) -> float:
        """Answer with the score up to which classes belong to a set of that coverage.

        Raises:
            InvalidValueError: The coverage is outside (0, 1), or too high for so few inputs.
        """
        check_number("coverage", coverage, "(0, 1)", what="a share")
        # One more than there are, for the input to come; rounded, or 0.9 x 10 could exceed 9.
        rank = math.ceil(round((self.num_inputs + 1) * coverage, 9))
        if rank > self.num_inputs:
            raise InvalidValueError(
                f"coverage={coverage}: {self.num_inputs:,} validation inputs can promise at most "
                f"{self.num_inputs / (self.num_inputs + 1):.4g}. Ask for less, or calibrate on "
                "more inputs."
            )
        size = len(self.scores)
        place = next(
            number
            for number in range(1, size + 1)
            if _kept_rank(number, self.num_inputs, size) >= rank
        )
        return self.scores[place - 1]


def _kept_rank(place: int, num: int, size: int) -> int:
    """Answer with the rank among ``num`` scores, from 1, of the kept score at a place, from 1."""
    return place * num // size


def fit_temperature(logits: Tensor, targets: Tensor) -> float:
    """Find the temperature with the lowest negative log-likelihood (Guo et al. 2017).

    arXiv:1706.04599, section 4.2. The logarithm of the temperature is fitted, so that it stays
    positive. Where every input is right, ever lower temperatures fit ever better: then it stays 1.

    Args:
        logits: Of inputs that were not trained on, (N, K).
        targets: Their true classes, (N,), or 0 and 1 for each class, (N, K): then one temperature
            serves all classes, each by itself.

    Raises:
        InvalidValueError: The logits are not finite.
    """
    logits = logits.float()
    if not bool(logits.isfinite().all()):
        raise InvalidValueError(
            "The task answers with numbers that are not finite, so it cannot be calibrated: its "
            "training diverged. Train it again with a lower lr=."
        )
    if bool(_right(logits, targets).all()):
        _log.warning(
            f"All {len(targets):,} validation inputs are right, so no temperature is best: it "
            "stays 1. More or harder validation inputs would tell."
        )
        return 1.0
    log_temperature = torch.zeros((), requires_grad=True)
    solver = torch.optim.LBFGS([log_temperature], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        loss = _loss(logits / log_temperature.exp(), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    return float(log_temperature.detach().exp())


def compare(logits: Tensor, targets: Tensor, temperature: float) -> Calibration:
    """Say what a temperature does to the probabilities of logits (N, K)."""
    before, after = _scores(logits, targets, 1.0), _scores(logits, targets, temperature)
    return Calibration(temperature, len(targets), before[0], after[0], before[1], after[1])


def _scores(logits: Tensor, targets: Tensor, temperature: float) -> Sequence[float]:
    scaled = logits.float() / temperature
    if targets.ndim == 2:
        ece = label_calibration_error(scaled.sigmoid().numpy(), targets.numpy())
    else:
        ece = calibration_error(scaled.softmax(1).numpy(), targets.numpy())
    return ece, float(_loss(scaled, targets))


def _right(logits: Tensor, targets: Tensor) -> Tensor:
    return (logits > 0) == (targets == 1) if targets.ndim == 2 else logits.argmax(1) == targets


def _loss(logits: Tensor, targets: Tensor) -> Tensor:
    if targets.ndim == 2:
        return binary_losses(logits, targets).mean()
    return functional.cross_entropy(logits, targets)
