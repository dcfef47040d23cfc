"""What the kinds of backbones share: libraries of nets, and the provider of them all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from ..errors import BackboneError, WeightsError
from ..specs import InputSpec
from .base import Backbone
from .registry import BackboneInfo, Request
from .weights import Weights

Config = Mapping[str, Any]  # Any: plain JSON values
NET = "net."
"""What a backbone's own names of parameters have in front of the net's."""

SpecT = TypeVar("SpecT", bound=InputSpec)
BackboneT = TypeVar("BackboneT", bound=Backbone)


class Source(Generic[SpecT, BackboneT]):
    """A library of nets. A source without names or folders keeps the defaults."""

    prefix: str
    bare: bool = True
    """Whether lists show the names without prefix; those that others share need it."""

    def names(self) -> list[str]:
        """List every name, without prefix."""
        return []

    def near(self, name: str) -> Iterable[str]:
        """List the names among which a misspelt one is looked for."""
        return self.names()

    def has(self, name: str) -> bool:
        """Say whether the library has a net of this name."""
        return name in self.names()

    def has_weights(self, name: str) -> bool:
        """Say whether there are pretrained weights for the name."""
        return False

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a name without network."""
        raise NotImplementedError

    def config(self, name: str) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what identifies the net for good: the full name, and what else it takes."""
        raise NotImplementedError

    def owns(self, folder: Path) -> bool:
        """Say whether a folder has this library's form."""
        return False

    def folder_config(self, folder: Path) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what a folder says about its net."""
        raise NotImplementedError

    def read(self, folder: Path, config: Config) -> Weights:
        """Read a folder's weights."""
        raise NotImplementedError

    def own_spec(self, config: Config) -> SpecT:
        """Answer with the preprocessing that the net was trained with."""
        raise NotImplementedError

    def fetch(self, config: Config) -> Weights:
        """Get the pretrained weights, from the cache or the network."""
        raise NotImplementedError

    def build(
        self, config: Config, spec: SpecT, weights: Weights | None, *, pretrained: bool
    ) -> BackboneT:
        """Build the net of a config for a spec, random or with weights, which load strictly."""
        raise NotImplementedError


class SourceProvider(Generic[SpecT, BackboneT]):
    """A provider of one kind of backbone; a subclass adds how a spec is fitted and a net made.

    Args:
        sources: Libraries of nets, in the order in which a bare name is looked for.
    """

    folders: str
    """What a folder of a backbone holds, for the message about one that is none."""

    def __init__(self, *sources: Source[SpecT, BackboneT]) -> None:
        self._sources = {source.prefix: source for source in sources}

    def names(self) -> list[str]:
        """List every name; those that only a prefix reaches, with their prefix."""
        known: dict[str, None] = {}
        for source in self._sources.values():
            for name in source.names():
                known[name if source.bare else f"{source.prefix}/{name}"] = None
        return list(known)

    def near(self, name: str) -> Iterable[str]:
        """List the names among which a misspelt one is looked for."""
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._sources:
            return [f"{prefix}/{near}" for near in self._sources[prefix].near(rest)]
        return {near for source in self._sources.values() for near in source.near(name)}

    def has(self, name: str) -> bool:
        """Say whether a library has a net of this name."""
        return self._of_name(name) is not None

    def has_weights(self, name: str) -> bool:
        """Say whether there are pretrained weights for the name."""
        source, bare = self._named(name)
        return source.has_weights(bare)

    def describe(self, name: str) -> BackboneInfo:
        """Tell about a name without loading or downloading weights."""
        source, bare = self._named(name)
        return source.describe(bare)

    def from_name(self, name: str, request: Request) -> BackboneT:
        """Build a net by its name, with the weights asked for."""
        source, bare = self._named(name)
        config = source.config(bare)
        pretrained = request.pretrained
        if pretrained is None:
            pretrained = request.weights is not None or source.has_weights(bare)
        weights = request.weights
        if pretrained and weights is None:
            if not source.has_weights(bare):
                raise no_weights(name)
            weights = source.fetch(config)
        return self._make(source, config, weights, request)

    def from_folder(self, folder: Path, request: Request) -> BackboneT:
        """Build the net that a folder describes, with the folder's weights or others."""
        for source in self._sources.values():
            if source.owns(folder):
                config = source.folder_config(folder)
                weights = request.weights
                if weights is None and request.pretrained is not False:
                    weights = source.read(folder, config)
                return self._make(source, config, weights, request)
        raise BackboneError(
            f"{str(folder)!r} is no folder of a backbone. Expected a saved mealkit task "
            f"(task.json), or {self.folders}."
        )

    def from_config(
        self, config: Config, input_spec: InputSpec, weights: Weights | None, request: Request
    ) -> BackboneT:
        """Build a recorded net for other data; `weights` are in the recorded net's own shape."""
        source = self._sources[config["source"]]
        return self._make(source, dict(config), weights, request, own=self._spec(input_spec))

    def rebuild(self, config: Config, input_spec: InputSpec, *, pretrained: bool) -> BackboneT:
        """Build a recorded net exactly, without weights."""
        spec = self._spec(input_spec)
        return self._sources[config["source"]].build(config, spec, None, pretrained=pretrained)

    def _make(
        self,
        source: Source[SpecT, BackboneT],
        config: Config,
        weights: Weights | None,
        request: Request,
        *,
        own: SpecT | None = None,
    ) -> BackboneT:
        """Fit the preprocessing, and build; `own` is the recorded spec where there is one."""
        raise NotImplementedError

    def _spec(self, spec: InputSpec) -> SpecT:
        """Answer with a spec of this kind, or refuse another kind's."""
        raise NotImplementedError

    def _named(self, name: str) -> tuple[Source[SpecT, BackboneT], str]:
        found = self._of_name(name)
        if found is None:
            raise BackboneError(f"There is no backbone {name!r}.")
        return found

    def _of_name(self, name: str) -> tuple[Source[SpecT, BackboneT], str] | None:
        prefix, slash, rest = name.partition("/")
        if slash and prefix in self._sources:
            source = self._sources[prefix]
            return (source, rest) if source.has(rest) else None
        return next(((s, name) for s in self._sources.values() if s.has(name)), None)


@contextmanager
def still(net: nn.Module) -> Iterator[None]:
    """Run a net without leaving a trace: evaluation mode, no gradients, every mode given back."""
    modes = [(module, module.training) for module in net.modules()]
    net.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def title(config: Config) -> str:
    """Name a net for messages."""
    return repr(config.get("name") or config.get("module") or config.get("source"))


def no_weights(name: str) -> WeightsError:
    """Say that pretrained weights were asked for where none exist."""
    return WeightsError(
        f"There are no pretrained weights for {name!r}. Use pretrained=False to train from "
        "scratch, give a file with weights=..., or find another: "
        "mealkit.backbones.find(pretrained=True)."
    )
