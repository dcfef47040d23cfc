"""decompose: parts of a forecast that add up to it, and are what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from mealkit import Forecaster
from mealkit.errors import InvalidValueError


def waves(count: int = 300) -> np.ndarray:
    steps = np.arange(count)
    rng = np.random.default_rng(0)
    wave = 4 * np.sin(steps * 2 * np.pi / 12)
    noise = rng.normal(0, 0.05, (2, count))
    return np.stack([50 + wave, 0.2 * steps + 2 * wave]).T + noise.T


@pytest.fixture
def task() -> Forecaster:
    made = Forecaster.from_arrays(waves(), horizon=12, season=12, backbone="ridge")
    made.finetune()
    return made


def test_parts_add_up_to_the_forecast(task):
    found = task.decompose()
    assert list(found.parts) == ["trend", "season", "rest"]
    total = sum(found.parts.values())
    assert np.allclose(total, found.mean, rtol=1e-5)
    assert np.array_equal(found.mean, task.predict().mean)
    frame = found.to_frame()
    assert list(frame.columns) == ["series", "time", "mean", "trend", "season", "rest", "model"]
    assert np.allclose(frame[["trend", "season", "rest"]].sum(axis=1), frame["mean"], rtol=1e-5)
    assert frame["time"].tolist() == task.predict().to_frame()["time"].tolist()


def test_parts_are_trend_and_season(task):
    found = task.decompose()
    ahead = np.arange(300, 312)
    wave = 4 * np.sin(ahead * 2 * np.pi / 12)
    assert found.parts["trend"][0] == pytest.approx(np.full(12, 50), abs=0.4)
    assert found.parts["season"][0] == pytest.approx(wave, abs=0.3)
    assert found.parts["trend"][1] == pytest.approx(0.2 * ahead, abs=1)
    assert found.parts["season"][1] == pytest.approx(2 * wave, abs=0.6)
    assert np.abs(found.parts["rest"]).max() < 1


@pytest.mark.parametrize("name", ["nlinear", "dlinear", "nbeats"])
def test_nets_that_are_linear_are_taken_apart(name, monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 20)
    task = Forecaster.from_arrays(waves(), horizon=12, season=12, backbone=name)
    task.finetune(epochs=2)
    found = task.decompose()
    assert {"level", "trend", "rest"} <= set(found.parts)
    assert np.allclose(sum(found.parts.values()), task.predict().mean, rtol=1e-4)
    assert (found.parts["level"][0] + found.parts["trend"][0]).std() < 0.5 * found.mean[0].std()


def test_series_that_a_simpler_method_forecasts_are_all_trend(task):
    found = task.decompose([waves()[:, 0], np.arange(4.0)])
    assert found.model == ("ridge", "naive")
    assert found.parts["trend"][1].tolist() == found.mean[1].tolist() == [3] * 12
    assert not found.parts["season"][1].any()


def test_models_that_cannot_tell_say_so():
    task = Forecaster.from_arrays(waves(), horizon=12, season=12, backbone="naive2")
    task.finetune()
    with pytest.raises(InvalidValueError, match=r"'naive2' does not say .*'ridge'"):
        task.decompose()
