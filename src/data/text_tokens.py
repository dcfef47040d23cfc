"""From texts to tokens: what is cut, what is read in windows, and the flat buffers of it all."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding
    from torch import Tensor

    from ..specs import Batch, TextSpec

_log = logging.getLogger("mealkit")

Array = np.ndarray[Any, np.dtype[Any]]  # Any: of integers

Text = str | tuple[str, str]
"""A text, or a pair of them."""

_AT_ONCE = 1024
"""Texts tokenised in one call: enough for the tokenizer's threads, and few to hold twice."""


def tokenise(texts: Sequence[Any], rows: Sequence[int], spec: TextSpec) -> Tokens:
    """Tokenise texts as a backbone wants it; say how much was cut off.

    Args:
        texts: Texts or pairs, and whatever else was given. (Any: what is not in ``rows``.)
        rows: Positions of those that are texts or pairs.
        spec: What the backbone wants.
    """
    reader = _WindowsOfPairs(spec) if spec.long == "chunk" else None
    tokenizer, cut = make_tokenizer(spec), _Cut(spec)
    parts: list[Windows] = []
    for start in range(0, len(rows), _AT_ONCE):
        some = list(rows[start : start + _AT_ONCE])
        given: list[Text] = [texts[row] for row in some]
        if reader is not None and any(isinstance(one, tuple) for one in given):
            encodings = reader.read(given)
        else:
            encodings = tokenizer.encode_batch(given)
        for text, encoding in zip(given, encodings, strict=True):
            cut.add(text, encoding)
        if spec.long == "chunk":
            pieces = [[one, *one.overflowing] for one in encodings]
            some = [row for row, of_row in zip(some, pieces, strict=True) for _ in of_row]
            encodings = [one for of_row in pieces for one in of_row]
        parts.append(Windows.of(some, encodings))
    cut.tell()
    if reader is not None:
        reader.tell()
    return Tokens(len(texts), parts)


