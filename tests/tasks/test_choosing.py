"""Where no backbone is named: candidates, their best mix, and the line that says why."""

from __future__ import annotations

import json
import logging
from typing import Any

import numpy as np
import pytest
import torch

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.errors import InvalidValueError
from mealkit.tasks import choosing
from mealkit.tasks.choosing import CANDIDATES, Candidate, Tried, choose, num_epochs
from mealkit.tasks.forecasting import actual, mase
from mealkit.tasks.results import History

TINY = {"width": 8, "num_blocks": 1, "depth": 1}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny nets for a few steps: what is chosen matters here, not how good it is."""
    for quality, candidates in CANDIDATES.items():
        small = [
            Candidate(c.name, c.label, {**c.options, **TINY}, c.contexts, c.seed)
            if c.name == "resmlp"
            else c
            for c in candidates
        ]
        monkeypatch.setitem(CANDIDATES, quality, tuple(small))
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 5)


def waves(count: int = 300) -> np.ndarray:
    rng = np.random.default_rng(0)
    wave = 4 * np.sin(np.arange(count) * 2 * np.pi / 12)
    return (50 + wave + rng.normal(size=(3, count))).T


@pytest.fixture(scope="module")
def data() -> SeriesData:
    return SeriesData.from_arrays(waves(), horizon=6, season=12)


def tried(data: SeriesData, *offsets: float) -> list[Tried]:
    """Forecasts of the validation windows that are off by so much."""
    truth = actual(data.val)
    return [Tried(f"by {o}", torch.nn.Identity(), truth + o, History([])) for o in offsets]


def test_members_whose_errors_cancel_are_mixed(data):
    weights, said = choose(tried(data, 3.0, -1.0, 9.0), data.val, 12)
    assert weights == pytest.approx([0.25, 0.75, 0])
    assert said.startswith("An ensemble is used: 0.75 by -1.0, 0.25 by 3.0. MASE on ")
    assert "validation windows: ensemble 0.000, by 3.0 " in said


def test_what_the_line_says_is_the_mase(data):
    candidates = tried(data, 3.0, 1.0)
    _, said = choose(candidates, data.val, 12)
    for one in candidates:
        assert f"{one.label} {mase(one.mean, data.val, 12):.3f}" in said


def test_a_mix_that_gains_next_to_nothing_gives_way_to_the_best_model(data):
    truth = actual(data.val)
    noise = np.random.default_rng(0).normal(size=truth.shape)
    best, worse = truth + noise, truth + 0.99 * noise
    worse[:5] += 9  # much worse in few windows
    pair = [
        Tried(name, torch.nn.Identity(), mean, History([]))
        for name, mean in (("best", best), ("worse", worse))
    ]
    weights, said = choose(pair, data.val, 12)
    assert weights.tolist() == [1, 0]
    assert said.startswith("best is used: no mix is better. MASE on")


def test_where_no_window_can_tell_the_first_is_used():
    flat = SeriesData.from_arrays(np.ones((60, 2)), horizon=3)
    weights, said = choose(tried(flat, 1.0, 0.0), flat.val, 1)
    assert weights.tolist() == [1, 0]
    assert said.endswith("validation windows: not defined.")


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_every_candidate_is_tried_and_one_line_says_what_is_used(data, quality, caplog):
    task = Forecaster.from_data(data, quality=quality)
    with caplog.at_level(logging.INFO, "mealkit"):
        history = task.finetune()
    (line,) = [text for text in caplog.messages if " is used" in text]
    for candidate in CANDIDATES[quality]:
        assert f"{candidate.label} " in line
    assert "seasonal-naive" in line
    assert "naive " in line
    assert len(history) >= 1
    assert task.calibration("model").calibrated
    answer = task.predict()
    assert set(answer.model) == {task.model}
    assert np.isfinite(answer.quantiles).all()


@pytest.fixture
def mixes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a mix of ridge and the first net, whatever their errors."""
    chosen = np.array([0.75, 0.25])

    def both(tried, samples, season):
        return np.pad(chosen, (0, len(tried) - 2)), "An ensemble is used: both."

    monkeypatch.setattr("mealkit.tasks.fitted_task.choose", both)


def test_an_ensemble_is_calibrated_remembered_saved_and_asked_again(data, mixes, tmp_path):
    task = Forecaster.from_data(data)
    task.finetune()
    assert task.model == "ensemble"
    task.save(tmp_path / "task")
    again: Any = mealkit.load(tmp_path / "task")  # a Forecaster
    assert (again.chooses, again.quality) == (True, "fast")
    assert np.array_equal(again.predict(None).quantiles, task.predict().quantiles)
    assert np.array_equal(again.predict(None, horizon=9).mean, task.predict(horizon=9).mean)
    task.finetune()
    assert np.array_equal(again.predict(None).quantiles, task.predict().quantiles)
    evaluation = task.backtest(windows=2)
    assert evaluation.model == "ensemble"
    flags = task.anomalies(last=12)
    assert len(flags) == 36


def test_members_learn_from_what_validated_at_last(data, mixes):
    learnt = []
    for refit in (False, True):
        task = Forecaster.from_data(data)
        task.finetune(refit=refit)
        assert [net.name for net in task.net.members] == ["ridge", "resmlp"]
        learnt.append([net.state_dict() for net in task.net.members])
    for before, after in zip(*learnt, strict=True):
        assert any(not torch.equal(value, after[name]) for name, value in before.items())


def test_a_run_folder_holds_what_was_chosen(data, tmp_path):
    task = Forecaster.from_data(data)
    history = task.finetune(run=tmp_path / "run")
    assert json.loads((tmp_path / "run/settings.json").read_text())["task"]
    assert len((tmp_path / "run/history.csv").read_text().splitlines()) == 1 + len(history)
    again = mealkit.load(tmp_path / "run/task")
    assert np.array_equal(again.predict(None).mean, task.predict().mean)


def test_few_windows_are_drawn_for_fewer_epochs(monkeypatch):
    monkeypatch.setattr(choosing, "EPOCH_STEPS", 100)
    shapes = (60, (3000, 50))
    few, many = (SeriesData.from_arrays(np.ones(shape), horizon=3) for shape in shapes)
    for one in (few, many):
        one.prepare(mealkit.backbones.create("resmlp", one.spec).input_spec)
    assert num_epochs(few, 10) == 1 < num_epochs(many, 10) == 10


def test_a_quality_that_means_nothing_is_refused(data):
    with pytest.raises(InvalidValueError, match="quality='good': expected 'fast' or 'best'"):
        Forecaster.from_data(data, quality="good")
    with pytest.raises(InvalidValueError, match="quality='best' beside backbone="):
        Forecaster("ridge", horizon=3, quality="best")


def test_short_series_fall_back_to_what_has_nothing_to_learn(caplog):
    task = Forecaster.from_arrays([np.arange(5.0), np.arange(4.0)], horizon=3)
    task.finetune()
    assert task.model == "seasonal-naive"
    assert "No window validates, so the seasonal naive" in caplog.text


def test_series_with_holes_in_every_window_fall_back_with_the_reason(caplog):
    values = np.where(np.arange(300) % 5, np.sin(np.arange(300.0)), np.nan)
    task = Forecaster.from_arrays(values, horizon=11)
    task.finetune()
    assert set(task.predict().model) == {"seasonal-naive"}
    assert "steps in a row to learn from, observed" in caplog.text
