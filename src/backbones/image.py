"""Backbones for pictures: the provider that turns names, folders and modules into one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from torch import nn

from ..errors import BackboneError, InvalidValueError
from ..specs import ImageDataSpec, ImageSpec, InputSpec
from . import tiny as tiny  # registers the library's own nets
from .image_base import Config, ImageBackbone, ImageSource, check, fit, no_weights
from .image_module import ModuleBackbone, ModuleSource, OwnSource, module_config
from .image_timm import TimmSource
from .image_torchvision import TorchvisionSource
from .image_transformers import TransformersSource
from .registry import PROVIDERS, BackboneInfo, Request
from .weights import Weights, load

_DEFAULT_SPEC = ImageSpec(size=(224, 224))


class ImageProvider:
    """Everything that can be a backbone for pictures.

    Args:
        sources: Libraries of nets, in the order in which a bare name is looked for.
    """

    def __init__(self, *sources: ImageSource) -> None:
        self._sources = {source.prefix: source for source in sources}

    def names(self) -> list[str]:
        """List every name; those that only a prefix reaches, with their prefix."""
        known: dict[str, None] = {}
        for source in self._sources.values():
            for name in source.names():
                known[name if source.bare else f"{source.prefix}/{name}"] = None
        return list(known)

    def near(self, name: str) -> Iterable[str]:
        """List the names among which a misspelt one is looked for."""
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._sources:
            return [f"{prefix}/{near}" for near in self._sources[prefix].near(rest)]
        return {near for source in self._sources.values() for near in source.near(name)}

    def has(self, name: str) -> bool:
        """Say whether a library has a net of this name."""
        return self._of_name(name) is not None

    def has_weights(self, name: str) -> bool:
        """Say whether there are pretrained weights for the name."""
        source, bare = self._named(name)
        return source.has_weights(bare)

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a name without loading or downloading weights."""
        source, bare = self._named(name)
        return source.describe(bare)

    def from_name(self, name: str, request: Request) -> ImageBackbone:
        """Build a net by its name, with the weights asked for."""
        source, bare = self._named(name)
        config = source.config(bare)
        pretrained = request.pretrained
        if pretrained is None:
            pretrained = request.weights is not None or source.has_weights(bare)
        weights = request.weights
        if pretrained and weights is None:
            if not source.has_weights(bare):
                raise no_weights(name)
            weights = source.fetch(config)
        return self._make(source, config, source.own_spec(config), weights, request)

    def from_folder(self, folder: Path, request: Request) -> ImageBackbone:
        """Build the net that a folder describes, with the folder's weights or others."""
        for source in self._sources.values():
            if source.owns(folder):
                config = source.folder_config(folder)
                weights = request.weights
                if weights is None and request.pretrained is not False:
                    weights = source.read(folder, config)
                return self._make(source, config, source.own_spec(config), weights, request)
        raise BackboneError(
            f"{str(folder)!r} is no folder of a backbone. Expected a saved mealkit task "
            "(task.json), or model.safetensors with a config.json that has 'architecture' (timm) "
            "or 'model_type' (transformers)."
        )

    def from_module(self, module: nn.Module, request: Request) -> ImageBackbone:
        """Make a backbone of a module that answers with features."""
        if request.options:
            raise InvalidValueError(
                f"options={dict(request.options)} were given with a module, which is already "
                "built. Build it with them, or leave them out."
            )
        if request.pretrained is False and request.weights is not None:
            raise InvalidValueError("weights were given together with pretrained=False: drop one.")
        if request.weights is not None:
            load(module, request.weights)
        return ModuleBackbone(
            module,
            input_spec=fit(_DEFAULT_SPEC, _data_of(request), request.preprocessing),
            config=module_config(module),
            pretrained=bool(request.pretrained or request.weights is not None),
        )

    def from_config(
        self, config: Config, input_spec: InputSpec, weights: Weights | None, request: Request
    ) -> ImageBackbone:
        """Build a recorded net for other data; `weights` are in the recorded net's own shape."""
        source = self._sources[config["source"]]
        return self._make(source, dict(config), _image_spec(input_spec), weights, request)

    def rebuild(self, config: Config, input_spec: InputSpec, *, pretrained: bool) -> ImageBackbone:
        """Build a recorded net exactly, without weights."""
        spec = _image_spec(input_spec)
        return self._sources[config["source"]].build(config, spec, None, pretrained=pretrained)

    def _make(
        self,
        source: ImageSource,
        config: Config,
        own: ImageSpec,
        weights: Weights | None,
        request: Request,
    ) -> ImageBackbone:
        """Fit the preprocessing, build, and try a net that differs from the library's own."""
        spec = fit(own, _data_of(request), request.preprocessing)
        options = {**(config.get("options") or {}), **(request.options or {})}
        recorded = {
            **config,
            "options": options,
            "in_chans": spec.in_chans,
            "size": list(spec.size),
        }
        if weights is not None and not weights.exact:
            weights = replace(weights, in_chans=own.in_chans)
        backbone = source.build(recorded, spec, weights, pretrained=weights is not None)
        if spec.size != own.size or options:
            check(backbone, own)
        return backbone

    def _named(self, name: str) -> tuple[ImageSource, str]:
        found = self._of_name(name)
        if found is None:
            raise BackboneError(f"There is no backbone {name!r}.")
        return found

    def _of_name(self, name: str) -> tuple[ImageSource, str] | None:
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._sources:
            source = self._sources[prefix]
            return (source, rest) if source.has(rest) else None
        return next(((s, name) for s in self._sources.values() if s.has(name)), None)


def _data_of(request: Request) -> ImageDataSpec:
    if not isinstance(request.data, ImageDataSpec):
        raise InvalidValueError(
            f"Backbones for pictures need an ImageDataSpec, got {request.data}."
        )
    return request.data


def _image_spec(spec: InputSpec) -> ImageSpec:
    if not isinstance(spec, ImageSpec):
        raise InvalidValueError(f"Backbones for pictures need an ImageSpec, got {spec}.")
    return spec


PROVIDERS["image"] = ImageProvider(
    OwnSource(), TimmSource(), TorchvisionSource(), TransformersSource(), ModuleSource()
)
