"""The weak and the strong view of unlabelled inputs, by which consistency is trained."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from ..errors import BackboneError, InvalidValueError, check_number
from .augment import light, resolve
from .chance import chances
from .images import ImageData
from .pixels import to_floats
from .rand_augment import strong
from .text_tokens import mask_token, special_tokens
from .texts import TextData

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, TextSpec

_MOST_PIECES = 1 << 12  # windows of a text that have chance of their own


@dataclass(frozen=True)
class PictureViews:
    """Weak: what the labelled data's own augmentation makes of a picture. Strong: `strong` on that.

    Args:
        data: The labelled pictures.
    """

    data: ImageData

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> tuple[Batch, Batch]:
        """Draw both views anew; their pictures share no move."""
        images, draws = batch["image"], batch["draw"]
        weak, base = (
            self._weak(images, seed=seed + more, epoch=epoch, index=draws)
            for more in (1, 2)  # else pairs would share moves
        )
        changed = strong(base, seed=seed, epoch=epoch, index=draws)
        return (
            {"image": weak, "index": batch["index"]},
            {"image": changed, "index": batch["index"]},
        )

    def _weak(self, images: Tensor, *, seed: int, epoch: int, index: Tensor) -> Tensor:
        augment = self.data.augment
        change = light if augment is None else resolve(augment)
        return images if change is None else change(images, seed=seed, epoch=epoch, index=index)

    def alike(self, labelled: Batch, others: Batch) -> tuple[Batch, Batch]:
        """Turn both into floats, where one kind are files and the other arrays of floats."""
        if labelled["image"].dtype == others["image"].dtype:
            return labelled, others
        first, second = ({**one, "image": to_floats(one["image"])} for one in (labelled, others))
        return first, second

    def plain(self) -> ImageData:
        """Answer with the labelled pictures as they are."""
        plain = copy(self.data)
        plain.augment, plain.mix, plain.trainer = "none", None, None
        return plain

    @property
    def sees(self) -> str:
        """Nothing to add: the strong view of pictures has no settings."""
        return ""


@dataclass(frozen=True)
class TextViews:
    """Weak: the text as it is. Strong: some of its tokens behind the mask token.

    Both are read under the dropout of the net, which makes two views of one text on its own (Gao et
    al. 2021, arXiv:2104.08821); that consistency of views teaches from unlabelled texts is of Xie
    et al. 2020 (arXiv:1904.12848), whose translations and replaced words need more than a
    tokenizer.

    Args:
        data: The labelled texts; they say which share of tokens is hidden.
        spec: What the backbone wants; its tokenizer knows the mask.

    Raises:
        BackboneError: The tokenizer has no token for masks, as those of decoders.
        InvalidValueError: The share is not in (0, 1), or batches are counted in tokens.
    """

    data: TextData
    spec: TextSpec
    mask: int = field(init=False)
    special: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        share, mask = self.data.hidden_share, mask_token(self.spec)
        check_number("data.hidden_share", share, "(0, 1)")
        if self.data.batch_tokens is not None:
            raise InvalidValueError(
                f"data.batch_tokens={self.data.batch_tokens} beside unlabelled=: its batches have "
                "so many rows of either kind. Set it to None, and batch_size= in its place."
            )
        if mask is None:
            raise BackboneError(
                "The tokenizer of this backbone has no token for hidden words, which the strong "
                "view of an unlabelled text is made with. Choose an encoder such as "
                "bert-base-uncased, or leave unlabelled= out."
            )
        object.__setattr__(self, "mask", mask[1])
        object.__setattr__(self, "special", tuple(special_tokens(self.spec).values()))

    def __call__(self, batch: Batch, *, seed: int, epoch: int) -> tuple[Batch, Batch]:
        """Answer with the texts as they are, and with tokens hidden."""
        weak = {name: value for name, value in batch.items() if name != "draw"}
        return weak, {**weak, "input_ids": self._hidden(batch, seed=seed, epoch=epoch)}

    def _hidden(self, batch: Batch, *, seed: int, epoch: int) -> Tensor:
        """Put the mask in the place of tokens by chance, (rows, L); those that mark stay."""
        ids, draws = batch["input_ids"], batch["draw"]
        # A row per window: those of one text draw numbers of their own.
        pieces = batch.get("piece_of", torch.arange(len(draws), device=ids.device))
        first = torch.searchsorted(pieces, pieces)
        within = torch.arange(len(pieces), device=ids.device) - first
        index = draws[pieces] * _MOST_PIECES + within
        chosen = chances(seed, epoch, index, first=0, num=ids.shape[1]) < self.data.hidden_share
        marks = torch.isin(ids, torch.tensor(self.special, device=ids.device))
        stays = marks | (batch["attention_mask"] == 0)
        return torch.where(chosen & ~stays, self.mask, ids)

    def alike(self, labelled: Batch, others: Batch) -> tuple[Batch, Batch]:
        """Pad the shorter of both to the longest text of either."""
        width = max(labelled["input_ids"].shape[1], others["input_ids"].shape[1])
        return self._padded(labelled, width), self._padded(others, width)

    def _padded(self, batch: Batch, width: int) -> Batch:
        missing = width - batch["input_ids"].shape[1]
        if not missing:
            return batch
        fill = {"input_ids": self.spec.pad_id, "attention_mask": 0, "token_type_ids": 0}
        padded = {
            name: functional.pad(batch[name], (0, missing), value=value)
            for name, value in fill.items()
            if name in batch
        }
        return {**batch, **padded}

    def plain(self) -> TextData:
        """Answer with the labelled texts as they are."""
        plain = copy(self.data)
        plain.trainer = None
        return plain

    @property
    def sees(self) -> str:
        """How much is hidden."""
        return f" with {self.data.hidden_share:.0%} of tokens hidden"
