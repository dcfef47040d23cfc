"""Encoders of series: what is pretrained without labels, and then forecasts below a fresh head."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..errors import BackboneError, InvalidValueError, unknown_name
from ..specs import SeriesDataSpec, SeriesSpec
from .base import Backbone, Block
from .blocks import make_blocks, partition
from .registry import Request
from .series_families import (
    KINDS,
    LAYOUT,
    folder_config,
    kind_of,
    made_of,
    new_config,
    own_context,
    read,
    record,
    series_of,
)
from .series_net import LOSSES, WINDOW, scaled, window_units
from .series_transformers import build as build_forecasting
from .sources import NET, Config
from .weights import Weights, below, load

PATCH = 12
"""Steps of a patch of an untrained encoder, as in the self-supervised part of arXiv:2211.14730,
where patches do not overlap: the neighbours of a hidden one would tell what is in it."""

_OF_MASKS = (
    "do_mask_input",
    "mask_type",
    "random_mask_ratio",
    "num_forecast_mask_patches",
    "channel_consistent_masking",
    "unmasked_channel_indices",
    "mask_value",
    "masked_loss",
)
_ENCODER, _INNER, _HEAD = "model.", "inner.", "head."


class SeriesEncoder(Backbone):
    """A net of transformers below its forecasts: windows of series to a state for each patch.

    Windows are put into units of their own as they are when the net forecasts, so that its states
    are the same then.

    Args:
        net: The net, ``PatchTSTModel`` or ``PatchTSMixerModel``.
        input_spec: How much of a series it sees; its horizon is 0.
        config: Plain values from which it is made again; with ``model_config`` and ``options``.
        pretrained: Whether it has been trained.
    """

    input_spec: SeriesSpec
    inputs = ("past",)

    def __init__(
        self, net: nn.Module, *, input_spec: SeriesSpec, config: Config, pretrained: bool
    ) -> None:
        self.model_config: Any = made_of(config["model_config"])  # Any: a PretrainedConfig
        super().__init__(
            input_spec=input_spec,
            num_features=int(self.model_config.d_model),
            config=config,
            pretrained=pretrained,
        )
        self.net = net
        self._masking = _Masking()
        # Where transformers has a masking of its own, in nets that rebuild hidden patches.
        net.masking, net.do_mask_input = self._masking, True  # type: ignore[assignment]

    @property
    def patch_steps(self) -> int:
        """Steps of a patch."""
        return int(self.model_config.patch_length)

    @property
    def stride_steps(self) -> int:
        """Steps from one patch to the next."""
        return int(self.model_config.patch_stride)

    @property
    def num_patches(self) -> int:
        """Number of patches of a window, L."""
        return (self.input_spec.context_steps - self.patch_steps) // self.stride_steps + 1

    def forward(self, *tensors: Tensor) -> Tensor:
        """Average the states of the patches of windows (B, context_steps), to (B, F)."""
        return self.states(*tensors).mean(1)

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with the states of patches, (B, L, F)."""
        return self.encode(tensors[0], None)[0]

    def encode(self, past: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Encode windows of which some patches cannot be seen.

        Args:
            past: The windows, (B, context_steps).
            hidden: Which patches are zero to the net, (B, L) of bool; None for none.

        Returns:
            States, (B, L, F), and the true patches in units of their windows, (B, L, patch_steps).
        """
        center, units = window_units(past, center=LAYOUT["center"], spread=LAYOUT["spread"])
        with self._masking.hiding(hidden):
            output = self.net(scaled(past, center, units)[..., None])
        return output.last_hidden_state[:, 0], output.patch_input[:, 0]

    def patches(self, values: Tensor) -> Tensor:
        """Cut what stands beside windows (B, context_steps) as they are, (B, L, patch_steps)."""
        cut: nn.Module = getattr(self.net, "patchifier", None) or self.net.patching  # type: ignore[assignment]
        answer: Tensor = cut(values[..., None])
        return answer[:, 0]

    def rebuilding_head(self) -> nn.Module:
        """Build transformers' own head from states to patches, with random weights."""
        name = kind_of(self.config["model_config"]).pretraining
        whole = getattr(transformers, str(name))(made_of(self.config["model_config"]))
        head: nn.Module = whole.head
        return head

    @property
    def blocks(self) -> list[Block]:
        """The layers from the input side on."""
        return make_blocks(self.net, partition(self.net), prefix=NET)


class _Masking(nn.Module):
    """Put zeros in the place of the patches that are named for this call; of none by default."""

    def __init__(self) -> None:
        super().__init__()
        self._hidden: Tensor | None = None

    @contextmanager
    def hiding(self, hidden: Tensor | None) -> Iterator[None]:
        """Hide patches, (B, L) of bool, from what is encoded meanwhile."""
        self._hidden = hidden
        try:
            yield
        finally:
            self._hidden = None

    def forward(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with patches (B, 1, L, P) without the hidden ones, and which these are."""
        if self._hidden is None:
            return patches, torch.zeros_like(patches[..., 0], dtype=torch.bool)
        hidden = self._hidden[:, None]
        return patches.masked_fill(hidden[..., None], 0.0), hidden


def encoders() -> list[str]:
    """List the names of nets for series that can be pretrained."""
    return [name for name, kind in KINDS.items() if kind.encoder is not None]


def encoder_of_name(name: str, request: Request, context: int) -> SeriesEncoder:
    """Build an encoder by the name of its family.

    Args:
        name: Of the registry.
        request: What is asked for; with a horizon of 0.
        context: Steps that it sees.

    Raises:
        BackboneError: There is none below the net, or it cannot be built as asked.
    """
    _check_can(name)
    if request.pretrained and request.weights is None:
        raise BackboneError(
            f"There are no trained weights for {name!r}. Leave pretrained= out, or name weights=, "
            "a folder of transformers, or a saved pretrainer."
        )
    options = dict(request.options or {})
    wrong = [option for option in options if option in _OF_MASKS]
    if wrong:
        raise BackboneError(
            f"options={{{wrong[0]!r}: ...}} is not the net's to decide here: what is hidden, the "
            "method says, as in SSLPretrainer(..., method=MaskedPatches(share=0.4))."
        )
    loss = str(options.pop("loss", WINDOW["loss"]))
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    data, patch = series_of(request), options.get("patch_length", max(1, min(PATCH, context // 4)))
    sizes = {"patch_length": patch, "patch_stride": patch, **options}
    config = record(name, data, new_config(name, data, context, sizes), loss)
    spec = SeriesSpec(context_steps=context, horizon_steps=0)
    return build_encoder(config, spec, request.weights, pretrained=request.weights is not None)


def encoder_of_folder(folder: Path, request: Request) -> SeriesEncoder:
    """Take the encoder out of a folder of transformers, with its weights unless others are asked.

    Raises:
        BackboneError: The folder holds no net with an encoder, or ``options`` are given.
    """
    if request.options or request.preprocessing:
        raise BackboneError(
            "options= and context_steps cannot change a net that is trained already. Leave them "
            f"out, or name a family to train a new one: {', '.join(encoders())}."
        )
    model_config = folder_config(folder)
    data, kind = series_of(request), kind_of(model_config)
    name = next(n for n, one in KINDS.items() if one is kind)
    _check_can(name)
    spec = SeriesSpec(context_steps=own_context(model_config, data), horizon_steps=0)
    weights = request.weights
    if weights is None and request.pretrained is not False:
        weights = _below_head(read(folder, model_config), "")
    config = record(name, data, model_config, str(WINDOW["loss"]))
    return build_encoder(config, spec, weights, pretrained=weights is not None)


def build_encoder(
    config: Config, spec: SeriesSpec, weights: Weights | None, *, pretrained: bool
) -> SeriesEncoder:
    """Build a recorded encoder, random or with weights, which load strictly.

    Raises:
        BackboneError: The config cannot be built.
        InvalidValueError: It sees another number of steps.
    """
    kind, made = kind_of(config["model_config"]), made_of(config["model_config"])
    own = int(getattr(made, kind.context))
    if spec.context_steps != own:
        raise InvalidValueError(
            f"context={spec.context_steps}: {config['name']!r} sees {own} steps. Leave context= "
            "out."
        )
    try:
        net = getattr(transformers, str(kind.encoder))(made)
    except (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise BackboneError(
            f"{config['name']!r} could not be built ({type(error).__name__}: {error})."
        ) from error
    encoder = SeriesEncoder(net, input_spec=spec, config=config, pretrained=pretrained)
    if weights is not None:
        load(net, weights)
    return encoder


def other_form(
    config: Config, spec: SeriesSpec, weights: Weights | None, data: SeriesDataSpec
) -> Backbone:
    """Build what forecasts around a recorded encoder, or take the encoder out of what forecasts.

    Args:
        config: Of the recorded net.
        spec: What it sees; its horizon is 0 if it is an encoder.
        weights: Of the recorded net; None for random ones.
        data: What the new net is for; its horizon is 0 if that is to be an encoder.

    Raises:
        BackboneError: There is no encoder below the recorded net.
        WeightsError: A tensor is missing, unexpected or of another shape.
    """
    _check_can(str(config["name"] or config.get("module")), config)
    pretrained = weights is not None
    seen = replace(spec, horizon_steps=data.horizon_steps)
    model_config = {**config["model_config"], "prediction_length": data.horizon_steps}
    made = record(config["name"], data, model_config, str(config["options"]["loss"]))
    if not data.horizon_steps:
        body = None if weights is None else _below_head(weights, _INNER)
        return build_encoder(made, seen, body, pretrained=pretrained)
    net = build_forecasting({**made, "fresh_head": True}, seen, None, pretrained=pretrained)
    inner = net.get_submodule("net.inner")
    if weights is not None:
        load(inner.get_submodule("model"), weights)
    with torch.no_grad():  # as other heads: before it has learnt, it forecasts a window's mean
        for parameter in inner.get_submodule("head").parameters():
            parameter.zero_()
    return net


def _below_head(weights: Weights, prefix: str) -> Weights:
    """Leave the head out, and call what is below it as the encoder does; the rest stays."""
    state = weights.state
    body = below(state, prefix + _ENCODER)
    known = (prefix + _ENCODER, prefix + _HEAD)
    rest = {name: value for name, value in state.items() if not name.startswith(known)}
    return weights.with_state({**body, **rest})


def _check_can(name: str, config: Mapping[str, Any] | None = None) -> None:  # Any: JSON values
    known = config is None or config.get("source") == "transformers"
    if not known or name not in encoders():
        raise BackboneError(
            f"{name!r} has no encoder that could be pretrained. Those that have one: "
            f"{', '.join(encoders())}."
        )
