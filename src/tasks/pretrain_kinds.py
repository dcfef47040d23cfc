"""What differs between pretraining on pictures and on texts: nets, inputs, labelled data."""

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
from ..data import Data, ImageData, TextData
from ..data.inputs import Inputs, samples_from
from ..data.text_inputs import samples_of_texts
from ..data.text_sources import Columns
from ..data.unlabelled import UnlabelledImages
from ..errors import InvalidValueError
from ..specs import DataSpec, ImageDataSpec, ImageSpec, Kind, TextDataSpec
from .classifier import Classifier, check_untouched
from .image_classifier import ImageClassifier
from .normalise import Normalise
from .pretext import image_spec
from .text_classifier import TextClassifier, Unchanged

_log = logging.getLogger("mealkit")

Size = int | tuple[int, int]


class PretrainKind:
    """A kind of input that a pretrainer learns from; one subclass per kind, in `KINDS`."""

    def build(
        self,
        backbone: str | Path | nn.Module,
        *,
        pretrained: bool | None,
        weights: str | Path | None,
        in_chans: int | None,
        size: Size | None,
    ) -> Backbone:
        """Build the net, or let a finished one pass through."""
        raise NotImplementedError

    def spec_of(self, net: Backbone) -> DataSpec:
        """Answer with what unlabelled data for a net say."""
        raise NotImplementedError

    def preprocess(self, net: Backbone) -> nn.Module:
        """Build what stands between batches and net."""
        raise NotImplementedError

    def check_data(self, data: Data, net: Backbone) -> None:
        """Refuse data that are labelled, of another kind, or do not fit the net.

        Raises:
            InvalidValueError: They do not fit.
        """
        raise NotImplementedError

    def samples(
        self, inputs: Any, spec: DataSpec, *, image: str | None, text: Columns | None
    ) -> Inputs:
        """Turn what a user wants embedded into samples. Any: whatever holds inputs."""
        raise NotImplementedError

    def labelled(self, source: str | Path | Data) -> Data:
        """Turn what a user wants features to be measured on into labelled data."""
        raise NotImplementedError

    def classifier(self, net: Backbone, classes: Sequence[str]) -> Classifier:
        """Build the task that is fine-tuned on labels."""
        raise NotImplementedError


class Pictures(PretrainKind):
    """Pictures: nets start from random weights, and small pictures change them."""

    def build(
        self,
        backbone: str | Path | nn.Module,
        *,
        pretrained: bool | None,
        weights: str | Path | None,
        in_chans: int | None,
        size: Size | None,
    ) -> Backbone:
        """Build the net; one that is called by a name starts from random weights."""
        if isinstance(backbone, Backbone):
            given = {"pretrained": pretrained, "weights": weights, "size": size}
            check_untouched(backbone, {**given, "in_chans": in_chans})
            net = backbone
        else:
            named = isinstance(backbone, str) and provider("image").has(backbone)
            if pretrained is None and weights is None and named:
                pretrained = False
            wanted = ImageDataSpec(in_chans=3 if in_chans is None else in_chans, size=size)
            net = create(backbone, wanted, pretrained=pretrained, weights=weights)
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


class Texts(PretrainKind):
    """Texts: nets go on from trained weights, where there are."""

    def build(
        self,
        backbone: str | Path | nn.Module,
        *,
        pretrained: bool | None,
        weights: str | Path | None,
        in_chans: int | None,
        size: Size | None,
    ) -> Backbone:
        """Build the net."""
        if in_chans is not None or size is not None:
            raise InvalidValueError("in_chans= and size= are of pictures; these are texts.")
        if isinstance(backbone, Backbone):
            check_untouched(backbone, {"pretrained": pretrained, "weights": weights})
            return backbone
        return create(backbone, TextDataSpec(), pretrained=pretrained, weights=weights)

    def spec_of(self, net: Backbone) -> DataSpec:
        """Answer with the usual name of the column; data that are learnt from replace it."""
        return TextDataSpec()

    def preprocess(self, net: Backbone) -> nn.Module:
        """Hand tokens on."""
        return Unchanged()

    def check_data(self, data: Data, net: Backbone) -> None:
        """Refuse labelled data and other kinds."""
        if not isinstance(data, TextData) or data.classes:
            raise InvalidValueError(
                f"This pretrainer reads texts without labels, got {type(data).__name__}. Make it "
                "with SSLPretrainer.from_texts."
            )

    def samples(
        self, inputs: Any, spec: DataSpec, *, image: str | None, text: Columns | None
    ) -> Inputs:
        """Turn texts into samples."""
        if image is not None:
            raise InvalidValueError(f"image={image!r} names a column of pictures; these are texts.")
        return samples_of_texts(inputs, _text_spec(spec), text=text)

    def labelled(self, source: str | Path | Data) -> Data:
        """Take `TextData`, or read a folder with one subfolder of text files per class."""
        return source if isinstance(source, Data) else TextData.from_folders(source)

    def classifier(self, net: Backbone, classes: Sequence[str]) -> Classifier:
        """Build a `TextClassifier`."""
        return TextClassifier(net, classes=classes)


KINDS: dict[Kind, PretrainKind] = {"image": Pictures(), "text": Texts()}
"""One row per kind of input."""

_WORDS = {
    STEM: "with a first convolution of 3x3 that halves nothing, and without max-pool",
    "patch_size": "cut into 8x8 patches",
    "": "with its own stem",
}


def _text_spec(spec: DataSpec) -> TextDataSpec:
    if not isinstance(spec, TextDataSpec):
        raise InvalidValueError(f"Expected what texts tell, got {spec}.")
    return spec