def make_tokenizer(spec: TextSpec, *, strategy: str = "longest_first") -> Tokenizer:
    """Build the fast tokenizer of a spec, set to its length; windows overlap by a quarter.

    Args:
        spec: Whose tokenizer it is.
        strategy: Which text of a pair is cut: ``longest_first``, ``only_first``, ``only_second``.
    """
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    room = spec.max_length - tokenizer.num_special_tokens_to_add(is_pair=True)
    stride = max(0, room // 4) if spec.long == "chunk" else 0
    tokenizer.enable_truncation(spec.max_length, stride=stride, strategy=strategy)
    tokenizer.no_padding()
    return tokenizer


def special_tokens(spec: TextSpec) -> dict[str, int]:
    """Answer with the tokens of a tokenizer that stand for no part of a text, and their ids."""
    added = json.loads(spec.tokenizer).get("added_tokens") or []
    return {token["content"]: token["id"] for token in added if token["special"]}


def mask_token(spec: TextSpec) -> tuple[str, int] | None:
    """Answer with the token that hides others, and its id; None where there is none."""
    found = (item for item in special_tokens(spec).items() if "mask" in item[0].lower())
    return next(found, None)


class _WindowsOfPairs:
    """Windows along the longer text of a pair, each beside the shorter one.

    Windows along both would be as many as the product of theirs. A shorter text that takes more
    than half of the room is cut to half.

    Args:
        spec: Whose length counts.
    """

    def __init__(self, spec: TextSpec) -> None:
        self._whole = Tokenizer.from_str(spec.tokenizer)
        self._whole.no_truncation()
        self._whole.no_padding()
        self._along = {
            first: make_tokenizer(spec, strategy="only_first" if first else "only_second")
            for first in (True, False)
        }
        room = spec.max_length - self._whole.num_special_tokens_to_add(is_pair=True)
        self._half = max(1, room // 2)
        self._num_cut = 0

    def read(self, texts: Sequence[Text]) -> list[Encoding]:
        """Encode pairs; further windows are the overflow of an encoding."""
        pairs = [text if isinstance(text, tuple) else (text, "") for text in texts]
        firsts = self._whole.encode_batch([pair[0] for pair in pairs], add_special_tokens=False)
        seconds = self._whole.encode_batch([pair[1] for pair in pairs], add_special_tokens=False)
        return [
            self._read(pair, first, second)
            for pair, first, second in zip(pairs, firsts, seconds, strict=True)
        ]

    def _read(self, pair: tuple[str, str], first: Encoding, second: Encoding) -> Encoding:
        along_first = len(first) > len(second)
        if along_first:
            pair = (pair[0], self._short(pair[1], second))
        else:
            pair = (self._short(pair[0], first), pair[1])
        return self._along[along_first].encode(*pair)

    def _short(self, text: str, encoding: Encoding) -> str:
        if len(encoding) <= self._half:
            return text
        self._num_cut += 1
        return text[: encoding.offsets[self._half - 1][1]]

    def tell(self) -> None:
        """Say how many texts were cut beside a longer one, if any."""
        if self._num_cut:
            _log.warning(
                f"In {self._num_cut:,} pairs both texts are long: the shorter one was cut to "
                f"{self._half} tokens, so that windows of the longer one have room beside it."
            )


class _Cut:
    """How much of some texts a net cannot see at once.

    Args:
        spec: Whose length counts.
    """

    def __init__(self, spec: TextSpec) -> None:
        self._spec = spec
        self._whole = Tokenizer.from_str(spec.tokenizer)
        self._whole.no_truncation()
        self._num_texts = self._num_long = self._num_tokens = self._num_beyond = 0

    def add(self, text: object, encoding: Encoding) -> None:
        """Count a text and its tokens beyond the length."""
        self._num_texts += 1
        num_tokens = len(encoding)
        if encoding.overflowing:
            pair = text if isinstance(text, tuple) else (text,)
            num_tokens = len(self._whole.encode(*pair))
            self._num_long += 1
            self._num_beyond += num_tokens - len(encoding)
        self._num_tokens += num_tokens

    def tell(self) -> None:
        """Say it once, if there is anything to say."""
        if not self._num_long:
            return
        share = f"{100 * self._num_long / self._num_texts:.1f} % of texts"
        length = self._spec.max_length
        if self._spec.long == "chunk":
            _log.info(f"{share} are longer than {length} tokens and are read in windows.")
            return
        lost = 100 * self._num_beyond / self._num_tokens
        _log.warning(
            f"{share} are longer than {length} tokens and were cut, which leaves out {lost:.1f} % "
            "of all tokens. long='chunk' reads them whole."
        )


@dataclass(frozen=True)
class Windows:
    """Some windows of tokens, one behind the other.

    Args:
        ids: Of all tokens.
        types: Which text of a pair a token is of.
        sizes: Tokens of each window.
        rows: The text that each window belongs to, ascending.
    """

    ids: Array
    types: Array
    sizes: Array
    rows: Array

    @classmethod
    def of(cls, rows: Sequence[int], encodings: Sequence[Encoding]) -> Windows:
        """Keep of encodings what a net needs: they are large objects."""
        return cls(
            np.concatenate([np.array(one.ids, dtype=np.int32) for one in encodings]),
            np.concatenate([np.array(one.type_ids, dtype=np.int8) for one in encodings]),
            np.array([len(one) for one in encodings]),
            np.array(rows),
        )


class Tokens:
    """Tokens of all texts in flat buffers: no objects per text, and no padding that is kept.

    Args:
        num_texts: How many texts there are, with and without windows.
        parts: Windows of all of them, in the order of the texts.
    """

    def __init__(self, num_texts: int, parts: Sequence[Windows]) -> None:
        none = np.zeros(0, dtype=np.int64)
        self._ids = torch.from_numpy(
            np.concatenate([none.astype(np.int32), *(part.ids for part in parts)])
        )
        self._types = torch.from_numpy(
            np.concatenate([none.astype(np.int8), *(part.types for part in parts)])
        )
        self._sizes = torch.from_numpy(np.concatenate([none, *(part.sizes for part in parts)]))
        self._rows = torch.from_numpy(np.concatenate([none, *(part.rows for part in parts)]))
        self._starts = self._sizes.cumsum(0) - self._sizes
        # What a text costs: as many windows as it has, each padded to its longest.
        longest = torch.zeros(num_texts, dtype=torch.int64)
        longest = longest.scatter_reduce(0, self._rows, self._sizes, "amax")
        self.lengths = longest * torch.bincount(self._rows, minlength=num_texts)

    def batch(self, index: Tensor, spec: TextSpec) -> Batch:
        """Pad the windows of some texts to the longest of them."""
        first = torch.searchsorted(self._rows, index)
        count = torch.searchsorted(self._rows, index, right=True) - first
        piece_of = torch.arange(len(index)).repeat_interleave(count)
        within = torch.arange(len(piece_of)) - (count.cumsum(0) - count)[piece_of]
        windows = first[piece_of] + within
        sizes, starts = self._sizes[windows], self._starts[windows]
        steps = torch.arange(int(sizes.max()) if len(sizes) else 0)
        mask = steps < sizes[:, None]
        places = torch.where(mask, starts[:, None] + steps, 0)
        batch = {
            "input_ids": self._ids[places].long().masked_fill(~mask, spec.pad_id),
            "attention_mask": mask.long(),
        }
        if spec.type_ids:
            batch["token_type_ids"] = self._types[places].long().masked_fill(~mask, 0)
        if len(piece_of) > len(index):
            batch["piece_of"] = piece_of
        return batch
