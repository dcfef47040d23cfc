"""The one table of backbones: a kind, and the provider that knows its names and builds its nets."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from ..errors import BackboneError, InvalidValueError, UnknownNameError, unknown_name
from ..specs import DataSpec, InputSpec, Kind
from .base import Backbone
from .weights import Weights

_Net = TypeVar("_Net", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class BackboneInfo:
    """What can be known about a backbone without its weights and without network.

    Args:
        name: The full name, as a saved task records it.
        kind: What it takes in.
        source: The library that the architecture comes from.
        num_parameters: Number of trained values, classifier left out.
        num_features: Length F of a feature vector.
        input: What it wants to see.
        licence: Of the pretrained weights, or None where nobody says.
        weights: Where the pretrained weights come from, or None where there are none.
    """

    name: str
    kind: Kind
    source: str
    num_parameters: int
    num_features: int
    input: InputSpec
    licence: str | None
    weights: str | None

    def __str__(self) -> str:
        """Answer with a few aligned lines."""
        spec = ", ".join(f"{k}={v}" for k, v in self.input.to_json().items() if k != "kind")
        rows = {
            "parameters": f"{self.num_parameters:,}",
            "features": f"{self.num_features:,}",
            "input": spec,
            "weights": self.weights or "none: pretrained=False only",
            "licence": self.licence or "not stated by the source",
        }
        lines = [f"{self.name} ({self.kind}, from {self.source})"]
        return "\n".join([*lines, *(f"  {key:<11} {value}" for key, value in rows.items())])


@dataclass(frozen=True, kw_only=True)
class Request:
    """Everything that `create` was asked for, apart from which backbone."""

    data: DataSpec
    pretrained: bool | None = None
    weights: Weights | None = None
    preprocessing: Mapping[str, object] | None = None
    options: Mapping[str, object] | None = None


class Provider(Protocol):
    """What a kind of backbone brings: its names, and how they become nets."""

    def names(self) -> list[str]:
        """List every name that `create` takes."""

    def near(self, name: str) -> Iterable[str]:
        """List the names among which a misspelt one is looked for."""

    def has(self, name: str) -> bool:
        """Say whether `create` takes the name."""

    def has_weights(self, name: str) -> bool:
        """Say whether ``pretrained=True`` can work for the name."""

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a name without loading or downloading weights."""

    def from_name(self, name: str, request: Request) -> Backbone:
        """Build a net by its name."""

    def from_folder(self, folder: Path, request: Request) -> Backbone:
        """Build the net that a folder of the source library's own form describes."""

    def from_module(self, module: nn.Module, request: Request) -> Backbone:
        """Make a backbone of a net that answers with features."""

    def from_config(
        self,
        config: Mapping[str, Any],  # Any: plain JSON values
        input_spec: InputSpec,
        weights: Weights | None,
        request: Request,
    ) -> Backbone:
        """Build a recorded net for other data; `weights` are in the recorded net's own shape."""

    def rebuild(
        self,
        config: Mapping[str, Any],  # Any: plain JSON values
        input_spec: InputSpec,
        *,
        pretrained: bool,
    ) -> Backbone:
        """Build a recorded net exactly, without weights."""


PROVIDERS: dict[Kind, Provider] = {}
"""One row per kind. A new kind is one file that adds its row, imported in `__init__`."""


