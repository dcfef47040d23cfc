"""Backbones from folders in transformers' form: ViT, DINOv2, ConvNeXt and their like."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ..specs import IMAGENET_MEAN, IMAGENET_STD, ImageSpec, Interpolation
from .image_base import ImageBackbone, ImageSource, adapt_state, check, first_conv
from .sources import Config
from .transformers_net import config_of, construct, json_of, read_folder
from .weights import Weights, load

# What a classifier, or the pooler that only a classifier was trained with, is called.
_HEADS = ("classifier", "cls_classifier", "distillation_classifier", "pooler", "head", "decoder")
_RESAMPLING: dict[int, Interpolation] = {  # Pillow's numbers
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}


class TransformersBackbone(ImageBackbone):
    """A vision net of transformers.

    Features are the class token where the net has one, else the net's own pooling, else the mean.
    """

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn pictures, (B, C, H, W), into features, (B, F)."""
        output = self._output(*tensors)
        states: Tensor = output.last_hidden_state
        if states.ndim == 3 and self._has_class_token():
            return states[:, 0]
        pooled: Tensor | None = getattr(output, "pooler_output", None)
        if pooled is not None:
            return pooled.flatten(1)
        return states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))

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
    """Folders with a ``config.json`` that has a ``model_type``."""

    prefix = "transformers"

    def owns(self, folder: Path) -> bool:
        """Say whether the folder has transformers' form."""
        return "model_type" in json_of(folder / "config.json")

    def folder_config(self, folder: Path) -> dict[str, Any]:  # Any: plain JSON values
        """Record the net's config and its preprocessing, so that the folder is not needed again."""
        return {
            "source": self.prefix,
            "name": None,
            "module": f"transformers folder {folder.name}",
            "model_config": json_of(folder / "config.json"),
            "preprocessor": json_of(folder / "preprocessor_config.json"),
        }

    def read(self, folder: Path, config: Config) -> Weights:
        """Read through transformers, which gives old weights their present names."""
        return read_folder(folder, config_of({**config, "options": None}), _is_head)

    def own_spec(self, config: Config) -> ImageSpec:
        """Answer with what the folder's image processor does."""
        return _spec_of(config["preprocessor"], config["model_config"])

    def build(
        self, config: Config, spec: ImageSpec, weights: Weights | None, *, pretrained: bool
    ) -> TransformersBackbone:
        """Build from the recorded config; weights of another first layer are carried over."""
        net = _construct(config, spec)
        if weights is not None:
            state = {k: v for k, v in weights.state.items() if not _is_head(k)}
            load(net, weights.with_state(adapt_state(state, net, first_conv(net))))
        backbone = TransformersBackbone(
            net, input_spec=spec, num_features=0, config=config, pretrained=pretrained
        )
        check(backbone, self.own_spec(config))
        return backbone


def _construct(config: Config, spec: ImageSpec) -> PreTrainedModel:
    model_config = config_of(config)
    if spec.in_chans != getattr(model_config, "num_channels", 3):
        model_config.num_channels = spec.in_chans
    return construct(model_config, config, "vision model")


def _is_head(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in _HEADS or (len(parts) > 1 and parts[1] == "pooler")


def _spec_of(processor: Config, model: Config) -> ImageSpec:
    """Read an image processor's settings; those of a model without one are transformers' usual."""
    own = model.get("image_size", 224)
    size = processor.get("crop_size") if processor.get("do_center_crop") else processor.get("size")
    height, width = _height_width(size if size is not None else own)
    resized = processor.get("size") or {}
    edge = resized.get("shortest_edge") if isinstance(resized, dict) else None
    crop_pct = min(1.0, processor.get("crop_pct") or (min(height, width) / edge if edge else 1.0))
    squashes = not edge
    if "ConvNext" in str(processor.get("image_processor_type")) and min(height, width) >= 384:
        squashes, crop_pct = True, 1.0  # its processor stops cropping there
    mean, std = _mean_std(processor)
    resample = processor.get("resample")
    return ImageSpec(
        size=(height, width),
        mean=mean,
        std=std,
        interpolation=_RESAMPLING[2 if resample is None else resample],
        crop_pct=crop_pct,
        crop_mode="squash" if squashes else "center",
    )


def _mean_std(processor: Config) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Answer on the scale [0, 1], also for processors that leave a step out."""
    mean = tuple(processor.get("image_mean") or IMAGENET_MEAN)
    std = tuple(processor.get("image_std") or IMAGENET_STD)
    if processor.get("do_normalize") is False:
        mean, std = (0.0,) * len(mean), (1.0,) * len(std)
    if processor.get("do_rescale") is False:  # the net wants 0 to 255
        mean, std = tuple(m / 255 for m in mean), tuple(s / 255 for s in std)
    return mean, std


def _height_width(size: Any) -> tuple[int, int]:  # Any: a number, a pair or transformers' dict
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        return (edge, edge) if edge else (size["height"], size["width"])
    return (size, size) if isinstance(size, int) else (size[0], size[1])
