"""Effects of covariates: told apart from trend and season, and used by ridge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mealkit import backbones
from mealkit.backbones.series_effects import EffectSums, lags_of
from mealkit.backbones.series_ridge import Choice, Moments, choose, solve
from mealkit.specs import Covariate, SeriesDataSpec


def covariate(name: str) -> tuple[Covariate, ...]:
    return (Covariate(column=name),)


def test_effects_are_found_beside_trend_season_and_noise():
    rng = np.random.default_rng(0)
    sums = EffectSums(2, season=7)
    for level in (0.0, 2.0):
        steps = np.arange(400)
        known = np.stack([rng.random(400) < 0.2, np.sin(steps / 20)], axis=1).astype(float)
        values = level + 0.01 * steps + np.sin(steps * 2 * np.pi / 7) + known @ [0.7, -0.3]
        values += rng.normal(0, 0.02, 400).cumsum()
        sums.add(*map(torch.from_numpy, (values, known, np.ones(400, dtype=bool))))
    effects = sums.solve()
    assert effects is not None
    assert effects[0].item() == pytest.approx(0.7, abs=0.02)
    assert sums.count == 2 * (400 - 8)
    assert (lags_of(7), lags_of(1)) == ((1, 2, 7, 8), (1, 2))


def test_steps_that_were_not_observed_tell_nothing():
    rng = np.random.default_rng(0)
    known = rng.normal(size=(200, 1))
    values = 3 * known[:, 0]
    values[50] = 1e6
    observed = np.arange(200) != 50
    sums = EffectSums(1, season=1)
    sums.add(*map(torch.from_numpy, (values, known, observed)))
    assert sums.solve()[0].item() == pytest.approx(3, rel=0.01)


def test_too_few_steps_give_no_effects():
    sums = EffectSums(3, season=7)
    rows = torch.arange(30.0, dtype=torch.float64)
    sums.add(rows, rows[:, None].expand(-1, 3), torch.ones(30, dtype=torch.bool))
    sums.add(rows[:5], rows[:5, None].expand(-1, 3), torch.ones(5, dtype=torch.bool))
    assert sums.solve() is None


def test_ridge_forecasts_what_is_left_and_puts_the_effects_back():
    """A line with a bump of 5 where the covariate is 1: the line goes on, with its bump."""
    data = SeriesDataSpec(horizon_steps=2, future=covariate("promo"))
    net = backbones.create("ridge", data, preprocessing={"context_steps": 3})
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0, -1.0, 1.0], [0.0, -2.0, 1.0]]))
        net.effects.fill_(5.0)
    past = torch.tensor([[1.0, 7.0, 3.0]])
    promo = torch.tensor([[[0.0], [1.0], [0.0], [0.0], [1.0]]])
    assert net.inputs == ("past", "future_covariates")
    assert net.forecast(past, promo, horizon=2).tolist() == [[4, 10]]
    longer = torch.tensor([[[0.0], [1.0], [0.0], [0.0], [1.0], [1.0], [0.0]]])
    assert net.forecast(past, longer, horizon=4).tolist() == [[4, 10, 11, 7]]


def test_static_covariates_change_effects():
    data = SeriesDataSpec(horizon_steps=1, future=covariate("promo"), static=covariate("big"))
    net = backbones.create("ridge", data, preprocessing={"context_steps": 2})
    with torch.no_grad():
        net.effects.copy_(torch.tensor([1.0, 10.0]))
    past, promo = torch.zeros(2, 2), torch.tensor([0.0, 0.0, 1.0]).expand(2, 3)[..., None]
    answer = net(past, torch.tensor([[0.0], [2.0]]), promo)
    assert answer.tolist() == [[1], [21]]


@pytest.mark.parametrize("relative_to", ["last", "mean"])
@pytest.mark.parametrize("effects", [False, True])
def test_the_solution_with_further_inputs_is_that_of_plain_least_squares(relative_to, effects):
    rng = np.random.default_rng(0)
    data = torch.from_numpy(rng.normal(size=(300, 9)).cumsum(1))
    beside, changes = (torch.from_numpy(rng.normal(size=(300, n))) for n in (2, 9))
    data[:, 6:] += beside @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 2.0, -1.0]]).double()
    moments = Moments(9, num_beside=2, effects=effects)
    for part in (slice(0, 100), slice(100, 300)):
        moments.add(data[part, :6], data[part, 6:], beside=beside[part], changes=changes[part])
    choice = Choice(4, relative_to, "series", 0.1, effects, 0.01)
    weight = solve(moments, choice, context=6)
    windows = data - changes if effects else data
    used = windows[:, 2:6]
    center = used[:, -1:] if relative_to == "last" else used.mean(1, keepdim=True)
    x, y = torch.cat([used - center, beside], dim=1), windows[:, 6:] - center
    product = x.T @ x / 300
    sizes = product.diagonal()
    penalty = torch.cat([0.1 * sizes[:4].mean().expand(4), 0.01 * sizes[4:].mean().expand(2)])
    plain = torch.linalg.solve(product + torch.diag(penalty), x.T @ y / 300)
    last = windows[:, 5:6]
    made = last + (windows[:, :6] - last) @ weight[:, :6].T + beside @ weight[:, 6:].T
    assert torch.allclose(made, center + x @ plain)


def test_validation_leaves_out_what_is_noise_and_keeps_what_is_not():
    rng = np.random.default_rng(1)
    chosen = []
    for strength in (0.0, 3.0):
        both = []
        for count in (60, 2000):
            data = torch.from_numpy(rng.normal(size=(count, 9)).cumsum(1))
            beside = torch.from_numpy(rng.normal(size=(count, 20)))
            data[:, 6:] += strength * beside[:, :1]
            moments = Moments(9, num_beside=20)
            moments.add(data[:, :6], data[:, 6:], beside=beside)
            both.append(moments)
        (choice, _), _ = choose(*both, contexts=(6,), context=6)
        chosen.append(choice.beside)
    assert chosen[0] is None
    assert chosen[1] is not None
