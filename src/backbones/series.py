"""Backbones for series: the provider that turns names into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ..errors import BackboneError, InvalidValueError
from ..specs import CovariateKind, InputSpec, SeriesDataSpec, SeriesSpec
from .registry import PROVIDERS, BackboneInfo, Request
from .series_base import SeriesBackbone
from .series_baselines import Drift, Naive, Naive2, SeasonalNaive, Theta
from .series_ridge import Ridge
from .weights import Weights

Config = Mapping[str, Any]  # Any: plain JSON values

MOST_CONTEXT = 512
"""Steps that a default context has at most; published nets for long horizons see 336 to 512."""


@dataclass(frozen=True)
class _Entry:
    """How a name becomes a backbone.

    Args:
        build: The class.
        context: What it sees: ``"one"`` value, one ``"season"``, a ``"window"``, or ``"all"``.
        scaled: Whether it sees values centred and scaled.
    """

    build: type[SeriesBackbone]
    context: str
    scaled: bool = True


_TABLE = {
    "naive": _Entry(Naive, "one"),
    "seasonal-naive": _Entry(SeasonalNaive, "season"),
    "drift": _Entry(Drift, "all"),
    "naive2": _Entry(Naive2, "all", scaled=False),
    "theta": _Entry(Theta, "all", scaled=False),
    "ridge": _Entry(Ridge, "window"),
}


def default_context(data: SeriesDataSpec) -> int:
    """Choose how many steps of context a window has.

    Two horizons or two seasons, 64 steps at least and `MOST_CONTEXT` at most, and a quarter of the
    series' length where they are short: what is context cannot be a target.
    """
    wanted = min(MOST_CONTEXT, max(2 * data.horizon_steps, 2 * data.season, 64))
    if not data.length_steps:
        return wanted
    return max(
        1, min(wanted, max(data.length_steps // 4, min(data.season, data.length_steps // 2)))
    )


def covariates_of(name: str) -> frozenset[CovariateKind]:
    """Answer with the kinds of covariates that a backbone can use."""
    return _TABLE[name].build.covariates


class SeriesProvider:
    """The backbones for series that come with mealkit."""

    def names(self) -> list[str]:
        """List every name."""
        return list(_TABLE)

    def near(self, name: str) -> Iterable[str]:
        """List the names among which a misspelt one is looked for."""
        return _TABLE

    def has(self, name: str) -> bool:
        """Say whether there is a backbone of this name."""
        return name in _TABLE

    def has_weights(self, name: str) -> bool:
        """Say whether there are pretrained weights; there are none."""
        return False

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a backbone, as it is built for one step ahead."""
        net = self.from_name(name, Request(data=SeriesDataSpec(horizon_steps=1)))
        return BackboneInfo(
            name=name,
            kind="series",
            source="mealkit",
            num_parameters=sum(parameter.numel() for parameter in net.parameters()),
            num_features=net.num_features,
            input=net.input_spec,
            licence=None,
            weights=None,
        )

    def from_name(self, name: str, request: Request) -> SeriesBackbone:
        """Build a backbone for data, with the covariates that it can use.

        ``preprocessing`` may change ``context_steps``.
        """
        data = _series(request)
        if request.weights is not None or request.pretrained:
            raise BackboneError(
                f"{name!r} has no pretrained weights: it learns from your series in finetune."
            )
        if request.options:
            raise BackboneError(f"{name!r} takes no options, got {dict(request.options)}.")
        entry = _TABLE[name]
        steps = {"one": 1, "season": data.season, "all": 0, "window": default_context(data)}
        usable = {k: v for k, v in data.covariates.items() if k in entry.build.covariates}
        spec = SeriesSpec(
            context_steps=steps[entry.context],
            horizon_steps=data.horizon_steps,
            scaled=entry.scaled,
        ).replace_covariates(usable)
        if request.preprocessing:
            if entry.context != "window" or set(request.preprocessing) != {"context_steps"}:
                raise BackboneError(
                    f"{name!r} cannot be built with {dict(request.preprocessing)}: only the "
                    "context_steps of a method that sees windows ('ridge') can be changed."
                )
            spec = spec.replace(request.preprocessing)
            if spec.context_steps < 1:
                raise InvalidValueError("context_steps=0: expected at least 1 step of context.")
        return entry.build(input_spec=spec, config={"name": name, "season": data.season})

    def from_folder(self, folder: Path, request: Request) -> SeriesBackbone:
        """Refuse: no library writes folders of these."""
        raise BackboneError(
            f"{str(folder)!r} is no backbone for series. Known are {', '.join(_TABLE)}; a saved "
            "task is read by mealkit.load."
        )

    def from_module(self, module: nn.Module, request: Request) -> SeriesBackbone:
        """Refuse: only solved methods and baselines exist so far."""
        raise BackboneError(
            f"A module ({type(module).__name__}) cannot be a backbone for series: those that are "
            f"trained step by step are not supported. Known are {', '.join(_TABLE)}."
        )

    def from_config(
        self, config: Config, input_spec: InputSpec, weights: Weights | None, request: Request
    ) -> SeriesBackbone:
        """Refuse: what was learnt fits the horizon it was learnt for, and is solved in seconds."""
        raise BackboneError(
            f"A saved {config['name']!r} cannot be the backbone of another task. Load the whole "
            f"task with mealkit.load, or name the backbone: {config['name']!r}."
        )

    def rebuild(self, config: Config, input_spec: InputSpec, *, pretrained: bool) -> SeriesBackbone:
        """Build a recorded backbone exactly."""
        if not isinstance(input_spec, SeriesSpec):
            raise InvalidValueError(f"Backbones for series need a SeriesSpec, got {input_spec}.")
        return _TABLE[config["name"]].build(input_spec=input_spec, config=config)


def _series(request: Request) -> SeriesDataSpec:
    if not isinstance(request.data, SeriesDataSpec):
        raise InvalidValueError(f"Backbones for series need a SeriesDataSpec, got {request.data}.")
    return request.data


PROVIDERS["series"] = SeriesProvider()
