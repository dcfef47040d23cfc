"""Importing mealkit is cheap, and an optional package that is broken breaks only its feature."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HEAVY = [
    "numpy",
    "pandas",
    "pytorch_lightning",
    "rich",
    "timm",
    "torch",
    "torchmetrics",
    "torchvision",
    "transformers",
]


def run_python(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter and answer with what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_loads_no_heavy_module() -> None:
    printed = run_python("import json, sys, mealkit; print(json.dumps(sorted(sys.modules)))")
    loaded = json.loads(printed)
    assert "mealkit" in loaded
    assert [name for name in HEAVY if name in loaded] == []


def test_contracts_and_errors_load_no_heavy_module() -> None:
    printed = run_python(
        "import json, sys, mealkit; mealkit.ImageSpec; mealkit.MealkitError; dir(mealkit);"
        "print(json.dumps(sorted(sys.modules)))"
    )
    assert [name for name in HEAVY if name in json.loads(printed)] == []


def break_matplotlib(folder: Path) -> Path:
    (folder / "matplotlib").mkdir()
    (folder / "matplotlib" / "__init__.py").write_text("raise RuntimeError('broken on purpose')\n")
    return folder


def test_broken_optional_package_leaves_import_intact(tmp_path: Path) -> None:
    code = "import mealkit; print(mealkit.ImageSpec(size=(32, 32)).in_chans)"
    assert run_python(code, PYTHONPATH=str(break_matplotlib(tmp_path))) == "3\n"


def test_broken_optional_package_breaks_only_its_feature(tmp_path: Path) -> None:
    """Every public name loads, and only the use of the broken package is an error of ours.

    torchmetrics, and so Lightning, imports matplotlib wherever it is installed. That is theirs;
    here matplotlib breaks after they are loaded, so that only mealkit's own use of it is seen.
    """
    code = f"""
import sys
import pytorch_lightning
for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
    del sys.modules[name]
sys.path.insert(0, {str(break_matplotlib(tmp_path))!r})
import mealkit
for name in mealkit.__all__:
    getattr(mealkit, name)
assert "matplotlib" not in sys.modules, "mealkit imported matplotlib"
try:
    mealkit.errors.require("matplotlib", extra="plots", purpose="pictures")
except mealkit.errors.MissingPackageError as error:
    print(error)
"""
    printed = run_python(code)
    assert "matplotlib is needed for pictures" in printed
    assert "RuntimeError: broken on purpose" in printed
    assert "pip install 'mealkit[plots]'" in printed
