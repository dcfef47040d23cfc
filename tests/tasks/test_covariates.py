"""Covariates from table to forecast: they gain, never leak, travel with a saved task."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from torch import Tensor, nn

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.backbones.series_ensemble import Ensemble
from mealkit.errors import DataError
from mealkit.tasks.forecasting import forecast

ROLES = {"time": "date", "target": "sales", "series": "shop"}
ALL = {"static": "kind", "past": "orders", "future": ["promo", "price"]}


def shops(count: int = 160, *, seed: int = 0, names: str = "abc") -> pd.DataFrame:
    """Sales that orders announce three days before, and that promotions and prices change."""
    rng = np.random.default_rng(seed)
    parts = []
    for number, shop in enumerate(names):
        days = np.arange(count - 10 * number)
        promo, price = rng.random(len(days)) < 0.3, rng.normal(10, 2, len(days))
        orders = rng.normal(0, 1, len(days) + 3)
        effect = 4.0 * promo - 0.8 * (price - 10) + 2 * orders[:-3]
        season = 3 * np.sin(days * 2 * np.pi / 7)
        noise = rng.normal(0, 0.3, len(days))
        columns = {
            "date": pd.date_range("2024-01-01", periods=len(days)),
            "shop": shop,
            "sales": 30 + (1 + number) * (10 + season + effect + noise),
            "orders": 100 + orders[3:],
            "promo": promo.astype(int),
            "price": price,
            "kind": "kiosk" if number % 2 else "store",
        }
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def split(frame: pd.DataFrame, steps: int = 6) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold the last steps of each shop back."""
    late = frame.groupby("shop").cumcount(ascending=False) < steps
    return frame[~late], frame[late]


def make(frame: pd.DataFrame, **more: object) -> Forecaster:
    settings = {"horizon": 6, "season": 7, **ROLES, **ALL, **more}
    return Forecaster.from_data_frame(frame, **settings)


def fitted(frame: pd.DataFrame, **more: object) -> Forecaster:
    task = make(frame, **more)
    task.finetune()
    return task


def of_future(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["shop", "date", "promo", "price"]]


def error(answer, truth: pd.DataFrame) -> float:
    wide = [truth.loc[truth["shop"] == name, "sales"].to_numpy() for name in answer.series]
    scale = np.array([1 + "abcd".index(name) for name in answer.series])
    return float((np.abs(answer.mean - wide).mean(1) / scale).mean())


def test_the_default_forecaster_gains_from_covariates():
    frame = shops(400)
    scores = []
    for names in ({}, {"future": ALL["future"]}, ALL):
        data = SeriesData.from_data_frame(
            frame[[*ROLES.values(), *columns(names)]],
            horizon=6,
            season=7,
            test=90,
            **ROLES,
            **names,
        )
        task = Forecaster.from_data(data)
        task.finetune()
        assert task.model == "ridge"
        scores.append(task.evaluate(step=1).metrics["mase"])
    plain, future, both = scores
    assert future < 0.75 * plain
    assert both < 0.75 * future  # orders announce the first three days of six


def columns(names: dict[str, object]) -> list[str]:
    return [n for given in names.values() for n in ([given] if isinstance(given, str) else given)]


def test_effects_go_on_beyond_the_horizon():
    known, truth = split(shops(400), steps=30)
    task = fitted(known, static=(), past=())
    longer = task.predict(horizon=30, future=of_future(truth))
    near = of_future(truth.groupby("shop").head(6))
    assert np.allclose(longer.mean[:, :6], task.predict(future=near).mean)
    flat = of_future(truth).assign(promo=0, price=10.0)
    change = longer.mean - task.predict(horizon=30, future=flat).mean
    rows = truth[truth["shop"] == "a"]
    effect = 4.0 * rows["promo"] - 0.8 * (rows["price"] - 10)
    assert np.corrcoef(change[0], effect)[0, 1] > 0.95


def test_predict_asks_for_the_future_and_says_what_is_missing():
    known, truth = split(shops())
    task = fitted(known, backbone="ridge")
    with pytest.raises(DataError, match="future= is needed: 'promo', 'price' of the series 'a'"):
        task.predict()
    with pytest.raises(DataError, match=r"lacks rows.* of the series 'b'"):
        task.predict(future=of_future(truth[truth["shop"] != "b"]))


def test_fewer_steps_need_fewer_rows(tmp_path):
    known, truth = split(shops())
    task = fitted(known, backbone="ridge")
    near = of_future(truth.groupby("shop").head(2))
    short = task.predict(horizon=2, future=near)
    assert np.allclose(short.mean, task.predict(future=of_future(truth)).mean[:, :2])
    near.to_csv(tmp_path / "near.csv", index=False)
    assert np.allclose(task.predict(horizon=2, future=tmp_path / "near.csv").mean, short.mean)


