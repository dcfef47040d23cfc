"""The library's own small net: for pictures of 32 to 64 pixels, for tests and the demo."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from ..specs import ImageSpec
from .registry import register

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)
_SPEC = ImageSpec(size=(32, 32), mean=CIFAR_MEAN, std=CIFAR_STD, crop_pct=1.0)
_WIDTHS = (32, 64, 112, 176)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut; He et al., arXiv:1512.03385."""

    def __init__(self, in_width: int, width: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        changes = stride != 1 or in_width != width
        self.shortcut = nn.Conv2d(in_width, width, 1, bias=False) if changes else nn.Identity()
        self.shrink = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()

    def forward(self, image: Tensor) -> Tensor:
        """Turn a map, (B, C, H, W), into one of another width, (B, F, h, w)."""
        inner = functional.relu(self.norm1(self.conv1(image)))
        outer: Tensor = self.norm2(self.conv2(inner)) + self.shortcut(self.shrink(image))
        return functional.relu(outer)


class TinyNet(nn.Module):
    """A stem and four residual stages; the last map of a 32 pixel picture is 4x4."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, _WIDTHS[0], 3, padding=1, bias=False),
            nn.BatchNorm2d(_WIDTHS[0]),
            nn.ReLU(),
        )
        widths = (_WIDTHS[0], *_WIDTHS)
        self.stages = nn.Sequential(
            *(
                ResidualBlock(widths[index], width, stride=1 if index == 0 else 2)
                for index, width in enumerate(_WIDTHS)
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Turn pictures, (B, C, H, W), into a map of features, (B, F, h, w)."""
        features: Tensor = self.stages(self.stem(image))
        return features


@register(
    "mealkit_tiny.v1", input=_SPEC, weights="mealkit_tiny.v1.safetensors", licence="Apache-2.0"
)
def mealkit_tiny_v1() -> nn.Module:
    """Residual net of 0.7 M parameters."""
    return TinyNet()
