"""How Sphinx builds the site. Nothing is fetched unless MEALKIT_DOCS_ONLINE is set."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import mealkit

project = "mealkit"
author = "the mealkit developers"
copyright = "the mealkit developers"
release = version = mealkit.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.extlinks",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_made"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # Lightning's own pages say what its hooks do
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

# Links into the documentation of what mealkit stands on work without fetching anything:
# {torch}`optim.html`, {lightning}`common/trainer.html`, ...
extlinks = {
    "torch": ("https://docs.pytorch.org/docs/stable/%s", None),
    "torchvision": ("https://docs.pytorch.org/vision/stable/%s", None),
    "lightning": ("https://lightning.ai/docs/pytorch/stable/%s", None),
    "torchmetrics": ("https://lightning.ai/docs/torchmetrics/stable/%s", None),
    "timm": ("https://huggingface.co/docs/timm/%s", None),
    "transformers": ("https://huggingface.co/docs/transformers/%s", None),
}

# With network, names in signatures become links as well.
if os.environ.get("MEALKIT_DOCS_ONLINE"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "torch": ("https://docs.pytorch.org/docs/stable", None),
        "torchvision": ("https://docs.pytorch.org/vision/stable", None),
        "lightning": ("https://lightning.ai/docs/pytorch/stable", None),
        "pandas": ("https://pandas.pydata.org/docs", None),
    }

html_theme = "furo"
html_title = f"mealkit {release}"


def setup(app) -> None:
    """Let the library make the pictures that the pages show, before they are read."""
    app.connect("builder-inited", make_pictures)


def make_pictures(app) -> None:
    sys.path.insert(0, str(app.srcdir))
    logging.getLogger("mealkit").setLevel(logging.WARNING)
    import pictures

    pictures.main(Path(app.srcdir) / "_made")
