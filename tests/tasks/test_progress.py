"""The bar is there where a person watches, and nowhere else."""

import io
import sys
import types

import pytest
from pytorch_lightning.callbacks import RichProgressBar

from mealkit.tasks.progress import make_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_richs_bar_and_a_log_file_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert make_bar() is None
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert isinstance(make_bar(), RichProgressBar)


def test_a_notebook_gets_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    assert isinstance(make_bar(), RichProgressBar)


def test_training_in_a_terminal_shows_the_bar_on_stderr(
    make_task, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    make_task().finetune(epochs=1, strategy="full")
    assert "Epoch" in terminal.getvalue()
    assert capsys.readouterr().out == ""
