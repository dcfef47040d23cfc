"""Tell from a docstring which installed library it comes from: real texts, offline.

    python recipes/docstrings_demo.py

The texts are the docstrings of some libraries that mealkit needs anyway, read from their files and
not imported. The net is `mealkit_tiny_text`, whose weights come with mealkit. The docstrings of one
file all train or all test: those of a file are alike.
"""

from __future__ import annotations

import argparse
import ast
from importlib.util import find_spec
from pathlib import Path

import mealkit
from mealkit import TextClassifier

LIBRARIES = ("numpy", "pandas", "torch", "torchvision", "transformers", "torchmetrics")


def read_docstrings(*, most: int) -> dict[str, list[tuple[str, str, str]]]:
    """Answer with (text, library, file) of functions and classes, for the parts train and test."""
    parts: dict[str, list[tuple[str, str, str]]] = {"train": [], "test": []}
    for library in LIBRARIES:
        root = Path(str(find_spec(library).origin)).parent  # type: ignore[union-attr]
        found: list[tuple[str, str, str]] = []
        for path in sorted([*root.glob("*.py"), *root.glob("*/*.py")]):
            if len(found) >= most:
                break
            tree = ast.parse(path.read_text(encoding="utf-8"))
            nodes = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
            texts = [text for node in nodes[:20] if len(text := ast.get_docstring(node) or "") > 60]
            found += [(text, library, str(path)) for text in texts]
        for number, file in enumerate(dict.fromkeys(file for _, _, file in found)):
            part = "test" if number % 4 == 0 else "train"
            parts[part] += [row for row in found if row[2] == file]
    return parts


def main(*, epochs: int = 5, most: int = 300, save: str = "docstrings") -> float:
    """Fine-tune on the docstrings of some files, score those of others once, label new texts."""
    parts = read_docstrings(most=most)
    texts, labels, files = map(list, zip(*parts["train"], strict=True))
    test_texts, test_labels, _ = map(list, zip(*parts["test"], strict=True))
    task = TextClassifier.from_lists(
        texts, labels, group=files, test=(test_texts, test_labels), backbone="mealkit_tiny_text"
    )
    task.finetune(epochs=epochs)
    evaluation = task.evaluate()
    print(evaluation)
    task.save(save)
    new = ["Return the eigenvalues of a tensor on the GPU.", "Group the rows of a frame by a key."]
    print(mealkit.load(save).predict(new))
    return evaluation.metrics["accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer texts, two epochs")
    quick = parser.parse_args().quick
    accuracy = main(epochs=2 if quick else 5, most=40 if quick else 300)
    print(f"Accuracy on docstrings of files it has never seen: {accuracy:.3f}")
