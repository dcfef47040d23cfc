"""A residual net of three stages for pictures of 32 pixels: quick on a CPU, without weights."""

from __future__ import annotations

from torch import nn

from ..specs import ImageSpec
from .registry import register
from .tiny import CIFAR_MEAN, CIFAR_STD, ResidualBlock

_SPEC = ImageSpec(size=(32, 32), mean=CIFAR_MEAN, std=CIFAR_STD, crop_pct=1.0)


@register("mealkit_resnet8.v1", input=_SPEC)
def mealkit_resnet8_v1(width: int = 32, stride: int = 2) -> nn.Module:
    """Stem and three residual blocks (He et al. 2015, arXiv:1512.03385); 0.3 M parameters.

    Args:
        width: Channels of the first stage; the others have two and four times as many.
        stride: Of the stem. 2 ends in a map of 4x4 and takes a quarter of the time of 1.
    """
    stages = [
        ResidualBlock(width, width, stride=1),
        ResidualBlock(width, 2 * width, stride=2),
        ResidualBlock(2 * width, 4 * width, stride=2),
    ]
    return nn.Sequential(
        nn.Sequential(
            nn.Conv2d(3, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ),
        *stages,
    )
