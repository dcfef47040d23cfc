"""`create` and `rebuild`: from whatever a user calls a backbone to a net."""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..errors import BackboneError, InvalidValueError, SavedTaskError, check_switch
from ..specs import DataSpec, ImageDataSpec, ImageSpec, InputSpec, SeriesDataSpec, SeriesSpec
from .base import Backbone
from .registry import Provider, Request, misspelt, provider
from .weights import Weights, below, read

_ANY_IMAGE = ImageDataSpec()
_TASK_FILE = "task.json"
_PREFIX = "backbone."
_NET = "net."


def create(
    backbone: str | Path | nn.Module | object,
    data: DataSpec = _ANY_IMAGE,
    *,
    pretrained: bool | None = None,
    weights: str | Path | None = None,
    preprocessing: Mapping[str, object] | None = None,
    options: Mapping[str, object] | None = None,
) -> Backbone:
    """Build a net of features, with the preprocessing it was trained with.

    Args:
        backbone: A name of the registry (`find`), alone or with the library in front
            (``"torchvision/resnet18"``); a timm hub id (``"hf-hub:..."``) or, for texts, any hub id
            (``"owner/name"``); a folder in timm's or in transformers' form; the folder of a saved
            task; a module that answers with features; a `Backbone`, which passes through; a task or
            anything else with a `Backbone` as its ``backbone``, which is copied.
        data: What the data looks like, which also says the kind of backbone: for pictures channels
            and, where the net shall change it, the size; ``TextDataSpec()`` for texts.
        pretrained: True for trained weights, False for random ones. None means True where there are
            weights; a module keeps what it holds and counts as untrained.
        weights: File (safetensors; .pt, .pth and .bin as plain tensors only) or folder to load
            instead, strictly. A classifier that the source library knows of is left out.
        preprocessing: Values of the `InputSpec` to change, by name: ``{"crop_pct": 1.0}``,
            ``{"max_length": 64}``. A module for texts needs its ``tokenizer`` here.
        options: The source library's own options of the net: ``{"drop_path_rate": 0.1}`` (timm).
            Nets for texts also take ``"pooling"``: ``"cls"``, ``"mean"``, ``"last"``, ``"auto"``.

    Raises:
        UnknownNameError: No backbone has this name, or no preprocessing value.
        WeightsError: Weights cannot be reached, or do not fit; random ones never replace them.
        BackboneError: The net cannot be built as asked: its size, an option.
        InvalidValueError: Arguments contradict each other.

    Example:
        >>> net = create("mealkit_tiny", ImageDataSpec(in_chans=1), pretrained=False)
        >>> net.num_features, net.input_spec.in_chans
        (176, 1)
    """
    if isinstance(backbone, Backbone):
        return _passed(backbone, data, pretrained, weights, preprocessing, options)
    if pretrained is not None:
        check_switch("pretrained", pretrained)
    if weights is not None and pretrained is False:
        raise InvalidValueError(
            f"weights={str(weights)!r} were given together with pretrained=False. Drop one of them."
        )
    state = torch.random.get_rng_state()
    built = _build(backbone, data, pretrained, weights, preprocessing, options)
    if built.pretrained:  # what was drawn for weights that trained ones replaced, nobody misses
        torch.random.set_rng_state(state)
    return built


def _build(
    backbone: object,
    data: DataSpec,
    pretrained: bool | None,
    weights: str | Path | None,
    preprocessing: Mapping[str, object] | None,
    options: Mapping[str, object] | None,
) -> Backbone:
    request = Request(
        data=data,
        pretrained=pretrained,
        weights=None if weights is None else _body_of(read(weights)),
        preprocessing=preprocessing,
        options=options,
    )
    source = provider(data.kind)
    if isinstance(backbone, str) and source.has(backbone):
        return source.from_name(backbone, request)
    if isinstance(backbone, (str, Path)):
        return _from_path(source, backbone, request)
    inner = getattr(backbone, "backbone", None)
    if isinstance(inner, Backbone):
        return _from_holder(source, inner, request)
    if isinstance(backbone, nn.Module):
        return source.from_module(backbone, request)
    raise InvalidValueError(
        f"backbone={backbone!r} is a {type(backbone).__name__}. Expected a name, a folder, a "
        "module that answers with features, a Backbone, or a task."
    )


