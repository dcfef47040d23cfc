"""Backbones for texts from modules that only promise features: registered nets and the user's."""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import BackboneError, InvalidValueError
from ..specs import TextSpec
from .registered import RegisteredSource
from .sources import Config, title
from .text_base import TextBackbone
from .weights import Weights, load


class ModuleText(TextBackbone):
    """Any net that answers with features, (B, F), or with states of tokens, which are pooled."""

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn the tokens of texts, (B, L) each of the `inputs`, into features, (B, F)."""
        output: Tensor = self.net(*tensors)
        if not isinstance(output, Tensor) or output.ndim != 3:
            return self._unpooled(output)
        return self._pooled(output, tensors[1])

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with the states of all tokens, (B, L, F)."""
        states: Tensor = self.net(*tensors)
        if states.ndim != 3:
            raise BackboneError(
                f"{title(self.config)} has no unpooled features: it answers with "
                f"{tuple(states.shape)}. Let it answer with the states of all tokens, (B, L, F), "
                "where they are needed."
            )
        return states

    def _unpooled(self, output: Tensor) -> Tensor:
        if self.config.get("pooling"):
            raise BackboneError(
                f"{title(self.config)} pools its tokens by itself, so that "
                f"pooling={self.config['pooling']!r} would change nothing. Leave it out."
            )
        return output


class RegisteredText(RegisteredSource[TextSpec, TextBackbone]):
    """The nets for texts that `register` knows, this library's own among them."""

    kind = "text"

    def own_spec(self, config: Config) -> TextSpec:
        """Answer with the registered preprocessing."""
        spec = self._entry(config["name"]).input
        if not isinstance(spec, TextSpec):
            raise BackboneError(f"{config['name']!r} is registered with {spec}, no TextSpec.")
        return spec

    def build(
        self, config: Config, spec: TextSpec, weights: Weights | None, *, pretrained: bool
    ) -> ModuleText:
        """Call the registered function, then load."""
        most = self.own_spec(config).max_length
        if spec.max_length > most:
            raise InvalidValueError(
                f"max_length={spec.max_length} is more than the {most} tokens that "
                f"{title(config)} was registered for. Give at most {most}."
            )
        net: nn.Module = self._net(config)
        if weights is not None:
            load(net, weights)
        return ModuleText(net, input_spec=spec, config=config, pretrained=pretrained)
