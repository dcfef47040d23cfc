"""Pretraining on series: nets, inputs, and why there are no labels."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ..backbones import Backbone, create
from ..data import Data
from ..data.inputs import Inputs
from ..data.report import Report
from ..data.series_build import build_table
from ..data.text_sources import Columns
from ..data.unlabelled_series import KnownWindows, UnlabelledSeries
from ..errors import InvalidValueError
from ..specs import DataSpec, SeriesDataSpec
from .classifier import Classifier
from .pretrain_kind import NetOptions, PretrainKind
from .series_inputs import read_rows_of
from .text_classifier import Unchanged

_log = logging.getLogger("mealkit")


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
        rows, form, _ = read_rows_of(spec, inputs, report)
        dated = None if rows.times is None else spec.frequency
        table = build_table(rows, frequency=dated, season=spec.season, report=report)
        if len(report):
            _log.warning(f"{report}")
        return Inputs(KnownWindows.last(table), single=False, frame_kind=form.kind)

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
