"""How good forecasts are, as torchmetrics: window by window, scaled by each series' own past.

A window is one forecast of one series, H steps long. ``observed`` leaves steps out that were not in
the data; windows without any, and for scaled metrics windows whose past never changed, count for
nothing. torchmetrics' own pool all points, so that long series and large numbers decide.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""The quantiles that WQL and SQL are usually averaged over."""


class _MeanOfWindows(Metric):
    """The mean of one number per window."""

    full_state_update = False
    is_differentiable = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_state("total", zero, dist_reduce_fx="sum")
        self.add_state("count", zero.clone(), dist_reduce_fx="sum")

    def _add(self, scores: Tensor, observed: Tensor, scale: Tensor | None = None) -> None:
        """Average the steps of each window that were observed, divide, and add up."""
        steps = observed.sum(1)
        means = torch.where(observed, scores.double(), 0.0).sum(1) / steps.clamp(min=1)
        valid = steps > 0
        if scale is not None:
            valid = valid & torch.isfinite(scale) & (scale > 0)
            means = means / torch.where(valid, scale.double(), 1.0)
        self.total += means[valid].sum()
        self.count += valid.sum()

    def compute(self) -> Tensor:
        """Answer with the mean; NaN where no window counted."""
        return self.total / self.count


class MASE(_MeanOfWindows):
    """Mean absolute error over that of the seasonal naive method in the past.

    Hyndman and Koehler 2006, https://doi.org/10.1016/j.ijforecast.2006.03.001.

    Example:
        >>> metric = MASE()
        >>> forecast, target = torch.tensor([[2.0, 4.0]]), torch.tensor([[1.0, 2.0]])
        >>> metric.update(forecast, target, torch.tensor([3.0]))
        >>> float(metric.compute())
        0.5
    """

    def update(
        self, forecast: Tensor, target: Tensor, scale: Tensor, observed: Tensor | None = None
    ) -> None:
        """Add windows.

        Args:
            forecast: (B, H).
            target: (B, H).
            scale: Mean |x_t - x_(t - season)| of what precedes each window, (B,).
            observed: Which steps count, (B, H); None for all.
        """
        self._add((forecast - target).abs(), _mask(observed, target), scale)


class RMSSE(_MeanOfWindows):
    """Root of the mean squared error over that of the seasonal naive method in the past.

    As in the M5 competition, https://doi.org/10.1016/j.ijforecast.2021.11.013.
    """

    def update(
        self, forecast: Tensor, target: Tensor, scale: Tensor, observed: Tensor | None = None
    ) -> None:
        """Add windows; ``scale`` (B,) is the root of the mean squared seasonal difference."""
        mask = _mask(observed, target)
        steps = mask.sum(1)
        squares = torch.where(mask, (forecast - target).double().square(), 0.0)
        roots = (squares.sum(1) / steps.clamp(min=1)).sqrt()
        self._add(roots[:, None].expand_as(target), mask, scale)


class SMAPE(_MeanOfWindows):
    """Symmetric error in percent, 200 |y - f| / (|y| + |f|), as in M4; 0 where both are 0."""

    def update(self, forecast: Tensor, target: Tensor, observed: Tensor | None = None) -> None:
        """Add windows, each (B, H)."""
        size = (forecast.abs() + target.abs()).double()
        errors = 200 * (forecast - target).abs() / size.clamp(min=1e-300)
        self._add(errors, _mask(observed, target))


class SQL(_MeanOfWindows):
    """Twice the quantile loss over the error of the seasonal naive method in the past.

    The mean over quantiles, steps and windows, as in fev-bench (arXiv:2509.26468).

    Args:
        quantiles: Their probabilities, Q of them.
    """

    def __init__(self, quantiles: Sequence[float] = QUANTILES) -> None:
        super().__init__()
        self.quantiles = tuple(quantiles)

    def update(
        self, forecast: Tensor, target: Tensor, scale: Tensor, observed: Tensor | None = None
    ) -> None:
        """Add windows: ``forecast`` (B, H, Q), ``target`` (B, H), ``scale`` (B,) as in `MASE`."""
        losses = pinball(forecast, target, self.quantiles).mean(2)
        self._add(2 * losses, _mask(observed, target), scale)


