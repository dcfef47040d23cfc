"""What every backbone for series is: it answers with a forecast, and has no head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..specs import SeriesSpec
from .base import Backbone, Block


class SeriesBackbone(Backbone):
    """Turn what is known of series into a forecast of their next steps.

    Channels are series of their own: a net sees one at a time. It needs no head, and intervals come
    from what its forecasts miss on validation windows.

    Args:
        input_spec: How much of a series it wants to see.
        config: Plain values from which it is made again; with ``name`` and ``season``.
    """

    input_spec: SeriesSpec

    solved: ClassVar[bool] = False
    """Whether it is fitted in closed form."""

    trained: ClassVar[bool] = False
    """Whether it is trained step by step; one that is neither has nothing to fit."""

    covariates: ClassVar[tuple[str, ...]] = ()
    """What it can use beside the series itself: none of those here uses anything."""

    splits: ClassVar[bool] = False
    """Whether `parts` says what its forecasts are made of."""

    def __init__(
        self,
        *,
        input_spec: SeriesSpec,
        config: Mapping[str, Any],  # Any: plain JSON values
    ) -> None:
        super().__init__(input_spec=input_spec, num_features=1, config=config, pretrained=False)
        self.horizon_steps = input_spec.horizon_steps
        self.season = int(config["season"])
        if not input_spec.context_steps:
            self.inputs = ("past", "history")
        else:
            self.inputs = ("past",)

    @property
    def name(self) -> str:
        """Under which the registry knows it; of a user's module, its class."""
        return str(self.config["name"] or self.config["module"].rpartition(".")[2])

    @property
    def needs_steps(self) -> int:
        """Steps that must precede a forecast; with fewer, a simpler method answers."""
        return max(1, self.input_spec.context_steps)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Forecast as many steps as it was built for.

        Args:
            tensors: The batch entries of `inputs`: ``past`` (B, L), and for methods that take all
                there is ``history`` (B,): how many of its last columns are values.

        Returns:
            In the scale of ``past``, (B, horizon_steps).
        """
        return self.forecast(*tensors, horizon=self.horizon_steps)

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast any number of steps, (B, horizon)."""
        raise NotImplementedError

    def parts(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Take a forecast apart: summands by name, (B, horizon_steps) each, where it `splits`.

        Args:
            tensors: The batch entries of `inputs`. What ``past`` is relative to belongs to the
                first of the summands.
        """
        raise NotImplementedError

    @property
    def default_lr(self) -> float:
        """Peak learning rate where nobody gives one, for those that are trained."""
        return 1e-3

    def losses(self, *tensors: Tensor, target: Tensor) -> Tensor:
        """Answer with the loss of each step of windows, (B, horizon_steps); mean squared here.

        Args:
            tensors: The batch entries of `inputs`.
            target: What followed, in the scale of ``past``.
        """
        forecasts: Tensor = self(*tensors)
        return (forecasts - target).square()

    @property
    def blocks(self) -> list[Block]:
        """What is trained step by step, from the input side on.

        Parameters that no block names belong to the head, which trains in every strategy.
        """
        return []


def roll_out(net: SeriesBackbone, past: Tensor, horizon: int, *others: Tensor) -> Tensor:
    """Forecast further than a net was built for: its own forecasts become what it sees.

    Args:
        net: Takes ``past`` and what does not change with the steps.
        past: (B, L).
        horizon: How many steps are wanted.
        others: What it takes beside ``past``.
    """
    context = past.shape[1]
    seen, answers = past, []
    for _ in range(-(-horizon // net.horizon_steps)):
        answers.append(net(seen[:, -context:], *others))
        seen = torch.cat([seen, answers[-1]], dim=1)
    return torch.cat(answers, dim=1)[:, :horizon]
