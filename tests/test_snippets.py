"""What README and docs show is what the library does: every example runs, in order, page by page.

A page is one session in a folder of drawn photos (the fixture `kitchen`). Weights that a reader
would download are replaced by those in the package. A block right below `<!-- not run: reason -->`
is only compiled.
"""

from __future__ import annotations

import logging
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
FENCE = re.compile(
    r"^(?P<mark>`{3,}|:{3,})(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=mark)[ ]*$",
    re.MULTILINE | re.DOTALL,
)
NOT_RUN = re.compile(r"<!-- not run: (?P<reason>[^>]+) -->\s*\Z")
UNSEEN = {"py", "python3", "pycon", "ipython", "{code-block} python", "{code} python"}
BUNDLED = {  # downloaded by the reader; in the package here
    '"resnet18"': '"mealkit_tiny"',
    '"sentence-transformers/all-MiniLM-L6-v2"': '"mealkit_tiny_text"',
    '"openai/clip-vit-base-patch32"': '"clip"',  # a random one in the kitchen
}


class Block(NamedTuple):
    """A fenced piece of a page."""

    language: str
    code: str
    line: int
    is_run: bool


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        before = text[: match.start()]
        yield Block(
            language=match["language"].strip(),
            code=match["code"],
            line=before.count("\n") + 2,
            is_run=NOT_RUN.search(before) is None,
        )


def python_blocks(page: Path) -> list[Block]:
    return [block for block in blocks(page) if block.language == "python"]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def session() -> Iterator[dict[str, object]]:
    """A fresh namespace that is a real module, as dataclasses and pickling expect."""
    module = types.ModuleType("snippets")
    level = logging.getLogger("mealkit").level
    sys.modules["snippets"] = module
    yield vars(module)
    del sys.modules["snippets"]
    logging.getLogger("mealkit").setLevel(level)


@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)], ids=page_name)
def test_examples_of_the_page_run(
    page: Path, kitchen: Path, session: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["snippets"])
    for block in python_blocks(page):
        code = block.code
        for downloaded, bundled in BUNDLED.items():
            code = code.replace(downloaded, bundled)
        padded = "\n" * (block.line - 1) + code  # a traceback names the line of the page
        compiled = compile(padded, page_name(page), "exec")
        if block.is_run:
            exec(compiled, session)
    assert "__builtins__" in session or not any(block.is_run for block in python_blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_example_escapes(page: Path) -> None:
    """An example under another name of the language would silently not run."""
    hidden = [f"{page_name(page)}:{b.line}" for b in blocks(page) if b.language in UNSEEN]
    assert hidden == []
    indented = re.findall(r"^[ \t]+```python", page.read_text(), re.MULTILINE)
    assert indented == []


def test_commands_of_the_readme_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shell = "\n".join(b.code for b in blocks(ROOT / "README.md") if b.language in {"bash", "sh"})
    named = set(re.findall(r"^make ([a-z]+)", shell, re.MULTILINE))
    assert named >= {"demo", "test"}
    assert named <= targets


def test_files_that_pages_link_to_exist() -> None:
    """Sphinx checks the links between its own pages, but not those of README."""
    readme = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", readme)
    links += re.findall(r'src="(?!https?:)([^"]+)"', readme)
    assert [link for link in links if not (ROOT / link).exists()] == []
