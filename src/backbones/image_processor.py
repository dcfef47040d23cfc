"""What the image processor of a folder of transformers does to pictures, as an `ImageSpec`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from transformers import AutoImageProcessor

from ..errors import BackboneError
from ..specs import CropMode, ImageSpec, Interpolation

FILES = ("preprocessor_config.json", "processor_config.json")
"""What a folder's processor is written in; the second one holds a tokenizer's settings, too."""

_log = logging.getLogger("mealkit")
_RESAMPLING: dict[int, Interpolation] = {  # Pillow's numbers
    0: "nearest",
    1: "lanczos",
    2: "bilinear",
    3: "bicubic",
    4: "box",
    5: "hamming",
}


def folder_spec(folder: Path, image_size: Any) -> ImageSpec:  # Any: a number or a pair
    """Answer with what a folder's processor does, once a picture has shown that it does just that.

    Old files leave values out, or give one number where newer ones say height and width: what they
    mean is up to the class of the processor, so that transformers reads them.

    Args:
        folder: With one of `FILES`; without, pictures are taken at the net's own size.
        image_size: What the net's config says of it.

    Raises:
        BackboneError: The processor is unknown, or does what an `ImageSpec` cannot say.
    """
    if not any((folder / name).is_file() for name in FILES):
        _log.warning(
            f"There is no {FILES[0]} in {str(folder)!r}, so nobody says which pictures the net was "
            f"trained on: they are scaled to {image_size} pixels, with ImageNet's mean and "
            "standard deviation. preprocessing= of mealkit.backbones.create changes that."
        )
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
        return ImageSpec(size=(size[0], size[1]), crop_pct=1.0, crop_mode="squash")
    try:
        processor = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            folder, local_files_only=True
        )
    except Exception as error:  # transformers raises many kinds
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"The image processor in {str(folder)!r} could not be read ({type(error).__name__}: "
            f"{reason}). Save it again: processor.save_pretrained(folder)."
        ) from error
    spec = spec_of(processor.to_dict())
    if (fault := _differs(processor, spec)) is not None:
        raise BackboneError(
            f"{type(processor).__name__} in {str(folder)!r} prepares pictures in a way that "
            f"mealkit cannot repeat ({fault}), and the net would see others than in its training. "
            "Choose another backbone, or pass the net as a module that answers with features."
        )
    return spec


def spec_of(values: Mapping[str, Any]) -> ImageSpec:  # Any: transformers' own values
    """Read the settings of an image processor, as its ``to_dict`` writes them."""
    size: Mapping[str, Any] = values.get("size") or {}
    crop: Mapping[str, Any] = (
        (values.get("crop_size") or {}) if values.get("do_center_crop") else {}
    )
    name, edge = str(values.get("image_processor_type")), size.get("shortest_edge")
    full = (edge or size.get("height", 224), edge or size.get("width", 224))
    height, width = crop.get("height", full[0]), crop.get("width", full[1])
    mode: CropMode = "center" if edge else "squash"
    resized: int = full[0]
    if "Levit" in name and edge:
        resized = int(256 / 224 * edge)
    if crop_pct := values.get("crop_pct"):
        resized = int(resized / crop_pct)
        if "ConvNext" in name and edge and edge >= 384:  # its processor stops cropping there
            resized, mode = edge, "squash"
    mean, std = _mean_std(values)
    resample = values.get("resample")
    return ImageSpec(
        size=(height, width),
        mean=mean,
        std=std,
        interpolation=_RESAMPLING[2 if resample is None else int(resample)],
        crop_pct=_share(min(height, width), resized),
        crop_mode=mode,
        crop_offset="down",
    )


def _share(kept: int, resized: int) -> float:
    """Answer with the crop_pct from which the size that is resized to comes out again, exactly."""
    share = min(1.0, kept / resized)
    while math.floor(kept / share) < resized:
        share = math.nextafter(share, 0.0)
    return share


def _mean_std(values: Mapping[str, Any]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Answer on the scale [0, 1], also for processors that leave a step out or scale otherwise."""
    mean, std = values.get("image_mean"), values.get("image_std")
    if values.get("do_normalize") is False or mean is None or std is None:
        mean, std = (0.0,) * 3, (1.0,) * 3
    if values.get("include_top"):  # an EfficientNet divides twice
        std = [value * value for value in std]
    factor = values.get("rescale_factor", 1 / 255) if values.get("do_rescale", True) else 1.0
    scale = round(255 * factor, 9)  # what white becomes
    offset = 1.0 if values.get("rescale_offset") else 0.0
    return (
        tuple((value + offset) / scale for value in mean),
        tuple(value / scale for value in std),
    )


def _differs(processor: Any, spec: ImageSpec) -> str | None:  # Any: of transformers
    """Say in what a processor differs from its spec, on a picture that shows where pixels end up.

    Red grows from left to right and green from top to bottom, so that every pixel that comes out
    tells where it was; blue is the same everywhere.
    """
    if spec.in_chans != 3:
        return None
    across, down = 3 * max(spec.size), 2 * max(spec.size)
    picture = np.full((down, across, 3), 200, np.uint8)
    picture[..., 0] = np.linspace(0, 255, across).round()[None]
    picture[..., 1] = np.linspace(0, 255, down).round()[:, None]
    try:
        usual = {} if getattr(processor, "resample", None) is not None else {"resample": 2}
        given = {"return_tensors": "np", **usual}
        values = processor(images=Image.fromarray(picture), **given)["pixel_values"]
        pixels = np.asarray(values[0], np.float64)
    except Exception as error:  # they raise many kinds
        return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
    if pixels.shape != (3, *spec.size):
        return f"a picture becomes {pixels.shape}, not (3, {spec.size[0]}, {spec.size[1]})"
    levels = 255 * (pixels * np.array(spec.std)[:, None, None] + np.array(spec.mean)[:, None, None])
    expected = np.full_like(levels, 200.0)
    expected[0] = _ramp(spec, 1, down, across)[None]
    expected[1] = _ramp(spec, 0, down, across)[:, None]
    # Half a pixel that comes out, as without interpolation, and rounding.
    steps = [float(np.abs(np.diff(ramp)).max()) for ramp in (expected[0, 0], expected[1, :, 0])]
    inner = np.abs(levels - expected)[:, 2:-2, 2:-2]
    for name, channel, step in zip(("red", "green", "blue"), inner, (*steps, 0.0), strict=True):
        if channel.size and channel.max() > 2 + 0.6 * step:
            return f"{name} is {channel.max():.0f} levels of 255 off"
    return None


def _ramp(spec: ImageSpec, axis: int, height: int, width: int) -> Any:  # Any: an array of numpy
    """Answer with the levels that the spec makes of a ramp from 0 to 255 along an axis."""
    length = (height, width)[axis]
    resized = math.floor(spec.size[axis] / spec.crop_pct)
    step = length / resized if spec.crop_mode == "squash" else min(height, width) / resized
    places = np.arange(spec.size[axis]) + 0.5 - spec.size[axis] / 2
    return (255 * (length / 2 + places * step - 0.5) / (length - 1)).clip(0, 255)
