"""Backbones for texts: the provider that turns names, hub ids, folders and modules into one."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from ..errors import InvalidValueError
from ..specs import InputSpec, TextDataSpec, TextSpec
from .registered import UserSource, take_module
from .registry import PROVIDERS, Request
from .sources import Config, Source, SourceProvider
from .text_base import TextBackbone
from .text_module import ModuleText, RegisteredText
from .text_pooling import pooling_of
from .text_tokenizer import fit
from .text_transformers import TransformersTextSource
from .weights import Weights


class TextProvider(SourceProvider[TextSpec, TextBackbone]):
    """Everything that can be a backbone for texts."""

    folders = (
        "what transformers' save_pretrained writes: a config.json with a 'model_type', a tokenizer "
        "and model.safetensors"
    )

    def has(self, name: str) -> bool:
        """Say whether a library has a net of this name; a folder here goes before a hub id."""
        found = self._of_name(name)
        return found is not None and (found[0].prefix == "mealkit" or not Path(name).is_dir())

    def from_module(self, module: nn.Module, request: Request) -> TextBackbone:
        """Make a backbone of a module that takes ids and mask and answers with features."""
        _check_data(request)
        config = take_module(module, request)
        return ModuleText(
            module,
            input_spec=fit(None, request.preprocessing),
            config=config,
            pretrained=bool(request.pretrained or request.weights is not None),
        )

    def _make(
        self,
        source: Source[TextSpec, TextBackbone],
        config: Config,
        weights: Weights | None,
        request: Request,
        *,
        own: TextSpec | None = None,
    ) -> TextBackbone:
        """Settle pooling and preprocessing, and build."""
        _check_data(request)
        options = {**(config.get("options") or {}), **(request.options or {})}
        pooling = pooling_of(config, options.pop("pooling", None))
        recorded = {**config, "options": options, **pooling}
        spec = fit(own or source.own_spec(recorded), request.preprocessing)
        recorded.pop("tokenizer", None)  # it is in the spec
        return source.build(recorded, spec, weights, pretrained=weights is not None)

    def _spec(self, spec: InputSpec) -> TextSpec:
        if not isinstance(spec, TextSpec):
            raise InvalidValueError(f"Backbones for texts need a TextSpec, got {spec}.")
        return spec


def _check_data(request: Request) -> None:
    if not isinstance(request.data, TextDataSpec):
        raise InvalidValueError(f"Backbones for texts need a TextDataSpec, got {request.data}.")


PROVIDERS["text"] = TextProvider(RegisteredText(), TransformersTextSource(), UserSource())
