"""What differs between pretraining on pictures, texts and series: nets, inputs, labelled data."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ..backbones import Backbone, create
from ..backbones.registry import describe, provider
from ..backbones.stem import SMALL_SIDE, STEM, options_for_small
from ..data import Data, ImageData, TextData
from ..data.inputs import Inputs, samples_from
from ..data.report import Report
from ..data.series_build import build_table
from ..data.text_inputs import samples_of_texts
from ..data.text_sources import Columns
from ..data.unlabelled import UnlabelledImages
from ..data.unlabelled_series import KnownWindows, UnlabelledSeries
from ..errors import InvalidValueError
from ..specs import DataSpec, ImageDataSpec, ImageSpec, Kind, SeriesDataSpec, TextDataSpec
from .backtest import read_rows_of
from .classifier import Classifier, check_untouched
from .image_classifier import ImageClassifier, Normalise
from .pretext import image_spec
from .text_classifier import TextClassifier, Unchanged

_log = logging.getLogger("mealkit")

Size = int | tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class NetOptions:
    """What a user asks of the net, beside which one; `SSLPretrainer` says what each means."""

    pretrained: bool | None = None
    weights: str | Path | None = None
    in_chans: int | None = None
    size: Size | None = None
    context: int | None = None

    def refuse(self, *names: str, what: str) -> None:
        """Refuse options that another kind of input has.

        Args:
            names: Of the options.
            what: Whose they are, and what these are.

        Raises:
            InvalidValueError: One of them was given.
        """
        given = [f"{name}=" for name in names if getattr(self, name) is not None]
        if given:
            raise InvalidValueError(f"{' and '.join(given)}: {what}. Leave it out.")


class PretrainKind:
    """A kind of input that a pretrainer learns from; one subclass per kind, in `KINDS`."""

    words: ClassVar[str]
    """The inputs, in words."""

    usual_method: ClassVar[str]
    """The method where nobody names one."""

    precision: ClassVar[str] = "auto"
    """In which it learns where nobody says otherwise."""

    precisions: ClassVar[tuple[str, ...] | None] = None
    """Those in which it can learn; None for all."""

    hand_over: ClassVar[str]
    """How a task takes what was learnt, as a user writes it."""

    def build(
        self, backbone: str | Path | nn.Module, asked: NetOptions, spec: DataSpec | None = None
    ) -> Backbone:
        """Build the net, or let a finished one pass through.

        Args:
            backbone: As `SSLPretrainer` takes it.
            asked: What is asked of it.
            spec: What the data say that are learnt from; None where there are none yet.
        """
        raise NotImplementedError

    def spec_of(self, net: Backbone) -> DataSpec:
        """Answer with what unlabelled data for a net say."""
        raise NotImplementedError

    def learnt(self, spec: DataSpec, data: Data) -> DataSpec:
        """Answer with what a pretrainer remembers of data that it learns from.

        Args:
            spec: What it has remembered so far.
            data: Which were checked.
        """
        return spec

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


class Series(PretrainKind):
    """Series: windows of them, each in units of its own; the net forecasts nothing yet."""

    words = "series"
    usual_method = "masked_patches"
    precision = "32-true"
    precisions = ("32-true",)
    hand_over = "Forecaster.from_csv(..., horizon=24, backbone=pre)"

    def build(
        self, backbone: str | Path | nn.Module, asked: NetOptions, spec: DataSpec | None = None
    ) -> Backbone:
        """Build the encoder, or take it out of a net that forecasts."""
        asked.refuse("in_chans", "size", what="of pictures; these are series")
        seen = None if asked.context is None else {"context_steps": asked.context}
        return create(
            backbone,
            SeriesDataSpec(horizon_steps=0) if spec is None else spec,
            pretrained=asked.pretrained,
            weights=asked.weights,
            preprocessing=seen,
        )

    def spec_of(self, net: Backbone) -> DataSpec:
        """Answer with what is known before there are data: next to nothing."""
        return SeriesDataSpec(horizon_steps=0)

    def learnt(self, spec: DataSpec, data: Data) -> DataSpec:
        """Remember the columns, and the grid of time."""
        return data.spec

    def preprocess(self, net: Backbone) -> nn.Module:
        """Hand windows on: the net puts them into units of their own."""
        return Unchanged()

    def check_data(self, data: Data, net: Backbone) -> None:
        """Refuse other data, and series that are too short.

        Raises:
            DataError: No series has as many steps as the net sees.
        """
        if not isinstance(data, UnlabelledSeries):
            raise InvalidValueError(
                f"This pretrainer reads series with nothing to forecast, got {type(data).__name__}."
                " Make them with mealkit.data.UnlabelledSeries: from_data(...) takes the part of "
                "SeriesData that trains, from_csv and its like read a table."
            )
        data.prepare(net.input_spec)

    def samples(
        self, inputs: Any, spec: DataSpec, *, image: str | None, text: Columns | None
    ) -> Inputs:
        """Take the last window of each series."""
        named = {"image": image, "text": text}
        given = [f"{name}={value!r}" for name, value in named.items() if value is not None]
        if given:
            raise InvalidValueError(
                f"{given[0]}: these are series, which are read by the columns that were learnt "
                "from. Leave it out."
            )
        if isinstance(inputs, UnlabelledSeries):
            return Inputs(KnownWindows.last(inputs.table), single=False)
        if not isinstance(spec, SeriesDataSpec):
            raise InvalidValueError(f"Expected what series tell, got {spec}.")
        report = Report()
        rows, kind, _ = read_rows_of(spec, inputs, report)
        dated = None if rows.times is None else spec.frequency
        table = build_table(rows, frequency=dated, season=spec.season, report=report)
        if len(report):
            _log.warning(f"{report}")
        return Inputs(KnownWindows.last(table), single=False, frame_kind=kind)

    def labelled(self, source: str | Path | Data) -> Data:
        """Refuse: series have no labels.

        Raises:
            InvalidValueError: Always; the message says how features of series are measured.
        """
        raise InvalidValueError(
            "Series have no labels to measure features on (probe=, evaluate). They are measured by "
            "forecasts of later steps: hand the net over, "
            f"task = {self.hand_over}, train it with strategy='freeze' for a linear head or with "
            "'freeze_unfreeze' for all of it, and look at task.evaluate()."
        )

    def classifier(self, net: Backbone, classes: Sequence[str]) -> Classifier:
        """Refuse, as `labelled` does."""
        raise InvalidValueError(f"Series have no classes. Hand the net over: {self.hand_over}.")


KINDS: dict[Kind, PretrainKind] = {"image": Pictures(), "text": Texts(), "series": Series()}
"""One row per kind of input."""


def kind_of(backbone: object) -> Kind:
    """Answer with what a backbone reads, as far as it can be told without building it.

    Args:
        backbone: As `SSLPretrainer` takes it. What is not known counts as a net for pictures.
    """
    inner = backbone if isinstance(backbone, Backbone) else getattr(backbone, "backbone", None)
    if isinstance(inner, Backbone):
        return inner.input_spec.kind
    if not isinstance(backbone, (str, Path)):
        return "image"
    if provider("image").has(str(backbone)):
        return "image"
    named: list[Kind] = [kind for kind in KINDS if str(backbone) in provider(kind).names()]
    return named[0] if named else _saved_kind(Path(backbone)) or "image"


def _saved_kind(folder: Path) -> Kind | None:
    """Answer with what the backbone of a saved task reads; None where there is none to be read."""
    try:
        saved = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        found = saved["backbone"]["input"]["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whoever builds the net says what is wrong with the folder
    return found if found in KINDS else None


_WORDS = {
    STEM: "with a first convolution of 3x3 that halves nothing, and without max-pool",
    "patch_size": "cut into 8x8 patches",
    "": "with its own stem",
}


def _text_spec(spec: DataSpec) -> TextDataSpec:
    if not isinstance(spec, TextDataSpec):
        raise InvalidValueError(f"Expected what texts tell, got {spec}.")
    return spec
