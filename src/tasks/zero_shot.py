"""A head made of words: the texts that describe a class, embedded, are its weights.

Radford et al. 2021 (arXiv:2103.00020, sec. 3.1.4): a class name stands in several sentences, the
embeddings of which are averaged on the sphere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from ..backbones.text_tower import TextTower
from ..errors import ClassError, InvalidValueError, unknown_name

GAP = "{}"
"""Where the name of a class goes in a prompt."""

PROMPTS = (
    "a photo of a {}.",
    "a photo of the {}.",
    "a close-up photo of a {}.",
    "a photo of a {} from far away.",
    "a photo of one small {}.",
    "a photo of one large {}.",
    "a photo of many {}.",
    "a dark photo of a {}.",
    "a bright photo of a {}.",
    "a blurry photo of a {}.",
    "a drawing of a {}.",
    "a picture of a {} in the middle of other things.",
)
"""Prompts for any sort of picture, in words of our own. They vary what the 80 prompts vary that
Radford et al. used on ImageNet: distance, size, number, light, quality and medium. Which are best
for your pictures, only your pictures say."""

Prompts = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""Sentences with a gap for the name of a class, or the sentences of each class."""


def describe_classes(classes: Sequence[str], prompts: Prompts | None) -> dict[str, list[str]]:
    """Answer with the sentences that describe each class.

    Args:
        classes: Names of the labels.
        prompts: Sentences with a gap, or those of each class; None for `PROMPTS`.

    Raises:
        ClassError: A name is blank.
        InvalidValueError: A prompt has no gap, a class no sentence, or sentences no class.
    """
    blank = [name for name in classes if not name.strip()]
    if blank:
        raise ClassError(f"Class {blank[0]!r} is blank: expected a name that a text can hold.")
    if isinstance(prompts, Mapping):
        return _given(classes, prompts)
    found = _listed("prompts", PROMPTS if prompts is None else prompts)
    for prompt in found:
        if GAP not in prompt:
            raise InvalidValueError(
                f"The prompt {prompt!r} has no {GAP}, where the name of the class goes. Write "
                f"'a photo of a {GAP}.', or give a dict of each class and its sentences."
            )
    return {name: [prompt.replace(GAP, name) for prompt in found] for name in classes}


def _given(
    classes: Sequence[str], prompts: Mapping[str, str | Sequence[str]]
) -> dict[str, list[str]]:
    for name in prompts:
        if name not in classes:
            raise unknown_name("class (in prompts)", str(name), classes)
    absent = [name for name in classes if name not in prompts]
    if absent:
        raise InvalidValueError(
            f"prompts has no sentence for {absent[0]!r}. Give at least one for each class."
        )
    return {name: _listed(f"prompts[{name!r}]", prompts[name]) for name in classes}


def _listed(what: str, sentences: str | Sequence[str]) -> list[str]:
    given: Any = sentences  # Any: whatever the user gave
    found = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    if not found or not all(isinstance(each, str) and each.strip() for each in found):
        raise InvalidValueError(f"{what}={sentences!r}: expected one text or several, none blank.")
    return found


def head_of_texts(tower: TextTower, texts: Mapping[str, Sequence[str]]) -> tuple[Tensor, Tensor]:
    """Make the head that compares a picture with the texts of each class.

    The features have length sqrt(F), so that the cosine with a class is their product with its unit
    vector over sqrt(F).

    Args:
        tower: The encoder of the texts.
        texts: Of each class, in the order of the logits.

    Returns:
        Weight (K, F) and bias (K,) of a linear layer over features of the kind "shared".
    """
    flat = [text for sentences in texts.values() for text in sentences]
    counts = [len(sentences) for sentences in texts.values()]
    means = torch.stack([rows.mean(0) for rows in torch.split(tower.embed(flat), counts)])
    weight = functional.normalize(means, dim=1) * (tower.scale / math.sqrt(means.shape[1]))
    return weight, torch.full((len(texts),), tower.bias)
