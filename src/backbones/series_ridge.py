"""Ridge: one linear map from the past of a window to its future, solved and not trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import product as product_of
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..specs import COVARIATES, CovariateKind, SeriesSpec
from .series_base import SeriesBackbone, roll_out
from .series_parts import split

_EACH = ("series", "window")

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
"""Candidates, as shares of the mean variance of the inputs."""

BESIDE_PENALTIES = (None, 1e-3, 1e-1, 1.0)
"""Candidates for covariates of the past and of whole series; None leaves these out."""

MOST_BESIDE = 256
"""Numbers that past covariates give at most: of the latest steps only, where there are many."""

Sum = Callable[[Tensor], Tensor]
"""Adds a tensor up over processes."""


class Ridge(SeriesBackbone):
    """Linear regression of all future steps on all past ones, with one matrix for all series.

    Each window is taken relative to its last value, or to its mean, as NLinear does
    (arXiv:2205.13504), and the penalty keeps the matrix small (Hoerl and Kennard 1970). Both come
    down to ``last + weight @ (past - last)``, so that is all that is kept. On ETTh1 and ETTh2 this
    is on a par with the published transformers, see the page on forecasting.

    Covariates that are known ahead are dynamic regression: their effects, and those of their
    products with the static ones, are taken off the past, and put onto the forecast of the rest.
    Past and static covariates are further inputs of the map, with a penalty of their own. Whether
    either is used is chosen by validation.

    Args:
        input_spec: How much of a series it sees, and which covariates.
        config: Plain values from which it is made again.
    """

    solved: ClassVar[bool] = True
    covariates: ClassVar[frozenset[CovariateKind]] = frozenset(COVARIATES)
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
        num_effects = len(input_spec.future) * (1 + len(input_spec.static))
        if num_effects:
            self.effects = nn.Parameter(torch.zeros(num_effects), requires_grad=False)
        self.lags = 0
        if input_spec.past:
            wanted = min(input_spec.context_steps, max(self.season, input_spec.horizon_steps))
            self.lags = max(1, min(wanted, MOST_BESIDE // len(input_spec.past)))
        self.num_beside = self.lags * len(input_spec.past) + len(input_spec.static)
        if self.num_beside:
            shape = (input_spec.horizon_steps, self.num_beside)
            self.beside = nn.Parameter(torch.zeros(shape), requires_grad=False)

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast, (B, horizon); further than it was solved for by going on from itself."""
        if horizon > self.horizon_steps:
            return roll_out(self, tensors, horizon)
        entries = self.named(tensors)
        base, known = self._apart(entries, horizon)
        return self._go_on(base)[:, :horizon] + known

    def _apart(self, entries: Mapping[str, Tensor], horizon: int) -> tuple[Tensor, Tensor]:
        """Answer with the past without effects, (B, L), and what covariates add, (B, horizon)."""
        past, context = entries["past"], self.input_spec.context_steps
        known = torch.zeros_like(past[:, :1]).expand(-1, horizon)
        if self.num_beside:
            known = known + self.known_beside(entries) @ self.beside[:horizon].to(past.dtype).T
        if not self.input_spec.future:
            return past, known
        changes = self.regressors(entries).to(past.dtype) @ self.effects.to(past.dtype)
        return past - changes[:, :context], known + changes[:, context : context + horizon]

    def _go_on(self, past: Tensor) -> Tensor:
        last = past[:, -1:]
        return last + (past - last) @ self.weight.T

    def parts(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Forecast trend, season and rest of the past: the map is linear, so they add up.

        What covariates add is a part of its own; the others are those of a past without it.
        """
        base, known = self._apart(self.named(tensors), self.horizon_steps)
        made = {name: self._go_on(part) for name, part in split(base, self.season).items()}
        return made | {"covariates": known} if self.input_spec.covariates else made

    def regressors(self, entries: Mapping[str, Tensor]) -> Tensor:
        """Answer with what has effects: future covariates, and their products with static ones.

        Returns:
            (B, steps, D (1 + S)).
        """
        return with_products(entries["future_covariates"], entries.get("static"))

    def known_beside(self, entries: Mapping[str, Tensor]) -> Tensor:
        """Answer with the further inputs of the map, (B, `num_beside`)."""
        parts = []
        if self.lags:
            parts.append(entries["past_covariates"][:, -self.lags :].flatten(1))
        if self.input_spec.static:
            parts.append(entries["static"])
        return torch.cat(parts, dim=1).to(entries["past"].dtype)


def with_products(covariates: Tensor, static: Tensor | None) -> Tensor:
    """Put the products of covariates (B, T, D) with static ones (B, S) beside them."""
    if static is None:
        return covariates
    products = covariates[..., None] * static[:, None, None, :]
    return torch.cat([covariates, products.flatten(2)], dim=2)


class Moments:
    """Sums of products of all steps of windows with all others: all that ridge needs of data.

    Windows count twice over, in two sums: as they come, and each divided by its own spread, so that
    restless times do not outweigh the quiet ones. Where covariates have effects, both sums are also
    taken of windows without these.

    Args:
        num_steps: Of a window, past and target.
        num_beside: Further inputs, which stand between past and target.
        effects: Whether windows without the effects of covariates are added up as well.
    """

    def __init__(self, num_steps: int, *, num_beside: int = 0, effects: bool = False) -> None:
        self.num_beside, self.effects = num_beside, effects
        size = num_steps + num_beside
        zeros = torch.zeros(size, size, dtype=torch.float64)
        names = [(each, taken) for taken in (False, True)[: 1 + effects] for each in _EACH]
        self.sums = {name: zeros.clone() for name in names}
        self.counts = dict.fromkeys(names, 0.0)

    def add(
        self,
        past: Tensor,
        target: Tensor,
        *,
        beside: Tensor | None = None,
        changes: Tensor | None = None,
    ) -> None:
        """Add windows up.

        Args:
            past: (B, L).
            target: (B, horizon).
            beside: Further inputs, (B, `num_beside`).
            changes: What the effects of covariates are in each step, (B, L + horizon).
        """
        windows = torch.cat([past, target], dim=1)
        self._add(windows, past.shape[1], beside, taken=False)
        if changes is not None and self.effects:
            self._add(windows - changes, past.shape[1], beside, taken=True)

    def _add(self, windows: Tensor, context: int, beside: Tensor | None, *, taken: bool) -> None:
        past = windows[:, :context]
        # A constant window, and a single value, says nothing about its scale.
        spread = past.std(1, keepdim=True) if context > 1 else torch.zeros_like(past)
        restless = spread > 1e-6
        windows = windows - past[:, -1:]
        if beside is not None:
            windows = torch.cat([windows[:, :context], beside, windows[:, context:]], dim=1)
        scaled = torch.where(restless, windows / spread.clamp(min=1e-6), 0.0)
        for each, part in zip(_EACH, (windows, scaled), strict=True):
            self.sums[each, taken] += (part.T @ part).cpu().double()
        self.counts["series", taken] += len(windows)
        self.counts["window", taken] += float(restless.sum())

    def reduce(self, total: Sum) -> None:
        """Add up over the processes of a run."""
        for name, value in self.sums.items():
            self.sums[name] = total(value)
            self.counts[name] = float(total(torch.tensor(self.counts[name], dtype=torch.float64)))

    def plus(self, other: Moments) -> Moments:
        """Answer with what both have seen."""
        both = deepcopy(self)
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
        effects: Whether the effects of covariates that are known ahead are taken off.
        beside: The same share for past and static covariates; None where they are left out.
    """

    context_steps: int
    relative_to: str
    windows: str
    penalty: float
    effects: bool = False
    beside: float | None = None

    def __str__(self) -> str:
        """Answer in words."""
        each = "each divided by its spread" if self.windows == "window" else "as they are"
        return (
            f"{self.context_steps} steps of context, windows relative to their {self.relative_to} "
            f"and {each}, penalty {self.penalty:g}"
            + (", with the effects of future covariates" if self.effects else "")
            + ("" if self.beside is None else f", covariates with penalty {self.beside:g}")
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
        Choices with their errors: the best for windows as they come, and the best for windows
        divided by their spread, each solved for by the sums of that sort; and both again for
        windows without the effects of covariates, where they have any.
    """
    answers = []
    inputs = context + seen.num_beside
    for name, product in seen.sums.items():
        xx, xy = product[:inputs, :inputs], product[:inputs, inputs:]
        yy = float(product[inputs:, inputs:].diagonal().sum())
        number = max(1.0, seen.counts[name]) * (product.shape[0] - inputs)
        best: tuple[Choice, float] | None = None
        for choice, weight in _solutions(learnt, contexts, context, sums=(name,)):
            error = yy - 2 * float((weight * xy.T).sum()) + float(((weight @ xx) * weight).sum())
            if best is None or error / number < best[1]:
                best = choice, error / number
        answers += [best] if best is not None else []
    return answers


def solve(moments: Moments, choice: Choice, *, context: int) -> Tensor:
    """Answer with the matrix of a choice, (horizon, L + further inputs)."""
    sums = ((choice.windows, choice.effects),)
    only = (choice.relative_to,), sums, (choice.penalty,), (choice.beside,)
    return next(_solutions(moments, (choice.context_steps,), context, *only))[1]


def _solutions(
    moments: Moments,
    contexts: Sequence[int],
    context: int,
    relatives: Sequence[str] = ("last", "mean"),
    sums: Sequence[tuple[str, bool]] = (),
    penalties: Sequence[float] = PENALTIES,
    beside: Sequence[float | None] = BESIDE_PENALTIES,
) -> Iterator[tuple[Choice, Tensor]]:
    """Solve for every combination; one decomposition serves all penalties."""
    further = moments.num_beside
    for name in sums:
        for steps in contexts:
            product = moments.sums[name][context - steps :, context - steps :]
            product = product / max(1.0, moments.counts[name])
            for relative_to in relatives:
                mean = relative_to == "mean"
                centred = _relative_to_mean(product, steps, further) if mean else product
                system = _System(centred, steps=steps, further=further)
                for penalty, own in product_of(penalties, beside if further else (None,)):
                    weight = system.solve(penalty, own)
                    if mean:
                        # mean + w (past - mean), written relative to the last value
                        weight[:, :steps] += (1 - weight[:, :steps].sum(1, keepdim=True)) / steps
                    full = torch.zeros(len(weight), context + further, dtype=weight.dtype)
                    full[:, context - steps :] = weight
                    yield Choice(steps, relative_to, name[0], penalty, name[1], own), full


class _System:
    """Normal equations of windows: of their past, further inputs and targets.

    Args:
        product: Sums of products, in that order.
        steps: Of the past.
        further: How many inputs there are beside it.
    """

    def __init__(self, product: Tensor, *, steps: int, further: int) -> None:
        self._steps, self._further, self._product = steps, further, product
        values, self._vectors = torch.linalg.eigh(product[:steps, :steps])
        self._values = values.clamp(min=0)
        self._rotated = self._vectors.T @ product[:steps, steps:]

    def solve(self, penalty: float, own: float | None) -> Tensor:
        """Answer with the matrix, (horizon, steps + further).

        Args:
            penalty: For the past.
            own: For the further inputs; None leaves them out.
        """
        steps, further = self._steps, self._further
        shrink = 1 / (self._values + penalty * max(float(self._values.mean()), 1e-12))
        cross, rotated = self._rotated[:, :further], self._rotated[:, further:]
        answer = torch.zeros(rotated.shape[1], steps + further, dtype=rotated.dtype)
        if further and own is not None:
            # The past is eliminated first, so that its decomposition serves here, too.
            held = shrink[:, None] * cross
            block = self._product[steps : steps + further, steps:]
            size = max(float(block[:, :further].diagonal().mean()), 1e-12)
            system = block[:, :further] - cross.T @ held
            system = system + own * size * torch.eye(further, dtype=system.dtype)
            found = torch.linalg.solve(system, block[:, further:] - held.T @ rotated)
            answer[:, steps:] = found.T
            rotated = rotated - cross @ found
        answer[:, :steps] = (self._vectors @ (shrink[:, None] * rotated)).T
        return answer


def _relative_to_mean(product: Tensor, steps: int, further: int) -> Tensor:
    """Turn products of windows into those of windows minus the mean of their first steps."""
    mean = torch.zeros(len(product), dtype=product.dtype)
    mean[:steps] = 1 / steps
    moved = torch.ones(len(product), dtype=product.dtype)
    moved[steps : steps + further] = 0  # further inputs stay as they are
    with_mean = product @ mean
    power = mean @ with_mean
    return (
        product
        - torch.outer(with_mean, moved)
        - torch.outer(moved, with_mean)
        + power * torch.outer(moved, moved)
    )
