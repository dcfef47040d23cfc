"""The objective of closed-form forecasters: sums over windows, and one solution at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..backbones.series_ridge import Choice, Moments, Ridge, Sum, choose, solve
from .objectives import Objective, Step

if TYPE_CHECKING:
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
        self.learnt: Moments | None = None
        self.seen: Moments | None = None
        self._own: Moments | None = None  # of this run and this process, not reduced yet

    def begin(self, net: Ridge, *, goes_on: bool) -> None:
        """Start a run, from nothing or from what was learnt before."""
        self._own = Moments(net.input_spec.context_steps + net.horizon_steps)
        self.seen = None
        if not goes_on:
            self.choice, self.learnt = None, None

    def add(self, batch: Batch) -> None:
        """Add training windows up."""
        if self._own is None:
            raise RuntimeError("Windows are added between begin() and end().")
        self._own.add(batch["past"], batch["target"])

    def see(self, net: Ridge, batch: Batch) -> None:
        """Add validation windows up, but those that are not whole."""
        whole = batch["observed"].all(1) & (batch["history"] >= net.needs_steps)
        if self.seen is None:
            self.seen = Moments(net.input_spec.context_steps + net.horizon_steps)
        self.seen.add(batch["past"][whole], batch["target"][whole])

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
            self.choice, error = found[0]
        self.take(net, self.choice or Choice(context, "last", "series", 0.1))
        return error

    def take(self, net: Ridge, choice: Choice) -> None:
        """Solve with a setting, and go on with it."""
        if self.learnt is None:
            raise RuntimeError("There is nothing to solve before a run has ended.")
        self.choice = choice
        with torch.no_grad():
            net.weight.copy_(solve(self.learnt, choice, context=net.input_spec.context_steps))

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare the forecasts of a batch with what happened."""
        return _squared_error(task, batch)


class Nothing(Objective):
    """What methods without anything to learn are asked: only how far off they are."""

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare the forecasts of a batch with what happened."""
        return _squared_error(task, batch)


def _squared_error(task: Task, batch: Batch) -> Step:
    """Average over steps that were observed, of windows with as much past as the net needs."""
    output = task(batch)
    long = batch["history"] >= max(1, int(getattr(task.input_spec, "context_steps", 1)))
    counts = batch["observed"] & long[:, None]
    errors = torch.where(counts, (output - batch["target"]).square(), 0.0)
    return Step(errors.sum() / counts.sum().clamp(min=1), output)
