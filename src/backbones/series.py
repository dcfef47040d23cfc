"""Backbones for series: the provider that turns names into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BackboneError, InvalidValueError
from ..specs import COVARIATES, Covariate, CovariateKind, InputSpec, SeriesDataSpec, SeriesSpec
from .base import Backbone
from .registered import take_module
from .registry import PROVIDERS, BackboneInfo, Request
from .series_attention import ITransformer
from .series_base import SeriesBackbone
from .series_baselines import Drift, Naive, Naive2, SeasonalNaive, Theta
from .series_chronos import ChronosSource
from .series_encoder import build_encoder, encoder_of_folder, encoder_of_name, other_form
from .series_ensemble import NAME as ENSEMBLE
from .series_ensemble import rebuild_ensemble
from .series_linear import DLinear, NLinear
from .series_mixers import TiDE, TSMixer
from .series_mlp import ResMLP
from .series_net import (
    WINDOW,
    WindowNet,
    build_net,
    check_fits,
    options_of,
    takes_covariates,
    wrap_module,
)
from .series_recurrent import DeepAR
from .series_ridge import Ridge
from .series_stacks import NBeats, NHiTS
from .series_transformers import TransformersSeriesSource
from .weights import Weights, load

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

_NETS: dict[str, type[WindowNet]] = {
    "nlinear": NLinear,
    "dlinear": DLinear,
    "resmlp": ResMLP,
    "nbeats": NBeats,
    "nhits": NHiTS,
    "tide": TiDE,
    "tsmixer": TSMixer,
    "itransformer": ITransformer,
    "deepar": DeepAR,
}


def default_context(data: SeriesDataSpec) -> int:
    """Choose how many steps of context a window has.

    Two horizons or two seasons, 64 steps at least and `MOST_CONTEXT` at most, and a quarter of the
    series' length where they are short: what is context cannot be a target. `MOST_CONTEXT` where
    nothing is forecast.
    """
    wanted = MOST_CONTEXT
    if data.horizon_steps:
        wanted = min(wanted, max(2 * data.horizon_steps, 2 * data.season, 64))
    if not data.length_steps:
        return wanted
    return max(
        1, min(wanted, max(data.length_steps // 4, min(data.season, data.length_steps // 2)))
    )


Library = ChronosSource | TransformersSeriesSource
_SOURCES: tuple[Library, ...] = (ChronosSource(), TransformersSeriesSource())
_LIBRARIES = {source.prefix: source for source in _SOURCES}
"""Where nets come from that are not ours, by the ``source`` of their configs."""


def covariates_of(name: str) -> frozenset[CovariateKind]:
    """Answer with the kinds of covariates that a backbone can use."""
    if name in _NETS:
        return _NETS[name].covariates
    return _TABLE[name].build.covariates if name in _TABLE else frozenset()


def _library(name: str) -> Library | None:
    return next((source for source in _LIBRARIES.values() if source.has(name)), None)


class SeriesProvider:
    """The backbones for series that come with mealkit, and modules of the user's."""

    def names(self) -> list[str]:
        """List every name."""
        others = [name for source in _LIBRARIES.values() for name in source.names()]
        return [*_TABLE, *_NETS, *others]

    def near(self, name: str) -> Iterable[str]:
        """List the names among which a misspelt one is looked for."""
        return self.names()

    def has(self, name: str) -> bool:
        """Say whether there is a backbone of this name."""
        return name in _TABLE or name in _NETS or _library(name) is not None

    def has_weights(self, name: str) -> bool:
        """Say whether there are pretrained weights: of some nets of other libraries."""
        library = _library(name)
        return library is not None and library.has_weights(name)

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a backbone, as it is built for one step ahead."""
        library = _library(name)
        if library is not None:
            return library.describe(name)
        with torch.random.fork_rng(devices=[]):
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

    def from_name(self, name: str, request: Request) -> Backbone:
        """Build a backbone for data, with the covariates that it can use.

        ``preprocessing`` may change ``context_steps``. Of data with a horizon of 0, an encoder.
        """
        data = _series(request)
        library = _library(name)
        if not data.horizon_steps:
            spec = _window(data, request.preprocessing, frozenset())
            return encoder_of_name(name, request, spec.context_steps)
        if library is not None:
            spec = _window(data, request.preprocessing, frozenset())
            return library.from_name(name, request, spec.context_steps)
        if request.pretrained or (request.weights is not None and name not in _NETS):
            raise BackboneError(
                f"{name!r} has no pretrained weights: it learns from your series in finetune."
            )
        config: dict[str, Any] = {"name": name, "season": data.season}  # Any: plain JSON values
        if name in _NETS:
            config["options"] = options_of(_NETS[name], request.options, name)
            spec = _window(data, request.preprocessing, _NETS[name].covariates)
            net = build_net(_NETS[name], spec=spec, config=config)
            return net if request.weights is None else _load(net, request.weights)
        if request.options:
            raise BackboneError(f"{name!r} takes no options, got {dict(request.options)}.")
        entry = _TABLE[name]
        usable = entry.build.covariates
        if entry.context == "window":
            spec = _window(data, request.preprocessing, usable)
            return entry.build(input_spec=spec, config=config)
        if request.preprocessing:
            raise BackboneError(
                f"{name!r} cannot be built with {dict(request.preprocessing)}: only the "
                "context_steps of a method that sees windows ('ridge') can be changed."
            )
        steps = {"one": 1, "season": data.season, "all": 0}
        spec = SeriesSpec(
            context_steps=steps[entry.context],
            horizon_steps=data.horizon_steps,
            scaled=entry.scaled,
        ).replace_covariates(_used(data, usable))
        return entry.build(input_spec=spec, config=config)

    def from_folder(self, folder: Path, request: Request) -> Backbone:
        """Build the net that a folder of another library describes."""
        data = _series(request)
        _window(data, request.preprocessing, frozenset())
        if not data.horizon_steps and _LIBRARIES["transformers"].owns(folder):
            return encoder_of_folder(folder, request)
        for source in _LIBRARIES.values():
            if source.owns(folder):
                return source.from_folder(folder, request)
        raise BackboneError(
            f"{str(folder)!r} is no backbone for series: expected a saved task, or a config.json "
            f"with a model_type beside weights. Names are {', '.join(self.names())}."
        )

    def from_module(self, module: nn.Module, request: Request) -> SeriesBackbone:
        """Make a backbone of a module from windows (B, L), and covariates, to (B, horizon)."""
        data = _series(request)
        data.check_horizon()  # nobody knows where the encoder of a module ends
        usable = frozenset(COVARIATES) if takes_covariates(module) else frozenset[CovariateKind]()
        spec = _window(data, request.preprocessing, usable)
        config = {**take_module(module, request), "season": data.season, "options": dict(WINDOW)}
        trained = bool(request.pretrained or request.weights is not None)
        return wrap_module(module, spec=spec, config=config, pretrained=trained)

    def from_config(
        self, config: Config, input_spec: InputSpec, weights: Weights | None, request: Request
    ) -> Backbone:
        """Build a recorded net with what it learnt; what was solved is solved again in seconds."""
        data, spec = _series(request), _window_spec(input_spec)
        if config["name"] not in _NETS and config.get("source") not in _LIBRARIES:
            raise BackboneError(
                f"A saved {config['name']!r} cannot be the backbone of another task. Load the "
                f"whole task with mealkit.load, or name the backbone: {config['name']!r}."
            )
        if request.preprocessing or request.options:
            raise BackboneError(
                f"A saved {config['name']!r} stays as it was built. Leave preprocessing and "
                "options out, or name the backbone to train a new one."
            )
        if bool(spec.horizon_steps) != bool(data.horizon_steps):
            return other_form(config, spec, weights, data)
        net = self.rebuild(config, spec, pretrained=weights is not None)
        check_fits(spec, data, f"The saved {config['name']!r}")
        return net if weights is None else _load(net, weights)

    def rebuild(self, config: Config, input_spec: InputSpec, *, pretrained: bool) -> Backbone:
        """Build a recorded backbone exactly."""
        spec = _window_spec(input_spec)
        if not spec.horizon_steps:
            return build_encoder(config, spec, None, pretrained=pretrained)
        return self._forecasting(config, spec, pretrained=pretrained)

    def _forecasting(
        self, config: Config, input_spec: SeriesSpec, *, pretrained: bool
    ) -> SeriesBackbone:
        name = config["name"]
        if config.get("source") in _LIBRARIES:
            library = _LIBRARIES[config["source"]]
            return library.build(config, input_spec, None, pretrained=pretrained)
        if name is None:
            raise BackboneError(
                f"This backbone is a module of yours, {config['module']}, which cannot be built "
                "from its name. Pass the module: mealkit.load(folder, backbone=YourModule())."
            )
        if name == ENSEMBLE:
            members = [
                self._forecasting(
                    each["config"],
                    _window_spec(InputSpec.from_json(each["input"])),
                    pretrained=True,
                )
                for each in config["members"]
            ]
            return rebuild_ensemble(config, members)
        if name in _NETS:
            return build_net(_NETS[name], spec=input_spec, config=config, pretrained=pretrained)
        return _TABLE[name].build(input_spec=input_spec, config=config)


def _series(request: Request) -> SeriesDataSpec:
    if not isinstance(request.data, SeriesDataSpec):
        raise InvalidValueError(f"Backbones for series need a SeriesDataSpec, got {request.data}.")
    return request.data


def _window_spec(spec: InputSpec) -> SeriesSpec:
    if not isinstance(spec, SeriesSpec):
        raise InvalidValueError(f"Backbones for series need a SeriesSpec, got {spec}.")
    return spec


def _used(
    data: SeriesDataSpec, usable: frozenset[CovariateKind]
) -> dict[CovariateKind, tuple[Covariate, ...]]:
    return {kind: several for kind, several in data.covariates.items() if kind in usable}


def _window(
    data: SeriesDataSpec,
    preprocessing: Mapping[str, object] | None,
    usable: frozenset[CovariateKind],
) -> SeriesSpec:
    """Say what a method that sees windows wants to see."""
    spec = SeriesSpec(
        context_steps=default_context(data),
        horizon_steps=data.horizon_steps,
    ).replace_covariates(_used(data, usable))
    spec = spec.replace(preprocessing or {})
    if spec.context_steps < 1:
        raise InvalidValueError("context_steps=0: expected at least 1 step of context.")
    if spec.horizon_steps != data.horizon_steps or not spec.scaled:
        raise BackboneError(
            f"preprocessing={dict(preprocessing or {})}: of what a backbone for series sees, only "
            "the context_steps can be changed."
        )
    return spec


def _load(net: Backbone, weights: Weights) -> Backbone:
    load(net.get_submodule("net"), weights)
    net.pretrained = True
    return net


PROVIDERS["series"] = SeriesProvider()
