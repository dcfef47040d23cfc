"""What every backbone is: a net that turns batch entries into features, and says what it wants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ..specs import InputSpec


@dataclass(frozen=True)
class Block:
    """A part of a net that is frozen, trained and given its learning rate as one.

    Args:
        name: Where it sits in the net.
        parameters: Names (as in the backbone's ``named_parameters``) of what it trains.
        modules: Modules whose train or eval mode follows this block.
    """

    name: str
    parameters: tuple[str, ...]
    modules: tuple[nn.Module, ...]


class Backbone(nn.Module):
    """A net with features, blocks and the preprocessing it was trained with.

    Subclasses, one per kind of source library, fill in `forward`, `states` and `blocks`.

    Args:
        input_spec: What the net wants to see.
        num_features: Length F of a feature vector.
        config: Plain values from which `mealkit.backbones.rebuild` makes the same net again,
            without weights and without network; ``{"name": ...}`` at least.
        pretrained: Whether the weights come from training, so that batch-norm statistics are kept.
        no_weight_decay: Names of parameters that the source library excludes from weight decay.
    """

    inputs: tuple[str, ...] = ()
    """The batch entries that `forward` takes, in order."""

    def __init__(
        self,
        *,
        input_spec: InputSpec,
        num_features: int,
        config: Mapping[str, Any],  # Any: plain JSON values
        pretrained: bool,
        no_weight_decay: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__()
        self.input_spec = input_spec
        self.num_features = num_features
        self.config = dict(config)
        self.pretrained = pretrained
        self.no_weight_decay = no_weight_decay

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn the batch entries named in `inputs` into features, (B, F)."""
        raise NotImplementedError

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with unpooled features: (B, F, h, w) of a map, (B, L, F) of tokens."""
        raise NotImplementedError

    @property
    def blocks(self) -> list[Block]:
        """The parts of the net from the input side to the output side; together, all parameters."""
        raise NotImplementedError
