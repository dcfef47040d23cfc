"""Scripts as users write them, where new processes start afresh (macOS and Windows: spawn)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import multiprocessing

multiprocessing.set_start_method("spawn", force=True)

from mealkit import ImageClassifier

task = ImageClassifier.from_folders("photos/train", val="photos/val", backbone="mealkit_tiny")
task.finetune(epochs=1, strategy="full")
print("label", task.predict("new.jpg").labels[0])
"""

GUARDED = """
import multiprocessing

from mealkit import ImageClassifier

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    task = ImageClassifier.from_folders("photos/train", val="photos/val", backbone="mealkit_tiny")
    task.data.num_workers = 2
    task.finetune(epochs=1, strategy="full")
    print("label", task.predict("new.jpg").labels[0])
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [SCRIPT, GUARDED], ids=["no guard", "guard and workers"])
def test_a_script_runs_once_under_spawn(script: str, kitchen: Path) -> None:
    (kitchen / "train.py").write_text(script)
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=kitchen,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("label ") == 1
    assert done.stderr.count("Training by full") == 1
