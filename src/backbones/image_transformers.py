"""Backbones from transformers: ViT, DINOv2, ConvNeXt, CLIP and their like, by hub id or folder."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoModel, PreTrainedModel

from ..errors import BackboneError, InvalidValueError, unknown_name
from ..specs import ImageSpec
from .hub import fetch_all, fetch_description, is_hub_id, where
from .image_base import ImageBackbone, ImageSource, adapt_state, check, first_conv
from .image_processor import FILES, folder_spec
from .registry import BackboneInfo
from .sources import Config, title
from .transformers_net import config_of, construct, json_of, read_folder
from .weights import Weights, below, load

FEATURES = ("pooled", "shared")
"""What the option ``features`` can be: the net's own pooling, or the space it shares with texts."""

_DESCRIPTION = ("config.json", *FILES)
# What a classifier is called, the pooler that only a classifier was trained with, and whatever a
# net of pictures and texts has beside its image encoder.
_HEADS = (
    "classifier",
    "cls_classifier",
    "distillation_classifier",
    "pooler",
    "head",
    "decoder",
    "text_model",
    "text_projection",
    "visual_projection",
    "logit_scale",
    "logit_bias",
)
_PLAIN = {"vit_mae": "vit"}  # its own class leaves out three patches of four, by chance
# Image encoders of nets of pictures and texts: the class that ends in the space of both, and the
# module inside it that ends in the encoder's own pooling ("" for the same).
_TOWERS = {
    "clip_vision_model": ("CLIPVisionModelWithProjection", "vision_model"),
    "siglip_vision_model": ("SiglipVisionModel", ""),
}


class TransformersBackbone(ImageBackbone):
    """A vision net of transformers.

    Features are the net's own pooling, unless only a classifier would have trained it; else the
    class token where there is one, else the mean.
    With the option ``features="shared"``, nets that were trained together with an encoder of texts
    answer with the embedding that is compared with those of texts, brought to the length sqrt(F):
    elements are then about 1 in size, as other nets' are, which learning rates are made for.
    """

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn pictures, (B, C, H, W), into features, (B, F)."""
        output = self._output(*tensors)
        if features_of(self.config) == "shared":
            embedding: Tensor | None = getattr(output, "image_embeds", None)
            shared = output.pooler_output if embedding is None else embedding
            unit = functional.normalize(shared.float(), dim=1)
            return unit * math.sqrt(shared.shape[1])
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        states: Tensor = output.last_hidden_state
        if states.ndim == 4:
            return states.mean(dim=(2, 3))
        return states[:, 0] if self._has_class_token() else states.mean(dim=1)

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with the last hidden state: a map, (B, F, h, w), or tokens, (B, L, F)."""
        states: Tensor = self._output(*tensors).last_hidden_state
        return states

    def _output(self, image: Tensor) -> Any:  # Any: transformers' output classes
        takes = inspect.signature(self.net.forward).parameters
        stretch = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
        return self.net(pixel_values=image, **stretch)

    def _has_class_token(self) -> bool:
        return any(name.endswith("cls_token") for name, _ in self.net.named_parameters())


class TransformersSource(ImageSource):
    """Hub ids, and folders with a ``config.json`` that has a ``model_type``.

    Code from the hub is never run, and weights are read as safetensors only.
    """

    prefix = "transformers"

    def has(self, name: str) -> bool:
        """Say whether the name has the form of a hub id: the hub is not asked."""
        return is_hub_id(name)

    def has_weights(self, name: str) -> bool:
        """Say yes: a hub id without weights would be an error."""
        return True

    def config(self, name: str) -> dict[str, Any]:  # Any: plain JSON values
        """Get config and preprocessing from the hub or its cache, so that neither is needed again.

        Raises:
            WeightsError: They cannot be reached.
            BackboneError: The hub id is of something else than a vision net of transformers.
        """
        folder = fetch_description(name, _DESCRIPTION, what="config and image processor")
        if not self.owns(folder):
            of_timm = "architecture" in json_of(folder / "config.json")
            hint = f"Call it 'hf-hub:{name}'." if of_timm else "Choose another hub id."
            raise BackboneError(
                f"{name!r} is no net of transformers ({where(name)} has no 'model_type' in its "
                f"config.json). {hint}"
            )
        return {**self.folder_config(folder), "name": name, "module": None}

    def fetch(self, config: Config) -> Weights:
        """Get weights from the hub or its cache."""
        return self.read(fetch_all(config["name"], _DESCRIPTION), config)

    def describe(self, name: str) -> BackboneInfo:
        """Build the net of a hub id's config without memory for its weights, and count."""
        config = self.config(name)
        spec = self.own_spec(config)
        with torch.device("meta"):
            net = _construct(config, spec)
        return BackboneInfo(
            name=config["name"],
            kind="image",
            source=self.prefix,
            num_parameters=sum(parameter.numel() for parameter in net.parameters()),
            num_features=_num_features(net.config),
            input=spec,
            licence=None,
            weights=where(name),
        )

    def owns(self, folder: Path) -> bool:
        """Say whether the folder has transformers' form."""
        return "model_type" in json_of(folder / "config.json")

    def folder_config(self, folder: Path) -> dict[str, Any]:  # Any: plain JSON values
        """Record the net's config and its preprocessing, so that the folder is not needed again."""
        model_config = _vision_config(json_of(folder / "config.json"))
        _check_sees(model_config, folder)
        spec = folder_spec(folder, model_config.get("image_size", 224))
        return {
            "source": self.prefix,
            "name": None,
            "module": f"transformers folder {folder.name}",
            "model_config": model_config,
            "input": spec.to_json(),
        }

    def read(self, folder: Path, config: Config) -> Weights:
        """Read through transformers, which gives old weights their present names."""
        model_config = config_of({**config, "options": None})
        return read_folder(folder, model_config, _is_head, _class_of(config))

    def own_spec(self, config: Config) -> ImageSpec:
        """Answer with what the folder's image processor does."""
        spec = ImageSpec.from_json(config["input"])
        if not isinstance(spec, ImageSpec):
            raise BackboneError(f"{title(config)} records {spec}, no ImageSpec.")
        return spec

    def build(
        self, config: Config, spec: ImageSpec, weights: Weights | None, *, pretrained: bool
    ) -> TransformersBackbone:
        """Build from the recorded config; weights of another first layer are carried over."""
        net = _construct(config, spec)
        if weights is not None:
            state = _body(weights.state, net)
            load(net, weights.with_state(adapt_state(state, net, first_conv(net))))
        for name, value in net.named_parameters():
            if name.endswith("mask_token"):  # whole pictures never use it: DDP would wait for it
                value.requires_grad_(False)
        backbone = TransformersBackbone(
            net, input_spec=spec, num_features=0, config=config, pretrained=pretrained
        )
        check(backbone, self.own_spec(config))
        return backbone


