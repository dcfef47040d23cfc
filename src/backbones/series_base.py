"""What every backbone for series is: it answers with a forecast, and has no head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import BackboneError
from ..specs import COVARIATES, CovariateKind, SeriesSpec
from .base import Backbone, Block

ENTRIES: Mapping[CovariateKind, str] = {
    "static": "static",
    "past": "past_covariates",
    "future": "future_covariates",
}
"""The batch entry that holds the covariates of each kind.

``static`` is (B, S), ``past_covariates`` (B, L, P), ``future_covariates`` (B, L + horizon, D): the
latter over context and horizon. All are float32, centred and scaled, without NaN.
"""


class SeriesBackbone(Backbone):
    """Turn what is known of series into a forecast of their next steps.

    Channels are series of their own: a net sees one at a time. It needs no head, and intervals come
    from what its forecasts miss on validation windows.

    Args:
        input_spec: How much of a series it wants to see, and which covariates beside it.
        config: Plain values from which it is made again; with ``name`` and ``season``.

    Raises:
        BackboneError: The spec has covariates of a kind that it cannot use.
    """

    input_spec: SeriesSpec

    solved: ClassVar[bool] = False
    """Whether it is fitted in closed form."""

    trained: ClassVar[bool] = False
    """Whether it is trained step by step; one that is neither has nothing to fit."""

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset()
    """The kinds of covariates that it can use beside the series itself."""

    most_rows: int | None = None
    """Windows that it forecasts at a time at most; None for any number."""

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
        wrong = [kind for kind in input_spec.covariates if kind not in self.covariates]
        if wrong:
            raise BackboneError(
                f"{self.name!r} cannot use {wrong[0]} covariates, only "
                f"{', '.join(kinds_of(self.covariates)) or 'the series alone'}."
            )
        more = [ENTRIES[kind] for kind in input_spec.covariates]
        self.inputs = ("past", *(() if input_spec.context_steps else ("history",)), *more)

    @property
    def name(self) -> str:
        """Under which the registry knows it; of a user's module, its class."""
        return str(self.config["name"] or self.config["module"].rpartition(".")[2])

    @property
    def head_is_fresh(self) -> bool:
        """Whether its last layer has learnt nothing yet, above an encoder that was pretrained."""
        return bool(self.config.get("fresh_head"))

    def note_head(self, *, is_fresh: bool) -> None:
        """Note that the last layer has learnt and forecasts, or that it is fresh again."""
        self.config.pop("fresh_head", None)
        if is_fresh:
            self.config["fresh_head"] = True

    @property
    def needs_steps(self) -> int:
        """Steps that must precede a forecast; with fewer, a simpler method answers."""
        return max(1, self.input_spec.context_steps)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Forecast as many steps as it was built for.

        Args:
            tensors: The batch entries of `inputs`, in their order: ``past`` (B, L); for methods
                that take all there is ``history`` (B,): how many of its last columns are values;
                and the covariates of its spec, see `ENTRIES`.

        Returns:
            In the scale of ``past``, (B, horizon_steps).
        """
        return self.forecast(*tensors, horizon=self.horizon_steps)

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast any number of steps, (B, horizon).

        ``future_covariates`` then hold as many steps ahead, and those it was built for at least.
        """
        raise NotImplementedError

    def named(self, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Answer with the batch entries by name."""
        return dict(zip(self.inputs, tensors, strict=True))

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


def kinds_of(covariates: frozenset[CovariateKind]) -> list[CovariateKind]:
    """List kinds of covariates in their usual order."""
    return [kind for kind in COVARIATES if kind in covariates]


def roll_out(net: SeriesBackbone, tensors: Sequence[Tensor], horizon: int) -> Tensor:
    """Forecast further than a net was built for: its own forecasts become what it sees.

    What is not known of covariates, past ones behind the end of the series among them, stays as it
    was last.

    Args:
        net: Whose forecast is asked for.
        tensors: The batch entries of its `inputs`; ``past`` is (B, L) of a fixed L.
        horizon: How many steps are wanted.

    Returns:
        (B, horizon).
    """
    entries = net.named(tensors)
    context, step = entries["past"].shape[1], net.horizon_steps
    rounds = -(-horizon // step)
    seen, answers = entries["past"], []
    future = _lengthened(entries.get("future_covariates"), context + rounds * step)
    past = _lengthened(entries.get("past_covariates"), context + rounds * step)
    for start in range(0, rounds * step, step):
        entries["past"] = seen[:, -context:]
        if past is not None:
            entries["past_covariates"] = past[:, start : start + context]
        if future is not None:
            entries["future_covariates"] = future[:, start : start + context + step]
        answers.append(net(*(entries[name] for name in net.inputs)))
        seen = torch.cat([seen, answers[-1]], dim=1)
    return torch.cat(answers, dim=1)[:, :horizon]


def _lengthened(covariates: Tensor | None, steps: int) -> Tensor | None:
    """Repeat the last step of covariates (B, T, D) until there are as many."""
    if covariates is None or covariates.shape[1] >= steps:
        return covariates
    missing = steps - covariates.shape[1]
    return torch.cat([covariates, covariates[:, -1:].expand(-1, missing, -1)], dim=1)
