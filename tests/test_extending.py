"""The page on extending shows real changes: each diff applies, is short, and does what it says.

A diff is applied to a copy of the repository, and the Python block below it runs against that copy,
in the folder of drawn photos.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(r"^```(diff|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 24


class Change(NamedTuple):
    """A diff of the page, and what it makes possible."""

    diff: str
    example: str


def changes() -> dict[str, Change]:
    """Answer with the changes of the page, by the section they stand in."""
    found = {}
    for section in (ROOT / "docs" / "extending.md").read_text().split("\n## ")[1:]:
        blocks = FENCE.findall(section)
        places = [place for place, (language, _) in enumerate(blocks) if language == "diff"]
        for place in places:
            title = section.splitlines()[0].removeprefix("A ")
            assert title not in found
            assert blocks[place + 1][0] == "python"
            found[title] = Change(blocks[place][1], blocks[place + 1][1])
    return found


CHANGES = changes()
each_change = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


def changed_copy(diff: str, folder: Path) -> Path:
    """Apply a diff to a copy of the repository's source and tests, as a reader would."""
    if shutil.which("git") is None:
        pytest.skip("no git to apply the diffs with")
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "mealkit").symlink_to("src")
    subprocess.run(
        ["git", "apply", "-"],
        cwd=folder,
        input=diff,
        text=True,
        check=True,
        # In a repository around the temporary folder git would skip every file, silently.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
    )
    return folder


def run(arguments: list[str], *, copy: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_shows_a_change_of_each_sort() -> None:
    assert list(CHANGES) == ["backbone", "data source", "strategy"]


@each_change
def test_a_change_is_short(change: Change) -> None:
    lines = [line for line in change.diff.splitlines() if line[:1] in ("+", "-")]
    changed = [line for line in lines if not line.startswith(("+++ ", "--- "))]
    assert 0 < len(changed) <= MOST_LINES


@each_change
def test_a_change_applies_to_the_source_as_it_is(change: Change, tmp_path: Path) -> None:
    copy = changed_copy(change.diff, tmp_path / "copy")
    added = {line[1:] for line in change.diff.splitlines() if line.startswith("+    ")}
    files = re.findall(r"^\+\+\+ b/(\S+)$", change.diff, re.MULTILINE)
    assert added <= {line for file in files for line in (copy / file).read_text().splitlines()}


@pytest.mark.slow
@each_change
def test_a_change_does_what_the_page_says(change: Change, kitchen: Path, tmp_path: Path) -> None:
    copy = changed_copy(change.diff, tmp_path / "copy")
    here = f"import mealkit; assert mealkit.__file__.startswith({str(copy)!r}), mealkit.__file__\n"
    run(["-c", here + change.example], copy=copy, folder=kitchen)


@pytest.mark.slow
def test_the_contract_tests_pick_up_the_new_backbone(tmp_path: Path) -> None:
    copy = changed_copy(CHANGES["backbone"].diff, tmp_path / "copy")
    test = "tests/backbones/test_contract.py"
    said = run(["-m", "pytest", "-q", "-k", "plain_stack", test], copy=copy, folder=copy)
    assert " passed" in said


@pytest.mark.slow
def test_the_strategy_tests_pick_up_the_new_strategy(tmp_path: Path) -> None:
    copy = changed_copy(CHANGES["strategy"].diff, tmp_path / "copy")
    test = "tests/tasks/test_strategies.py"
    said = run(["-m", "pytest", "-q", "-k", "top_half", test], copy=copy, folder=copy)
    assert " passed" in said
