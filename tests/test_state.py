"""Nothing of the process is left changed: not by import, not by finetune, not by predict.

A fresh interpreter takes a snapshot after importing torch, Lightning, timm and transformers, and
again after each step of ours. What those libraries change by being imported is theirs.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SNAPSHOTS = """
import hashlib, json, locale, logging, multiprocessing, os, pickle, random, signal, sys, warnings

import numpy, pandas, PIL.Image, PIL.ImageFile, pytorch_lightning, rich, safetensors.torch
import timm, torch, torchmetrics, torchvision, transformers
from transformers import AutoConfig, AutoImageProcessor, AutoModel


def digest(value):
    return hashlib.sha256(pickle.dumps(value)).hexdigest()[:12]


def snapshot():
    return {
        "warning filters": [repr(entry) for entry in warnings.filters],
        "how warnings are shown": repr(warnings.showwarning),
        "environment": dict(os.environ),
        "python's random state": digest(random.getstate()),
        "numpy's random state": digest(numpy.random.get_state()),
        "torch's random state": digest(torch.get_rng_state().tolist()),
        "torch's threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "numpy's error state": numpy.geterr(),
        "numpy's printing": repr(numpy.get_printoptions()),
        "torch's default dtype": str(torch.get_default_dtype()),
        "torch's default device": str(torch.get_default_device()),
        "matmul precision": torch.get_float32_matmul_precision(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "mkldnn": torch.backends.mkldnn.enabled,
        "grad mode": [torch.is_grad_enabled(), torch.is_inference_mode_enabled()],
        "sharing strategy": torch.multiprocessing.get_sharing_strategy(),
        "start method": multiprocessing.get_start_method(),
        "Pillow's limits": [PIL.ImageFile.LOAD_TRUNCATED_IMAGES, PIL.Image.MAX_IMAGE_PIXELS],
        "pandas options": [pandas.get_option("display.max_columns"),
                           pandas.get_option("display.max_rows")],
        "root logger": [logging.getLogger().level, repr(logging.getLogger().handlers)],
        "levels of other loggers": {
            name: logging.getLogger(name).level
            for name in ["pytorch_lightning", "lightning_fabric", "timm", "transformers", "PIL"]
        },
        "signal handlers": {str(number): repr(signal.getsignal(number))
                            for number in [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]},
        "exception hook": repr(sys.excepthook),
        "locale": locale.setlocale(locale.LC_ALL),
        "working folder": os.getcwd(),
        "files in the working folder": sorted(os.listdir()),
        "search path": list(sys.path),
    }


def differences(before, after):
    return {key: [before[key], after[key]] for key in before if before[key] != after[key]}


found = {}
multiprocessing.get_start_method()  # Lightning's Trainer asks for it in every fit, which settles it
start = snapshot()
"""

IMPORT = """
import mealkit

for name in mealkit.__all__:
    getattr(mealkit, name)
found["import"] = differences(start, start := snapshot())
"""

WORK = """
logging.getLogger("mealkit").setLevel(logging.ERROR)
task = mealkit.ImageClassifier.from_folders(
    "photos/train", val="photos/val", backbone="mealkit_tiny"
)
found["from_folders"] = differences(start, start := snapshot())
task.finetune(epochs=2, strategy="freeze_unfreeze")
found["finetune"] = differences(start, start := snapshot())
task.predict("new.jpg")
found["predict"] = differences(start, start := snapshot())
task.evaluate("photos/test")
found["evaluate"] = differences(start, start := snapshot())
"""

REPORT = "print('FOUND' + json.dumps(found))"


def run_steps(code: str, folder: Path) -> dict[str, dict[str, object]]:
    done = subprocess.run(
        [sys.executable, "-c", code + REPORT],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, object]] = json.loads(done.stdout.rpartition("FOUND")[2])
    return found


def test_import_changes_nothing_of_the_process(tmp_path: Path) -> None:
    assert run_steps(SNAPSHOTS + IMPORT, tmp_path) == {"import": {}}


def test_training_and_predicting_change_nothing_of_the_process(kitchen: Path) -> None:
    """Random states too: code that calls us draws the same numbers afterwards as without us."""
    found = run_steps(SNAPSHOTS + IMPORT + WORK, kitchen)
    assert set(found) == {"import", "from_folders", "finetune", "predict", "evaluate"}
    assert {step: changes for step, changes in found.items() if changes} == {}


@pytest.mark.slow
def test_planted_changes_are_found(tmp_path: Path) -> None:
    """The two tests above would fail if something were left changed."""
    planted = {
        "warning filters": "warnings.simplefilter('ignore')",
        "environment": "os.environ['PLANTED'] = '1'",
        "python's random state": "random.seed(3)",
        "numpy's random state": "numpy.random.seed(3)",
        "torch's random state": "torch.rand(1)",
        "torch's threads": "torch.set_num_threads(2)",
        "numpy's error state": "numpy.seterr(all='ignore')",
        "Pillow's limits": "PIL.ImageFile.LOAD_TRUNCATED_IMAGES = True",
        "files in the working folder": "open('left.txt', 'w').close()",
    }
    steps = [
        f"{line}\nfound[{name!r}] = differences(start, start := snapshot())\n"
        for name, line in planted.items()
    ]
    found = run_steps(SNAPSHOTS + "".join(steps), tmp_path)
    assert {name: list(changes) for name, changes in found.items()} == {n: [n] for n in planted}
