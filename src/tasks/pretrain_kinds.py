"""The kinds of input that a pretrainer learns from, and which of them a backbone reads."""

from __future__ import annotations

import json
from pathlib import Path

from ..backbones import Backbone
from ..backbones.registry import provider
from ..specs import Kind
from .pretrain_kind import PretrainKind
from .pretrain_pictures import Pictures
from .pretrain_series import Series
from .pretrain_texts import Texts

KINDS: dict[Kind, PretrainKind] = {"image": Pictures(), "text": Texts(), "series": Series()}
"""One row per kind of input."""


def kind_of(backbone: object) -> Kind:
    """Answer with what a backbone reads, as far as it can be told without building it.

    Args:
        backbone: As `SSLPretrainer` takes it. What is not known counts as a net for pictures.
    """
    inner = backbone if isinstance(backbone, Backbone) else getattr(backbone, "backbone", None)
    if isinstance(inner, Backbone):
        return inner.input_spec.kind
    if not isinstance(backbone, (str, Path)):
        return "image"
    if provider("image").has(str(backbone)):
        return "image"
    named: list[Kind] = [kind for kind in KINDS if str(backbone) in provider(kind).names()]
    return named[0] if named else _saved_kind(Path(backbone)) or "image"


def _saved_kind(folder: Path) -> Kind | None:
    """Answer with what the backbone of a saved task reads; None where there is none to be read."""
    try:
        saved = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        found = saved["backbone"]["input"]["kind"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # whoever builds the net says what is wrong with the folder
    return found if found in KINDS else None
