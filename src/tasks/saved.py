"""Saved tasks: a folder with ``task.json`` and ``model.safetensors``, and no pickle.

``task.json`` says what to build, ``model.safetensors`` holds every tensor of backbone and head;
long texts of the input spec (a tokenizer) have files of their own.
Whoever changes the layout raises `FORMAT`, teaches `load` the older one and adds a golden folder to
``tests/golden``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from .. import __version__
from ..backbones import Backbone, create, rebuild
from ..errors import (
    ClassError,
    InvalidValueError,
    MealkitError,
    SavedTaskError,
    UnknownNameError,
    unknown_name,
)
from ..specs import INPUT_SPECS, DataSpec, ImageDataSpec, InputSpec, TextSpec

if TYPE_CHECKING:
    from torch import nn

    from .task import Task

FORMAT = 1
_JSON, _TENSORS = "task.json", "model.safetensors"
_KNOWN_FILES = {_JSON, _TENSORS} | {
    file for spec in INPUT_SPECS.values() for file in spec.FILES.values()
}


_ENTRIES: dict[str, type] = {
    "format": int,
    "task": str,
    "data": dict,
    "backbone": dict,
    "settings": dict,
    "precision": str,
}
_OF_BACKBONE: dict[str, type] = {"config": dict, "input": dict, "pretrained": bool}
_REMEDY = "Save the task again, or copy the whole folder anew."


def describe_task(task: Task) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with everything but the tensors from which a task is built again."""
    backbone = task.backbone
    return {
        "format": FORMAT,
        "mealkit": __version__,
        "task": type(task).__name__,
        "data": task.spec.to_json(),
        "backbone": {
            "config": backbone.config,
            "input": backbone.input_spec.to_json(),
            "pretrained": backbone.pretrained,
        },
        "settings": task.settings(),
        "precision": task.precision,
    }


def save_task(task: Task, folder: Path) -> Path:
    """Write a task to a folder, as a whole or not at all.

    Raises:
        SavedTaskError: The folder holds something that is not a saved task.
    """
    if folder.exists():
        held = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
        if held - _KNOWN_FILES:
            raise SavedTaskError(
                f"{folder} holds {', '.join(sorted(held - _KNOWN_FILES)[:3])}, which is no part of "
                "a saved task. Name another folder; nothing was written."
            )
    folder.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        name: value.detach().cpu().contiguous().clone()
        for name, value in task.state_dict().items()
        if name.startswith(task.saved_parts)
    }
    text = json.dumps(describe_task(task), indent=2, ensure_ascii=False) + "\n"
    # Written beside and moved into place: a full disk or a kill leaves the earlier task whole.
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".mealkit-") as temporary:
        new = Path(temporary) / "new"
        new.mkdir()
        (new / _JSON).write_text(text, encoding="utf-8")
        for file, content in task.input_spec.files().items():
            (new / file).write_text(content, encoding="utf-8")
        save_file(tensors, new / _TENSORS)
        if folder.exists():
            folder.replace(Path(temporary) / "old")
        new.replace(folder)
    return folder


def load(folder: str | Path, *, backbone: nn.Module | None = None) -> Task:
    """Load a saved task; needs no network, no data and nothing but the folder.

    Args:
        folder: What `save` wrote. It may have been renamed or moved.
        backbone: The module to put the weights into, for a task that was built on a module of your
            own: its code is not in the folder.

    Raises:
        SavedTaskError: The folder is no saved task, is damaged, or comes from a newer version.
    """
    from . import TASKS

    path = Path(folder)
    saved = _read(path)
    if saved["task"] not in TASKS:
        raise _damaged(path, str(unknown_name("task", saved["task"], TASKS)))
    with _naming_damage(path):
        with _naming_values(path):
            spec = DataSpec.from_json(saved["data"])
            input_spec = InputSpec.from_json(saved["backbone"]["input"], path)
        net = _net(saved["backbone"], input_spec, spec, backbone, path)
        with _naming_values(path, but=UnknownNameError):
            task = TASKS[saved["task"]].from_settings(net, spec, saved["settings"])
    task.precision = saved["precision"]
    _fill(task, path)
    return task.eval()


def restore_task(task: Task, folder: Path) -> None:
    """Put what was saved of a task of the same make back into it.

    Raises:
        SavedTaskError: The folder is no saved task, is damaged, or of another make.
    """
    saved = _read(folder)
    with _naming_damage(folder), _naming_values(folder, but=UnknownNameError):
        task.take_settings(saved["settings"])  # which decide how many tensors there are
    _fill(task, folder)
    task.backbone.pretrained = saved["backbone"]["pretrained"]
    task.precision = saved["precision"]
    task.eval()


def _net(
    saved: Mapping[str, Any],
    input_spec: InputSpec,
    spec: DataSpec,
    module: nn.Module | None,
    folder: Path,
) -> Backbone:
    if isinstance(input_spec, TextSpec):
        _check_tokenizer(input_spec, folder)
    if module is None:
        return rebuild(saved["config"], input_spec, pretrained=saved["pretrained"])
    if isinstance(spec, ImageDataSpec):
        spec = replace(spec, size=None)  # it is among the values of the input spec
    values = asdict(input_spec)
    net = create(module, spec, preprocessing=values)
    net.pretrained = saved["pretrained"]
    return net


