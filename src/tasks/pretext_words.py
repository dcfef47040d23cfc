"""Masked language modelling as a method: guess the hidden words of texts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..backbones import Backbone
from ..data.module import BATCH_SIZE, Data
from ..data.text_samples import TextSamples
from ..errors import BackboneError, check_number
from ..specs import Kind, TextSpec
from .explain import token_table
from .joint import joint_batch
from .masked import MaskedLanguage
from .objectives import Step
from .pretext import METHODS, Method, Pretext, register_method
from .training import Training

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task


@register_method("mlm")
@dataclass(frozen=True, kw_only=True)
class MLM(Method):
    """Guess the hidden words of texts (Devlin et al. 2018, arXiv:1810.04805).

    Hiding is that of transformers' collator, see `MaskedLanguage`.

    Args:
        share: Of the tokens that are hidden.
    """

    kind: ClassVar[Kind] = "text"
    lr: ClassVar[float] = 5e-5
    lowest_spread: ClassVar[float] = 0.01
    lowest_rank: ClassVar[float] = 1.0
    neighbors_tell: ClassVar[bool] = False
    training: ClassVar[Training] = Training(weight_decay=0.01, warmup=0.05)
    remedy: ClassVar[str] = "a lower lr=, or a longer warm-up"

    share: float = 0.15

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("share", self.share, "(0, 1)", what="a share of tokens")

    def objective(self, net: Backbone) -> Pretext:
        """Build the head that guesses words.

        Raises:
            BackboneError: The net is no encoder of texts.
        """
        return HiddenWords(self, net)


class HiddenWords(Pretext):
    """Hide words and guess them, and keep what the net made of each text.

    Args:
        method: How much is hidden.
        net: The backbone.
    """

    def __init__(self, method: MLM, net: Backbone) -> None:
        super().__init__(method)
        spec = net.input_spec
        if not isinstance(spec, TextSpec):
            known = [name for name, one in METHODS.items() if one.kind == spec.kind]
            raise BackboneError(
                f"mlm guesses words, and the backbone reads {spec.kind}. Its methods are: "
                f"{', '.join(known) or 'none yet'}."
            )
        self._spec = spec
        self.words = MaskedLanguage(
            spec, token_table(net), num_features=net.num_features, share=method.share
        )

    def check(self, data: Data) -> None:
        """Refuse texts with so few words that none would be hidden.

        Raises:
            NoDataError: They have.
        """
        if isinstance(data.train, TextSamples):
            data.train.prepare(self._spec)
            self.words.check(data.train, batch_size=BATCH_SIZE)

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Guess the hidden words."""
        step = self.words.step(task, batch, training=training)
        if self.words.seen is not None:
            self.embedding = joint_batch(self.words.seen)
        return step