def test_saved_tasks_keep_what_was_known_beside_the_series(tmp_path):
    known, truth = split(shops())
    task = fitted(known, backbone="ridge")
    task.save(tmp_path / "task")
    again: Any = mealkit.load(tmp_path / "task")  # a Forecaster
    assert again.spec == task.spec
    assert again.input_spec == task.input_spec
    first, second = (t.predict(future=of_future(truth)) for t in (task, again))
    assert np.array_equal(first.quantiles, second.quantiles)
    task.save(tmp_path / "bare", history=False)
    bare: Any = mealkit.load(tmp_path / "bare")
    assert len(bare.memory) == len(bare.memory.values) == 0
    third = bare.predict(known, future=of_future(truth))
    whole = task.predict(known, future=of_future(truth))
    assert np.array_equal(third.quantiles, whole.quantiles)


def test_new_series_bring_their_covariates():
    known, truth = split(shops())
    task = fitted(known, backbone="ridge")
    others, after = split(shops(120, seed=5, names="d").assign(kind="market"))
    answer = task.predict(others, future=of_future(after))
    assert answer.series == ("d",)
    wrong = of_future(after).assign(promo=1 - after["promo"])
    assert error(answer, after) < 0.5 * error(task.predict(others, future=wrong), after)
    blank = pd.concat([others, after.assign(sales=np.nan)])
    assert np.array_equal(task.predict(blank).mean, answer.mean)
    with pytest.raises(DataError, match="no column 'orders'"):
        task.predict(others.drop(columns="orders"))
    assert error(task.predict(known, future=of_future(truth)), truth) < 2


def test_texts_that_were_not_learnt_from_are_said(caplog):
    known, truth = split(shops())
    task = fitted(known, backbone="ridge")
    others, after = split(shops(120, seed=5, names="d").assign(kind="market"))
    task.predict(others, future=of_future(after))
    assert "kind: 1 texts that were not learnt from count as none: 'market'" in caplog.text
    assert len(truth) == 18


def test_backbones_that_use_none_say_so_before_training(caplog):
    known, truth = split(shops())
    task = make(known, backbone="theta")
    assert "theta cannot use these covariates" in caplog.text
    assert "static 'kind', past 'orders', future 'promo', 'price'" in caplog.text
    assert "backbones that use all of them: " in caplog.text
    assert "ridge" in caplog.text.rpartition("all of them: ")[2]
    task.finetune()
    assert len(task.predict()) == 3
    task.predict(future=of_future(truth))
    assert "theta uses no future covariates: future= changes nothing" in caplog.text


def test_a_backbone_that_uses_all_says_nothing(caplog):
    make(shops(), backbone="ridge")
    assert "cannot use" not in caplog.text


def test_new_rows_bring_their_covariates():
    frame = shops()
    known, truth = split(frame)
    task = fitted(split(known)[0], backbone="ridge")
    whole = task.predict(known, future=of_future(truth))
    task.update(split(known)[1])
    assert np.allclose(task.predict(future=of_future(truth)).mean, whole.mean)


def test_what_covariates_add_is_a_part_of_a_forecast():
    known, truth = split(shops())
    task = fitted(known, backbone="ridge")
    parts = task.decompose(future=of_future(truth))
    mean = task.predict(future=of_future(truth)).mean
    assert list(parts.parts) == ["trend", "season", "rest", "covariates"]
    assert np.allclose(sum(parts.parts.values()), mean)
    flat = of_future(truth).assign(promo=0, price=10.0)
    less = mean - task.predict(future=flat).mean
    change = parts.parts["covariates"] - task.decompose(future=flat).parts["covariates"]
    assert np.allclose(change, less)


class Effects(nn.Module):
    """Adds effects of what is known ahead to the mean of a window."""

    def __init__(self) -> None:
        super().__init__()
        self.effects = nn.Linear(2, 1)
        self.kinds: set[str] = set()

    def forward(self, past: Tensor, covariates: dict[str, Tensor]) -> Tensor:
        self.kinds = set(covariates)
        mean = past.mean(1, keepdim=True).expand(-1, 6)
        if not covariates:
            return mean + self.effects.bias
        assert covariates["past"].shape == (len(past), 14, 1)
        return mean + self.effects(covariates["future"])[:, 14:, 0]


def test_a_module_that_takes_covariates_gets_them(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 10)
    known, truth = split(shops())
    task = make(known, backbone=Effects(), context=14)
    assert "cannot use these covariates" not in caplog.text
    task.finetune(epochs=3, batch_size=32, lr=0.05)
    assert task.net.net.kinds == {"static", "past", "future"}
    first = task.predict(future=of_future(truth))
    other = task.predict(future=of_future(truth).assign(promo=1 - truth["promo"]))
    assert np.abs(first.mean - other.mean).mean() > 1
    task.save(tmp_path / "task")
    again: Any = mealkit.load(tmp_path / "task", backbone=Effects())
    assert np.array_equal(again.predict(future=of_future(truth)).mean, first.mean)


