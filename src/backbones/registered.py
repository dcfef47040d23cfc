"""Nets that are no library's: those that `register` knows, and modules of the user's."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn

from ..errors import BackboneError, InvalidValueError
from ..specs import Kind
from .registry import REGISTERED, BackboneInfo, Registered, Request
from .sources import BackboneT, Config, Source, SpecT, no_weights
from .weights import Weights, load, read, unreachable


class RegisteredSource(Source[SpecT, BackboneT]):
    """The nets that `register` knows, this library's own among them."""

    prefix = "mealkit"
    kind: Kind

    def names(self) -> list[str]:
        """List the registered names, and versioned ones also without their version."""
        full = list(REGISTERED[self.kind])
        return list(dict.fromkeys([*full, *(_bare(name) for name in full)]))

    def has_weights(self, name: str) -> bool:
        """Say whether a file of weights was registered."""
        return self._entry(name).weights is not None

    def describe(self, name: str) -> BackboneInfo:
        """Build the net and count."""
        entry = self._entry(name)
        config = self.config(name)
        with torch.random.fork_rng(devices=[]):
            backbone = self.build(config, self.own_spec(config), None, pretrained=False)
        return BackboneInfo(
            name=entry.name,
            kind=self.kind,
            source=self.prefix,
            num_parameters=sum(parameter.numel() for parameter in backbone.parameters()),
            num_features=backbone.num_features,
            input=entry.input,
            licence=entry.licence,
            weights=None if entry.weights is None else entry.weights.name,
        )

    def config(self, name: str) -> dict[str, Any]:  # Any: plain JSON values
        """Record the name with its version, so that a newer one changes nothing that is saved."""
        return {"source": self.prefix, "name": self._entry(name).name}

    def fetch(self, config: Config) -> Weights:
        """Read the registered file."""
        entry = self._entry(config["name"])
        if entry.weights is None:
            raise no_weights(entry.name)
        if not entry.weights.is_file():
            error = FileNotFoundError("there is no such file")
            raise unreachable(entry.name, f"file {entry.weights.name}", error)
        return read(entry.weights)

    def _entry(self, name: str) -> Registered:
        """Find a registered net; without a version, the newest."""
        table = REGISTERED[self.kind]
        if name in table:
            return table[name]
        versions = [full for full in table if _bare(full) == name]
        return table[max(versions, key=lambda full: int(full.rpartition(".v")[2]))]

    def _net(self, config: Config) -> nn.Module:
        """Call the registered function with the options."""
        name, options = config["name"], dict(config.get("options") or {})
        build = self._entry(name).build
        try:
            inspect.signature(build).bind(**options)
        except TypeError as error:
            known = ", ".join(inspect.signature(build).parameters) or "none"
            raise BackboneError(
                f"{name!r} does not take the options {options}: {error}. Its options: {known}."
            ) from None
        return build(**options)


class UserSource(Source[SpecT, BackboneT]):
    """Modules that the user made: there is nothing to rebuild them from."""

    prefix = "module"

    def build(
        self, config: Config, spec: SpecT, weights: Weights | None, *, pretrained: bool
    ) -> BackboneT:
        """Say that a saved task with such a backbone needs the module again."""
        raise BackboneError(
            f"This backbone is a module of yours, {config['module']}, which cannot be built from "
            "its name. Pass the module: mealkit.load(folder, backbone=YourModule())."
        )


def take_module(module: nn.Module, request: Request) -> dict[str, Any]:  # Any: plain JSON values
    """Give a user's module the weights asked for; answer with what is known of it: its class.

    Raises:
        InvalidValueError: Options were given, or weights with ``pretrained=False``.
    """
    if request.options:
        raise InvalidValueError(
            f"options={dict(request.options)} were given with a module, which is already "
            "built. Build it with them, or leave them out."
        )
    if request.pretrained is False and request.weights is not None:
        raise InvalidValueError("weights were given together with pretrained=False: drop one.")
    if request.weights is not None:
        load(module, request.weights)
    kind = type(module)
    return {"source": "module", "name": None, "module": f"{kind.__module__}.{kind.__qualname__}"}


def _bare(name: str) -> str:
    stem, dot, version = name.rpartition(".v")
    return stem if dot and version.isdigit() else name
