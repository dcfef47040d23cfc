"""Recurrent nets for series: DeepAR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import StudentT
from torch.nn import functional

from .series_net import WindowNet, WindowShape

State = tuple[Tensor, Tensor]


class DeepAR(WindowNet):
    """DeepAR (Salinas et al. 2020, arXiv:1704.04110): step by step, with a distribution of each.

    An LSTM sees the value before each step and the one a season before it, and answers with a
    Student-t distribution of the step, whose likelihood is maximised. The forecast goes on from its
    own means, so that it is always the same; `draw` goes on from values that are drawn, as the
    paper does. Sizes are the paper's.

    Args:
        shape: Of a window.
        width: Of the LSTM.
        num_layers: Of the LSTM.
        dropout: Share of numbers that are left out between the layers in training.
    """

    has_distribution: ClassVar[bool] = True
    lr: ClassVar[float] = 3e-3
    defaults: ClassVar[Mapping[str, object]] = {"width": 40, "num_layers": 2, "dropout": 0.1}

    def __init__(
        self, shape: WindowShape, *, width: int = 40, num_layers: int = 2, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.shape = shape
        # A season that the window does not hold twice cannot be looked back at from its steps.
        self.lag = shape.season if 1 < shape.season <= shape.context // 2 else 1
        self.cells = nn.LSTM(
            2, width, num_layers, batch_first=True, dropout=dropout if num_layers > 1 else 0.0
        )
        self.output = nn.Linear(width, 3)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)

    def surprise(self, past: Tensor, target: Tensor) -> Tensor:
        """Answer with the negative log-likelihood of each step, (B, horizon)."""
        states = self._read(torch.cat([past, target[:, :-1]], dim=1))[0]
        likelihood: Tensor = self._of(states[:, -target.shape[1] :]).log_prob(target)  # type: ignore[no-untyped-call]  # torch's
        return -likelihood

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context)."""
        return self._go_on(past, self.shape.horizon, None)

    def draw(self, past: Tensor, *, horizon: int, generator: torch.Generator) -> Tensor:
        """Draw one path for each window, (B, horizon)."""
        return self._go_on(past, horizon, generator)

    def _read(self, values: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """See values (B, T) from the lag on; answer with a state for each step behind them."""
        pairs = torch.stack(
            [values[:, self.lag - 1 :], values[:, : values.shape[1] - self.lag + 1]]
        )
        states, state = self.cells(pairs.movedim(0, 2), state)
        return states, state

    def _of(self, states: Tensor) -> StudentT:
        mean, spread, freedom = self.output(states).unbind(-1)
        # Untrained, the spread is the deviation of the window and the tails are nearly normal.
        return StudentT(
            2 + functional.softplus(freedom + 4),
            mean,
            functional.softplus(spread + 0.54) + 1e-4,
            validate_args=False,
        )

    def _go_on(self, past: Tensor, horizon: int, generator: torch.Generator | None) -> Tensor:
        seen = past
        states, state = self._read(past)
        for step in range(horizon):
            step_of = self._of(states[:, -1])
            value = step_of.loc if generator is None else _drawn(step_of, generator)
            seen = torch.cat([seen, value[:, None]], dim=1)
            if step < horizon - 1:
                states, state = self._read(seen[:, -self.lag :], state)
        return seen[:, past.shape[1] :]


def _drawn(of: StudentT, generator: torch.Generator) -> Tensor:
    """Draw from the distribution of each row, with a generator; torch's own sampling takes none."""
    normal = torch.randn(of.loc.shape, generator=generator, device=of.loc.device)
    # A chi-squared number is twice a gamma one, whose only sampler with a generator is in place.
    gamma = torch._standard_gamma(of.df / 2, generator=generator)
    value: Tensor = of.loc + of.scale * normal * (of.df / (2 * gamma)).sqrt()
    return value
