"""How a net of timm is built and filled, so that nothing of it stays random by accident."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import timm
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import nn

from ..errors import BackboneError
from ..specs import ImageSpec
from .image_base import adapt_state, first_conv
from .sources import Config, title
from .stem import STEM, fit_stem
from .weights import Weights, load, misfit, without

_LAX = "Error(s) in loading state_dict"
_PLACES = ("url", "file", "hf_hub_id", "hf_hub_filename", "source", "state_dict")


def construct(config: Config, spec: ImageSpec, more: Mapping[str, object]) -> nn.Module:
    """Build a net without classifier; `more` goes to timm as it is."""
    cfg = pretrained_cfg(config)
    arguments: dict[str, Any] = {  # Any: timm's own arguments
        **(config.get("model_args") or {}),
        **(config.get("options") or {}),
        "num_classes": 0,
        "in_chans": spec.in_chans,
        "pretrained_cfg": {key: value for key, value in cfg.items() if key not in _PLACES},
        **more,
    }
    if cfg.get("fixed_input_size") or "img_size" in arguments:
        arguments["img_size"] = spec.size
    return fit_stem(timm.create_model(_architecture(config), **arguments), config)


def filled(config: Config, spec: ImageSpec, weights: Weights) -> nn.Module:
    """Build a net and load weights strictly; timm alone would load laxly where classes differ."""
    if weights.exact and (weights.in_chans, weights.size) == (spec.in_chans, spec.size):
        net = construct(config, spec, {})
        load(net, weights)
        return net
    if STEM in config:
        return _filled_with_stem(config, spec, weights)
    cfg = pretrained_cfg(config)
    heads = cfg.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    size = weights.size or cfg["input_size"][1:]
    source = {"custom_load": False, "input_size": (weights.in_chans, *size)}
    state = {"num_classes": 0, "label_offset": None, "state_dict": without(weights.state, heads)}
    try:
        net = construct(config, spec, _loading({**source, **state}))
    except RuntimeError as error:
        net = _filled_whole(config, spec, weights, source, error)
    if spec.in_chans != weights.in_chans:
        _check_first_conv(net, config, spec.in_chans)
    _forget_state(net)
    return net


def _filled_with_stem(config: Config, spec: ImageSpec, weights: Weights) -> nn.Module:
    """Load weights that were trained with the same stem, and carry them over to other channels.

    Raises:
        WeightsError: They were trained with timm's own stem.
    """
    net = construct(config, spec, {})
    load(net, weights.with_state(adapt_state(weights.state, net, first_conv(net))))
    return net


def _filled_whole(
    config: Config,
    spec: ImageSpec,
    weights: Weights,
    source: Mapping[str, object],
    error: RuntimeError,
) -> nn.Module:
    """Load the source's own classifier too, then drop it.

    Weights in the layout of a paper's own code have names that timm changes while it loads, those
    of the classifier included: only after that can a classifier be told from a foreign tensor.
    """
    num_classes = pretrained_cfg(config).get("num_classes")
    fault = misfit(weights.origin, error) if _LAX in str(error) else error
    if not num_classes or "Unexpected key" not in str(error):
        raise fault
    more = _loading({**source, "state_dict": dict(weights.state)})
    try:
        net = construct(config, spec, {**more, "num_classes": num_classes})
    except RuntimeError:
        raise fault from None
    net.reset_classifier(0)  # type: ignore[operator]  # every classifier of timm has it
    return net


def _loading(overlay: Mapping[str, object]) -> dict[str, object]:
    return {"pretrained": True, "pretrained_cfg_overlay": dict(overlay)}


def _check_first_conv(net: nn.Module, config: Config, in_chans: int) -> None:
    """Refuse what timm only warns of: a first layer that it could not adapt and left random."""
    names = pretrained_cfg(config).get("first_conv") or ()
    for name in (names,) if isinstance(names, str) else names:
        layer = net.get_submodule(name)
        if isinstance(layer, nn.Conv2d) and in_chans in (1, layer.in_channels * layer.groups):
            continue
        raise BackboneError(
            f"The pretrained first layer of {title(config)} ({name}) cannot be carried over to "
            f"{in_chans} channels. Use 3 channels, another backbone, or pretrained=False."
        )


def _forget_state(net: nn.Module) -> None:
    """Drop the copy of the weights that timm keeps in the net's config."""
    for attribute in ("pretrained_cfg", "default_cfg"):
        cfg = getattr(net, attribute, None)
        if isinstance(cfg, dict):
            cfg.pop("state_dict", None)


def _architecture(config: Config) -> str:
    return str(config.get("architecture") or str(config["name"]).partition(".")[0])


def pretrained_cfg(config: Config) -> dict[str, Any]:  # Any: timm's own values
    """Answer with timm's description of the weights: recorded, or from its table."""
    if "pretrained_cfg" in config:
        base = PretrainedCfg(**config["pretrained_cfg"])
    else:
        base = get_pretrained_cfg(str(config["name"])) or PretrainedCfg()
    values: dict[str, Any] = base.to_dict()  # type: ignore[no-untyped-call]
    return values
