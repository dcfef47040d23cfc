"""What a run was made with, as plain values, so that one that goes on is the one that began."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl

from ..data.balance import plain_balance
from ..data.stream_samples import StreamSamples
from ..errors import RunError
from .saved import describe_task
from .strategies import name_of
from .training import resolve_precision

if TYPE_CHECKING:
    from ..data import Data, Samples
    from .task import Task

PLAN = "plan"
"""What stands under this name follows from the task as it is: of a net without training, another
plan is made once it is trained."""

NUM_PROBED = 16
"""Inputs of a part that are no files and are fetched to tell whether they are the same."""

_NUM_NAMED = 5
_TAKEN_BACK = ("temperature", "conformal", "thresholds")

Fingerprint = dict[str, Any]  # Any: plain JSON values
"""Settings by their dotted names."""


def fingerprint(
    task: Task,
    data: Data,
    *,
    asked: Mapping[str, Any],  # Any: whatever finetune takes
    trainer: pl.Trainer | None,
) -> Fingerprint:
    """Answer with everything that decides what a run comes to, but the weights it starts from.

    Those are in the checkpoint. What changes nothing (the number of workers, versions, where a
    folder of pictures lies) is left out.

    Args:
        task: With its plan made.
        data: Prepared.
        asked: Arguments of `Task.finetune` by name, None for those that were left out.
        trainer: The user's own, which decides some of it.
    """
    described = describe_task(task)
    values: dict[str, Any] = {  # Any: JSON
        "task": described["task"],
        "classes": {n: v for n, v in task.spec.to_json().items() if n not in task.spec.COLUMNS},
        "backbone": described["backbone"]["config"],
        "input": described["backbone"]["input"],
        # Training takes a calibration back, so it decides nothing.
        "settings": {
            n: value for n, value in described["settings"].items() if n not in _TAKEN_BACK
        },
        **asked,
        PLAN: {"strategy": name_of(task.plan.strategy), "lr": task.plan.lr},
        "training": asdict(task.plan.training),
        "precision": resolve_precision(task.precision),
        "batch_size": data.batch_size if asked["batch_size"] is None else asked["batch_size"],
        "processes": 1,
        "data": {
            "seed": data.seed,
            "sees": data.sees,
            "balance": str(plain_balance(data.balance)),
            "views": None if data.views is None else data.views.count,
        },
    }
    if trainer is not None:
        values |= {
            "precision": str(trainer.precision),
            "processes": trainer.world_size,
            "max_steps": trainer.max_steps,
            "accumulate": trainer.accumulate_grad_batches,
            "clip_norm": trainer.gradient_clip_val,
        }
    for name, samples in (("train", data.train), ("val", data.val)):
        values["data"][name] = None if samples is None else _part(samples)
    flat = _flat(values)
    plain: Fingerprint = json.loads(json.dumps(flat, default=_name))
    return plain


def refuse_changes(
    folder: Path, then: Mapping[str, Any], now: Mapping[str, Any], *, but: str | None = None
) -> None:
    """Refuse to go on with a run by other settings or on other data.

    Args:
        folder: Of the run.
        then: The fingerprint that it began with.
        now: The one that it would go on with.
        but: Settings that start with this may differ.

    Raises:
        RunError: Something differs; it is named.
    """
    names = sorted(name for name in {*then, *now} if then.get(name) != now.get(name))
    if but is not None:
        names = [name for name in names if not name.startswith(f"{but}.")]
    if not names:
        return
    said = [f"{name} was {then.get(name)!r} and is {now.get(name)!r}" for name in names]
    rest = f"; and {len(said) - _NUM_NAMED} more" if len(said) > _NUM_NAMED else ""
    raise RunError(
        f"The run in {folder} was made otherwise: {'; '.join(said[:_NUM_NAMED])}{rest}. Resume it "
        "with what it began with, or name another folder with run=."
    )


def _name(value: Any) -> str:  # Any: what JSON does not know, such as a function
    return name_of(value) if callable(value) else str(value)


def _part(samples: Samples) -> dict[str, Any]:  # Any: JSON
    """Answer with the number of inputs of a part, and digests of names, targets and contents."""
    if isinstance(samples, StreamSamples):  # of which names and targets are not known beforehand
        return {"rows": len(samples), "contents": samples.identity()}
    ids = [str(one) for one in samples.ids]
    targets = samples.targets
    return {
        "rows": len(samples),
        "names": _digest(*_without_root(ids)),
        "targets": None if targets is None else _digest(targets.cpu().numpy().tobytes()),
        "contents": _contents(samples, ids),
    }


def _contents(samples: Samples, ids: list[str]) -> str:
    """Tell contents apart: by the sizes of files, and by some rows of what is in memory.

    Reading every file again would take as long as an epoch.
    """
    sizes = [_size(one) for one in ids]
    if all(size is not None for size in sizes):
        return _digest(*map(str, sizes))
    step = max(1, len(samples) // NUM_PROBED)
    rows = list(range(0, len(samples), step))
    batch = samples.__getitems__(rows)
    beside: Any = batch.pop("unlabelled", {})  # Any: the one batch in a batch
    tensors = [part[name] for part in (batch, beside) for name in sorted(part)]
    return _digest(*[tensor.cpu().contiguous().numpy().tobytes() for tensor in tensors])


def _size(name: str) -> int | None:
    try:
        return Path(name).stat().st_size
    except (OSError, ValueError):  # no file of that name, or no name that a file can have
        return None


def _without_root(ids: list[str]) -> list[str]:
    """Cut the folders that all names share, so that data may lie elsewhere the next time."""
    try:
        root = os.path.commonpath(ids)
    except ValueError:  # absolute and relative names, or none
        return ids
    return [one.removeprefix(root) for one in ids]


def _digest(*parts: str | bytes) -> str:
    sha = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        sha.update(len(raw).to_bytes(8, "little") + raw)
    return sha.hexdigest()[:16]


def _flat(values: Mapping[str, Any], prefix: str = "") -> Fingerprint:
    flat: Fingerprint = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
