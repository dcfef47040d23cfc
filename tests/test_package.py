"""The package keeps its own rules: declaration, surface, layers and examples."""

from __future__ import annotations

import ast
import doctest
import importlib
import logging
import pkgutil
import sys
import tomllib
from pathlib import Path

import pytest

import mealkit

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"
FILES = sorted(SRC.rglob("*.py"))
MODULES = ["mealkit", *(m.name for m in pkgutil.walk_packages(mealkit.__path__, "mealkit."))]
CONTRACTS = {"errors", "specs"}
MAY_IMPORT = {
    "backbones": CONTRACTS,
    "data": CONTRACTS,
    "tasks": CONTRACTS | {"backbones", "data"},
}
FINISHED = {"plots"}  # what one does with a finished task: nobody imports it


def relative(path: Path) -> str:
    return str(path.relative_to(SRC))


def imported(path: Path) -> set[str]:
    """Answer with the top-level modules of mealkit that a file imports, wherever in it.

    One is let pass: a method such as ``plot`` may open what comes after a finished task when it is
    called, because it stands on a result for the user's convenience.
    """
    depth = len(path.relative_to(SRC).parts)  # dots that lead from this file to src/
    nodes = list(ast.walk(ast.parse(path.read_text())))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef)]
    when_called = {inner for function in functions for inner in ast.walk(function)}
    found = set()
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.level == depth:
            names = [node.module] if node.module else [alias.name for alias in node.names]
            tops = {name.split(".")[0] for name in names}
            found |= tops - FINISHED if node in when_called else tops
    return found - {"__version__"}  # a plain string of the package itself


def test_every_folder_of_src_is_declared() -> None:
    """A forgotten folder works in an editable install and is absent from the wheel."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = [init.parent.relative_to(SRC).parts for init in SRC.rglob("__init__.py")]
    found = [".".join(["mealkit", *parts]) for parts in folders]
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(found)


def test_every_folder_of_modules_is_a_package() -> None:
    """Without __init__.py a folder is a namespace: importable here, absent from the wheel."""
    folders = {path.parent for path in FILES}
    assert [relative(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_weights_and_type_marker_are_installed() -> None:
    """Data files are easily lost between the checkout and the wheel."""
    here = Path(mealkit.__path__[0])
    kinds = ("*.safetensors", "*.json")
    shipped = [path.relative_to(SRC) for kind in kinds for path in SRC.rglob(kind)]
    assert len(shipped) >= 3
    assert [str(path) for path in [Path("py.typed"), *shipped] if not (here / path).exists()] == []


def test_every_dependency_bound_is_a_lower_one_with_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = text.split("\ndependencies = [\n")[1].split("\n]")[0]
    for line in block.splitlines():
        assert ">=" in line, line
        assert "<" not in line, line
        assert len(line.partition(" # ")[2]) > 10, line


def test_public_names_are_sorted_and_real() -> None:
    assert mealkit.__all__ == sorted(mealkit.__all__)
    assert [name for name in mealkit.__all__ if not hasattr(mealkit, name)] == []
    assert set(mealkit.__all__) <= set(dir(mealkit))


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((SRC / "__init__.py").read_text())
    guarded = [
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for line in node.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    ]
    assert sorted(guarded) == mealkit.__all__


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'mealkit' has no attribute 'ImageClasifier'"):
        getattr(mealkit, "ImageClasifier")  # noqa: B009 - a checker sees that the name is wrong


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_layers_import_downwards(layer: str) -> None:
    for path in (SRC / layer).rglob("*.py"):
        upward = imported(path) - MAY_IMPORT[layer]
        assert not upward, f"{relative(path)} imports {upward}"


@pytest.mark.parametrize("contract", sorted(CONTRACTS))
def test_contracts_import_only_contracts(contract: str) -> None:
    assert imported(SRC / f"{contract}.py") <= CONTRACTS


def test_nobody_imports_what_comes_after_a_finished_task() -> None:
    guilty = [relative(path) for path in FILES if imported(path) & FINISHED]
    assert guilty == []


def test_src_imports_itself_relatively_only() -> None:
    for path in FILES:
        names = []
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.append(node.module or "")
        own = [name for name in names if name.split(".")[0] == "mealkit"]
        assert own == [], f"{relative(path)} imports {own}"


def test_no_module_is_called_like_one_of_the_standard_library() -> None:
    """Running a file in such a folder would shadow the real one."""
    clashes = {path.stem for path in FILES if path.stem != "__init__"} & sys.stdlib_module_names
    assert clashes == set()


def test_every_module_says_what_it_is_for() -> None:
    silent = [relative(p) for p in FILES if not ast.get_docstring(ast.parse(p.read_text()))]
    assert silent == []


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str, kitchen: Path) -> None:
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


def test_log_lines_reach_stderr_when_nobody_set_up_logging(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    logging.getLogger("mealkit").info("two files were skipped")
    logging.getLogger("mealkit").debug("not for users")
    assert capsys.readouterr().err == "two files were skipped\n"


def test_log_lines_are_not_doubled_when_logging_is_set_up(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = logging.StreamHandler(sys.stderr)
    monkeypatch.setattr(logging.getLogger(), "handlers", [theirs])
    logging.getLogger("mealkit").info("once")
    assert capsys.readouterr().err == "once\n"


def test_log_lines_are_silenced_by_the_documented_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("mealkit")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logger, "level", logger.level)  # restored afterwards
    logger.setLevel(logging.WARNING)
    logger.info("silenced")
    logger.warning("still said")
    logger.setLevel(logging.INFO)
    assert capsys.readouterr().err == "still said\n"