class WQL(_MeanOfWindows):
    """Twice the quantile loss over the sum of the absolute values, the mean over quantiles.

    As of Chronos (arXiv:2403.07815): sums over all windows are divided, so large series decide.

    Args:
        quantiles: Their probabilities, Q of them.
    """

    def __init__(self, quantiles: Sequence[float] = QUANTILES) -> None:
        super().__init__()
        self.quantiles = tuple(quantiles)

    def update(self, forecast: Tensor, target: Tensor, observed: Tensor | None = None) -> None:
        """Add windows: ``forecast`` (B, H, Q), ``target`` (B, H)."""
        mask = _mask(observed, target)
        losses = 2 * pinball(forecast, target, self.quantiles).mean(2)
        self.total += losses[mask].double().sum()
        self.count += target[mask].abs().double().sum()


class CRPS(_MeanOfWindows):
    """Continuous ranked probability score: the absolute error of whole distributions.

    In the unit of the data: the integral of twice the quantile loss over all probabilities
    (Gneiting and Ranjan 2011, https://doi.org/10.1198/jbes.2010.08110). As is usual, the mean over
    some, evenly spaced, stands for it. Large series decide; divided by how much the past changes it
    is `SQL`.

    Args:
        quantiles: Their probabilities, Q of them.

    Example:
        >>> metric = CRPS([0.25, 0.5, 0.75])
        >>> metric.update(torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[2.0]]))
        >>> round(float(metric.compute()), 4)
        0.3333
    """

    def __init__(self, quantiles: Sequence[float] = QUANTILES) -> None:
        super().__init__()
        self.quantiles = tuple(quantiles)

    def update(self, forecast: Tensor, target: Tensor, observed: Tensor | None = None) -> None:
        """Add windows: ``forecast`` (B, H, Q), ``target`` (B, H)."""
        losses = pinball(forecast, target, self.quantiles).mean(2)
        self._add(2 * losses, _mask(observed, target))


class MSIS(_MeanOfWindows):
    """Mean scaled interval score, as in M4 (Gneiting and Raftery 2007): narrow, but not missed.

    Args:
        level: Of the interval, in percent.
    """

    def __init__(self, level: float = 95) -> None:
        super().__init__()
        self.level = level

    def update(
        self,
        low: Tensor,
        high: Tensor,
        target: Tensor,
        scale: Tensor,
        observed: Tensor | None = None,
    ) -> None:
        """Add windows, each (B, H), with ``scale`` (B,) as in `MASE`."""
        penalty = 2 / (1 - self.level / 100)
        below = (low - target).clamp(min=0)
        above = (target - high).clamp(min=0)
        self._add(high - low + penalty * (below + above), _mask(observed, target), scale)


class Coverage(_MeanOfWindows):
    """Share of the observed values that lie inside their interval."""

    def update(
        self, low: Tensor, high: Tensor, target: Tensor, observed: Tensor | None = None
    ) -> None:
        """Add windows, each (B, H)."""
        mask = _mask(observed, target)
        inside = (low <= target) & (target <= high)
        self.total += inside[mask].double().sum()
        self.count += mask.sum()


class OWA(Metric):
    """Overall weighted average of M4: the mean of sMAPE and MASE, each over that of Naive2."""

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.smape, self.smape_naive2 = SMAPE(), SMAPE()
        self.mase, self.mase_naive2 = MASE(), MASE()

    def update(self, forecast: Tensor, naive2: Tensor, target: Tensor, scale: Tensor) -> None:
        """Add windows, each (B, H), with ``scale`` (B,) as in `MASE`."""
        self.smape.update(forecast, target)
        self.smape_naive2.update(naive2, target)
        self.mase.update(forecast, target, scale)
        self.mase_naive2.update(naive2, target, scale)

    def compute(self) -> Tensor:
        """Answer with the mean of the two ratios of means."""
        smape = self.smape.compute() / self.smape_naive2.compute()
        mase = self.mase.compute() / self.mase_naive2.compute()
        answer: Tensor = (smape + mase) / 2
        return answer

    def reset(self) -> None:
        """Forget all windows."""
        super().reset()
        for part in (self.smape, self.smape_naive2, self.mase, self.mase_naive2):
            part.reset()


def pinball(forecast: Tensor, target: Tensor, quantiles: Sequence[float]) -> Tensor:
    """Answer with the quantile loss of each step and quantile, (B, H, Q)."""
    level = torch.tensor(quantiles, dtype=forecast.dtype, device=forecast.device)
    error = target[..., None] - forecast
    return torch.maximum(level * error, (level - 1) * error)


def _mask(observed: Tensor | None, target: Tensor) -> Tensor:
    return torch.ones_like(target, dtype=torch.bool) if observed is None else observed
