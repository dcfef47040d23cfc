"""Attention over a series and what is known beside it: iTransformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from ..specs import COVARIATES, CovariateKind
from .series_mixers import Known
from .series_mlp import silent
from .series_net import WindowNet, WindowShape


class ITransformer(WindowNet):
    """iTransformer (Liu et al. 2024, arXiv:2310.06625): each variable's whole window is a token.

    The tokens are a series and its covariates, since channels are series of their own here; those
    that are known ahead are embedded with their future. Without covariates there is one token, and
    the net is a residual perceptron.

    Args:
        shape: Of a window.
        width: Of a token.
        num_layers: Of the encoder.
        num_heads: Of its attention; they share the width.
        dropout: Share of numbers that are left out in training.
    """

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset(COVARIATES)
    lr: ClassVar[float] = 5e-4
    defaults: ClassVar[Mapping[str, object]] = {
        "width": 128,
        "num_layers": 2,
        "num_heads": 4,
        "dropout": 0.1,
    }

    def __init__(
        self,
        shape: WindowShape,
        *,
        width: int = 128,
        num_layers: int = 2,
        num_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(shape.context, width)
        steps = {"static": 1, "past": shape.context, "future": shape.context + shape.horizon}
        counts = {"static": shape.static, "past": shape.past, "future": shape.future}
        self.embed_known = nn.ModuleDict(
            {kind: nn.Linear(steps[kind], width) for kind in COVARIATES if counts[kind]}
        )
        # Attention has no order, so that each covariate needs a mark of its own.
        self.marks = nn.ParameterDict(
            {
                kind: nn.Parameter(0.02 * torch.randn(counts[kind], width))
                for kind in COVARIATES
                if counts[kind]
            }
        )
        layer = nn.TransformerEncoderLayer(
            width, num_heads, 2 * width, dropout, "gelu", batch_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, num_layers, enable_nested_tensor=False)
        self.output = silent(nn.Linear(width, shape.horizon))

    def forward(self, past: Tensor, known: Known | None = None) -> Tensor:
        """Forecast, (B, horizon), from windows (B, context) and covariates by kind."""
        tokens = [self.embed(past)[:, None]]
        for kind, values in (known or {}).items():
            values = values.to(past.dtype)
            rows = values[..., None] if kind == "static" else values.transpose(1, 2)
            tokens.append(self.embed_known[kind](rows) + self.marks[kind])
        forecast: Tensor = self.output(self.encoder(torch.cat(tokens, dim=1))[:, 0])
        return forecast