def test_a_module_that_takes_covariates_runs_without_any(monkeypatch):
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 2)
    frame = shops()[["date", "shop", "sales"]]
    task = Forecaster.from_data_frame(frame, horizon=6, backbone=Effects(), context=14, **ROLES)
    task.finetune(epochs=1, batch_size=8)
    assert task.net.net.kinds == set()
    assert np.isfinite(task.predict(horizon=9).mean).all()


# Leaks.


@pytest.mark.parametrize("part", ["sales", "orders"])
def test_nothing_after_a_cutoff_changes_a_forecast_before_it(part):
    frame = shops()
    late = frame.groupby("shop").cumcount(ascending=False) < 12
    answers = []
    for broken in (frame, frame.assign(**{part: frame[part].where(~late, 1e6)})):
        task = make(broken, backbone="ridge")
        answers.append(task.backtest(windows=2, step=6).forecasts)
    first = [2 * number for number in range(3)]
    for name in ("mean", "quantiles"):
        one, other = (getattr(answer, name) for answer in answers)
        assert np.array_equal(one[first], other[first])
    assert not np.array_equal(answers[0].quantiles, answers[1].quantiles)


@pytest.mark.parametrize("name", ["tide", "tsmixer"])
def test_nets_see_nothing_after_a_cutoff_either(name, monkeypatch):
    """Not even how covariates are scaled."""
    monkeypatch.setattr("mealkit.data.series.EPOCH_STEPS", 2)
    frame = shops()
    late = frame.groupby("shop").cumcount(ascending=False) < 6
    broken = frame.assign(**{n: frame[n].where(~late, 1e6) for n in ("sales", "orders")})
    answers = []
    for table in (frame, broken):
        task = make(table, backbone=name, context=14)
        task.finetune(epochs=1, batch_size=8, refit=False)
        answers.append(task.backtest(windows=1).forecasts.quantiles)
    assert np.array_equal(*answers)


def test_known_futures_change_forecasts_of_the_past():
    frame = shops()
    late = frame.groupby("shop").cumcount(ascending=False) < 6
    means = []
    for table in (frame, frame.assign(promo=frame["promo"].where(~late, 1 - frame["promo"]))):
        means.append(make(table, backbone="ridge").backtest(windows=1).forecasts.mean)
    assert np.abs(means[0] - means[1]).min() > 1


def test_held_back_steps_know_their_futures_and_nothing_else():
    frame = shops()
    late = frame.groupby("shop").cumcount(ascending=False) < 12
    broken = frame.assign(**{n: frame[n].where(~late, 1e6) for n in ("sales", "orders")})
    means = []
    for table in (frame, broken):
        task = fitted(table, test=12, backbone="ridge")
        means.append(task.predict(horizon=12).mean)  # the table knows all of it
        first = task.evaluate(step=6).forecasts.mean[::2]
        assert np.allclose(first, means[-1][:, :6], rtol=1e-3)
    assert np.array_equal(*means)


def test_scores_gain_from_known_futures():
    frame = shops(300)
    with_all = make(frame, backbone="ridge").backtest(windows=3)
    alone = make(frame, backbone="ridge", static=(), past=(), future=()).backtest(windows=3)
    assert with_all.metrics["mase"] < 0.6 * alone.metrics["mase"]
    table = fitted(frame, backbone="ridge").evaluate(shops(300, seed=0))
    assert table.metrics["mase"] < 0.6 * alone.metrics["mase"]


def test_data_with_other_covariates_are_refused(caplog):
    task = fitted(shops(), backbone="ridge")
    other = SeriesData.from_data_frame(shops(), horizon=6, season=7, **ROLES, future="promo")
    task.finetune(other)  # ridge is solved anew, with what there is
    assert [c.name for c in task.input_spec.future] == ["promo"]
    assert not task.input_spec.static


def test_members_of_an_ensemble_see_the_covariates_of_their_own_context():
    data = make(shops(), backbone="ridge").data
    members = []
    for context in (21, 14):
        task = Forecaster.from_data(data, backbone="ridge", context=context)
        task.finetune()
        members.append(task)
    net = Ensemble([task.net for task in members], weights=[1, 3], season=7)
    assert [c.name for c in net.input_spec.future] == ["promo", "price"]
    mixed, _ = forecast(net, data.val, horizon=6)
    alone = [forecast(task.net, data.val, horizon=6)[0] for task in members]
    assert np.allclose(mixed, (alone[0] + 3 * alone[1]) / 4)


def test_several_targets_share_covariates_and_have_forecasts_of_their_own():
    frame = shops()
    frame["profit"] = 0.1 * frame["sales"]
    known, truth = split(frame)
    task = fitted(known, target=["sales", "profit"], static=(), past=(), backbone="ridge")
    answer = task.predict(future=of_future(truth))
    assert answer.series == (*(f"{s}/sales" for s in "abc"), *(f"{s}/profit" for s in "abc"))
    assert np.allclose(answer.mean[3:], 0.1 * answer.mean[:3])
    scores = task.backtest(windows=2)
    assert len(scores.forecasts) == 12
