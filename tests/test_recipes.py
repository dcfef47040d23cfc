"""Every recipe runs, as it is called in its own first lines, offline and quickly."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.py"))
NEEDS = {  # packages that some environments do without
    "train_on_ray": "ray",
    "backtest_and_compare": "statsmodels",
    "forecast_many_series": "statsmodels",
}


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_runs_quickly_and_says_something(recipe: Path, tmp_path: Path) -> None:
    if needed := NEEDS.get(recipe.stem):
        pytest.importorskip(needed)
    done = subprocess.run(
        [sys.executable, str(recipe), "--quick"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_recipes_exist() -> None:
    assert RECIPES


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_a_short_main_that_python_can_call(recipe: Path) -> None:
    """A recipe shows choices; what needs a class or more lines than this belongs in src."""
    text = recipe.read_text()
    tree = ast.parse(text)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    arguments = functions["main"].args
    assert not arguments.args
    assert arguments.kwonlyargs
    assert all(argument.annotation for argument in arguments.kwonlyargs)
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(tree))
    assert ast.get_docstring(tree)
    # What made the weights in the package is kept whole, with what the library has no word for.
    assert len(text.splitlines()) <= (120 if recipe.stem.startswith("train_mealkit") else 80)
