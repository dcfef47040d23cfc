"""Masked language modelling: let a net read unlabelled texts of a field before it is fine-tuned."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional
from transformers import DataCollatorForLanguageModeling, PreTrainedTokenizerFast

from ..data.text_tokens import mask_token, special_tokens
from ..errors import BackboneError, NoDataError
from ..specs import TextSpec
from .objectives import Objective, Step

if TYPE_CHECKING:
    from ..data.text_samples import TextSamples
    from ..specs import Batch
    from .task import Task


class MaskedLanguage(Objective):
    """Guess the words that were hidden from a text (Devlin et al. 2018, arXiv:1810.04805).

    The collator of transformers hides 15 % of the tokens: eight in ten behind the mask token, one
    in ten behind another word, one in ten left as it is. The words are guessed by a fresh transform
    and the table of token embeddings itself, which pulls the embeddings along.

    Args:
        spec: Whose tokenizer hides and is asked.
        table: The backbone's token embeddings.
        num_features: Length F of the backbone's states.
        share: Of the tokens that are hidden.

    Raises:
        BackboneError: The tokenizer has no token for masks, as those of decoders.
    """

    def __init__(
        self, spec: TextSpec, table: nn.Embedding, *, num_features: int, share: float = 0.15
    ) -> None:
        super().__init__()
        self._collator = _collator(spec, share)
        self._share = share
        width = table.embedding_dim
        self.transform = nn.Sequential(
            nn.Linear(num_features, width), nn.GELU(), nn.LayerNorm(width)
        )
        self.bias = nn.Parameter(torch.zeros(table.num_embeddings))
        self.seen: Tensor | None = None
        """The mean state of each text in the last step, (rows, F)."""
        self._table = [table]  # in a list: it is the backbone's, and not to be counted twice

    def check(self, samples: TextSamples, *, batch_size: int) -> None:
        """Refuse texts of which nothing would be hidden: a net would learn nothing of them.

        Args:
            samples: Prepared.
            batch_size: Texts looked at together, until there are enough.

        Raises:
            NoDataError: Less than one token would be hidden in a pass over all of them.
        """
        least = math.ceil(1 / self._share)
        count = 0
        for start in range(0, len(samples), batch_size):
            rows = range(start, min(start + batch_size, len(samples)))
            count += int((~self._marks(samples.__getitems__(rows))).sum())
            if count >= least:
                return
        raise NoDataError(
            f"There are {count} words or pieces of words in all texts, of which "
            f"{self._share:.0%} would be hidden and guessed: not one. Give at "
            f"least {least}, and for a backbone to learn of them many thousands."
        )

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Hide tokens, guess them, and compare where something was hidden."""
        ids = batch["input_ids"]
        shown, wanted = self._collator.torch_mask_tokens(  # which knows the CPU only
            ids.to("cpu", copy=True), special_tokens_mask=self._marks(batch).cpu()
        )
        wanted = wanted.to(ids.device)
        seen = {**batch, "input_ids": shown.to(ids.device)}
        states = task.backbone.states(*(seen[name] for name in task.backbone.inputs))
        mask = batch["attention_mask"][..., None].float()
        self.seen = ((states.detach().float() * mask).sum(1) / mask.sum(1)).detach()
        hidden = wanted != -100  # what the collator says of tokens that nobody asks for
        with torch.autocast(states.device.type, enabled=False):
            guess = self.transform(states[hidden].float())
            logits = functional.linear(guess, self._table[0].weight.float(), self.bias)
            # Of a short batch nothing may be hidden: the sum over no rows is 0, its mean is not.
            loss = functional.cross_entropy(logits, wanted[hidden], reduction="sum")
        return Step(loss / hidden.sum().clamp_min(1), None)

    def _marks(self, batch: Batch) -> Tensor:
        """Say which tokens are never hidden: padding, and those that mark start and end."""
        ids = batch["input_ids"]
        special = torch.tensor(self._collator.tokenizer.all_special_ids, device=ids.device)
        return (batch["attention_mask"] == 0) | torch.isin(ids, special)


def _collator(spec: TextSpec, share: float) -> DataCollatorForLanguageModeling:
    special, mask = list(special_tokens(spec)), mask_token(spec)
    if mask is None:
        raise BackboneError(
            "The tokenizer of this backbone has no token for hidden words, so it cannot be adapted "
            f"by guessing them; its special tokens are {', '.join(special[:8]) or 'none'}. Choose "
            "an encoder such as bert-base-uncased."
        )
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    pad = tokenizer.id_to_token(spec.pad_id)
    fast = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        mask_token=mask[0],
        pad_token=pad,
        additional_special_tokens=[token for token in special if token not in (mask[0], pad)],
    )
    return DataCollatorForLanguageModeling(fast, mlm_probability=share)
