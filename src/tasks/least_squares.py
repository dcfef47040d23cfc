"""The objective of closed-form forecasters: sums over windows, and one solution at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..backbones.series_effects import EffectSums
from ..backbones.series_ridge import Choice, Moments, Ridge, Sum, choose, solve, with_products
from .objectives import Objective, Step

if TYPE_CHECKING:
    from torch import Tensor

    from ..data.series import SeriesData
    from ..specs import Batch
    from .task import Task


class LeastSquares(Objective):
    """Mean squared error, minimised exactly: steps add sums up, and no optimiser runs.

    What is learnt can be added to: windows that validated are learnt from afterwards by their sums,
    with the setting that they chose.

    Args:
        contexts: How much of the past may be used, in steps; validation chooses.
    """

    def __init__(self, contexts: tuple[int, ...]) -> None:
        super().__init__()
        self.contexts = contexts
        self.choice: Choice | None = None
        self.candidates: list[Choice] = []
        self.effects: Tensor | None = None  # of covariates that are known ahead, (Q,)
        self.learnt: Moments | None = None
        self.seen: Moments | None = None
        self._own: Moments | None = None  # of this run and this process, not reduced yet

    def begin(self, net: Ridge, *, goes_on: bool, data: SeriesData | None = None) -> None:
        """Start a run, from nothing or from what was learnt before.

        Args:
            net: What is solved.
            goes_on: Whether windows are added to those of the run before.
            data: Whose covariates have effects, which come first: windows are added up without
                them. None where they are not known as a whole.
        """
        if not goes_on:
            self.choice, self.learnt = None, None
            self.effects = None if data is None else effects_of(net, data)
        self._own, self.seen = self._moments(net), None

    def _moments(self, net: Ridge) -> Moments:
        return Moments(
            net.input_spec.context_steps + net.horizon_steps,
            num_beside=net.num_beside,
            effects=self.effects is not None,
        )

    def add(self, net: Ridge, batch: Batch) -> None:
        """Add training windows up."""
        if self._own is None:
            raise RuntimeError("Windows are added between begin() and end().")
        self._add(self._own, net, batch)

    def see(self, net: Ridge, batch: Batch) -> None:
        """Add validation windows up, but those that are not whole."""
        whole = batch["observed"].all(1) & (batch["history"] >= net.needs_steps)
        if self.seen is None:
            self.seen = self._moments(net)
        names = (*net.inputs, "target")
        self._add(self.seen, net, {name: batch[name][whole] for name in names})

    def _add(self, moments: Moments, net: Ridge, batch: Batch) -> None:
        changes = None
        if self.effects is not None:
            changes = net.regressors(batch) @ self.effects.to(batch["past"])
        beside = net.known_beside(batch) if net.num_beside else None
        moments.add(batch["past"], batch["target"], beside=beside, changes=changes)

    def end(self, net: Ridge, total: Sum) -> float | None:
        """Solve: with the setting that validation chooses, or that it chose before.

        Returns:
            The mean squared error of validation, in units of each series' variance; None without.
        """
        if self._own is not None:
            self._own.reduce(total)
            self.learnt = self._own if self.learnt is None else self.learnt.plus(self._own)
            self._own = None
        if self.learnt is None:
            raise RuntimeError("A run is ended that never began.")
        context, error = net.input_spec.context_steps, None
        if self.seen is not None:
            self.seen.reduce(total)
            found = choose(self.learnt, self.seen, contexts=self.contexts, context=context)
            self.candidates = [choice for choice, _ in found]
            self.choice, error = min(found[::2], key=lambda pair: pair[1])
        self.take(net, self.choice or Choice(context, "last", "series", 0.1))
        return error

    def take(self, net: Ridge, choice: Choice) -> None:
        """Solve with a setting, and go on with it."""
        if self.learnt is None:
            raise RuntimeError("There is nothing to solve before a run has ended.")
        self.choice = choice
        context = net.input_spec.context_steps
        solution = solve(self.learnt, choice, context=context)
        with torch.no_grad():
            net.weight.copy_(solution[:, :context])
            if net.num_beside:
                net.beside.copy_(solution[:, context:])
            if net.input_spec.future:
                net.effects.zero_()
            if choice.effects and self.effects is not None:
                net.effects.copy_(self.effects)

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare the forecasts of a batch with what happened."""
        return _squared_error(task, batch)


class Nothing(Objective):
    """What methods without anything to learn are asked: only how far off they are."""

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare the forecasts of a batch with what happened."""
        return _squared_error(task, batch)


def effects_of(net: Ridge, data: SeriesData) -> Tensor | None:
    """Learn what covariates that are known ahead change, from the training part of all series.

    Returns:
        (Q,), in the scale of windows; None where there are no such covariates, or too few steps.
    """
    spec, table = net.input_spec, data.table
    if not spec.future or table.covariates is None:
        return None
    future = torch.from_numpy(table.covariates.scaled("future", spec.future))
    static = torch.from_numpy(table.covariates.scaled("static", spec.static))
    sums = EffectSums(len(net.effects), season=net.season)
    for number, length in enumerate(data.learnt.tolist()):
        own = slice(table.offsets[number], table.offsets[number] + length)
        start = table.covariates.offsets[number]
        known = future[None, start : start + length]
        whole = static[number : number + 1] if spec.static else None
        values = (table.values[own] - data.scale.center[number]) / data.scale.spread[number]
        sums.add(
            torch.from_numpy(values),
            with_products(known, whole)[0].double(),
            torch.from_numpy(table.observed[own]),
        )
    return sums.solve()


def _squared_error(task: Task, batch: Batch) -> Step:
    """Average over steps that were observed, of windows with as much past as the net needs."""
    output = task(batch)
    long = batch["history"] >= max(1, int(getattr(task.input_spec, "context_steps", 1)))
    counts = batch["observed"] & long[:, None]
    errors = torch.where(counts, (output - batch["target"]).square(), 0.0)
    return Step(errors.sum() / counts.sum().clamp(min=1), output)
