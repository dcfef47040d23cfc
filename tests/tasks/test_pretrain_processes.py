"""Two processes learn what one learns from the joint batch: loss, gradient, teacher and queue."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parent / "two_pretrainers.py"
METHODS = (
    "simclr",
    "simsiam",
    "barlow_twins",
    "vicreg",
    "moco",
    "byol",
    "dino",
    "mae",
    "masked_patches",
)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict]:
    """What either of two processes found that torchrun started; one start for all tests."""
    folder = tmp_path_factory.mktemp("both")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(SCRIPT), str(folder)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"found{rank}.pt", weights_only=True) for rank in (0, 1)]


def apart(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_loss_and_gradient_are_those_of_the_joint_batch(found: list[dict], method: str) -> None:
    alone = found[0]["alone"][method]
    scale = max(float(grad.abs().max()) for grad in alone["grads"].values())
    assert scale > 1e-4  # else equality would say nothing
    for one in found:
        both = one["both"][method]
        if method not in ("mae", "masked_patches"):  # means over rows, of which each has its own
            assert float(both["loss"]) == pytest.approx(float(alone["loss"]), rel=1e-5, abs=1e-5)
        assert apart(both["grads"], alone["grads"]) < 1e-5 * max(1.0, scale)
        assert both["rows"][0]["train/loss"] == pytest.approx(
            alone["rows"][0]["train/loss"], rel=1e-4, abs=1e-4
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_both_hold_the_same_weights_teacher_queue_and_centre(
    found: list[dict], method: str
) -> None:
    first, second = (one["both"][method]["weights"] for one in found)
    assert apart(first, second) == 0


@pytest.mark.slow
def test_the_queue_holds_the_keys_of_both(found: list[dict]) -> None:
    name = "objective.parts.queue.keys"
    alone, both = (found[0][how]["moco"]["weights"][name] for how in ("alone", "both"))
    # Two steps of 12 keys went round a queue of 16; the last step is whole in either.
    order = [rows[(torch.arange(12) + 12) % 16] for rows in (alone, both)]
    one, other = (sorted(rows.tolist()) for rows in order)
    assert torch.allclose(torch.tensor(one), torch.tensor(other), atol=1e-3)


@pytest.mark.slow
def test_uneven_rows_are_gathered_with_their_gradient(found: list[dict]) -> None:
    expected = torch.tensor([0.0, 1.0, 0.0, 1.0, 2.0])
    for one in found:
        assert torch.equal(one["uneven"]["joint"], expected)
    # Each process computes the same loss, and DDP averages: so each sends twice its own share.
    assert torch.equal(found[0]["uneven"]["grad"], torch.tensor([2.0, 4.0]))
    assert torch.equal(found[1]["uneven"]["grad"], torch.tensor([6.0, 8.0, 10.0]))
