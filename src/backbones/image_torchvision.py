"""Backbones from torchvision: every one of its classifiers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import nn
from torchvision import models
from torchvision.models import WeightsEnum
from torchvision.models.vision_transformer import interpolate_embeddings

from ..errors import BackboneError
from ..specs import IMAGENET_MEAN, IMAGENET_STD, ImageSpec
from .image_base import ImageSource, wrong_size
from .image_module import ModuleBackbone, prepare
from .registry import BackboneInfo
from .sources import Config
from .stem import fit_stem
from .weights import Weights, unreachable, without

_OURS = frozenset({"num_classes", "weights", "progress", "aux_logits", "transform_input"})
_AUXILIARY = ("AuxLogits", "aux1", "aux2")  # further classifiers, for training on ImageNet only
_BRANCHED = ("googlenet", "inception_v3")
_POSITIONS = "encoder.pos_embedding"


class TorchvisionSource(ImageSource):
    """Every classifier of torchvision, without its last layer."""

    prefix = "torchvision"
    bare = False

    def names(self) -> list[str]:
        """List torchvision's names and, with a dot, their weights."""
        return list(_table())

    def near(self, name: str) -> list[str]:
        """List the names without weights, unless some are named."""
        return [known for known in _table() if "." in name or "." not in known]

    def has_weights(self, name: str) -> bool:
        """Say whether torchvision offers weights."""
        return _table()[name] is not None

    def config(self, name: str) -> dict[str, Any]:  # Any: plain JSON values
        """Record the name and which of its weights."""
        chosen = _table()[name]
        tag = f".{chosen.name}" if chosen is not None else ""
        return {"source": self.prefix, "name": name.partition(".")[0] + tag}

    def own_spec(self, config: Config) -> ImageSpec:
        """Answer with what the weights' own evaluation transform does."""
        chosen = _table()[config["name"]]
        if chosen is None:
            return ImageSpec(size=(224, 224))
        transform = chosen.transforms()
        crop, resize = transform.crop_size[0], transform.resize_size[0]
        branched = _architecture(config) in _BRANCHED
        return ImageSpec(
            size=(crop, crop),
            # These two were trained on another scale and change ImageNet's into it themselves; here
            # the picture arrives on it at once, which also works for other numbers of channels.
            mean=(0.5,) * 3 if branched else _floats(transform.mean, IMAGENET_MEAN),
            std=(0.5,) * 3 if branched else _floats(transform.std, IMAGENET_STD),
            interpolation=transform.interpolation.value,
            crop_pct=_share(crop, resize),
        )

    def describe(self, name: str) -> BackboneInfo:
        """Build the net without memory for its weights and count."""
        config = self.config(name)
        spec = self.own_spec(config)
        with torch.device("meta"):
            net, _, num_features = _headless(config, spec)
        chosen = _table()[config["name"]]
        return BackboneInfo(
            name=f"{self.prefix}/{config['name']}",
            kind="image",
            source=self.prefix,
            num_parameters=sum(parameter.numel() for parameter in net.parameters()),
            num_features=num_features,
            input=spec,
            licence=None,
            weights=None if chosen is None else chosen.url,
        )

    def fetch(self, config: Config) -> Weights:
        """Get weights from torch's cache or torchvision's address."""
        chosen = _table()[config["name"]]
        url = "" if chosen is None else chosen.url
        try:
            state = torch.hub.load_state_dict_from_url(
                url, map_location="cpu", progress=False, check_hash=True, weights_only=True
            )
        except Exception as error:  # urllib, the disk and torch.load have their own kinds
            raise unreachable(config["name"], url, error) from error
        return Weights(state, url)

    def build(
        self, config: Config, spec: ImageSpec, weights: Weights | None, *, pretrained: bool
    ) -> ModuleBackbone:
        """Build the classifier and take its last layer off."""
        own = self.own_spec(config)
        net, heads, _ = _constructed(config, spec, own)
        if weights is not None:
            state = _resampled(without(weights.state, heads), net, spec)
            weights = weights.with_state(state)
        prepare(net, spec, weights)
        try:
            return ModuleBackbone(net, input_spec=spec, config=config, pretrained=pretrained)
        except BackboneError as error:
            raise wrong_size(config, own, spec, error) from error


@cache
def _table() -> dict[str, WeightsEnum | None]:
    """List names, and names with the weights' own, each with its weights."""
    table: dict[str, WeightsEnum | None] = {}
    for name in models.list_models(module=models):
        weights = models.get_model_weights(name)
        table[name] = getattr(weights, "DEFAULT", None)
        table |= {f"{name}.{each.name}": each for each in weights}
    return table


def _constructed(
    config: Config, spec: ImageSpec, own: ImageSpec
) -> tuple[nn.Module, tuple[str, ...], int]:
    options = config.get("options") or {}
    taken = sorted(_OURS.intersection(options))
    if taken:
        raise BackboneError(
            f"options has {taken[0]!r}, which is not torchvision's to decide here: weights come "
            "from pretrained and weights, and a backbone has no classes."
        )
    try:
        return _headless(config, spec)
    except (TypeError, ValueError) as error:
        if options:
            raise BackboneError(
                f"torchvision's {config['name']!r} does not take the options {dict(options)}: "
                f"{error}."
            ) from error
        raise wrong_size(config, own, spec, error) from error


def _headless(config: Config, spec: ImageSpec) -> tuple[nn.Module, tuple[str, ...], int]:
    """Build a net without classifiers; answer also with their names and the features' number."""
    name = _architecture(config)
    arguments: dict[str, Any] = dict(config.get("options") or {})  # Any: torchvision's own
    if name in _BRANCHED:
        arguments |= {"aux_logits": False, "init_weights": True}
    if name.startswith("vit_"):
        if spec.size[0] != spec.size[1]:
            raise ValueError("its pictures are square")
        arguments["image_size"] = spec.size[0]
    if name.startswith("maxvit"):
        arguments["input_size"] = spec.size
    net = fit_stem(models.get_model(name, weights=None, **arguments), config)
    kinds = (nn.Linear, nn.Conv2d)
    head, layer = [(n, m) for n, m in net.named_modules() if isinstance(m, kinds)][-1]
    net.set_submodule(head, nn.Identity())
    num_features = layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels
    return net, (head, *_AUXILIARY), num_features


def _resampled(state: Mapping[str, Any], net: nn.Module, spec: ImageSpec) -> dict[str, Any]:
    """Stretch position embeddings, (1, L, F), to the net's number of tokens."""
    wanted = dict(net.named_parameters()).get(_POSITIONS)
    if wanted is None or _POSITIONS not in state or wanted.shape == state[_POSITIONS].shape:
        return dict(state)
    patch = net.patch_size
    return dict(interpolate_embeddings(spec.size[0], patch, dict(state)))


def _architecture(config: Config) -> str:
    return str(config["name"]).partition(".")[0]


def _share(crop: int, resize: int) -> float:
    """Answer with the largest share from which ``int(crop / share)`` is the resized side."""
    share = min(1.0, crop / resize)
    while int(crop / share) < resize:
        share = math.nextafter(share, 0)
    return share


def _floats(values: Any, default: tuple[float, ...]) -> tuple[float, ...]:  # Any: torchvision's
    return tuple(float(value) for value in values) if values else default
