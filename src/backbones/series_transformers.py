"""Nets for series from transformers: PatchTST and PatchTSMixer to train, TimesFM as it comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from ..errors import BackboneError, InvalidValueError, unknown_name
from ..specs import SeriesDataSpec, SeriesSpec
from .base import Block
from .blocks import make_blocks, partition
from .hub import is_hub_id
from .registry import BackboneInfo, Request
from .series_families import (
    KINDS,
    MOST_CONTEXT,
    folder_config,
    from_hub,
    kind_of,
    made_of,
    new_config,
    own_context,
    read,
    record,
    series_of,
)
from .series_net import LOSSES, WINDOW, SeriesNet, WindowNet
from .sources import NET, Config
from .transformers_net import json_of
from .weights import Weights, load

_HEADS = ("head.", "output_projection_point.", "output_projection_quantiles.")
_PRETRAINED_LR = 1e-4
_MOST_ROWS = 128


Once = Callable[[Any, Tensor, int], Tensor]
"""Asks a net once: windows (B, L), steps that are wanted, to as many steps as it forecasts."""


class Wrapped(WindowNet):
    """A net of another library, from windows (B, L) to forecasts (B, horizon_steps).

    Args:
        inner: The net.
        once: How it is asked.
        horizon: How many steps are wanted; more than it forecasts at once are rolled out.
    """

    def __init__(self, inner: nn.Module, *, once: Once, horizon: int) -> None:
        super().__init__()
        self.inner, self._once, self._horizon = inner, once, horizon

    def forward(self, past: Tensor) -> Tensor:
        """Forecast, in the units of the windows."""
        context, seen, answers, count = past.shape[1], past, [], 0
        while count < self._horizon:
            answers.append(self._once(self.inner, seen[:, -context:], self._horizon - count))
            count += answers[-1].shape[1]
            seen = torch.cat([seen, answers[-1]], dim=1)
        return torch.cat(answers, dim=1)[:, : self._horizon]


def _ask_timesfm(net: Any, past: Tensor, horizon: int) -> Tensor:  # Any: a net of transformers
    patch = int(net.config.patch_length)
    output = net(
        past_values=past,
        # All windows of a call are equally long, so that what fills up the first patch is the same
        # whatever else is in the batch; the default is 16,384 steps for each.
        forecast_context_len=math.ceil(past.shape[1] / patch) * patch,
        truncate_negative=False,  # decided by the smallest value of the whole batch
    )
    answer: Tensor = output.mean_predictions
    return answer


def _ask_patches(net: Any, past: Tensor, horizon: int) -> Tensor:  # Any: a net of transformers
    output = net(past_values=past[..., None])
    if net.config.loss == "mse":
        answer: Tensor = output.prediction_outputs[..., 0]
        return answer
    made = net.distribution_output.distribution(
        output.prediction_outputs, loc=output.loc, scale=output.scale
    )
    mean: Tensor = made.mean[..., 0]
    return mean


class TransformersSeries(SeriesNet):
    """A net of transformers as a backbone: trained already, or to be trained.

    Args:
        net: The net.
        input_spec: How much of a series it sees.
        config: Plain values from which it is made again; with ``model_config`` and ``options``.
        pretrained: Whether it has been trained.
        any_length: Whether it takes windows that are shorter than what it was built for.
        heads: How the names of parameters start that train in every strategy.
    """

    def __init__(
        self,
        net: Wrapped,
        *,
        input_spec: SeriesSpec,
        config: Config,
        pretrained: bool,
        any_length: bool,
        heads: tuple[str, ...],
    ) -> None:
        super().__init__(net, input_spec=input_spec, config=config, pretrained=pretrained)
        self._any_length, self._heads = any_length, heads
        if any_length:
            self.inputs = ("past", "history")
        if pretrained:
            self.most_rows = _MOST_ROWS

    @property
    def default_lr(self) -> float:
        """Peak learning rate where nobody gives one: lower for what forecasts already."""
        forecasts = self.pretrained and not self.head_is_fresh
        return _PRETRAINED_LR if forecasts else WindowNet.lr

    @property
    def needs_steps(self) -> int:
        """Steps that must precede a forecast."""
        return 2 if self._any_length else self.input_spec.context_steps

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast, (B, horizon): each window from as much of it as is known of its series."""
        if not self._any_length or horizon > self.horizon_steps:
            return super().forecast(*tensors, horizon=horizon)
        past, context = tensors[0], tensors[0].shape[1]
        known = tensors[1].clamp(min=1, max=context)
        answer = past.new_zeros(len(past), horizon)
        for steps in sorted(set(known.tolist())):
            rows = known == steps
            answer[rows] = super().forecast(
                past[rows][:, context - steps :], tensors[1][rows], horizon=horizon
            )
        return answer

    @property
    def blocks(self) -> list[Block]:
        """The layers from the input side on, without the head that forecasts."""
        inner: nn.Module = self.net.inner  # type: ignore[assignment]
        groups = [
            [name for name in group if not name.startswith(self._heads)]
            for group in partition(inner)
        ]
        return make_blocks(inner, [group for group in groups if group], prefix=f"{NET}inner.")


