"""Backbones from folders in transformers' form: ViT, DINOv2, ConvNeXt and their like."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import logging as hf_logging

from ..errors import BackboneError, WeightsError
from ..specs import IMAGENET_MEAN, IMAGENET_STD, ImageSpec, Interpolation
from .image_base import (
    Config,
    ImageBackbone,
    ImageSource,
    adapt_state,
    check,
    first_conv,
    title,
)
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
        return "model_type" in _json_of(folder / "config.json")

    def folder_config(self, folder: Path) -> dict[str, Any]:  # Any: plain JSON values
        """Record the net's config and its preprocessing, so that the folder is not needed again."""
        return {
            "source": self.prefix,
            "name": None,
            "module": f"transformers folder {folder.name}",
            "model_config": _json_of(folder / "config.json"),
            "preprocessor": _json_of(folder / "preprocessor_config.json"),
        }

    def read(self, folder: Path, config: Config) -> Weights:
        """Read through transformers, which gives old weights their present names."""
        if not any((folder / name).is_file() for name in _FILES):
            raise WeightsError(
                f"There are no weights in {str(folder)!r}. Expected one of {', '.join(_FILES)}."
            )
        try:
            with _quiet():
                net, report = AutoModel.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    output_loading_info=True,
                    dtype=torch.float32,
                    **_poolless(_model_config(config, None)),
                )
        except Exception as error:  # transformers and safetensors raise many kinds
            reason = " ".join(str(error).split())[:300]
            raise WeightsError(
                f"The weights in {str(folder)!r} could not be loaded ({type(error).__name__}: "
                f"{reason}). Check that model.safetensors belongs to the config.json beside it."
            ) from error
        foreign = [name for name in report["unexpected_keys"] if not _is_head(name)]
        misfits = {
            "missing": sorted(report["missing_keys"]),
            "unexpected": sorted(foreign),
            "misshapen": sorted(str(entry[0]) for entry in report["mismatched_keys"]),
        }
        told = "; ".join(
            f"{len(names)} {word} ({', '.join(names[:4])})"
            for word, names in misfits.items()
            if names
        )
        if told:
            raise WeightsError(
                f"The weights in {str(folder)!r} do not fit the net: {told}. Check that "
                "model.safetensors belongs to the config.json beside it."
            )
        return Weights(net.state_dict(), f"the folder {str(folder)!r}", exact=True)

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


_FILES = ("model.safetensors", "model.safetensors.index.json")


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' bar and its table of heads left out from the screen, for this one call."""
    logger = logging.getLogger("transformers.modeling_utils")
    bar = hf_logging.is_progress_bar_enabled()
    logger.addFilter(_no_report)
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logger.removeFilter(_no_report)
        if bar:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _no_report(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _construct(config: Config, spec: ImageSpec) -> PreTrainedModel:
    model_config = _model_config(config, spec)
    try:
        net: PreTrainedModel = AutoModel.from_config(  # type: ignore[no-untyped-call]
            model_config, dtype=torch.float32, **_poolless(model_config)
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise BackboneError(
            f"{title(config)} could not be built ({type(error).__name__}: {error}). Expected a "
            "vision model of transformers."
        ) from error
    return net


def _model_config(config: Config, spec: ImageSpec | None) -> Any:  # Any: PretrainedConfig subclass
    values = dict(config["model_config"])
    kind = values.pop("model_type")
    options = config.get("options") or {}
    try:
        model_config = AutoConfig.for_model(kind, **values)
    except ValueError as error:
        raise BackboneError(f"transformers knows no model_type {kind!r}: {error}.") from error
    for name, value in options.items():
        if not hasattr(model_config, name):
            raise BackboneError(
                f"{title(config)} does not take the option {name!r}. Its options are the values of "
                f"transformers' {type(model_config).__name__}."
            )
        setattr(model_config, name, value)
    if spec is not None and spec.in_chans != getattr(model_config, "num_channels", 3):
        model_config.num_channels = spec.in_chans
    return model_config


def _poolless(model_config: Any) -> dict[str, bool]:  # Any: PretrainedConfig subclass
    """Leave out the pooler where the net lets us: it was trained with a classifier, if at all."""
    kind: Any = AutoModel._model_mapping[type(model_config)]
    takes = inspect.signature(kind.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in takes else {}


def _is_head(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in _HEADS or (len(parts) > 1 and parts[1] == "pooler")


def _json_of(file: Path) -> dict[str, Any]:  # Any: what json.loads answers
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise BackboneError(f"{str(file)!r} is not valid JSON ({error}). Copy it again.") from None
    return content if isinstance(content, dict) else {}


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