def _check_tokenizer(spec: TextSpec, folder: Path) -> None:
    try:
        Tokenizer.from_str(spec.tokenizer)
    except Exception as error:  # tokenizers raises bare Exceptions
        raise SavedTaskError(f"The tokenizer in {folder} is damaged: {error}.") from error


def _read(path: Path) -> Mapping[str, Any]:
    if not (path / _JSON).is_file() or not (path / _TENSORS).is_file():
        raise SavedTaskError(
            f"{path} is no saved task: expected a folder with {_JSON} and {_TENSORS}"
            + ("." if path.exists() else ", and there is nothing of that name.")
        )
    try:
        saved = json.loads((path / _JSON).read_text(encoding="utf-8"))
    except ValueError as error:  # no JSON, or no UTF-8
        raise _damaged(path, f"it is no JSON ({error})") from error
    if not isinstance(saved, dict):
        raise _damaged(path, f"it holds {type(saved).__name__} and no object")
    number = saved.get("format")
    if type(number) is not int:  # True is one as well
        raise _damaged(path, f"its format is {number!r} and no number")
    if number > FORMAT:
        raise SavedTaskError(
            f"{path} was saved in format {number} by mealkit {saved.get('mealkit')}; this is "
            f"mealkit {__version__}, which reads formats up to {FORMAT}. "
            "Run: pip install -U mealkit"
        )
    _check_entries(saved, _ENTRIES, path)
    _check_entries(saved["backbone"], _OF_BACKBONE, path, of="backbone.")
    return saved


def _check_entries(
    saved: Mapping[str, Any], wanted: Mapping[str, type], path: Path, of: str = ""
) -> None:
    """Refuse a ``task.json`` that lacks an entry, or has one of another type."""
    absent = [f"{of}{name}" for name in wanted if name not in saved]
    if absent:
        raise _damaged(path, f"it has no {', '.join(absent)}")
    for name, kind in wanted.items():
        if type(saved[name]) is not kind:
            raise _damaged(
                path,
                f"its {of}{name} is {str(saved[name])[:40]!r} ({type(saved[name]).__name__}) where "
                f"{kind.__name__} is expected",
            )


@contextmanager
def _naming_damage(path: Path) -> Iterator[None]:
    """Turn what goes wrong with values of a ``task.json`` into an error that names the file."""
    try:
        yield
    except MealkitError:
        raise  # it says already what to do
    except FileNotFoundError as error:
        raise SavedTaskError(
            f"{path} is damaged: {error.filename} is missing. {_REMEDY}"
        ) from error
    except UnicodeDecodeError as error:
        raise SavedTaskError(
            f"{path} is damaged: a file of text in it is not UTF-8. {_REMEDY}"
        ) from error
    except KeyError as error:
        raise _damaged(path, f"an entry {error} is missing or has another name") from error
    except (TypeError, AttributeError, ValueError) as error:
        raise _damaged(path, f"a value in it has another type than was saved ({error})") from error


@contextmanager
def _naming_values(path: Path, *, but: type[Exception] | None = None) -> Iterator[None]:
    """Turn a value of a ``task.json`` that no spec or task has into an error that names the file.

    Not around what builds the net: that may lack a package or a registration, which is no damage.

    Args:
        path: The folder.
        but: What passes: settings may name what a user has yet to register.
    """
    try:
        yield
    except (InvalidValueError, ClassError) as error:
        if but is not None and isinstance(error, but):
            raise
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, what: str) -> SavedTaskError:
    """Say what is wrong with a ``task.json``, what was expected, and what to do."""
    return SavedTaskError(
        f"{path / _JSON} is damaged: {what.removesuffix('.')}. Expected what task.save wrote: an "
        f"object with {', '.join(_ENTRIES)}. {_REMEDY}"
    )


def _fill(task: Task, path: Path) -> None:
    try:
        tensors = load_file(path / _TENSORS)
    except Exception as error:  # safetensors raises its own class, which is not exported
        raise SavedTaskError(f"{path / _TENSORS} is damaged: {error}.") from error
    state, parts = task.state_dict(), task.saved_parts
    wanted = {name: value for name, value in state.items() if name.startswith(parts)}
    missing, unexpected = sorted(wanted.keys() - tensors), sorted(tensors.keys() - wanted)
    wrong = sorted(
        name for name in wanted.keys() & tensors if wanted[name].shape != tensors[name].shape
    )
    if missing or unexpected or wrong:
        raise SavedTaskError(
            f"The tensors in {path} do not fit the task it describes: missing {missing[:3]}, "
            f"unexpected {unexpected[:3]}, of another shape {wrong[:3]} "
            f"({len(missing)}, {len(unexpected)} and {len(wrong)} in all)."
        )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(tensors[name])
