"""Ensemble: the weighted mean of several forecasts, as one backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..errors import InvalidValueError
from ..specs import COVARIATES, CovariateKind, SeriesSpec
from .series_base import SeriesBackbone

NAME = "ensemble"


class Ensemble(SeriesBackbone):
    """The mean of what its members forecast, weighted by how often validation wanted each.

    Every member sees as much of a window as it wants. Where the past is too short for some, the
    others answer.

    Args:
        members: What forecasts, for one horizon and season.
        weights: Of each, above 0; they need not add up to 1.
        season: Steps of the season.

    Raises:
        InvalidValueError: There are no members, or they cannot be mixed.
    """

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset(COVARIATES)

    def __init__(
        self, members: Sequence[SeriesBackbone], *, weights: Sequence[float], season: int
    ) -> None:
        if not members or len(members) != len(weights) or min(weights) <= 0:
            raise InvalidValueError(
                f"An ensemble needs members with a weight above 0 each, got {len(members)} members "
                f"and the weights {list(weights)}."
            )
        unscaled = [member.name for member in members if not member.input_spec.scaled]
        if unscaled or len({member.horizon_steps for member in members}) > 1:
            raise InvalidValueError(
                f"Members of an ensemble see the same numbers and forecast as many steps; got "
                f"{', '.join(member.name for member in members)}."
            )
        contexts = [member.input_spec.context_steps for member in members]
        spec = SeriesSpec(
            context_steps=0 if 0 in contexts else max(contexts),
            horizon_steps=members[0].horizon_steps,
        ).replace_covariates(
            {kind: v for m in members for kind, v in m.input_spec.covariates.items()}
        )
        config = {
            "name": NAME,
            "season": season,
            "weights": [float(weight) for weight in weights],
            "members": [
                {"config": dict(member.config), "input": member.input_spec.to_json()}
                for member in members
            ],
        }
        super().__init__(input_spec=spec, config=config)
        self.members = nn.ModuleList(members)
        self.weights = tuple(float(weight) / sum(weights) for weight in weights)
        wanted = [*self.inputs, *(name for member in members for name in member.inputs)]
        self.inputs = tuple(dict.fromkeys(["past", "history", *wanted]))

    @property
    def needs_steps(self) -> int:
        """Steps that must precede a forecast: what the least demanding member needs."""
        return min(member.needs_steps for member in self._members())

    @property
    def share(self) -> dict[str, float]:
        """The weight of each kind of member, by name, the largest first."""
        shares: dict[str, float] = {}
        for member, weight in zip(self._members(), self.weights, strict=True):
            shares[member.name] = shares.get(member.name, 0.0) + weight
        return dict(sorted(shares.items(), key=lambda item: -item[1]))

    def _members(self) -> list[SeriesBackbone]:
        return [member for member in self.members if isinstance(member, SeriesBackbone)]

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast, (B, horizon): the mean over the members that see enough of each window."""
        given = dict(zip(self.inputs, tensors, strict=True))
        past, history = given["past"], given["history"]
        total = past.new_zeros(len(past), horizon)
        weights = past.new_zeros(len(past), 1)
        for member, weight in zip(self._members(), self.weights, strict=True):
            steps = member.input_spec.context_steps
            seen = {**given, "past": _ending(past, steps)}
            if steps:  # covariates start where the context does
                for name in ("past_covariates", "future_covariates"):
                    if name in given:
                        seen[name] = given[name][:, self.input_spec.context_steps - steps :]
            answer = member.forecast(*(seen[name] for name in member.inputs), horizon=horizon)
            able = (history >= member.needs_steps)[:, None]
            # Of a window that is too short, a member sees what is not its past.
            total = total + torch.where(able, weight * answer, 0.0)
            weights = weights + torch.where(able, weight, 0.0)
        return total / weights


def _ending(past: Tensor, steps: int) -> Tensor:
    """Answer with the last steps of windows, all where that is 0; zeros stand in front of short."""
    if not steps:
        return past
    missing = steps - past.shape[1]
    return past[:, -steps:] if missing <= 0 else nn.functional.pad(past, (missing, 0))


def rebuild_ensemble(
    config: Mapping[str, Any],  # Any: plain JSON values
    members: Sequence[SeriesBackbone],
) -> Ensemble:
    """Build a recorded ensemble around its members, which were built already."""
    return Ensemble(members, weights=config["weights"], season=int(config["season"]))
