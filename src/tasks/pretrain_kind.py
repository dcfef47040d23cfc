"""PretrainKind: what differs between pretraining on pictures, on texts and on series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from ..backbones import Backbone
from ..data import Data
from ..data.inputs import Inputs
from ..data.text_sources import Columns
from ..errors import InvalidValueError
from ..specs import DataSpec
from .classifier import Classifier

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
        for name in names:
            value = getattr(self, name)
            if value is not None:
                raise InvalidValueError(f"{name}={value!r}: {what}. Leave it out.")


class PretrainKind:
    """A kind of input that a pretrainer learns from; one subclass per kind, in ``KINDS``."""

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
