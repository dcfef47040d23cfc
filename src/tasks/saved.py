"""Saved tasks: a folder with ``task.json`` and ``model.safetensors``, and no pickle.

``task.json`` says what to build, ``model.safetensors`` holds every tensor of backbone and head;
long texts of the input spec (a tokenizer) have files of their own.
Whoever changes the layout raises `FORMAT`, teaches `load` the older one and adds a golden folder to
``tests/golden``.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from .. import __version__
from ..backbones import Backbone, create, rebuild
from ..errors import SavedTaskError, unknown_name
from ..specs import INPUT_SPECS, DataSpec, ImageDataSpec, InputSpec, TextSpec

if TYPE_CHECKING:
    from torch import nn

    from .task import Task

FORMAT = 1
_JSON, _TENSORS = "task.json", "model.safetensors"
_KNOWN_FILES = {_JSON, _TENSORS} | {
    file for spec in INPUT_SPECS.values() for file in spec.FILES.values()
}


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
        raise unknown_name("task", str(saved["task"]), TASKS)
    try:
        spec = DataSpec.from_json(saved["data"])
        net = _net(saved["backbone"], spec, backbone, path)
        task = TASKS[saved["task"]].from_settings(net, spec, saved["settings"])
        task.precision = saved["precision"]
    except FileNotFoundError as error:
        raise SavedTaskError(f"{path} is damaged: {error.filename} is missing.") from error
    except UnicodeDecodeError as error:
        raise SavedTaskError(f"{path} is damaged: a file of text in it is not UTF-8.") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise SavedTaskError(f"{path / _JSON} is damaged: {error!r}.") from error
    _fill(task, path)
    return task.eval()


def restore_task(task: Task, folder: Path) -> None:
    """Put what was saved of a task of the same make back into it.

    Raises:
        SavedTaskError: The folder is no saved task, is damaged, or of another make.
    """
    saved = _read(folder)
    task.take_settings(saved["settings"])  # which decide how many tensors there are
    _fill(task, folder)
    task.backbone.pretrained = bool(saved["backbone"]["pretrained"])
    task.precision = str(saved["precision"])
    task.eval()


def _net(
    saved: Mapping[str, Any], spec: DataSpec, module: nn.Module | None, folder: Path
) -> Backbone:
    input_spec = InputSpec.from_json(saved["input"], folder)
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
        saved: Mapping[str, Any] = json.loads((path / _JSON).read_text(encoding="utf-8"))
        number, _ = int(saved["format"]), saved["task"]
    except (ValueError, KeyError, TypeError) as error:
        raise SavedTaskError(f"{path / _JSON} is damaged: {error}.") from error
    if number > FORMAT:
        raise SavedTaskError(
            f"{path} was saved in format {number} by mealkit {saved.get('mealkit')}; this is "
            f"mealkit {__version__}, which reads formats up to {FORMAT}. "
            "Run: pip install -U mealkit"
        )
    return saved


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
