"""What all backbones for texts share, wherever their net comes from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import BackboneError
from ..specs import TextSpec
from .base import Backbone, Block
from .blocks import make_blocks, partition
from .sources import NET, Config, still, title
from .text_pooling import POOLINGS

_NUM_TOKENS = 4  # of the text that a new net is tried on


class TextBackbone(Backbone):
    """A net that turns tokens, (B, L) each of the `inputs`, into features, (B, F).

    How the states of the tokens are pooled stands in the config: ``cls`` the first token, ``mean``
    the mean, ``last`` the last; padding never counts. Unless chosen, it is what a folder of
    sentence-transformers says, with its L2 norm; else the last token for decoders, which alone has
    seen the whole text; else the mean, because the class token of a net that only learnt to fill in
    masked words was trained for nothing.

    Args:
        net: What the source built, head removed.
        input_spec: What the net wants to see.
        config: Plain values from which the same net is made again.
        pretrained: Whether the weights come from training.

    Raises:
        BackboneError: The net cannot be run, or does not answer with features.
    """

    input_spec: TextSpec

    def __init__(
        self, net: nn.Module, *, input_spec: TextSpec, config: Config, pretrained: bool
    ) -> None:
        super().__init__(
            input_spec=input_spec, num_features=0, config=config, pretrained=pretrained
        )
        self.inputs = ("input_ids", "attention_mask")
        if input_spec.type_ids:
            self.inputs += ("token_type_ids",)
        self.net = net
        self.num_features = self._try().shape[1]

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn the tokens of texts, (B, L) each of the `inputs`, into features, (B, F)."""
        return self._pooled(self.states(*tensors), tensors[1])

    @property
    def blocks(self) -> list[Block]:
        """The layers from the input to the output, embeddings with the first of them."""
        return make_blocks(self.net, _groups(self.net), prefix=NET)

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        features = POOLINGS[self.config.get("pooling") or "mean"](states, mask)
        return functional.normalize(features, dim=1) if self.config.get("normalise") else features

    def _try(self) -> Tensor:
        """Run the net on a short text, to find out about its features."""
        device = next((parameter.device for parameter in self.net.parameters()), None)
        ids = torch.zeros(1, _NUM_TOKENS, dtype=torch.long, device=device)
        tensors = {"attention_mask": torch.ones_like(ids)}
        try:
            with still(self):
                features = self(*(tensors.get(name, ids) for name in self.inputs))
        except BackboneError:
            raise
        except Exception as error:  # nets raise whatever their operations raise
            reason = " ".join(str(error).split())[:200]
            raise BackboneError(
                f"{title(self.config)} cannot be run on {', '.join(self.inputs)} of shape "
                f"{tuple(ids.shape)} ({type(error).__name__}: {reason}). Expected a net that takes "
                "them in this order."
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 2:
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise BackboneError(
                f"{title(self.config)} answers with {got}. Expected one tensor: features, (B, F), "
                "or the states of all tokens, (B, L, F)."
            )
        return features


def _groups(net: nn.Module) -> Sequence[Sequence[str]]:
    """Cut a net at its layers; embeddings behind them (DeBERTa's of distances) serve the first."""
    groups = partition(net)
    tables = {
        f"{path}.weight" for path, module in net.named_modules() if isinstance(module, nn.Embedding)
    }
    moved = [name for group in groups[1:] for name in group if name in tables]
    rest = [[name for name in group if name not in tables] for group in groups[1:]]
    return [group for group in ([*groups[0], *moved], *rest) if group] if groups else []
