"""What all backbones for pictures share, whichever library their net comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

import torch
from timm.models import adapt_input_conv
from torch import Tensor, nn

from ..errors import BackboneError, InvalidValueError
from ..specs import ImageDataSpec, ImageSpec
from .base import Backbone, Block
from .blocks import make_blocks, partition
from .sources import NET, Config, Source, still, title


class ImageBackbone(Backbone):
    """A net that turns normalised pictures, (B, C, H, W), into features, (B, F).

    Subclasses, one per source library, say how `forward` and `states` go through the net.

    Args:
        net: What the source library built, classifier removed.
        input_spec: What the net wants to see.
        num_features: Length F of a feature vector.
        config: Plain values from which the same net is made again.
        pretrained: Whether the weights come from training.
        no_weight_decay: The net's own names of parameters without weight decay.
    """

    inputs = ("image",)
    input_spec: ImageSpec

    def __init__(
        self,
        net: nn.Module,
        *,
        input_spec: ImageSpec,
        num_features: int,
        config: Config,
        pretrained: bool,
        no_weight_decay: Iterable[str] = (),
    ) -> None:
        super().__init__(
            input_spec=input_spec,
            num_features=num_features,
            config=config,
            pretrained=pretrained,
            no_weight_decay=frozenset(NET + name for name in no_weight_decay),
        )
        self.net = net

    @property
    def blocks(self) -> list[Block]:
        """The parts of the net from the input side to the output side; together, all parameters."""
        return make_blocks(self.net, self._groups(), prefix=NET)

    def _groups(self) -> Sequence[Sequence[str]]:
        return partition(self.net)


class ImageSource(Source[ImageSpec, ImageBackbone]):
    """A library of nets for pictures. A source without names or folders keeps the defaults."""


def fit(
    own: ImageSpec, data: ImageDataSpec, preprocessing: Mapping[str, object] | None
) -> ImageSpec:
    """Change a net's own preprocessing to what the data and the user want.

    Raises:
        UnknownNameError: A name is not one of the spec's values.
        InvalidValueError: Two values contradict each other.
    """
    changes: dict[str, object] = dict(preprocessing or {})
    if data.height_width is not None:
        if "size" in changes:
            raise InvalidValueError(
                f"The size was given twice: {data.height_width} by the data and {changes['size']} "
                "in preprocessing. Give it once."
            )
        changes["size"] = data.height_width
    if isinstance(changes.get("size"), int):
        changes["size"] = (changes["size"], changes["size"])
    for name in ("mean", "std"):
        changes.setdefault(name, channels(getattr(own, name), data.in_chans))
    spec = own.replace({name: _plain(value) for name, value in changes.items()})
    if spec.in_chans != data.in_chans:
        raise InvalidValueError(
            f"mean={spec.mean} has {spec.in_chans} values and the pictures have {data.in_chans} "
            "channels. Give one value per channel."
        )
    return spec


def channels(values: Sequence[float], in_chans: int) -> tuple[float, ...]:
    """Carry statistics over to another number of channels, as the first kernel is carried over.

    One channel gets the mean over all, more channels repeat the known ones.
    """
    if in_chans == len(values):
        return tuple(values)
    if in_chans == 1:
        return (sum(values) / len(values),)
    return tuple(values[index % len(values)] for index in range(in_chans))


def first_conv(net: nn.Module) -> str | None:
    """Find the convolution that sees the picture, by its name."""
    return next((name for name, m in net.named_modules() if isinstance(m, nn.Conv2d)), None)


def adapt_state(state: Mapping[str, Tensor], net: nn.Module, name: str | None) -> dict[str, Tensor]:
    """Carry the first kernel over to the net's number of channels, by timm's rule.

    The sum over channels for one channel; repeated and rescaled for more.
    """
    adapted = dict(state)
    key = f"{name}.weight"
    if name is None or key not in state:
        return adapted
    wanted, got = net.get_submodule(name).weight.shape, state[key].shape
    if isinstance(wanted, torch.Size) and len(got) == 4 and got[1] != wanted[1]:
        adapted[key] = adapt_input_conv(wanted[1], state[key], base_chans=got[1])
    return adapted


def set_in_chans(net: nn.Module, in_chans: int) -> None:
    """Replace the first convolution by one for another number of channels, weights carried over.

    Raises:
        BackboneError: The net has no plain first convolution.
    """
    name = first_conv(net)
    old = net.get_submodule(name) if name is not None else None
    if name is None or not isinstance(old, nn.Conv2d) or old.groups != 1:
        raise BackboneError(
            f"{type(net).__name__} does not begin with a plain convolution, so that it cannot be "
            f"changed to {in_chans} channels. Build the net for {in_chans} channels yourself."
        )
    if old.in_channels == in_chans:
        return
    with torch.device("meta"):  # no random numbers are drawn for weights that are replaced at once
        new = nn.Conv2d(
            in_chans,
            old.out_channels,
            old.kernel_size,  # type: ignore[arg-type]  # torch types it as tuple of any length
            stride=old.stride,  # type: ignore[arg-type]
            padding=old.padding,  # type: ignore[arg-type]
            dilation=old.dilation,  # type: ignore[arg-type]
            bias=old.bias is not None,
            padding_mode=old.padding_mode,
        )
    kernel = adapt_input_conv(in_chans, old.weight.detach(), base_chans=old.in_channels)
    new.weight = nn.Parameter(kernel)
    new.bias = old.bias
    net.set_submodule(name, new)


def zeros(net: nn.Module, spec: ImageSpec) -> Tensor:
    """Make a mean-coloured picture on the net's own device and in its precision, (1, C, H, W)."""
    like = next(chain(net.parameters(), net.buffers()), torch.zeros(()))
    dtype = like.dtype if like.is_floating_point() else torch.float32
    return torch.zeros(1, spec.in_chans, *spec.size, device=like.device, dtype=dtype)


def check(backbone: ImageBackbone, own: ImageSpec) -> None:
    """Try the net on black pictures, and correct the length of its features.

    Raises:
        BackboneError: It cannot take the size, or does not answer with features.
    """
    spec = backbone.input_spec
    try:
        with still(backbone):
            features = backbone(zeros(backbone, spec))
    except Exception as error:  # nets raise whatever their operations raise
        raise wrong_size(backbone.config, own, spec, error) from error
    if features.ndim != 2:
        raise BackboneError(
            f"{title(backbone.config)} answers with {tuple(features.shape)} where features, "
            f"(B, F), were expected. Change its options: {backbone.config.get('options')}."
        )
    backbone.num_features = features.shape[1]


def wrong_size(config: Config, own: ImageSpec, spec: ImageSpec, error: Exception) -> BackboneError:
    """Say that a net cannot be built or run as asked, with both sizes."""
    reason = " ".join(str(error).split())[:200]
    return BackboneError(
        f"{title(config)} does not work at {spec.size[0]}x{spec.size[1]} pixels with "
        f"{spec.in_chans} channels ({type(error).__name__}: {reason}). Its own size is "
        f"{own.size[0]}x{own.size[1]}: leave size out, or choose another backbone."
    )


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
