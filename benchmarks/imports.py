"""How long an import takes, each in a fresh process, in turns so that noise hits all alike.

Run: python benchmarks/imports.py --rounds 10
     python benchmarks/imports.py --peer-python other-env/bin/python    # adds fastai from there
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

STATEMENTS = {
    "python itself": "pass",
    "mealkit": "import mealkit",
    "mealkit, ImageClassifier used": "import mealkit; mealkit.ImageClassifier",
    "pytorch_lightning": "import pytorch_lightning",
    "transformers": "import transformers",
    "transformers, AutoModel used": "from transformers import AutoModel",
}
PEER_STATEMENTS = {"fastai.vision.all": "import fastai.vision.all"}


def measure(python: str, statement: str) -> float:
    """Answer with the seconds that a fresh interpreter needs to start and run the statement."""
    start = time.perf_counter()
    subprocess.run(
        [python, "-c", statement],
        check=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def can_run(python: str, statement: str) -> bool:
    """Tell whether the interpreter has what the statement needs; also warms the disk cache."""
    done = subprocess.run([python, "-c", statement], check=False, capture_output=True)
    return done.returncode == 0


def main(*, rounds: int, peer_python: str) -> None:
    """Print a table of median seconds per statement, the start of Python included."""
    wanted = [(name, sys.executable, code) for name, code in STATEMENTS.items()]
    wanted += [(name, peer_python, code) for name, code in PEER_STATEMENTS.items()]
    rows = [row for row in wanted if can_run(row[1], row[2])]
    seconds: dict[str, list[float]] = {name: [] for name, _, _ in rows}
    for _ in range(rounds):
        for name, python, code in rows:
            seconds[name].append(measure(python, code))
    print(f"| import | median of {rounds} (s) | slowest (s) |\n|---|---|---|")
    for name, values in seconds.items():
        print(f"| {name} | {statistics.median(values):.2f} | {max(values):.2f} |")
    for name, python, _ in wanted:
        if name not in seconds:
            print(f"\nNot measured: {name} (it cannot be imported by {Path(python).name}).")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter that has fastai")
    arguments = parser.parse_args()
    main(rounds=arguments.rounds, peer_python=arguments.peer_python)
