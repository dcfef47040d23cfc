"""The collapse alarm: provoked on purpose, silent where all is well."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pytorch_lightning.loggers import CSVLogger
from torch.nn import functional

from mealkit import SSLPretrainer, Training
from mealkit.backbones import create
from mealkit.tasks import SimSiam
from mealkit.tasks.collapse import CollapseAlarm, effective_rank, spread_of


def test_spread_is_one_for_all_directions_and_zero_for_one() -> None:
    rows = torch.randn(4000, 32, generator=torch.Generator().manual_seed(0))
    assert spread_of(rows) == pytest.approx(1, abs=0.01)
    assert spread_of(rows[:1].expand(50, -1)) == pytest.approx(0, abs=1e-5)
    assert spread_of(rows * torch.arange(1, 4001)[:, None]) == pytest.approx(spread_of(rows))


def test_effective_rank_counts_dimensions() -> None:
    rows = torch.randn(2000, 16, generator=torch.Generator().manual_seed(0))
    assert effective_rank(rows) == pytest.approx(16, rel=0.01)
    assert effective_rank(rows[:, :4] @ torch.randn(4, 64)) <= 4
    line = torch.linspace(-1, 1, 50)[:, None] * torch.ones(1, 8)
    assert effective_rank(line + 3) == pytest.approx(1, abs=0.01)
    values = torch.linalg.svdvals((rows - rows.mean(0)).double())
    shares = values / values.sum()
    assert effective_rank(rows) == pytest.approx(float((-shares * shares.log()).sum().exp()))
    assert effective_rank(rows.T) == pytest.approx(effective_rank(rows.T.contiguous()))


@dataclass(frozen=True, kw_only=True)
class Leaky(SimSiam):
    """SimSiam whose targets move: the paper's own example of a collapse (section 4.1)."""

    def loss(self, parts, student, teacher):
        first, second = student
        ahead = functional.cosine_similarity(parts["predictor"](first), second).mean()
        back = functional.cosine_similarity(parts["predictor"](second), first).mean()
        return -(ahead + back) / 2


def scenes(num: int = 64) -> np.ndarray:
    """Smooth pictures of many colours, each its own."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.integers(0, 256, (num, 3, 4, 4)).astype(np.float32))
    fine = functional.interpolate(coarse, size=16, mode="bilinear")
    return fine.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def make(method: str | SimSiam) -> SSLPretrainer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = create("mealkit_resnet8", options={"width": 8})
        pre = SSLPretrainer.from_arrays(scenes(), backbone=net, method=method)
    pre.precision = "32-true"
    return pre


def test_a_gradient_that_leaks_raises_the_alarm_and_ends_the_run(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pre = make(Leaky())
    history = pre.pretrain(epochs=100, batch_size=64, lr=1e-2, on_collapse="stop")
    assert len(history) < 100  # one step an epoch
    (said,) = [line for line in caplog.messages if "collapsed" in line]
    assert "The embeddings of simsiam have collapsed by step" in said
    assert "Try a lower lr=, method='byol'" in said
    assert "The run ends here" in said
    assert history.rows[-1]["embedding/rank"] < 4


@pytest.mark.parametrize("method", ["simclr", "simsiam", "byol", "dino"])
def test_what_is_healthy_raises_none(method: str, caplog: pytest.LogCaptureFixture) -> None:
    history = make(method).pretrain(epochs=15, batch_size=64)
    assert "collapsed" not in caplog.text
    assert len(history) == 15
    assert all(row["embedding/rank"] > 4 for row in history.rows)


def first_warning(spreads: list[float], *, warmup: float = 0.1) -> int | None:
    """Look every 10 of 100 steps at rows of given spreads; answer with the step of the warning."""
    pre = make("simclr")
    pre.plan_training(training=Training(warmup=warmup))
    alarm = CollapseAlarm(pre, "stop")
    trainer = SimpleNamespace(
        fit_loop=SimpleNamespace(setup_data=lambda: None),
        num_training_batches=len(spreads),
        accumulate_grad_batches=1,
        max_epochs=10,
        max_steps=-1,
        loggers=[],
        is_global_zero=True,
        should_stop=False,
    )
    rows = torch.randn(200, 32, generator=torch.Generator().manual_seed(0))
    for number, spread in enumerate(spreads):
        trainer.global_step = 10 * (number + 1)
        mean = torch.full((32,), 1 / spread)  # rows of length about 1 / spread each
        alarm._look(trainer, pre.objective, rows + mean)
        if trainer.should_stop:
            return trainer.global_step
    return None


def test_what_starts_low_may_rise() -> None:
    assert first_warning([0.03] * 10) == 40, "the first look is higher than ever"
    assert first_warning([0.01, 0.015, 0.02, 0.025, 0.03, 0.035, 0.04, 0.045, 0.5, 0.5]) is None
    assert first_warning([0.01, 0.02, 0.03, 0.04, 0.03, 0.03, 0.02, 0.02, 0.02, 0.02]) == 70


def test_nothing_is_judged_during_the_warmup() -> None:
    low_at_first = [0.04, 0.03, 0.03, 0.03, 0.03, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert first_warning(low_at_first, warmup=0.1) == 40
    assert first_warning(low_at_first, warmup=0.5) is None
    assert first_warning([0.03] * 10, warmup=0.5) == 80


def test_an_alarm_that_is_resumed_remembers_what_was_highest() -> None:
    alarm, other = (CollapseAlarm(make("simclr"), "warn") for _ in range(2))
    alarm._highest, alarm._num_strikes = (0.3, 9.0), 2
    other.load_state_dict(alarm.state_dict())
    assert other.state_dict() == alarm.state_dict()
    assert other._highest == (0.3, 9.0)


def test_a_warning_comes_once_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    history = make(Leaky()).pretrain(epochs=40, batch_size=64, lr=1e-2)
    assert len(history) == 40
    (said,) = [line for line in caplog.messages if "collapsed" in line]
    assert "on_collapse='stop' would end the run" in said


def test_loggers_hear_of_spread_and_rank(tmp_path) -> None:
    logger = CSVLogger(tmp_path)
    make("simclr").pretrain(epochs=2, batch_size=64, logger=logger)
    logger.save()
    text = (tmp_path / "lightning_logs" / "version_0" / "metrics.csv").read_text()
    assert "embedding/rank" in text
    assert "embedding/spread" in text


def test_few_rows_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="mealkit")
    history = make("moco").pretrain(epochs=1, batch_size=4)
    assert "embedding/rank" not in history.rows[0]
