"""How the states of tokens become one vector: what can be asked for, and what a net wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ..errors import BackboneError, unknown_name
from .sources import Config, title
from .transformers_net import json_of

_READ = ("Transformer", "Pooling", "Normalize")  # modules of sentence-transformers
_MODES = {  # what sentence-transformers calls them, by flag and by word
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "last",
    "cls": "cls",
    "mean": "mean",
    "lasttoken": "last",
}


def first_token(states: Tensor, mask: Tensor) -> Tensor:
    """Take the first token's state, (B, F): that of the class token, where there is one."""
    return states[:, 0]


def mean_token(states: Tensor, mask: Tensor) -> Tensor:
    """Average the states of the tokens that are no padding, (B, F)."""
    kept = states.masked_fill(mask.unsqueeze(2) == 0, 0.0)
    return kept.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)


def last_token(states: Tensor, mask: Tensor) -> Tensor:
    """Take the state of the last token that is no padding, (B, F)."""
    place = torch.arange(mask.shape[1], device=mask.device)
    last = (place * (mask != 0)).argmax(dim=1)
    return states[torch.arange(len(states), device=states.device), last]


POOLINGS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": first_token,
    "mean": mean_token,
    "last": last_token,
}


def pooling_of(config: Config, asked: object) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with the entries ``pooling`` and ``normalise`` of a backbone's config.

    Args:
        config: Of the backbone; its own two entries hold where nothing is asked for.
        asked: A name in `POOLINGS`, ``"auto"``, or None.

    Raises:
        UnknownNameError: There is no such pooling.
        BackboneError: A folder of sentence-transformers pools in a way that is not known here.
    """
    if asked is None and "pooling" in config:
        return {"pooling": config["pooling"], "normalise": bool(config.get("normalise"))}
    if asked in (None, "auto"):
        return _automatic(config)
    if asked not in POOLINGS:
        raise unknown_name("pooling", str(asked), ("auto", *POOLINGS))
    return {"pooling": asked, "normalise": False}


def modules_of(folder: Path) -> list[dict[str, Any]] | None:  # Any: plain JSON values
    """Read which modules sentence-transformers would run one after another, None if it is not its.

    Raises:
        BackboneError: ``modules.json`` cannot be read.
    """
    file = folder / "modules.json"
    if not file.is_file():
        return None
    try:
        listed = [
            (str(entry["type"]), str(entry["path"])) for entry in json.loads(file.read_text())
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BackboneError(
            f"{str(file)!r} is no list of sentence-transformers' modules "
            f"({type(error).__name__}: {error}). Copy it again."
        ) from None
    return [
        {
            "type": kind.rpartition(".")[2],
            **(json_of(folder / path / "config.json") if kind.endswith(".Pooling") else {}),
        }
        for kind, path in listed
    ]


def _automatic(config: Config) -> dict[str, Any]:
    modules = config.get("modules")
    if modules:
        return _of_modules(modules, title(config))
    if "model_config" not in config:
        return {"pooling": None, "normalise": False}
    kind = config["model_config"]["model_type"]
    decodes = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    masked = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES
    decoder = (decodes and not masked) or bool(config["model_config"].get("is_decoder"))
    return {"pooling": "last" if decoder else "mean", "normalise": False}


def _of_modules(modules: list[Config], name: str) -> dict[str, Any]:
    foreign = [module["type"] for module in modules if module["type"] not in _READ]
    if foreign:
        raise BackboneError(
            f"{name} has a module of sentence-transformers that is not read here: {foreign[0]}. "
            f"Known are {', '.join(_READ)}. Give options={{'pooling': 'mean'}} to go without all "
            "of them, or choose another backbone."
        )
    pooling = next((module for module in modules if module["type"] == "Pooling"), {})
    flags = [key for key, value in pooling.items() if key.startswith("pooling_mode_") and value]
    chosen = [str(pooling["pooling_mode"])] if "pooling_mode" in pooling else flags
    if pooling and (len(chosen) != 1 or chosen[0] not in _MODES):
        raise BackboneError(
            f"{name} pools its tokens by {', '.join(chosen) or 'nothing'}, which is not known "
            f"here. Choose one with options={{'pooling': ...}}: {', '.join(POOLINGS)}."
        )
    return {
        "pooling": _MODES[chosen[0]] if pooling else "mean",
        "normalise": any(module["type"] == "Normalize" for module in modules),
    }
