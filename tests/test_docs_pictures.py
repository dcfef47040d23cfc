"""The pictures of the documentation are made by the library, and every one of them is shown."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.slow
def test_pictures_are_made_and_pages_show_them(tmp_path: Path) -> None:
    for package in ("matplotlib", "sklearn"):
        pytest.importorskip(package)
    spec = importlib.util.spec_from_file_location("pictures", DOCS / "pictures.py")
    pictures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pictures)
    pictures.main(tmp_path)
    made = {path.name for path in tmp_path.iterdir()}
    pages = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    assert set(re.findall(r"\(_made/(\w+\.png)\)", pages)) == made
    for name in made:
        pixels = np.asarray(Image.open(tmp_path / name).convert("L"))
        assert min(pixels.shape) > 300
        assert pixels.std() > 10, f"{name} shows nothing"
