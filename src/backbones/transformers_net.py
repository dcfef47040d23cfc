"""Nets of transformers, whatever they take in: built from a config, read strictly from a folder."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import logging as hf_logging

from ..errors import BackboneError, WeightsError
from .sources import Config, title
from .weights import Weights

_FILES = ("model.safetensors", "model.safetensors.index.json")


def json_of(file: Path) -> dict[str, Any]:  # Any: what json.loads answers
    """Read a file of JSON values by name; one that is absent or holds something else is empty."""
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise BackboneError(f"{str(file)!r} is not valid JSON ({error}). Copy it again.") from None
    return content if isinstance(content, dict) else {}


def config_of(config: Config) -> Any:  # Any: PretrainedConfig subclass
    """Make transformers' config of what was recorded of it, changed by the options.

    Raises:
        BackboneError: transformers knows no such model, or the model no such option.
    """
    values = dict(config["model_config"])
    kind = values.pop("model_type")
    try:
        model_config = AutoConfig.for_model(kind, **values)
    except ValueError as error:
        raise BackboneError(f"transformers knows no model_type {kind!r}: {error}.") from error
    for name, value in (config.get("options") or {}).items():
        if not hasattr(model_config, name):
            raise BackboneError(
                f"{title(config)} does not take the option {name!r}. Its options are the values of "
                f"transformers' {type(model_config).__name__}."
            )
        setattr(model_config, name, value)
    return model_config


def construct(
    model_config: Any,  # Any: PretrainedConfig subclass
    config: Config,
    what: str,
    kind: Any = None,  # Any: PreTrainedModel subclass
) -> PreTrainedModel:
    """Build a random net in single precision, without the pooler of a classifier.

    Args:
        model_config: Of transformers.
        config: What is recorded, for messages.
        what: The sort of net that was expected, for messages.
        kind: Its class; None for the one that AutoModel takes.

    Raises:
        BackboneError: The config describes no such net.
    """
    try:
        kind = kind or AutoModel._model_mapping[type(model_config)]
        net: PreTrainedModel = kind._from_config(
            model_config, dtype=torch.float32, **_poolless(kind, model_config)
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BackboneError(
            f"{title(config)} could not be built ({type(error).__name__}: {error}). Expected a "
            f"{what} of transformers."
        ) from error
    return net


def read_folder(
    folder: Path,
    model_config: Any,  # Any: PretrainedConfig subclass
    is_head: Callable[[str], bool],
    kind: Any = None,  # Any: PreTrainedModel subclass
) -> Weights:
    """Read a folder's weights through transformers, which gives old ones their present names.

    Args:
        folder: As `save_pretrained` writes it.
        model_config: The folder's own, or that of the part that is wanted.
        is_head: Whether a tensor of this name belongs to a head that is left out.
        kind: The class of the net; None for the one that AutoModel takes. Its heads may be absent.

    Raises:
        WeightsError: There are none, or a tensor is missing, foreign or of another shape.
    """
    net, absent = read_net(folder, model_config, is_head, kind)
    state = {name: value for name, value in net.state_dict().items() if name not in absent}
    return Weights(state, f"the folder {str(folder)!r}", exact=True)


def read_net(
    folder: Path,
    model_config: Any,  # Any: PretrainedConfig subclass
    is_head: Callable[[str], bool],
    kind: Any = None,  # Any: PreTrainedModel subclass
) -> tuple[PreTrainedModel, frozenset[str]]:
    """Build the net of a folder with its weights; arguments and errors are those of `read_folder`.

    Returns:
        The net, and the names of the tensors of heads that the folder does not have.
    """
    if not any((folder / name).is_file() for name in _FILES):
        raise WeightsError(
            f"There are no weights in {str(folder)!r}. Expected one of {', '.join(_FILES)}."
        )
    heads_may_be_absent = kind is not None
    try:
        kind = kind or AutoModel._model_mapping[type(model_config)]
        with quiet():
            net, report = kind.from_pretrained(
                folder,
                config=model_config,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are in the report, and refused by name below
                dtype=torch.float32,
                **_poolless(kind, model_config),
            )
    except Exception as error:  # transformers and safetensors raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise WeightsError(
            f"The weights in {str(folder)!r} could not be loaded ({type(error).__name__}: "
            f"{reason}). Check that model.safetensors belongs to the config.json beside it."
        ) from error
    heads = frozenset(name for name in report["missing_keys"] if is_head(name))
    absent = heads if heads_may_be_absent else frozenset()
    misfits = {
        "missing": sorted(set(report["missing_keys"]) - absent),
        "unexpected": sorted(name for name in report["unexpected_keys"] if not is_head(name)),
        "misshapen": sorted(str(entry[0]) for entry in report["mismatched_keys"]),
    }
    told = "; ".join(
        f"{len(names)} {word} ({', '.join(names[:4])})" for word, names in misfits.items() if names
    )
    if told:
        raise WeightsError(
            f"The weights in {str(folder)!r} do not fit the net: {told}. Check that "
            "model.safetensors belongs to the config.json beside it."
        )
    return net, absent


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' bar and its table of heads left out from the screen, for this one call."""
    logger = logging.getLogger("transformers.modeling_utils")
    bar = hf_logging.is_progress_bar_enabled()
    logger.addFilter(_no_report)
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logger.removeFilter(_no_report)
        if bar:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _no_report(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _poolless(kind: Any, model_config: Any) -> dict[str, bool]:  # Any: transformers' classes
    """Leave out a pooler with a layer in front of a classifier: that trained it, if anything did.

    Others stay: those that only average, and those that hold the last norm of the net.
    """
    if "add_pooling_layer" not in inspect.signature(kind.__init__).parameters:
        return {}
    with torch.device("meta"):
        pooler = getattr(kind(model_config), "pooler", None)
    return {"add_pooling_layer": False} if hasattr(pooler, "dense") else {}
