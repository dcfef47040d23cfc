"""leaderboard: the same windows for all, the seasonal naive method among them, the best first."""

from __future__ import annotations

import numpy as np
import pytest

from mealkit import Forecaster
from mealkit.errors import InvalidValueError, NoDataError, UnknownNameError


def waves(count: int = 240) -> np.ndarray:
    rng = np.random.default_rng(0)
    wave = 4 * np.sin(np.arange(count) * 2 * np.pi / 12)
    return (50 + wave + rng.normal(size=(3, count))).T


@pytest.fixture
def task() -> Forecaster:
    return Forecaster.from_arrays(waves(), horizon=6, season=12, backbone="ridge")


def test_models_stand_in_the_order_of_their_errors_on_the_same_windows(task):
    board = task.leaderboard(["naive", "drift"], windows=3, step=4)
    frame = board.to_frame()
    assert set(frame["model"]) == {"naive", "drift", "ridge", "seasonal-naive"}
    assert frame["mase"].is_monotonic_increasing
    assert board.best == frame["model"].iloc[0] == "ridge"
    cutoffs = {name: list(each.cutoffs) for name, each in board.evaluations.items()}
    assert len({tuple(each) for each in cutoffs.values()}) == 1
    for name, each in board.evaluations.items():
        alone = Forecaster.from_data(task.data, backbone=name).backtest(windows=3, step=4)
        assert each.metrics == alone.metrics
    assert {"rmsse", "smape", "wql", "sql", "crps", "msis", "coverage_80"} <= set(frame.columns)
    assert (frame["seconds"] > 0).all()


def test_skill_is_that_over_the_seasonal_naive_method(task):
    frame = task.leaderboard(["naive"], windows=2).to_frame().set_index("model")
    assert frame.loc["seasonal-naive", "skill"] == pytest.approx(0, abs=1e-6)
    errors = frame["mase"]
    expected = 1 - errors["naive"] / errors["seasonal-naive"]
    assert frame.loc["naive", "skill"] == pytest.approx(expected)


def test_without_names_the_quick_ones_are_compared(task):
    board = task.leaderboard(windows=1)
    assert set(board.evaluations) == {"seasonal-naive", "naive", "drift", "theta", "ridge"}
    assert repr(board).startswith("Leaderboard on 3 windows\n")


def test_a_model_that_cannot_learn_is_left_out_with_a_warning(caplog):
    task = Forecaster.from_arrays(np.arange(6.0), horizon=3, backbone="naive")
    board = task.leaderboard(["ridge"], windows=1)
    assert "ridge" not in board.evaluations
    assert "ridge is left out: No series has" in caplog.text
    assert {"naive", "seasonal-naive"} <= set(board.evaluations)


def test_wrong_names_are_refused_before_anything_is_fitted(task):
    with pytest.raises(UnknownNameError, match=r"no backbone 'rigde'.*'ridge'"):
        task.leaderboard(["naive", "rigde"])
    with pytest.raises(InvalidValueError, match=r"models=\['ridge'\]"):
        task.leaderboard("ridge")
    with pytest.raises(NoDataError, match="no data to go back in"):
        Forecaster("naive", horizon=3).leaderboard(["ridge"])
    with pytest.raises(NoDataError, match="long enough"):
        Forecaster.from_arrays(np.arange(9.0), horizon=8, test=8).leaderboard(windows=1)
