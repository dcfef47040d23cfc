"""The progress bar: rich's, where a person watches."""

from __future__ import annotations

import sys

from pytorch_lightning.callbacks import ProgressBar, RichProgressBar


def make_bar() -> ProgressBar | None:
    """Answer with a progress bar for a terminal or a notebook, and with None for a log file.

    Epoch lines are logged in every case, so a log file misses nothing.
    """
    if not (sys.stderr.isatty() or _in_notebook()):
        return None
    return RichProgressBar(console_kwargs={"stderr": True})


def _in_notebook() -> bool:
    # Only a notebook has imported IPython's kernel; importing it to ask would be slow.
    return "ipykernel" in sys.modules
