"""The Hugging Face hub: which names have the form of an id, and folders of what it holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import snapshot_download

from .weights import unreachable

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
)
"""What tokenizers are written in, as patterns of names."""

_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PICTURES = ("timm/", "torchvision/")  # a misspelt name of theirs is no hub id
_TENSORS = ("model.safetensors", "model.safetensors.index.json", "model-*.safetensors")


def is_hub_id(name: str) -> bool:
    """Say whether a name has the form of a hub id; the hub is not asked."""
    return _ID.fullmatch(name) is not None and not name.startswith(_PICTURES)


def where(name: str) -> str:
    """Name the place of a net on the hub, for messages."""
    return f"Hugging Face hub id {name}"


def fetch_description(name: str, files: Iterable[str], *, what: str) -> Path:
    """Get the small files that describe a net, from the hub or its cache.

    Args:
        name: Hub id.
        files: Their names, or patterns of them.
        what: They are, for messages.

    Raises:
        WeightsError: They cannot be reached.
    """
    try:
        return Path(snapshot_download(name, allow_patterns=list(files)))
    except Exception as error:  # the hub's client raises a dozen kinds
        raise unreachable(
            name,
            f"{where(name)}; no folder here is called so",
            error,
            what=what,
            instead="or give the path of a folder that holds them",
        ) from error


def fetch_all(name: str, files: Iterable[str]) -> Path:
    """Get the weights of a net, beside the files that describe it, from the hub or its cache.

    Args:
        name: Hub id.
        files: That describe it.

    Raises:
        WeightsError: They cannot be reached, or there are none as safetensors.
    """
    try:
        folder = Path(snapshot_download(name, allow_patterns=[*files, *_TENSORS]))
        if not any((folder / file).is_file() for file in _TENSORS[:2]):
            raise FileNotFoundError(f"there is no {_TENSORS[0]}")
    except Exception as error:  # the hub's client raises a dozen kinds
        raise unreachable(name, where(name), error) from error
    return folder
