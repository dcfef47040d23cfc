"""What covariates that are known ahead of time change at once, told apart from what goes on."""

from __future__ import annotations

import torch
from torch import Tensor

_PENALTY = 1e-3


def lags_of(season: int) -> tuple[int, ...]:
    """List the steps back that say how a series goes on: the last two, and a season ago."""
    return tuple(sorted({1, 2, season, season + 1}))


class EffectSums:
    """Sums for a regression of steps on what precedes them and on covariates of the same step.

    That is an autoregressive distributed-lag model: what a covariate changes is what it explains
    beyond the past of series and covariates, so neither a trend nor a season is taken for it.

    Args:
        num_covariates: Of each step, Q.
        season: Steps of the season.
    """

    def __init__(self, num_covariates: int, *, season: int) -> None:
        self.lags, self._wanted = lags_of(season), num_covariates
        size = num_covariates + len(self.lags) * (1 + num_covariates) + 1
        self.product = torch.zeros(size, size, dtype=torch.float64)
        self.target = torch.zeros(size, dtype=torch.float64)
        self.count = 0

    def add(self, values: Tensor, covariates: Tensor, observed: Tensor) -> None:
        """Add one series up.

        Args:
            values: (T,), in the scale that nets see.
            covariates: (T, Q), likewise.
            observed: Which of the values were observed; steps that need others are left out.
        """
        most, steps = max(self.lags), len(values)
        if steps <= most:
            return
        back = [slice(most - lag, steps - lag) for lag in self.lags]
        good = observed[most:].clone()
        for part in back:
            good &= observed[part]
        columns = [covariates[most:], *(covariates[part] for part in back)]
        columns += [values[part][:, None] for part in back]
        rows = torch.cat([*columns, torch.ones(steps - most, 1, dtype=values.dtype)], dim=1)[good]
        rows = rows.double()
        self.product += rows.T @ rows
        self.target += rows.T @ values[most:][good].double()
        self.count += len(rows)

    def solve(self) -> Tensor | None:
        """Answer with the effect of each covariate, (Q,); None where too few steps can tell."""
        if self.count < 2 * len(self.target):
            return None
        product = self.product / self.count
        # Each number by its own size, and 1e-12 for those that are always zero.
        system = product + torch.diag(_PENALTY * product.diagonal() + 1e-12)
        solution: Tensor = torch.linalg.solve(system, self.target / self.count)
        return solution[: self._wanted]
