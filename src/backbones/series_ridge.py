"""Ridge: one linear map from the past of a window to its future, solved and not trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..specs import SeriesSpec
from .series_base import SeriesBackbone, roll_out
from .series_parts import split

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidates, as shares of the mean variance of the inputs."""

Sum = Callable[[Tensor], Tensor]
"""Adds a tensor up over processes."""


class Ridge(SeriesBackbone):
    """Linear regression of all future steps on all past ones, with one matrix for all series.

    Each window is taken relative to its last value, or to its mean, as NLinear does
    (arXiv:2205.13504), and the penalty keeps the matrix small (Hoerl and Kennard 1970). Both come
    down to ``last + weight @ (past - last)``, so that is all that is kept. On ETTh1 and ETTh2 this
    is on a par with the published transformers, see the page on forecasting.

    Args:
        input_spec: How much of a series it sees.
        config: Plain values from which it is made again.
    """

    solved: ClassVar[bool] = True
    splits: ClassVar[bool] = True

    def __init__(
        self,
        *,
        input_spec: SeriesSpec,
        config: Mapping[str, Any],  # Any: plain JSON values
    ) -> None:
        super().__init__(input_spec=input_spec, config=config)
        shape = (input_spec.horizon_steps, input_spec.context_steps)
        self.weight = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast, (B, horizon); further than it was solved for by going on from itself."""
        if horizon > self.horizon_steps:
            return roll_out(self, tensors, horizon)
        (past,) = tensors
        last = past[:, -1:]
        return last + (past - last) @ self.weight[:horizon].T

    def parts(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Forecast trend, season and rest of the past: the map is linear, so they add up."""
        (past,) = tensors
        return {name: self(part) for name, part in split(past, self.season).items()}


class Moments:
    """Sums of products of all steps of windows with all others: all that ridge needs of data.

    Windows count twice over, in two sums: as they come, and each divided by its own spread, so that
    restless times do not outweigh the quiet ones.
    """

    def __init__(self, num_steps: int) -> None:
        zeros = torch.zeros(num_steps, num_steps, dtype=torch.float64)
        self.sums = {"series": zeros, "window": zeros.clone()}
        self.counts = {"series": 0.0, "window": 0.0}

    def add(self, past: Tensor, target: Tensor) -> None:
        """Add windows up.

        Args:
            past: (B, L).
            target: (B, horizon).
        """
        windows = torch.cat([past, target], dim=1) - past[:, -1:]
        # A constant window, and a single value, says nothing about its scale.
        spread = past.std(1, keepdim=True) if past.shape[1] > 1 else torch.zeros_like(past)
        restless = spread > 1e-6
        scaled = torch.where(restless, windows / spread.clamp(min=1e-6), 0.0)
        for name, part in (("series", windows), ("window", scaled)):
            self.sums[name] += (part.T @ part).cpu().double()
        self.counts["series"] += len(windows)
        self.counts["window"] += float(restless.sum())

    def reduce(self, total: Sum) -> None:
        """Add up over the processes of a run."""
        for name, value in self.sums.items():
            self.sums[name] = total(value)
            self.counts[name] = float(total(torch.tensor(self.counts[name], dtype=torch.float64)))

    def plus(self, other: Moments) -> Moments:
        """Answer with what both have seen."""
        both = Moments(len(self.sums["series"]))
        for name in both.sums:
            both.sums[name] = self.sums[name] + other.sums[name]
            both.counts[name] = self.counts[name] + other.counts[name]
        return both


@dataclass(frozen=True)
class Choice:
    """What is chosen by validation.

    Args:
        context_steps: How much of the past is used.
        relative_to: ``"last"`` value or ``"mean"`` of the past.
        windows: Which sum counts: ``"series"`` or ``"window"``.
        penalty: Share of the mean variance of the inputs.
    """

    context_steps: int
    relative_to: str
    windows: str
    penalty: float

    def __str__(self) -> str:
        """Answer in words."""
        each = "each divided by its spread" if self.windows == "window" else "as they are"
        return (
            f"{self.context_steps} steps of context, windows relative to their {self.relative_to} "
            f"and {each}, penalty {self.penalty:g}"
        )


def contexts_of(context: int, season: int) -> tuple[int, ...]:
    """List the contexts to choose from: all, a half and a quarter, of a season at least."""
    return tuple(
        dict.fromkeys(max(1, min(context, max(season, context // part))) for part in (1, 2, 4))
    )


def choose(
    learnt: Moments, seen: Moments, *, contexts: Sequence[int], context: int
) -> list[tuple[Choice, float]]:
    """Choose what forecasts the validation windows best, by mean squared error.

    Args:
        learnt: Of the training windows.
        seen: Of the validation windows; the error is a quadratic form of these sums.
        contexts: How much of the past may be used.
        context: How much of it the sums hold.

    Returns:
        Two choices with their errors: the best for windows as they come, and the best for windows
        divided by their spread, each solved for by the sums of that sort.
    """
    answers = []
    for name, product in seen.sums.items():
        xx, xy = product[:context, :context], product[:context, context:]
        yy = float(product[context:, context:].diagonal().sum())
        number = max(1.0, seen.counts[name]) * (product.shape[0] - context)
        best: tuple[Choice, float] | None = None
        for choice, weight in _solutions(learnt, contexts, context, sums=(name,)):
            error = yy - 2 * float((weight * xy.T).sum()) + float(((weight @ xx) * weight).sum())
            if best is None or error / number < best[1]:
                best = choice, error / number
        answers += [best] if best is not None else []
    return answers


def solve(moments: Moments, choice: Choice, *, context: int) -> Tensor:
    """Answer with the matrix of a choice, (horizon, L)."""
    only = (choice.relative_to,), (choice.windows,), (choice.penalty,)
    return next(_solutions(moments, (choice.context_steps,), context, *only))[1]


def _solutions(
    moments: Moments,
    contexts: Sequence[int],
    context: int,
    relatives: Sequence[str] = ("last", "mean"),
    sums: Sequence[str] = ("series", "window"),
    penalties: Sequence[float] = PENALTIES,
) -> Iterator[tuple[Choice, Tensor]]:
    """Solve for every combination; one decomposition serves all penalties."""
    for name in sums:
        for steps in contexts:
            product = moments.sums[name][context - steps :, context - steps :]
            product = product / max(1.0, moments.counts[name])
            for relative_to in relatives:
                centred = _relative_to_mean(product, steps) if relative_to == "mean" else product
                values, vectors = torch.linalg.eigh(centred[:steps, :steps])
                rotated = vectors.T @ centred[:steps, steps:]
                size = max(float(values.clamp(min=0).mean()), 1e-12)
                for penalty in penalties:
                    shrunk = rotated / (values.clamp(min=0) + penalty * size)[:, None]
                    weight = (vectors @ shrunk).T
                    if relative_to == "mean":
                        # mean + w (past - mean), written relative to the last value
                        weight = weight + (1 - weight.sum(1, keepdim=True)) / steps
                    full = torch.zeros(len(weight), context, dtype=weight.dtype)
                    full[:, context - steps :] = weight
                    yield Choice(steps, relative_to, name, penalty), full


def _relative_to_mean(product: Tensor, steps: int) -> Tensor:
    """Turn products of windows into those of windows minus the mean of their first steps."""
    mean = torch.zeros(len(product), dtype=product.dtype)
    mean[:steps] = 1 / steps
    with_mean = product @ mean
    power = mean @ with_mean
    return product - with_mean[None, :] - with_mean[:, None] + power
