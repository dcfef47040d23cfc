"""Backbones from modules that only promise features: the library's own nets and the user's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from ..errors import BackboneError
from ..specs import ImageSpec
from .image_base import ImageBackbone, adapt_state, first_conv, set_in_chans, zeros
from .registered import RegisteredSource
from .sources import Config, still, title
from .weights import Weights, load

_Seen = list[tuple[str, nn.Module, Tensor]]


class ModuleBackbone(ImageBackbone):
    """Any net that answers with features, (B, F), or with a map or tokens, which are averaged.

    Where the unpooled features come from is found out once, at construction, on black pictures: the
    last module that answers with a map or with tokens before they are pooled.

    Raises:
        BackboneError: The net cannot be run on its own size, or does not answer with features.
    """

    def __init__(
        self, net: nn.Module, *, input_spec: ImageSpec, config: Config, pretrained: bool
    ) -> None:
        seen: _Seen = []
        try:
            with still(net), _watched(net, seen):
                output = net(zeros(net, input_spec))
        except Exception as error:  # nets raise whatever their operations raise
            reason = " ".join(str(error).split())[:200]
            shape = (1, input_spec.in_chans, *input_spec.size)
            raise BackboneError(
                f"{title(config)} cannot be run on pictures of shape {shape} "
                f"({type(error).__name__}: {reason}). Give the size and channels it was made for."
            ) from error
        if not isinstance(output, Tensor) or output.ndim not in (2, 3, 4):
            got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise BackboneError(
                f"{title(config)} answers with {got}. Expected one tensor of features: (B, F), "
                "(B, F, h, w) or (B, L, F)."
            )
        super().__init__(
            net,
            input_spec=input_spec,
            num_features=_pooled(output).shape[1],
            config=config,
            pretrained=pretrained,
        )
        self._source = "" if output.ndim > 2 else _unpooled(seen)
        self._last = _last_axis(seen, self._source, self.num_features)

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn pictures, (B, C, H, W), into features, (B, F)."""
        return _pooled(self.net(*tensors))

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with the map, (B, F, h, w), or the tokens, (B, L, F), before they are pooled."""
        if self._source is None:
            raise BackboneError(
                f"{title(self.config)} has no unpooled features: none of its modules answers with "
                "a map or with tokens. Use another backbone where they are needed."
            )
        seen: _Seen = []
        with _watched(self.net.get_submodule(self._source), seen, inside=False):
            self.net(*tensors)
        states = seen[-1][2]
        return states.permute(0, 3, 1, 2) if self._last else states


class OwnSource(RegisteredSource[ImageSpec, ImageBackbone]):
    """The nets for pictures that `register` knows, this library's own among them."""

    kind = "image"

    def own_spec(self, config: Config) -> ImageSpec:
        """Answer with the registered preprocessing."""
        spec = self._entry(config["name"]).input
        if not isinstance(spec, ImageSpec):
            raise BackboneError(f"{config['name']!r} is registered with {spec}, no ImageSpec.")
        return spec

    def build(
        self, config: Config, spec: ImageSpec, weights: Weights | None, *, pretrained: bool
    ) -> ModuleBackbone:
        """Call the registered function, then adapt its first convolution where channels differ."""
        net = self._net(config)
        prepare(net, spec, weights)
        return ModuleBackbone(net, input_spec=spec, config=config, pretrained=pretrained)


def prepare(net: nn.Module, spec: ImageSpec, weights: Weights | None) -> None:
    """Give a net the right channels, then its weights, carried over to those channels."""
    name = first_conv(net)
    layer = net.get_submodule(name) if name is not None else None
    known = layer.in_channels if isinstance(layer, nn.Conv2d) else 3
    if known != spec.in_chans:
        set_in_chans(net, spec.in_chans)
    if weights is not None:
        load(net, weights.with_state(adapt_state(weights.state, net, name)))


def _pooled(output: Tensor) -> Tensor:
    """Average a map, (B, F, h, w), or tokens, (B, L, F), to features, (B, F)."""
    if output.ndim == 4:
        return output.mean(dim=(2, 3))
    return output.mean(dim=1) if output.ndim == 3 else output


@contextmanager
def _watched(net: nn.Module, seen: _Seen, *, inside: bool = True) -> Iterator[None]:
    """Note the outputs of a module, and of those inside it, in the order in which they finish."""
    hooks = []
    for name, module in net.named_modules() if inside else [("", net)]:

        def note(module: nn.Module, _: Any, output: Any, name: str = name) -> None:  # Any: hooks'
            if isinstance(output, Tensor):
                seen.append((name, module, output))

        hooks.append(module.register_forward_hook(note))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _unpooled(seen: _Seen) -> str | None:
    """Find the last output that is a map or tokens and not yet pooled; answer with its module."""
    wide = [
        index for index, (_, module, out) in enumerate(seen) if _is_states(out) and _extent(out) > 1
    ]
    start = wide[-1] if wide else -1
    pools = [i for i, (_, m, out) in enumerate(seen) if i > start and _is_pool(m)]
    end = pools[-1] if pools else len(seen)
    for name, module, output in reversed(seen[:end] if pools or not wide else seen[: start + 1]):
        if _is_states(output) and not _is_pool(module):
            return name
    return None


def _is_states(output: Tensor) -> bool:
    return output.ndim in (3, 4)


def _extent(output: Tensor) -> int:
    return output.shape[2] * output.shape[3] if output.ndim == 4 else output.shape[1]


def _is_pool(module: nn.Module) -> bool:
    return next(module.children(), None) is None and "Pool" in type(module).__name__


def _last_axis(seen: _Seen, source: str | None, num_features: int) -> bool:
    """Say whether the map has its features last, (B, h, w, F), as Swin's do."""
    shapes = [output.shape for name, _, output in seen if name == source and output.ndim == 4]
    if not shapes:
        return False
    return shapes[-1][1] != num_features and shapes[-1][3] == num_features
