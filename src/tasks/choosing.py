"""Which model forecasts where none is named: candidates, and the best mix of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities.seed import isolate_rng

from ..backbones import create
from ..backbones.series import MOST_CONTEXT
from ..backbones.series_base import SeriesBackbone
from ..backbones.series_ensemble import Ensemble
from ..data.series import DRAWN_BATCH_SIZE, EPOCH_STEPS, SeriesData
from ..data.series_samples import SeriesSamples
from ..errors import DataError, InvalidValueError
from .forecasting import Array, Scales, actual, forecast
from .results import History

if TYPE_CHECKING:
    from .forecaster import Forecaster

_log = logging.getLogger("mealkit")

Quality = Literal["fast", "best"]
QUALITIES = ("fast", "best")

ROUNDS = 20
"""How often a member is added to an ensemble; weights are whole twentieths or coarser."""

LEAST_GAIN = 0.005
"""By which share a mix must lower the error of the best single model; else that one is simpler."""

NUM_PASSES = 50
"""How often the training windows are drawn at most, so that few series do not take as long as
many; not tuned."""


@dataclass(frozen=True)
class Candidate:
    """A model that is tried.

    Args:
        name: Of its backbone.
        label: What it is called in the line that says what was chosen.
        options: Of the backbone.
        contexts: How much of the past it sees, as a multiple of the usual.
        seed: Decides its first weights and its draws.
    """

    name: str
    label: str
    options: Mapping[str, Any] = field(default_factory=dict)  # Any: plain JSON values
    contexts: float = 1
    seed: int = 0


_SCALED = (
    ("resmlp", {"center": "mean", "spread": "deviation"}),
    ("resmlp by level", {"center": "mean", "spread": "level"}),
)
_RIDGE = Candidate("ridge", "ridge")

CANDIDATES: dict[str, tuple[Candidate, ...]] = {
    "fast": (
        _RIDGE,
        *(Candidate("resmlp", label, options) for label, options in _SCALED),
    ),
    "best": (
        _RIDGE,
        *(
            Candidate("resmlp", f"{label} x{contexts:g}", options, contexts, seed)
            for seed, contexts in enumerate((1, 0.5, 2))
            for label, options in _SCALED
        ),
    ),
}
"""What is tried at each quality, beside the naive methods."""


@dataclass(frozen=True)
class Tried:
    """A candidate that learnt from what precedes the validation windows.

    Args:
        label: What it is called.
        net: What it learnt.
        mean: Its forecasts of the validation windows, (W, H).
        history: Of its fit; empty where nothing is learnt.
        task: What goes on to learn from these windows; None where nothing is learnt.
    """

    label: str
    net: SeriesBackbone
    mean: Array
    history: History
    task: Forecaster | None = None


def check_quality(quality: str, backbone: object) -> None:
    """Refuse a quality that does not exist, or that a named backbone leaves nothing to decide.

    Raises:
        InvalidValueError: It does not, or it does.
    """
    if quality not in QUALITIES:
        raise InvalidValueError(f"quality={quality!r}: expected 'fast' or 'best'.")
    if backbone is not None and quality != "fast":
        raise InvalidValueError(
            f"quality={quality!r} beside backbone=: it says how long to look for a model, and one "
            "is named. Leave one of them out."
        )


def num_epochs(data: SeriesData, most: int) -> int:
    """Say for how many epochs a candidate is trained: fewer where there are few windows."""
    drawn = EPOCH_STEPS * (data.batch_size or DRAWN_BATCH_SIZE)
    return max(1, min(most, round(NUM_PASSES * len(data.train) / drawn)))


def try_candidates(
    task: Forecaster,
    data: SeriesData,
    batch_size: int | None,
    *,
    logger: Logger | None,
    first: Sequence[pl.Callback],
    callbacks: Sequence[pl.Callback],
) -> list[Tried]:
    """Fit every candidate to what precedes the validation windows.

    Args:
        task: What was asked; it stays as it is.
        data: With validation windows.
        batch_size: Of the sums of ridge.
        logger: Added to the Trainer of each.
        first: Added to the Trainer of the first one.
        callbacks: Added to the Trainer of each.
    """
    found = []
    for number, candidate in enumerate(CANDIDATES[task.quality]):
        one = _candidate(task, data, candidate)
        added = [*(first if number == 0 else ()), *callbacks]
        _log.info(f"Trying {candidate.label}.")
        try:
            mean, history = one.try_on(
                data, batch_size=batch_size, seed=candidate.seed, logger=logger, callbacks=added
            )
        except DataError:  # it sees more than the series have
            _log.info(f"The series are too short for {candidate.label}.")
            continue
        found.append(Tried(candidate.label, one.net, mean, history, one))
    return found


def _candidate(task: Forecaster, data: SeriesData, candidate: Candidate) -> Forecaster:
    net = task.net
    steps = net.input_spec.context_steps
    if task.context is None:
        most = max(1, min(2 * MOST_CONTEXT, (data.spec.length_steps or steps) // 2))
        steps = max(1, min(most, round(steps * candidate.contexts)))
    with isolate_rng():
        torch.manual_seed(candidate.seed)
        made = create(
            candidate.name,
            data.spec,
            preprocessing={"context_steps": steps},
            options=dict(candidate.options) or None,
        )
    if not isinstance(made, SeriesBackbone):
        raise InvalidValueError(f"Expected a backbone for series, got {made}.")
    return task.candidate(data, made)


def choose(tried: Sequence[Tried], samples: SeriesSamples, season: int) -> tuple[Array, str]:
    """Mix what was tried so that the MASE of validation windows is least.

    Greedy, with replacement (Caruana et al. 2004, https://doi.org/10.1145/1015330.1015432): what
    lowers the error of the mean most is added, again and again; the best of all stages counts.

    Returns:
        The weight of each, and a line about which are used and why.
    """
    target = actual(samples)
    observed = np.isfinite(target)
    scale = Scales.of(samples, season).absolute
    counts = observed.sum(1)
    valid = np.isfinite(scale) & (scale > 0) & (counts > 0)
    share = observed / np.where(valid, scale * counts, 1.0)[:, None] * valid[:, None]
    share = share / max(1, int(valid.sum()))
    target = np.where(observed, target, 0.0)

    def error(mean: Array) -> float:
        return float((share * np.abs(mean - target)).sum())

    alone = np.array([error(one.mean) for one in tried])
    weights = np.zeros(len(tried))
    total = np.zeros_like(target)
    best, kept = np.inf, weights
    for size in range(1, ROUNDS + 1):
        errors = [error((total + one.mean) / size) for one in tried]
        number = int(np.argmin(errors))
        weights = weights + (np.arange(len(tried)) == number)
        total = total + tried[number].mean
        needed = best * (1 - LEAST_GAIN) if (kept > 0).sum() == 1 else best
        if size == 1 or errors[number] < needed - 1e-12:
            best, kept = errors[number], weights
    kept = kept / kept.sum()
    words = [f"{one.label} {value:.3f}" for one, value in zip(tried, alone, strict=True)]
    if (kept > 0).sum() == 1:
        used = f"{tried[int(kept.argmax())].label} is used: no mix is better"
    else:
        order = [number for number in np.argsort(-kept) if kept[number] > 0]
        parts = ", ".join(f"{kept[number]:.2f} {tried[number].label}" for number in order)
        used = f"An ensemble is used: {parts}"
        words.insert(0, f"ensemble {best:.3f}")
    if not valid.any():
        used = f"{tried[int(kept.argmax())].label} is used"
        words = ["not defined"]
    return kept, f"{used}. MASE on {len(samples):,} validation windows: {', '.join(words)}."


def naive_methods(data: SeriesData, samples: SeriesSamples) -> list[Tried]:
    """Answer with the methods that have nothing to learn."""
    found = []
    for name in ("seasonal-naive", "naive"):
        net = create(name, data.spec)
        if not isinstance(net, SeriesBackbone):
            raise InvalidValueError(f"Expected a backbone for series, got {net}.")
        mean, _ = forecast(net, samples, horizon=data.spec.horizon_steps)
        found.append(Tried(name, net, mean, History([])))
        if data.spec.season == 1:
            break
    return found


def mixed(tried: Sequence[Tried], weights: Array, season: int) -> SeriesBackbone:
    """Answer with one backbone for what was chosen."""
    kept = [(one.net, float(weight)) for one, weight in zip(tried, weights, strict=True) if weight]
    if len(kept) == 1:
        return kept[0][0]
    nets, shares = zip(*kept, strict=True)
    return Ensemble(nets, weights=shares, season=season)
