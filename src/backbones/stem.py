"""What is changed in nets for photos so that small pictures do not end as a single dot."""

from __future__ import annotations

from typing import Any

from timm.models import is_model
from torch import nn

from ..errors import BackboneError
from .sources import Config, title

SMALL_SIDE = 64
"""Pixels up to which pictures count as small."""

STEM = "stem"
"""The option of `mealkit.backbones.create`, and the entry of a config, that says which stem."""

_SMALL = "small"
_PATCHES = 8  # of a side of a small picture, for nets that cut it into patches
_RESNETS = ("resnet", "resnext", "wide_resnet", "seresnet")


def options_for_small(name: str, side: int) -> dict[str, object]:
    """Answer with the options under which a known net takes small pictures, empty for others.

    A residual net made for photos halves a picture five times, and 32 pixels end as one. Its first
    convolution becomes one of 3x3 that halves nothing, and its max-pool is left out, as in He et
    al. 2015 (arXiv:1512.03385, section 4.2) and in Chen et al. 2020 (arXiv:2002.05709, appendix
    B.9). A vision transformer gets patches of an eighth of the side.

    Args:
        name: Of the backbone, as `create` takes it.
        side: Pixels of the picture.
    """
    prefix, _, bare = name.rpartition("/")
    if side > SMALL_SIDE:
        return {}
    if bare.startswith(_RESNETS):
        return {STEM: _SMALL}
    if bare.startswith("vit_") and "_patch" in bare and prefix in ("", "timm") and is_model(bare):
        return {"patch_size": max(1, side // _PATCHES)}
    return {}


def without_stem(config: Config) -> dict[str, Any]:  # Any: plain JSON values
    """Move the stem of a config from the options of the source library to a place of its own.

    Raises:
        BackboneError: There is no such stem.
    """
    options = dict(config.get("options") or {})
    if STEM not in options:
        return dict(config)
    stem = options.pop(STEM)
    if stem != _SMALL:
        raise BackboneError(
            f"options has {STEM}={stem!r}. Expected {_SMALL!r}, or none for the net's own."
        )
    return {**config, "options": options, STEM: stem}


def fit_stem(net: nn.Module, config: Config) -> nn.Module:
    """Give a net that was just built the stem that its config says.

    Raises:
        BackboneError: The net has no convolution and pooling of these names to replace.
    """
    if STEM not in config:
        return net
    old = getattr(net, "conv1", None)
    if not isinstance(old, nn.Conv2d) or not hasattr(net, "maxpool"):
        raise BackboneError(
            f"{title(config)} has no stem of one convolution and a max-pool, so it cannot have a "
            f"small one. Leave {STEM!r} out of the options, or choose a resnet."
        )
    net.conv1 = nn.Conv2d(old.in_channels, old.out_channels, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    net.maxpool = nn.Identity()
    return net
