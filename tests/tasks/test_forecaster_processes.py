"""A forecaster on two processes: what is fitted, forecast and scored is that of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mealkit import Forecaster
from mealkit.errors import InvalidValueError

SCRIPT = Path(__file__).parent / "two_forecasting_processes.py"


def start(*command: str | Path) -> str:
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What either of two processes found; one start for all tests."""
    folder = tmp_path_factory.mktemp("both")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    start(*launcher, SCRIPT, folder)
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.slow
def test_a_net_that_two_processes_train_is_that_of_one(both) -> None:
    first, second = (found["nlinear"]["both"] for found in both)
    alone = both[0]["nlinear"]["alone"]
    for part, value in first["weights"].items():
        assert torch.equal(value, second["weights"][part])
    assert torch.equal(first["quantiles"], second["quantiles"])
    assert first["scores"] == second["scores"]
    for part, value in first["weights"].items():
        assert torch.allclose(value, alone["weights"][part], atol=1e-5), part
    assert torch.allclose(first["quantiles"], alone["quantiles"], rtol=1e-4)
    assert first["scores"] == pytest.approx(alone["scores"], rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ridge", "chosen", "naive"])
def test_what_is_fitted_without_steps_is_the_same_on_every_process(both, name: str) -> None:
    first, second = (found[name] for found in both)
    assert first["model"] == second["model"]
    for part, value in first["weights"].items():
        assert torch.equal(value, second["weights"][part])
    assert torch.equal(first["quantiles"], second["quantiles"])
    assert first["scores"] == second["scores"]


@pytest.mark.slow
def test_a_trainer_of_several_processes_is_refused_for_what_has_no_steps(both) -> None:
    for found in both:
        assert "'ridge' is fitted without steps" in found["refused"]
        assert "among 2 processes. Leave trainer= out" in found["refused"]


def test_forked_processes_are_refused_before_they_start() -> None:
    task = Forecaster.from_arrays(np.arange(90.0), horizon=3, backbone="nlinear")
    trainer = pl.Trainer(
        accelerator="cpu", devices=2, strategy="ddp_fork", max_epochs=1, logger=False,
        enable_checkpointing=False, enable_progress_bar=False,
    )  # fmt: skip
    with pytest.raises(InvalidValueError, match=r"forks or spawns .* strategy=\"ddp\""):
        task.finetune(trainer=trainer)
