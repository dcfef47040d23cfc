"""TextSamples: texts of any source, tokenised once and fetched a padded batch at a time."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tokenizers import Tokenizer

from ..errors import InvalidValueError, UnreadableError
from ..specs import TextSpec
from .check import fingerprint
from .frames import is_missing

if TYPE_CHECKING:
    from tokenizers import Encoding
    from torch import Tensor

    from ..specs import Batch, InputSpec

_log = logging.getLogger("mealkit")

Array = np.ndarray[Any, np.dtype[Any]]  # Any: of integers

Text = str | tuple[str, str]
"""A text, or a pair of them."""

_AT_ONCE = 1024
"""Texts tokenised in one call: enough for the tokenizer's threads, and few to hold twice."""


def examine_text(text: object, *, pairs: bool | None = None) -> tuple[str, str | None]:
    """Answer with what tells a text from others, and with why it cannot be used (or None).

    Args:
        text: Whatever stands where a text is expected.
        pairs: Whether pairs of texts are expected; None for either.
    """
    parts = text if isinstance(text, tuple) else (text,)
    if isinstance(text, tuple) and len(text) != 2:
        return "", f"{len(text)} texts where one or a pair is expected"
    if pairs is not None and isinstance(text, str | tuple) and isinstance(text, tuple) is not pairs:
        return "", "one text where a pair is expected" if pairs else "a pair where one is expected"
    problem = next(filter(None, map(_problem, parts)), None)
    if problem is not None:
        return "", problem
    return fingerprint("\0".join(map(str, parts)).encode("utf-8")), None


def _problem(part: object) -> str | None:
    if isinstance(part, UnreadableError):
        return part.reason
    if is_missing(part):
        return "no text"
    if not isinstance(part, str):
        return f"not a text but {type(part).__name__} ({str(part)[:40]})"
    if not part.strip():
        return "an empty text"
    try:
        part.encode("utf-8")
    except UnicodeEncodeError as error:
        return f"no Unicode text (half a character at {error.start:,})"
    return None


class TextSamples:
    """Texts that are tokenised when the backbone is known, and padded when they are fetched.

    Args:
        texts: Texts, or pairs of them; what is neither, or empty, stands in ``failed``.
        ids: Names that the user recognises.
        targets: Positions of the classes, (N,); None where they are not known.

    Example:
        >>> samples = TextSamples(["Where is my card?", ""], ids=["row 0", "row 1"])
        >>> samples.why(1)
        'an empty text'
    """

    def __init__(
        self,
        texts: Sequence[object],
        *,
        ids: Sequence[str],
        targets: Tensor | None = None,
    ) -> None:
        self._texts = texts
        self._ids = ids
        self._targets = targets
        self._spec: TextSpec | None = None
        self._tokens = _Tokens(0, [])
        self._problems: dict[int, str] = {}
        for row, text in enumerate(texts):
            _, problem = examine_text(text)
            if problem is not None:
                self._problems[row] = problem

    @property
    def ids(self) -> Sequence[str]:
        """A name per text."""
        return self._ids

    @property
    def targets(self) -> Tensor | None:
        """Positions of the classes, (N,) of int64."""
        return self._targets

    @property
    def texts(self) -> Sequence[object]:
        """The texts as they were given."""
        return self._texts

    @property
    def num_usable(self) -> int:
        """How many of the texts are texts."""
        return len(self._texts) - len(self._problems)

    @property
    def lengths(self) -> Tensor | None:
        """Tokens of each text, (N,); of the longest window where a text has several."""
        return None if self._spec is None else self._tokens.lengths

    def prepare(self, input_spec: InputSpec) -> None:
        """Tokenise every text as the backbone wants it, once; say how much was cut off.

        Raises:
            InvalidValueError: The backbone does not want texts.
        """
        if not isinstance(input_spec, TextSpec):
            raise InvalidValueError(f"Texts were given; the backbone wants {input_spec.kind}.")
        if input_spec == self._spec:
            return
        self._tokens = self._encode(input_spec)
        self._spec = input_spec

    def __len__(self) -> int:
        return len(self._texts)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch ``input_ids`` and ``attention_mask``, (rows, L), padded to the longest row.

        There are ``token_type_ids`` where the backbone wants them, and ``piece_of`` where a text
        has several windows.

        Raises:
            InvalidValueError: `prepare` was not called.
        """
        if self._spec is None:
            raise InvalidValueError(
                "These texts are not tokenised yet: call prepare(task.input_spec) first."
            )
        good = [index for index in indices if index not in self._problems]
        index = torch.tensor(good, dtype=torch.int64)
        batch = {"index": index, **self._tokens.batch(index, self._spec)}
        if self._targets is not None:
            batch["target"] = self._targets[index]
        if len(good) < len(indices):
            batch["failed"] = torch.tensor([row for row in indices if row in self._problems])
        return batch

    def why(self, index: int) -> str:
        """Say why a text cannot be used."""
        return self._problems[index]

    def _encode(self, spec: TextSpec) -> _Tokens:
        tokenizer, cut = make_tokenizer(spec), _Cut(spec)
        parts: list[_Windows] = []
        usable = [row for row in range(len(self._texts)) if row not in self._problems]
        for start in range(0, len(usable), _AT_ONCE):
            rows = usable[start : start + _AT_ONCE]
            encodings = tokenizer.encode_batch([self._texts[row] for row in rows])
            for row, encoding in zip(rows, encodings, strict=True):
                cut.add(self._texts[row], encoding)
            if spec.long == "chunk":
                pieces = [[one, *one.overflowing] for one in encodings]
                rows = [row for row, some in zip(rows, pieces, strict=True) for _ in some]
                encodings = [one for some in pieces for one in some]
            parts.append(_Windows.of(rows, encodings))
        cut.tell()
        return _Tokens(len(self._texts), parts)


def make_tokenizer(spec: TextSpec) -> Tokenizer:
    """Build the fast tokenizer of a spec, set to its length; windows overlap by a quarter."""
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    room = spec.max_length - tokenizer.num_special_tokens_to_add(is_pair=True)
    stride = max(0, room // 4) if spec.long == "chunk" else 0
    tokenizer.enable_truncation(spec.max_length, stride=stride, strategy="longest_first")
    tokenizer.no_padding()
    return tokenizer


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
class _Windows:
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
    def of(cls, rows: Sequence[int], encodings: Sequence[Encoding]) -> _Windows:
        """Keep of encodings what a net needs: they are large objects."""
        return cls(
            np.concatenate([np.array(one.ids, dtype=np.int32) for one in encodings]),
            np.concatenate([np.array(one.type_ids, dtype=np.int8) for one in encodings]),
            np.array([len(one) for one in encodings]),
            np.array(rows),
        )


class _Tokens:
    """Tokens of all texts in flat buffers: no objects per text, and no padding that is kept.

    Args:
        num_texts: How many texts there are, with and without windows.
        parts: Windows of all of them, in the order of the texts.
    """

    def __init__(self, num_texts: int, parts: Sequence[_Windows]) -> None:
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