def provider(kind: Kind) -> Provider:
    """Answer with the provider of a kind of input.

    Raises:
        UnknownNameError: No backbones of this kind exist.
    """
    if kind not in PROVIDERS:
        raise unknown_name("kind of backbone", kind, PROVIDERS)
    return PROVIDERS[kind]


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A net that was added by `register`.

    Args:
        name: Under which `create` knows it.
        build: Answers with a net of features; takes the options as keyword arguments.
        input: What the net wants to see.
        weights: File of its pretrained weights, or None.
        licence: Of the weights.
    """

    name: str
    build: Callable[..., nn.Module]  # any keyword arguments: they are its options
    input: InputSpec
    weights: Path | None
    licence: str | None


REGISTERED: dict[Kind, dict[str, Registered]] = {"image": {}, "text": {}, "series": {}}


def register(
    name: str,
    *,
    input: InputSpec,
    weights: str | Path | None = None,
    licence: str | None = None,
) -> Callable[[Callable[..., _Net]], Callable[..., _Net]]:
    """Add a net of your own to the registry: a decorator for the function that builds it.

    The function answers with a module of features, (B, F), (B, F, h, w) or (B, L, F); one for texts
    takes ``(input_ids, attention_mask)``. Its keyword arguments are the net's options. A name that
    ends in a version (``cook.v2``) is also found without it, the newest first. Saved tasks record
    the name: register before you load them.

    Args:
        name: Under which `create` shall know it.
        input: What the net wants to see; its kind is the backbone's kind.
        weights: File of pretrained weights; a relative path starts at the function's own file.
        licence: Of the weights.

    Raises:
        InvalidValueError: The name contains a slash or a colon, which belong to other libraries.

    Example:
        >>> from torch import nn
        >>> from mealkit import ImageSpec
        >>> @register("soup", input=ImageSpec(size=(16, 16)))
        ... def soup(width: int = 8) -> nn.Module:
        ...     return nn.Conv2d(3, width, 3)
        >>> find("soup")
        ['soup']
    """
    if not name or "/" in name or ":" in name:
        raise InvalidValueError(
            f"A backbone cannot be called {name!r}: expected a name without slash and colon."
        )

    def add(build: Callable[..., _Net]) -> Callable[..., _Net]:
        home = Path(inspect.getfile(build)).parent if weights is not None else Path()
        REGISTERED[input.kind][name] = Registered(
            name=name,
            build=build,
            input=input,
            weights=None if weights is None else home / weights,
            licence=licence,
        )
        return build

    return add


def find(pattern: str = "*", *, kind: Kind = "image", pretrained: bool | None = None) -> list[str]:
    """List the names of backbones that match a pattern, sorted.

    Names with a prefix (``torchvision/resnet18``) match with and without it.

    Args:
        pattern: Shell-style wildcards: ``"resnet*"``, ``"vit_*_patch16_224*"``.
        kind: What the backbones take in.
        pretrained: True for names with weights, False for names without, None for all.

    Example:
        >>> find("mealkit_tiny*")
        ['mealkit_tiny', 'mealkit_tiny.v1']
    """
    source = provider(kind)
    found = [
        name
        for name in source.names()
        if fnmatchcase(name, pattern) or fnmatchcase(name.rpartition("/")[2], pattern)
    ]
    if pretrained is not None:
        found = [name for name in found if source.has_weights(name) is pretrained]
    return sorted(found)


def describe(name: str, *, kind: Kind | None = None) -> BackboneInfo:
    """Tell what a backbone is and wants, without network and without its weights.

    Args:
        name: A name of the registry.
        kind: Where to look, or None for every kind.

    Raises:
        UnknownNameError: No backbone has this name.

    Example:
        >>> describe("mealkit_tiny").input.size
        (32, 32)
    """
    kinds = list(PROVIDERS) if kind is None else [kind]
    found = [each for each in kinds if provider(each).has(name)]
    if not found:
        raise misspelt(name, kinds)
    # Hub ids have one form for all kinds: the lists of names say which kind, or the net's config.
    listed = [each for each in found if name in provider(each).names()] or found
    for each in listed[:-1]:
        with suppress(BackboneError):
            return provider(each).describe(name)
    return provider(listed[-1]).describe(name)


def misspelt(name: str, kinds: Iterable[Kind]) -> UnknownNameError:
    """Describe a name that no backbone has, with the nearest that some have."""
    what = "backbone"
    if any(sign in name for sign in "/\\~") or name.startswith("."):
        what = "folder and no backbone"  # the user may have meant either
    return unknown_name(what, name, {n for kind in kinds for n in provider(kind).near(name)})
