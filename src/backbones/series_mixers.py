"""Nets that mix steps with covariates: TiDE and TSMixer."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..specs import COVARIATES, CovariateKind
from .series_mlp import silent
from .series_net import WindowNet, WindowShape

Known = Mapping[CovariateKind, Tensor]


class DenseBlock(nn.Module):
    """A hidden layer beside a straight line, and a norm.

    Args:
        before: Numbers that go in.
        after: Numbers that come out.
        width: Of the hidden layer.
        dropout: Share of numbers that are left out in training.
        is_last: Whether what comes out is the forecast: without norm, and zero at first.
    """

    def __init__(
        self, before: int, after: int, *, width: int, dropout: float, is_last: bool = False
    ) -> None:
        super().__init__()
        out, line = nn.Linear(width, after), nn.Linear(before, after)
        if is_last:
            out, line = silent(out), silent(line)
        self.hidden = nn.Sequential(nn.Linear(before, width), nn.ReLU(), out, nn.Dropout(dropout))
        self.line = line
        self.norm = nn.Identity() if is_last else nn.LayerNorm(after)

    def forward(self, values: Tensor) -> Tensor:
        """Map (..., before) to (..., after)."""
        mapped: Tensor = self.norm(self.hidden(values) + self.line(values))
        return mapped


class TiDE(WindowNet):
    """TiDE (Das et al. 2023, arXiv:2304.08424): dense layers over a window and its covariates.

    Covariates are projected step by step, encoded together with the window and the static ones,
    and those of each future step enter its forecast once more.

    Args:
        shape: Of a window.
        width: Of the hidden layers.
        num_encoders: Blocks of the encoder.
        num_decoders: Blocks of the decoder.
        projected: Numbers that the covariates of a step become.
        decoded: Numbers that the decoder says of a step.
        decoder_width: Hidden layer of what forecasts a step.
        dropout: Share of numbers that are left out in training.
    """

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset(COVARIATES)
    defaults: ClassVar[Mapping[str, object]] = {
        "width": 256,
        "num_encoders": 2,
        "num_decoders": 2,
        "projected": 4,
        "decoded": 8,
        "decoder_width": 64,
        "dropout": 0.1,
    }

    def __init__(
        self,
        shape: WindowShape,
        *,
        width: int = 256,
        num_encoders: int = 2,
        num_decoders: int = 2,
        projected: int = 4,
        decoded: int = 8,
        decoder_width: int = 64,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.shape = shape
        behind, ahead = (projected if count else 0 for count in (shape.past, shape.future))
        steps = shape.context + shape.horizon
        self.project_past, self.project_future = (
            DenseBlock(count, projected, width=decoder_width, dropout=dropout) if count else None
            for count in (shape.past, shape.future)
        )
        seen = shape.context * (1 + behind) + steps * ahead + shape.static
        sizes = [seen, *[width] * (num_encoders + num_decoders - 1), decoded * shape.horizon]
        self.dense = nn.Sequential(
            *(
                DenseBlock(before, after, width=width, dropout=dropout)
                for before, after in pairwise(sizes)
            )
        )
        self.step = DenseBlock(
            decoded + ahead, 1, width=decoder_width, dropout=dropout, is_last=True
        )
        self.line = silent(nn.Linear(shape.context, shape.horizon))

    def forward(self, past: Tensor, known: Known | None = None) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context) and covariates by kind."""
        known = known or {}
        parts, ahead = [past], None
        if self.project_past is not None:
            parts.append(self.project_past(known["past"].to(past.dtype)).flatten(1))
        if self.project_future is not None:
            projected = self.project_future(known["future"].to(past.dtype))
            ahead = projected[:, self.shape.context :]
            parts.append(projected.flatten(1))
        if self.shape.static:
            parts.append(known["static"].to(past.dtype))
        decoded = self.dense(torch.cat(parts, dim=1)).unflatten(1, (self.shape.horizon, -1))
        if ahead is not None:
            decoded = torch.cat([decoded, ahead], dim=2)
        forecast: Tensor = self.step(decoded)[..., 0] + self.line(past)
        return forecast


class MixerBlock(nn.Module):
    """Mix the steps of each feature, then the features of each step.

    Args:
        steps: Of a window.
        features: Numbers of a step.
        width: Of the hidden layer over features.
        dropout: Share of numbers that are left out in training.
    """

    def __init__(self, steps: int, features: int, *, width: int, dropout: float) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(2))
        self.over_steps = nn.Sequential(nn.Linear(steps, steps), nn.ReLU(), nn.Dropout(dropout))
        self.over_features = nn.Sequential(
            nn.Linear(features, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, features),
            nn.Dropout(dropout),
        )

    def forward(self, values: Tensor) -> Tensor:
        """Mix (B, steps, features)."""
        first, second = self.norms
        values = values + self.over_steps(first(values).transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = values + self.over_features(second(values))
        return mixed


class TSMixer(WindowNet):
    """TSMixer (Chen et al. 2023, arXiv:2303.06053): steps and features mixed in turns.

    Features are a series and its covariates, as in the paper's TSMixer-Ext; other series are not
    among them, since channels are series of their own here. A linear map goes from the mixed past
    to the horizon, where covariates that are known ahead are mixed in.

    Args:
        shape: Of a window.
        num_blocks: Over the past, and as many over the horizon.
        width: Of hidden layers, and features of a step.
        dropout: Share of numbers that are left out in training.
    """

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset(COVARIATES)
    defaults: ClassVar[Mapping[str, object]] = {"num_blocks": 2, "width": 32, "dropout": 0.1}

    def __init__(
        self, shape: WindowShape, *, num_blocks: int = 2, width: int = 32, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.shape = shape
        self.enter = nn.Linear(1 + shape.past + shape.future + shape.static, width)
        self.blocks = nn.ModuleList(
            MixerBlock(shape.context, width, width=2 * width, dropout=dropout)
            for _ in range(num_blocks)
        )
        self.over = nn.Linear(shape.context, shape.horizon)
        self.join = nn.Linear(width + shape.future + shape.static, width)
        self.ahead = nn.ModuleList(
            MixerBlock(shape.horizon, width, width=2 * width, dropout=dropout)
            for _ in range(num_blocks)
        )
        self.line = silent(nn.Linear(shape.context, shape.horizon))
        self.step = silent(nn.Linear(width, 1))

    def forward(self, past: Tensor, known: Known | None = None) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context) and covariates by kind."""
        entries = {kind: value.to(past.dtype) for kind, value in (known or {}).items()}
        context, horizon = self.shape.context, self.shape.horizon
        behind, ahead = [past[..., None]], []
        if "past" in entries:
            behind.append(entries["past"])
        if "future" in entries:
            behind.append(entries["future"][:, :context])
            ahead.append(entries["future"][:, context:])
        if "static" in entries:
            static = entries["static"][:, None]
            behind.append(static.expand(-1, context, -1))
            ahead.append(static.expand(-1, horizon, -1))
        values = self.enter(torch.cat(behind, dim=2))
        for block in self.blocks:
            values = block(values)
        values = self.over(values.transpose(1, 2)).transpose(1, 2)
        values = self.join(torch.cat([values, *ahead], dim=2))
        for block in self.ahead:
            values = block(values)
        forecast: Tensor = self.step(values)[..., 0] + self.line(past)
        return forecast