def features_of(config: Config) -> str:
    """Answer with the option ``features`` of a recorded net.

    Raises:
        UnknownNameError: It is none of `FEATURES`.
        InvalidValueError: The net has no space that it shares with texts.
    """
    features = (config.get("options") or {}).get("features", "pooled")
    if features not in FEATURES:
        raise unknown_name("kind of features", str(features), FEATURES)
    if features == "shared" and config["model_config"]["model_type"] not in _TOWERS:
        raise InvalidValueError(
            f"features='shared': {title(config)} was not trained together with texts. Expected "
            "the image encoder of a CLIP or a SigLIP."
        )
    return str(features)


def _vision_config(values: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Keep of a config what says how pictures are encoded: texts and decoders are left out."""
    kind = values["model_type"]
    values = {**values, "model_type": _PLAIN.get(kind, kind)}
    inner = getattr(config_of({"model_config": values, "name": "the net"}), "vision_config", None)
    if "vision_config" not in values or inner is None:
        return values
    config: dict[str, Any] = inner.to_dict()
    if "projection_dim" in values:
        config["projection_dim"] = values["projection_dim"]
    return config


def _check_sees(values: dict[str, Any], folder: Path) -> None:  # Any: plain JSON values
    """Refuse nets of texts and the like, whose hub ids look the same."""
    model_config = config_of({"model_config": values, "name": folder.name})
    kind: Any = _class_of({"model_config": values})  # Any: a class of transformers, or None
    kind = kind or AutoModel._model_mapping.get(type(model_config), None)
    if kind is None or "pixel_values" not in inspect.signature(kind.forward).parameters:
        raise BackboneError(
            f"{str(folder)!r} holds no vision net of transformers, but a {values['model_type']!r}. "
            "Choose one that takes pictures: a ViT, a DINOv2, a ConvNeXt or another."
        )


def _class_of(config: Config) -> Any:  # Any: a class of transformers
    """Answer with the class that reads a net's weights, None for whichever AutoModel takes."""
    tower = _TOWERS.get(config["model_config"]["model_type"])
    return None if tower is None else getattr(transformers, tower[0])


def _construct(config: Config, spec: ImageSpec) -> PreTrainedModel:
    shared = features_of(config) == "shared"
    options = {k: v for k, v in (config.get("options") or {}).items() if k != "features"}
    model_config = config_of({**config, "options": options})
    if spec.in_chans != getattr(model_config, "num_channels", 3):
        model_config.num_channels = spec.in_chans
    net = construct(model_config, config, "vision model", _class_of(config))
    _, inner = _TOWERS.get(model_config.model_type, ("", ""))
    encoder: Any = net if shared or not inner else getattr(net, inner)
    return encoder  # type: ignore[no-any-return]  # transformers' modules have no types


def _body(state: Mapping[str, Tensor], net: nn.Module) -> dict[str, Tensor]:
    """Take a net's own tensors out of those of a larger one; what else is there, `load` refuses."""
    own = net.state_dict().keys()
    inner = below(state, "vision_model.")
    if inner and not any(name.startswith("vision_model.") for name in own):
        state = inner
    return {name: value for name, value in state.items() if name in own or not _is_head(name)}


def _num_features(model_config: Any) -> int:  # Any: PretrainedConfig subclass
    sizes = getattr(model_config, "hidden_sizes", None)
    return int(sizes[-1] if sizes else model_config.hidden_size)


def _is_head(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in _HEADS or (len(parts) > 1 and parts[1] == "pooler")
