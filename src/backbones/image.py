"""Backbones for pictures: the provider that turns names, folders and modules into one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from torch import nn

from ..errors import InvalidValueError
from ..specs import ImageDataSpec, ImageSpec, InputSpec
from . import resnet8 as resnet8  # registers one of the library's own nets, and so does tiny
from . import tiny as tiny
from .image_base import ImageBackbone, check, fit
from .image_module import ModuleBackbone, OwnSource
from .image_timm import TimmSource
from .image_torchvision import TorchvisionSource
from .image_transformers import TransformersSource
from .registered import UserSource, take_module
from .registry import PROVIDERS, Request
from .sources import Config, Source, SourceProvider
from .stem import without_stem
from .weights import Weights

_DEFAULT_SPEC = ImageSpec(size=(224, 224))


class ImageProvider(SourceProvider[ImageSpec, ImageBackbone]):
    """Everything that can be a backbone for pictures."""

    folders = (
        "model.safetensors with a config.json that has 'architecture' (timm) or 'model_type' "
        "(transformers)"
    )

    def has(self, name: str) -> bool:
        """Say whether a library has a net of this name; a folder here goes before a hub id."""
        found = self._of_name(name)
        return found is not None and (
            found[0].prefix != TransformersSource.prefix or not Path(name).is_dir()
        )

    def from_module(self, module: nn.Module, request: Request) -> ImageBackbone:
        """Make a backbone of a module that answers with features."""
        config = take_module(module, request)
        return ModuleBackbone(
            module,
            input_spec=fit(_DEFAULT_SPEC, _data_of(request), request.preprocessing),
            config=config,
            pretrained=bool(request.pretrained or request.weights is not None),
        )

    def _make(
        self,
        source: Source[ImageSpec, ImageBackbone],
        config: Config,
        weights: Weights | None,
        request: Request,
        *,
        own: ImageSpec | None = None,
    ) -> ImageBackbone:
        """Fit the preprocessing, build, and try a net that differs from the library's own."""
        own = own or source.own_spec(config)
        spec = fit(own, _data_of(request), request.preprocessing)
        options = {**(config.get("options") or {}), **(request.options or {})}
        recorded = without_stem(
            {**config, "options": options, "in_chans": spec.in_chans, "size": list(spec.size)}
        )
        if weights is not None and not weights.exact:
            weights = replace(weights, in_chans=own.in_chans)
        backbone = source.build(recorded, spec, weights, pretrained=weights is not None)
        if spec.size != own.size or options:
            check(backbone, own)
        return backbone

    def _spec(self, spec: InputSpec) -> ImageSpec:
        if not isinstance(spec, ImageSpec):
            raise InvalidValueError(f"Backbones for pictures need an ImageSpec, got {spec}.")
        return spec


def _data_of(request: Request) -> ImageDataSpec:
    if not isinstance(request.data, ImageDataSpec):
        raise InvalidValueError(
            f"Backbones for pictures need an ImageDataSpec, got {request.data}."
        )
    return request.data


PROVIDERS["image"] = ImageProvider(
    OwnSource(), TimmSource(), TorchvisionSource(), TransformersSource(), UserSource()
)