def rebuild(
    config: Mapping[str, Any],  # Any: plain JSON values
    input_spec: InputSpec,
    *,
    pretrained: bool,
) -> Backbone:
    """Make the net again that ``backbone.config`` records: without weights, files and network.

    Args:
        config: What `Backbone.config` said.
        input_spec: What `Backbone.input_spec` said.
        pretrained: Whether the weights that will be loaded come from training.

    Raises:
        BackboneError: The recorded backbone was a module of the user's own.

    Example:
        >>> net = create("mealkit_tiny", pretrained=False)
        >>> again = rebuild(net.config, net.input_spec, pretrained=False)
        >>> _ = again.load_state_dict(net.state_dict())
    """
    return provider(input_spec.kind).rebuild(config, input_spec, pretrained=pretrained)


def _passed(
    backbone: Backbone,
    data: DataSpec,
    pretrained: bool | None,
    weights: object,
    preprocessing: object,
    options: object,
) -> Backbone:
    given = {
        "pretrained": pretrained,
        "weights": weights,
        "preprocessing": preprocessing,
        "options": options,
    }
    refused = [name for name, value in given.items() if value is not None]
    if refused:
        raise InvalidValueError(
            f"{refused[0]}={given[refused[0]]!r} was given with a finished Backbone, which passes "
            "through as it is. Give it where the Backbone is created."
        )
    spec = backbone.input_spec
    _check_kind(spec, data)
    if isinstance(data, SeriesDataSpec) and _differs(spec, data):
        # What encodes does not forecast: the net that does is built around a copy of it.
        return _from_holder(provider(data.kind), backbone, Request(data=data))
    if _differs(spec, data):
        raise BackboneError(
            f"The Backbone was built for {spec} and the data is {data}. Create it for this data: "
            "mealkit.backbones.create(name, data)."
        )
    return backbone


def _check_kind(spec: InputSpec, data: DataSpec) -> None:
    if spec.kind != data.kind:
        raise BackboneError(
            f"A backbone for {spec.kind} was given where one for {data.kind} is needed."
        )


def _differs(spec: InputSpec, data: DataSpec) -> bool:
    """Say whether a net must be built anew for the data; one for texts takes any texts."""
    if isinstance(spec, SeriesSpec) and isinstance(data, SeriesDataSpec):
        return bool(spec.horizon_steps) != bool(data.horizon_steps)
    if not (isinstance(spec, ImageSpec) and isinstance(data, ImageDataSpec)):
        return False
    return spec.in_chans != data.in_chans or data.height_width not in (None, spec.size)


def _from_path(source: Provider, path: str | Path, request: Request) -> Backbone:
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise misspelt(str(path), [request.data.kind])
    if not (folder / _TASK_FILE).is_file():
        return source.from_folder(folder, request)
    try:
        saved = json.loads((folder / _TASK_FILE).read_text(encoding="utf-8"))["backbone"]
        config, spec = saved["config"], InputSpec.from_json(saved["input"], folder)
        trained = bool(saved["pretrained"])
    except (ValueError, KeyError, TypeError) as error:
        raise SavedTaskError(
            f"{str(folder / _TASK_FILE)!r} says nothing usable about a backbone "
            f"({type(error).__name__}: {error}). Save the task again."
        ) from error
    _check_kind(spec, request.data)
    weights = request.weights
    if weights is None and request.pretrained is not False:
        found = read(folder)
        state = below(found.state, _PREFIX + _NET)
        weights = _exact(state, spec, f"the saved task {str(folder)!r}")
    made = source.from_config(config, spec, weights, request)
    if request.pretrained is None and request.weights is None:
        made.pretrained = trained
    return made


def _from_holder(source: Provider, inner: Backbone, request: Request) -> Backbone:
    """Copy the body of a task; build it anew where the data wants another size or channels."""
    _check_kind(inner.input_spec, request.data)
    given = (request.pretrained, request.weights, request.preprocessing, request.options)
    if all(value is None for value in given) and not _differs(inner.input_spec, request.data):
        return deepcopy(inner)
    state = {name: t.detach().cpu().clone() for name, t in inner.state_dict().items()}
    weights = request.weights
    if weights is None and request.pretrained is not False:
        weights = _exact(below(state, _NET), inner.input_spec, "the task's own backbone")
    made = source.from_config(inner.config, inner.input_spec, weights, request)
    if request.pretrained is None and request.weights is None:
        made.pretrained = inner.pretrained
    return made


def _body_of(weights: Weights) -> Weights:
    """Take the backbone out of the tensors of a saved task; others stay as they are."""
    body = below(weights.state, _PREFIX + _NET)
    return weights.with_state(body) if body else weights


def _exact(state: Mapping[str, Any], spec: InputSpec, origin: str) -> Weights:  # Any: tensors
    weights = Weights(dict(state), origin, exact=True)
    if isinstance(spec, ImageSpec):
        return replace(weights, in_chans=spec.in_chans, size=spec.size)
    return weights
