"""Pretraining on texts: nets, inputs, labelled data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..backbones import Backbone, create
from ..data import Data, TextData
from ..data.inputs import Inputs
from ..data.text_inputs import samples_of_texts
from ..data.text_sources import Columns
from ..errors import InvalidValueError
from ..specs import DataSpec, TextDataSpec
from .classifier import Classifier, check_untouched
from .pretrain_kind import NetOptions, PretrainKind
from .text_classifier import TextClassifier, Unchanged


class Texts(PretrainKind):
    """Texts: nets go on from trained weights, where there are."""

    words = "texts"
    usual_method = "mlm"
    hand_over = "TextClassifier.from_csv(..., backbone=pre)"

    def build(
        self, backbone: str | Path | nn.Module, asked: NetOptions, spec: DataSpec | None = None
    ) -> Backbone:
        """Build the net."""
        asked.refuse("in_chans", "size", what="of pictures; these are texts")
        asked.refuse("context", what="the steps of a window of series; these are texts")
        given = {"pretrained": asked.pretrained, "weights": asked.weights}
        if isinstance(backbone, Backbone):
            check_untouched(backbone, given)
            return backbone
        return create(backbone, TextDataSpec(), pretrained=asked.pretrained, weights=asked.weights)

    def spec_of(self, net: Backbone) -> DataSpec:
        """Answer with the usual name of the column; data that are learnt from replace it."""
        return TextDataSpec()

    def learnt(self, spec: DataSpec, data: Data) -> DataSpec:
        """Remember the columns."""
        return data.spec

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


def _text_spec(spec: DataSpec) -> TextDataSpec:
    if not isinstance(spec, TextDataSpec):
        raise InvalidValueError(f"Expected what texts tell, got {spec}.")
    return spec
