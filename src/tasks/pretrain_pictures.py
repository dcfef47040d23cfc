"""Pretraining on pictures: nets, inputs, labelled data."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..backbones import Backbone, create
from ..backbones.registry import describe, provider
from ..backbones.stem import SMALL_SIDE, STEM, options_for_small
from ..data import Data, ImageData
from ..data.inputs import Inputs, samples_from
from ..data.text_sources import Columns
from ..data.unlabelled import UnlabelledImages
from ..errors import InvalidValueError
from ..specs import DataSpec, ImageDataSpec, ImageSpec
from .classifier import Classifier, check_untouched
from .image_classifier import ImageClassifier
from .normalise import Normalise
from .pretext import image_spec
from .pretrain_kind import NetOptions, PretrainKind

_log = logging.getLogger("mealkit")


class Pictures(PretrainKind):
    """Pictures: nets start from random weights, and small pictures change them."""

    words = "pictures"
    usual_method = "simclr"
    hand_over = "ImageClassifier.from_folders(..., backbone=pre)"

    def build(
        self, backbone: str | Path | nn.Module, asked: NetOptions, spec: DataSpec | None = None
    ) -> Backbone:
        """Build the net; one that is called by a name starts from random weights."""
        asked.refuse("context", what="the steps of a window of series; these are pictures")
        pretrained, in_chans = asked.pretrained, asked.in_chans
        if isinstance(backbone, Backbone):
            given = {"pretrained": pretrained, "weights": asked.weights, "size": asked.size}
            check_untouched(backbone, {**given, "in_chans": in_chans})
            net = backbone
        else:
            named = isinstance(backbone, str) and provider("image").has(backbone)
            if pretrained is None and asked.weights is None and named:
                pretrained = False
            wanted = ImageDataSpec(in_chans=3 if in_chans is None else in_chans, size=asked.size)
            net = create(backbone, wanted, pretrained=pretrained, weights=asked.weights)
        if any(isinstance(module, nn.Conv2d) for module in net.modules()):
            net.to(memory_format=torch.channels_last)
        return net

    def for_small(self, backbone: object, side: int, in_chans: int | None) -> Backbone | None:
        """Build a named net that is made for photos so that it fits small pictures.

        Args:
            backbone: What the user called it.
            side: Pixels of a picture.
            in_chans: Number of channels; None for 3.

        Returns:
            The net; None where it is no name of such a net, or the pictures are not small.
        """
        if side > SMALL_SIDE or not isinstance(backbone, str):
            return None
        if not provider("image").has(backbone):
            return None
        own = describe(backbone, kind="image").input
        if not isinstance(own, ImageSpec) or max(own.size) <= SMALL_SIDE:
            return None
        options = options_for_small(backbone, side)
        _log.info(
            f"Pictures of {side} pixels are small: {backbone} sees them at {side}x{side} and not "
            f"at {own.size[0]}x{own.size[1]}, {_WORDS[next(iter(options), '')]}; views are not "
            "blurred."
        )
        wanted = ImageDataSpec(in_chans=3 if in_chans is None else in_chans, size=side)
        return create(
            backbone,
            wanted,
            pretrained=False,
            preprocessing={"crop_pct": 1.0},
            options=options or None,
        )

    def spec_of(self, net: Backbone) -> DataSpec:
        """Answer with the number of channels."""
        return ImageDataSpec(in_chans=image_spec(net).in_chans)

    def preprocess(self, net: Backbone) -> nn.Module:
        """Build what scales and normalises."""
        convolves = any(isinstance(module, nn.Conv2d) for module in net.modules())
        return Normalise(image_spec(net), channels_last=convolves)

    def check_data(self, data: Data, net: Backbone) -> None:
        """Refuse labelled data, other kinds, and arrays of another number of channels."""
        if not isinstance(data, UnlabelledImages):
            raise InvalidValueError(
                f"A pretrainer reads pictures without labels, got {type(data).__name__}. Make them "
                "with mealkit.data.UnlabelledImages.from_folder or its like."
            )
        has, wants = data.spec.in_chans, image_spec(net).in_chans
        if has not in (3, wants):  # files have 3, and are read as the net wants them
            raise InvalidValueError(
                f"The arrays have {has} channels and the net takes {wants}. Build the pretrainer "
                f"with in_chans={has}."
            )

    def samples(
        self, inputs: Any, spec: DataSpec, *, image: str | None, text: Columns | None
    ) -> Inputs:
        """Turn pictures into samples."""
        if text is not None:
            raise InvalidValueError(f"text={text!r} names a column of texts; these are pictures.")
        return samples_from(inputs, image=image)

    def labelled(self, source: str | Path | Data) -> Data:
        """Read a folder with one subfolder per class."""
        return source if isinstance(source, Data) else ImageData.from_folders(source)

    def classifier(self, net: Backbone, classes: Sequence[str]) -> Classifier:
        """Build an `ImageClassifier`."""
        return ImageClassifier(net, classes=classes)


_WORDS = {
    STEM: "with a first convolution of 3x3 that halves nothing, and without max-pool",
    "patch_size": "cut into 8x8 patches",
    "": "with its own stem",
}
