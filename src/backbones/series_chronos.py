"""Chronos-2 and Chronos-Bolt, trained on many series, through the package chronos-forecasting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import BackboneError, InvalidValueError, require
from ..specs import SeriesDataSpec, SeriesSpec
from .registry import BackboneInfo, Request
from .series_families import LAYOUT, MOST_CONTEXT, from_hub, series_of
from .series_net import WINDOW
from .series_transformers import TransformersSeries, Wrapped
from .sources import Config
from .transformers_net import json_of, read_folder
from .weights import Weights, load


@dataclass(frozen=True)
class _Known:
    hub: str
    num_parameters: int


_KNOWN = {
    "chronos-2": _Known("amazon/chronos-2", 120_000_000),
    "chronos-2-small": _Known("autogluon/chronos-2-small", 27_900_000),
    "chronos-bolt-tiny": _Known("amazon/chronos-bolt-tiny", 8_650_000),
    "chronos-bolt-mini": _Known("amazon/chronos-bolt-mini", 21_200_000),
    "chronos-bolt-small": _Known("amazon/chronos-bolt-small", 47_700_000),
    "chronos-bolt-base": _Known("amazon/chronos-bolt-base", 205_000_000),
}
"""Names with their hub ids, and parameters as the hub's pages state them, which they round."""

_HEADS = ("output_patch_embedding.",)
_CLASSES = {
    "Chronos2Model": ("chronos.chronos2", "Chronos2Model"),
    "ChronosBoltModelForForecasting": ("chronos.chronos_bolt", "ChronosBoltModelForForecasting"),
}
"""The nets that are known, by what a config calls its architecture."""


class ChronosSource:
    """The names of Chronos, its hub ids, and folders of its form (needs ``mealkit[chronos]``)."""

    prefix = "chronos"

    def names(self) -> list[str]:
        """List the names."""
        return list(_KNOWN)

    def has(self, name: str) -> bool:
        """Say whether the name, or the hub id, is one of Chronos'."""
        ids = {known.hub for known in _KNOWN.values()}
        return name in _KNOWN or (name in ids and not Path(name).is_dir())

    def has_weights(self, name: str) -> bool:
        """Say yes: all of them are trained."""
        return True

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a net without the package and without its weights."""
        known = _KNOWN[_short(name)]
        return BackboneInfo(
            name=_short(name),
            kind="series",
            source=self.prefix,
            num_parameters=known.num_parameters,
            num_features=1,
            input=SeriesSpec(context_steps=MOST_CONTEXT, horizon_steps=1),
            licence="Apache-2.0",
            weights=f"Hugging Face hub id {known.hub}",
        )

    def from_name(self, name: str, request: Request, context: int) -> TransformersSeries:
        """Build a net by its name, with its weights unless others are asked for."""
        require_chronos()  # before a download
        short = _short(name)
        return self.from_folder(from_hub(_KNOWN[short].hub), request, name=short)

    def owns(self, folder: Path) -> bool:
        """Say whether the folder has Chronos' form."""
        return "chronos_config" in json_of(folder / "config.json")

    def from_folder(
        self, folder: Path, request: Request, *, name: str | None = None
    ) -> TransformersSeries:
        """Build the net that a folder describes, with its weights unless others are asked for.

        Raises:
            BackboneError: Options are asked for, or it is a net of Chronos that is not known.
        """
        if request.options:
            raise BackboneError(
                f"options={dict(request.options)} cannot change a net that is trained already. "
                "Leave them out."
            )
        data, values = series_of(request), json_of(folder / "config.json")
        context = dict(request.preprocessing or {}).get("context_steps")
        steps = int(str(context)) if context is not None else _context(values, data)
        spec = SeriesSpec(context_steps=steps, horizon_steps=data.horizon_steps)
        config = {
            "name": name or _family(values),
            "source": self.prefix,
            "season": data.season,
            "options": {**WINDOW, **LAYOUT},
            "model_config": values,
        }
        weights = request.weights
        if weights is None and request.pretrained is not False:
            kind, made = _class_of(values), _config_of(values)
            weights = read_folder(folder, made, lambda name: False, kind=kind)
        return _build(config, spec, weights, pretrained=weights is not None)

    def build(
        self, config: Config, spec: SeriesSpec, weights: Weights | None, *, pretrained: bool
    ) -> TransformersSeries:
        """Build a recorded net; its weights are those of the net itself."""
        net = _build(config, spec, None, pretrained=pretrained)
        if weights is not None:
            load(net.get_submodule("net"), weights)
        return net


def require_chronos() -> None:
    """Refuse to go on without the package.

    Raises:
        MissingPackageError: It is absent.
    """
    require("chronos", extra="chronos", purpose="the backbones called chronos-*")


def _short(name: str) -> str:
    return next((short for short, known in _KNOWN.items() if known.hub == name), name)


def _context(values: Mapping[str, Any], data: SeriesDataSpec) -> int:
    """Answer with how many steps are seen: half of the series at most, in whole patches."""
    own = values["chronos_config"]
    most, patch = int(own["context_length"]), int(own["input_patch_size"])
    wanted = min(most, MOST_CONTEXT)
    if data.length_steps:
        wanted = min(wanted, max(patch, data.length_steps // 2))
    return max(patch, wanted // patch * patch)


def _family(values: Mapping[str, Any]) -> str:
    return "chronos-2" if values.get("architectures") == ["Chronos2Model"] else "chronos-bolt"


def _class_of(values: Mapping[str, Any]) -> Any:  # Any: a class of an optional package
    found = (values.get("architectures") or ["none"])[0]
    if found not in _CLASSES:
        raise BackboneError(
            f"Nets of Chronos of the architecture {found!r} are not supported. Expected "
            f"{' or '.join(_CLASSES)}: Chronos-2 or Chronos-Bolt."
        )
    require_chronos()
    module, name = _CLASSES[found]
    return getattr(require(module, extra="chronos", purpose=f"a net {name}"), name)


def _config_of(values: Mapping[str, Any]) -> Any:  # Any: a PretrainedConfig
    own = {name: value for name, value in values.items() if name != "model_type"}
    return _class_of(values).config_class(**deepcopy(own))


def _build(
    config: Config, spec: SeriesSpec, weights: Weights | None, *, pretrained: bool
) -> TransformersSeries:
    values = config["model_config"]
    most = int(values["chronos_config"]["context_length"])
    if spec.context_steps > most:
        raise InvalidValueError(
            f"context={spec.context_steps}: {config['name']!r} sees {most} steps at most. Leave "
            "context= out."
        )
    inner: nn.Module = _class_of(values)(_config_of(values))
    if weights is not None:
        load(inner, weights)
    return TransformersSeries(
        Wrapped(inner, once=_median, horizon=spec.horizon_steps),
        input_spec=spec,
        config=config,
        pretrained=pretrained,
        any_length=True,
        heads=_HEADS,
    )


def _median(net: Any, past: Tensor, horizon: int) -> Tensor:  # Any: a net of an optional package
    """Forecast once: windows (B, L) to the median of each step that the net forecasts at once."""
    own, more = net.chronos_config, {}
    if hasattr(own, "max_output_patches"):
        wanted = math.ceil(horizon / own.output_patch_size)
        more = {"num_output_patches": max(1, min(wanted, own.max_output_patches))}
    quantiles: Tensor = net(context=past, **more).quantile_preds
    return quantiles[:, list(own.quantiles).index(0.5)]
