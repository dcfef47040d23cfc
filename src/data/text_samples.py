"""TextSamples: texts of any source, tokenised once and fetched a padded batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidValueError, UnreadableError
from ..specs import TextSpec
from .check import fingerprint
from .digest import digest_of
from .frames import is_missing
from .text_tokens import Tokens, tokenise

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec


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
        self._tokens = Tokens(0, [])
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
        usable = [row for row in range(len(self._texts)) if row not in self._problems]
        self._tokens = tokenise(self._texts, usable, input_spec)
        self._spec = input_spec

    def contents(self) -> list[tuple[str, str | None]]:
        """Answer with what tells each text from others, and why it cannot be used (or None)."""
        return [examine_text(text) for text in self._texts]

    def same(self, row: int, other: TextSamples, other_row: int) -> bool:
        """Whether two texts are the same to the last letter."""
        return bool(self._texts[row] == other._texts[other_row])

    def identity(self) -> str:
        """Answer with a digest of all texts."""
        return digest_of(repr(text) for text in self._texts)

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
