"""Tokenizers as plain JSON, from a folder or from whatever object a user has."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from ..errors import BackboneError, InvalidValueError
from ..specs import TextSpec
from .transformers_net import quiet

_FILES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)
_NEEDED = ("tokenizer", "pad_id", "max_length")


def folder_tokenizer(folder: Path) -> dict[str, Any]:  # Any: plain JSON values
    """Read a folder's tokenizer through transformers, which knows what each kind adds to its file.

    Returns:
        Values of a `TextSpec`: ``tokenizer``, ``pad_id`` and ``max_length``, which is None where
        the folder states none.

    Raises:
        BackboneError: There is no tokenizer, or none that works without Python code of its own.
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise BackboneError(
            f"There is no tokenizer in {str(folder)!r}. Save it beside the net: "
            "tokenizer.save_pretrained(folder) writes tokenizer.json."
        )
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers and its converters raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"The tokenizer in {str(folder)!r} could not be read ({type(error).__name__}: "
            f"{reason}). Save it again with tokenizer.json."
        ) from error
    return values_of(tokenizer)


def values_of(tokenizer: object) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with what a tokenizer says of the values of a `TextSpec`.

    Args:
        tokenizer: The content or the path of a ``tokenizer.json``, or an object of tokenizers or
            of transformers.

    Raises:
        BackboneError: An object that is written in Python, so that no JSON says what it does.
        InvalidValueError: Anything else.
    """
    if isinstance(tokenizer, (str, Path)):
        tokenizer = _read(tokenizer)
    if isinstance(tokenizer, Tokenizer):
        padding = tokenizer.padding or {}
        return {"tokenizer": _plain(tokenizer), "pad_id": padding.get("pad_id"), "max_length": None}
    if not hasattr(tokenizer, "convert_tokens_to_ids"):
        raise InvalidValueError(
            f"tokenizer={str(tokenizer)[:80]!r} is a {type(tokenizer).__name__}. Expected the "
            "content or the path of a tokenizer.json, or a tokenizer of tokenizers or transformers."
        )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(backend, Tokenizer):
        raise BackboneError(
            f"{type(tokenizer).__name__} is a tokenizer written in Python, without the "
            "tokenizer.json that a saved task holds. Convert it with transformers (AutoTokenizer "
            "does where it can) and save that, or choose another backbone."
        )
    known: Any = tokenizer  # one of transformers' tokenizers
    pads = (known.pad_token_id, known.eos_token_id, 0)  # masked, so that any will do
    longest = known.model_max_length
    return {
        "tokenizer": _plain(backend),
        "pad_id": next(pad for pad in pads if pad is not None),
        "max_length": int(longest) if longest and longest < 1e6 else None,  # 1e30 means unknown
    }


def fit(own: TextSpec | None, preprocessing: Mapping[str, object] | None) -> TextSpec:
    """Change a net's own preprocessing to what the user wants.

    Args:
        own: Of the net; None for a net that brings none.
        preprocessing: Values of `TextSpec` by name, the tokenizer in any form.

    Raises:
        UnknownNameError: A name is not one of the spec's values.
        InvalidValueError: A net without a tokenizer was not given one, or not enough about it.
    """
    changes: dict[str, Any] = dict(preprocessing or {})  # Any: checked by the spec
    if "tokenizer" in changes:
        found = values_of(changes["tokenizer"])
        changes["tokenizer"] = found["tokenizer"]
        if found["pad_id"] is not None:
            changes.setdefault("pad_id", found["pad_id"])
        if found["max_length"] is not None and own is None:
            changes.setdefault("max_length", found["max_length"])
    if own is not None:
        return own.replace(changes)
    absent = [name for name in _NEEDED if name not in changes]
    if absent:
        raise InvalidValueError(
            f"A module brings no tokenizer of its own, and {absent[0]!r} is not known. Give "
            "preprocessing={'tokenizer': ..., 'pad_id': ..., 'max_length': ...}, the tokenizer "
            "that the net was made for, as the path of a tokenizer.json or as an object."
        )
    return TextSpec(tokenizer="", pad_id=0, max_length=8).replace(changes)


def _read(tokenizer: str | Path) -> Tokenizer:
    text, where = str(tokenizer), "the text given"
    try:
        if not text.lstrip().startswith("{"):
            where = repr(text)
            text = Path(text).expanduser().read_text(encoding="utf-8")
        return Tokenizer.from_str(text)
    except Exception as error:  # tokenizers raises bare Exceptions
        reason = " ".join(str(error).split())[:200]
        raise InvalidValueError(
            f"There is no tokenizer in {where[:200]} ({type(error).__name__}: {reason}). Expected "
            "the content or the path of a tokenizer.json."
        ) from None


def _plain(tokenizer: Tokenizer) -> str:
    """Write a tokenizer without cutting and filling up, which the data does for each batch."""
    copy = Tokenizer.from_str(tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy.to_str()
