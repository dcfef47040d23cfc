"""Families of nets for series in transformers: what configs say, and where weights are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig

from ..errors import BackboneError, InvalidValueError, unknown_name
from ..specs import SeriesDataSpec
from .hub import fetch_description
from .registry import Request
from .series_net import WINDOW, Options
from .sources import Config
from .transformers_net import json_of, read_folder
from .weights import Weights

_FILES = ("*.json", "*.safetensors")
LAYOUT = {"center": "mean", "spread": "deviation"}
"""The nets normalise windows themselves, by mean and deviation; done before, that changes nothing,
but windows that never change come out as they are."""


@dataclass(frozen=True)
class _Kind:
    """A family of nets of transformers.

    Args:
        model_type: As transformers calls it.
        net: Name of the class that forecasts.
        hub: Where trained weights are; None for nets that are trained on one's own series.
        context: The config's value for how many steps are seen.
        horizon: The config's value for how many steps are forecast at once.
        any_length: Whether it takes fewer steps than it was built for as well.
        defaults: Values of the config in which untrained nets differ from those of transformers.
        encoder: Name of the class below the head; None where it cannot be pretrained here.
        pretraining: Name of the class that rebuilds hidden patches, with the same encoder.
    """

    model_type: str
    net: str
    hub: str | None
    context: str
    horizon: str
    any_length: bool
    defaults: Mapping[str, Any]
    encoder: str | None = None
    pretraining: str | None = None


KINDS = {
    # Patches, flattened head and dropout as in arXiv:2211.14730; transformers' own defaults are
    # patches of one step and a head on their mean.
    "patchtst": _Kind(
        "patchtst",
        "PatchTSTForPrediction",
        None,
        "context_length",
        "prediction_length",
        False,
        {
            "d_model": 64,
            "num_attention_heads": 4,
            "ffn_dim": 128,
            "num_hidden_layers": 3,
            "attention_dropout": 0.0,
            "ff_dropout": 0.2,
            "positional_dropout": 0.2,
            "pooling_type": None,
        },
        "PatchTSTModel",
        "PatchTSTForPretraining",
    ),
    # Sizes of arXiv:2306.09364 for the ETT data.
    "patchtsmixer": _Kind(
        "patchtsmixer",
        "PatchTSMixerForPrediction",
        None,
        "context_length",
        "prediction_length",
        False,
        {"d_model": 48, "expansion_factor": 3, "num_layers": 3, "head_dropout": 0.2},
        "PatchTSMixerModel",
        "PatchTSMixerForPretraining",
    ),
    "timesfm-2.5": _Kind(
        "timesfm2_5",
        "TimesFm2_5ModelForPrediction",
        "google/timesfm-2.5-200m-transformers",
        "context_length",
        "horizon_length",
        True,
        {},
    ),
}
"""By the name that the registry knows."""

MOST_CONTEXT = 512
"""Steps that a trained net that takes any number of them sees, where nobody says how many."""


def series_of(request: Request) -> SeriesDataSpec:
    """Answer with what is known of the series.

    Raises:
        InvalidValueError: The request is for data of another kind.
    """
    if not isinstance(request.data, SeriesDataSpec):
        raise InvalidValueError(f"Backbones for series need a SeriesDataSpec, got {request.data}.")
    return request.data


def new_config(name: str, data: SeriesDataSpec, context: int, options: Options) -> dict[str, Any]:
    """Say what an untrained net of a family is like, for data.

    Args:
        name: Of the family.
        data: What it is built for.
        context: Steps that it sees.
        options: Values of transformers' config to change, and the ``loss``.

    Raises:
        UnknownNameError: The config has no such value.
    """
    kind = KINDS[name]
    base = AutoConfig.for_model(kind.model_type)
    values: dict[str, Any] = {**kind.defaults, kind.context: context}
    if kind.horizon == "prediction_length":
        patch = max(1, min(16, context // 4))
        values |= {"patch_length": patch, "patch_stride": max(1, patch // 2)}
        values |= {kind.horizon: data.horizon_steps, "num_input_channels": 1}
    for option, value in options.items():
        if not hasattr(base, option) or option in (kind.context, kind.horizon):
            raise unknown_name(f"option of {name!r}", option, base.to_dict())
        values[option] = value
    return {"model_type": kind.model_type, **values}


def own_context(model_config: Mapping[str, Any], data: SeriesDataSpec) -> int:
    """Answer with how many steps a trained net sees: those it was built for, or fewer."""
    kind = kind_of(model_config)
    made = made_of(model_config)
    most = int(getattr(made, kind.context))
    if not kind.any_length:
        return most
    patch = int(made.patch_length)
    wanted = min(most, MOST_CONTEXT)
    if data.length_steps:
        wanted = min(wanted, max(patch, data.length_steps // 2))
    return max(patch, wanted // patch * patch)


def kind_of(model_config: Mapping[str, Any]) -> _Kind:
    """Find the family of a config.

    Raises:
        BackboneError: It is none that forecasts series.
    """
    found = model_config.get("model_type")
    kind = next((kind for kind in KINDS.values() if kind.model_type == found), None)
    if kind is None:
        known = ", ".join(kind.model_type for kind in KINDS.values())
        raise BackboneError(
            f"Nets of transformers of the model_type {found!r} cannot forecast series here. "
            f"Known are {known}."
        )
    return kind


def from_hub(name: str) -> Path:
    """Get config and weights from the hub or its cache.

    Raises:
        WeightsError: Neither has them.
    """
    return fetch_description(name, _FILES, what="pretrained weights")


def folder_config(folder: Path) -> dict[str, Any]:  # Any: plain JSON values
    """Read what a folder says of its net, one channel of it.

    Raises:
        BackboneError: It is no net for series, or its channels have weights of their own.
    """
    values = json_of(folder / "config.json")
    if "model_type" not in values:
        raise BackboneError(
            f"{str(folder)!r} is no backbone for series: expected a config.json with a model_type, "
            "as transformers' save_pretrained writes it, or a saved task."
        )
    kind_of(values)
    shared = all(values.get(name, True) for name in ("share_embedding", "share_projection"))
    mixes = values.get("channel_attention") or values.get("mode") == "mix_channel"
    if int(values.get("num_input_channels") or 1) > 1 and (mixes or not shared):
        raise BackboneError(
            f"The net in {str(folder)!r} mixes its {values['num_input_channels']} channels or has "
            "weights of its own for each. Here channels are series of their own: expected a net "
            "that shares its weights among them."
        )
    changes = {"num_input_channels": 1, "prediction_channel_indices": None, "do_mask_input": None}
    return values | {name: value for name, value in changes.items() if name in values}


def read(folder: Path, model_config: Mapping[str, Any]) -> Weights:
    """Read a folder's weights through transformers.

    Raises:
        WeightsError: There are none, or a tensor is missing, foreign or of another shape.
    """
    kind = kind_of(model_config)
    reader = getattr(transformers, kind.net)
    return read_folder(folder, made_of(model_config), lambda name: False, kind=reader)


def record(name: str, data: SeriesDataSpec, model_config: Config, loss: str) -> dict[str, Any]:
    """Say what makes a net again."""
    return {
        "name": name,
        "source": "transformers",
        "season": data.season,
        "options": {**WINDOW, **LAYOUT, "loss": loss},
        "model_config": dict(model_config),
    }


def made_of(model_config: Mapping[str, Any]) -> Any:  # Any: a PretrainedConfig
    """Make transformers' config of plain values.

    Raises:
        BackboneError: They are not valid.
    """
    values = dict(model_config)
    kind = values.pop("model_type")
    try:
        return AutoConfig.for_model(kind, **values)
    except Exception as error:  # its checks raise kinds of their own
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(f"The config of {kind!r} is not valid: {reason}.") from error