class TransformersSeriesSource:
    """The families by their names, hub ids, and folders with a ``config.json``."""

    prefix = "transformers"

    def names(self) -> list[str]:
        """List the families."""
        return list(KINDS)

    def has(self, name: str) -> bool:
        """Say whether the name is a family's, or has the form of a hub id: the hub is not asked."""
        return name in KINDS or (is_hub_id(name) and not Path(name).is_dir())

    def has_weights(self, name: str) -> bool:
        """Say whether there are trained weights; a hub id without them would be an error."""
        return name not in KINDS or KINDS[name].hub is not None

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a net, as it is built for one step ahead; of hub ids, from their config."""
        data = SeriesDataSpec(horizon_steps=1)
        with torch.device("meta"):
            net = self.from_name(name, Request(data=data, pretrained=False), MOST_CONTEXT)
        hub = KINDS[name].hub if name in KINDS else name
        return BackboneInfo(
            name=name,
            kind="series",
            source=self.prefix,
            num_parameters=sum(parameter.numel() for parameter in net.parameters()),
            num_features=net.num_features,
            input=net.input_spec,
            licence="Apache-2.0" if name in KINDS and hub else None,
            weights=None if hub is None else f"Hugging Face hub id {hub}",
        )

    def from_name(self, name: str, request: Request, context: int) -> TransformersSeries:
        """Build a net by its name.

        Args:
            name: Of a family, or a hub id.
            request: What is asked for.
            context: Steps that an untrained net sees.

        Raises:
            BackboneError: Weights or options are asked for that there are not.
        """
        hub = KINDS[name].hub if name in KINDS else name
        pretrained = request.pretrained is not False and hub is not None
        if request.pretrained and hub is None:
            raise BackboneError(
                f"{name!r} is trained on your series, in finetune. For trained weights name a hub "
                "id or a folder of transformers in its place."
            )
        if hub is not None and (pretrained or name not in KINDS) and request.weights is None:
            return self.from_folder(from_hub(hub), request, name=name)
        data, options = series_of(request), dict(request.options or {})
        loss = str(options.pop("loss", WINDOW["loss"]))
        if loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES)
        model_config = new_config(name, data, context, options)
        spec = SeriesSpec(context_steps=context, horizon_steps=data.horizon_steps)
        trained = request.weights is not None
        config = record(name, data, model_config, loss)
        return build(config, spec, request.weights, pretrained=trained)

    def owns(self, folder: Path) -> bool:
        """Say whether the folder has transformers' form."""
        return "model_type" in json_of(folder / "config.json")

    def from_folder(
        self, folder: Path, request: Request, *, name: str | None = None
    ) -> TransformersSeries:
        """Build the net that a folder describes, with its weights unless others are asked for."""
        if request.options:
            raise BackboneError(
                f"options={dict(request.options)} cannot change a net that is trained already. "
                f"Leave them out, or name a family to train a new one: {', '.join(KINDS)}."
            )
        data, model_config = series_of(request), folder_config(folder)
        context = dict(request.preprocessing or {}).get("context_steps")
        steps = int(str(context)) if context is not None else own_context(model_config, data)
        spec = SeriesSpec(context_steps=steps, horizon_steps=data.horizon_steps)
        family = next(n for n, kind in KINDS.items() if kind is kind_of(model_config))
        config = record(name or family, data, model_config, str(WINDOW["loss"]))
        weights = request.weights
        if weights is None and request.pretrained is not False:
            weights = read(folder, model_config)
        return build(config, spec, weights, pretrained=weights is not None)

    def build(
        self, config: Config, spec: SeriesSpec, weights: Weights | None, *, pretrained: bool
    ) -> TransformersSeries:
        """Build a recorded net; its weights are those of the net itself."""
        net = build(config, spec, None, pretrained=pretrained)
        if weights is not None:
            load(net.get_submodule("net"), weights)
        return net


def build(
    config: Config, spec: SeriesSpec, weights: Weights | None, *, pretrained: bool
) -> TransformersSeries:
    """Build the net of a config, random or with weights, which load strictly.

    Raises:
        BackboneError: The config cannot be built, or mixes channels.
        InvalidValueError: It sees another number of steps.
    """
    kind, made = kind_of(config["model_config"]), made_of(config["model_config"])
    own = int(getattr(made, kind.context))
    if spec.context_steps > own or (spec.context_steps < own and not kind.any_length):
        raise InvalidValueError(
            f"context={spec.context_steps}: {config['name']!r} sees {own} steps"
            f"{' at most' if kind.any_length else ''}. Leave context= out."
        )
    try:
        inner = getattr(transformers, kind.net)(made)
    except (TypeError, ValueError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise BackboneError(
            f"{config['name']!r} could not be built ({type(error).__name__}: {error})."
        ) from error
    if weights is not None:
        load(inner, weights)
    once = _ask_timesfm if kind.any_length else _ask_patches
    return TransformersSeries(
        Wrapped(inner, once=once, horizon=spec.horizon_steps),
        input_spec=spec,
        config=config,
        pretrained=pretrained,
        any_length=kind.any_length,
        heads=_HEADS,
    )
