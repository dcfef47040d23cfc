"""Backbones for series: what each forecasts, by hand or against a plain reference."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mealkit import backbones
from mealkit.backbones.series_base import ENTRIES, SeriesBackbone, roll_out
from mealkit.backbones.series_ridge import Choice, Moments, choose, contexts_of, solve
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError
from mealkit.specs import COVARIATES, Covariate, SeriesDataSpec, SeriesSpec

NAMES = [n for n in backbones.find(kind="series") if backbones.describe(n).source == "mealkit"]
NETS = ["nlinear", "dlinear", "resmlp", "nbeats", "nhits", "tide", "tsmixer", "itransformer"]
NETS += ["deepar"]
DATA = SeriesDataSpec(horizon_steps=4, season=3)


def make(name: str, data: SeriesDataSpec = DATA):
    return backbones.create(name, data).eval()


def ask(net, series, horizon: int = 4) -> list[float]:
    past = torch.tensor(np.array([series], dtype=float))
    context = net.input_spec.context_steps
    tensors = [past[:, -context:] if context else past, torch.tensor([len(series)])]
    answer = net.forecast(*tensors[: len(net.inputs)], horizon=horizon)
    return answer[0].tolist()


# Contract: all of them.


def test_these_are_known():
    others = {"drift", "naive", "naive2", "ridge", "seasonal-naive", "theta"}
    assert others | set(NETS) == set(NAMES)
    assert {name for name in NAMES if make(name).trained} == set(NETS)


@pytest.mark.parametrize("name", NAMES)
def test_description_needs_nothing(name):
    info = backbones.describe(name)
    assert (info.kind, info.name, info.source) == ("series", name, "mealkit")


@pytest.mark.parametrize("name", NAMES)
def test_rebuilt_nets_forecast_the_same(name):
    net = make(name)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter)
    again = backbones.rebuild(net.config, net.input_spec, pretrained=False).eval()
    again.load_state_dict(net.state_dict())
    series = np.random.default_rng(0).normal(5, 1, 80).tolist()
    net, again = net.double(), again.double()
    assert ask(net, series) == ask(again, series)
    assert len(ask(net, series, horizon=11)) == 11
    assert ask(net, series, horizon=11)[:4] == pytest.approx(ask(net, series))


@pytest.mark.parametrize("name", NAMES)
def test_a_constant_goes_on(name):
    assert ask(make(name).double(), [7.0] * 80) == pytest.approx([7] * 4)


@pytest.mark.parametrize("name", NAMES)
def test_rows_of_a_batch_do_not_touch_each_other(name):
    net = make(name).double()
    rng = np.random.default_rng(0)
    long, short = rng.normal(9, 1, 90), rng.normal(3, 1, 70)
    context = net.input_spec.context_steps
    if context:
        batch = torch.tensor(np.stack([long[-context:], short[-context:]]))
    else:
        batch = torch.tensor(np.stack([long, np.pad(short, (20, 0))]))
    both = net.forecast(*[batch, torch.tensor([90, 70])][: len(net.inputs)], horizon=4)
    assert both.tolist() == [pytest.approx(ask(net, long)), pytest.approx(ask(net, short))]


@pytest.mark.parametrize("name", NAMES)
def test_pretrained_weights_and_options_are_refused(name):
    with pytest.raises(BackboneError, match="has no pretrained weights"):
        backbones.create(name, DATA, pretrained=True)
    error, words = (
        (UnknownNameError, f"no option of '{name}' 'dept'")
        if name in NETS
        else (BackboneError, "takes no options")
    )
    with pytest.raises(error, match=words):
        backbones.create(name, DATA, options={"dept": 3})


def test_what_is_no_backbone_for_series_is_refused():
    with pytest.raises(UnknownNameError, match="Did you mean 'ridge'"):
        make("rigde")
    with pytest.raises(BackboneError, match="context_steps can be changed"):
        backbones.create("nlinear", DATA, preprocessing={"horizon_steps": 3})
    with pytest.raises(BackboneError, match="only the context_steps"):
        backbones.create("naive", DATA, preprocessing={"context_steps": 3})
    with pytest.raises(InvalidValueError, match="context_steps=0"):
        backbones.create("ridge", DATA, preprocessing={"context_steps": 0})


# Covariates.


class Summing(SeriesBackbone):
    """Answers with the last value, and adds the covariates of the step before and of the step."""

    covariates = frozenset({"past", "future"})

    def forecast(self, *tensors, horizon: int):
        entries = self.named(tensors)
        if horizon > self.horizon_steps:
            return roll_out(self, tensors, horizon)
        ahead = entries["future_covariates"][:, entries["past"].shape[1] :, 0]
        return entries["past"][:, -1:] + entries["past_covariates"][:, -1:, 0] + ahead[:, :horizon]


def test_a_backbone_says_which_covariates_it_can_use():
    price = {kind: (Covariate(column=kind),) for kind in COVARIATES}
    data = SeriesDataSpec(horizon_steps=4, **price)
    for name in NAMES:
        net = make(name, data)
        assert set(net.input_spec.covariates) == net.covariates
        assert all((ENTRIES[kind] in net.inputs) == (kind in net.covariates) for kind in COVARIATES)
    spec = SeriesSpec(context_steps=3, horizon_steps=4, static=price["static"])
    with pytest.raises(BackboneError, match="cannot use static covariates, only past, future"):
        Summing(input_spec=spec, config={"name": "summing", "season": 1})


def test_rolling_out_moves_along_known_covariates_and_holds_unknown_ones():
    some = (Covariate(column="a"),)
    spec = SeriesSpec(context_steps=2, horizon_steps=2, past=some, future=some)
    net = Summing(input_spec=spec, config={"name": "summing", "season": 1})
    past = torch.tensor([[5.0, 1.0]])
    before = torch.tensor([[[100.0], [1000.0]]])
    future = torch.tensor([[[7.0], [7.0], [0.1], [0.2], [0.3], [0.4], [0.5]]])
    answer = net.forecast(past, before, future, horizon=5)
    assert answer[0].tolist() == pytest.approx(
        [1001.1, 1001.2, 2001.5, 2001.6, 3002.1], rel=1e-6
    )  # 1 + 1000 + 0.1, ...; 1001.2 + 1000 + 0.3, ...


# Baselines.


def test_simple_methods_by_hand():
    series = [1.0, 5.0, 2.0, 4.0, 8.0, 3.0]
    assert ask(make("naive"), series) == [3, 3, 3, 3]
    assert ask(make("seasonal-naive"), series) == [4, 8, 3, 4]
    assert ask(make("drift"), series) == pytest.approx([3.4, 3.8, 4.2, 4.6])


def test_naive2_puts_the_season_back():
    """Levels 2, 2, 2, ... times factors 0.5, 1, 1.5: the decomposition is exact."""
    series = [1.0, 2.0, 3.0] * 12 + [1.0]
    assert ask(make("naive2"), series) == pytest.approx([2, 3, 1, 2])
    below = [value - 2 for value in series]  # not positive: summands in place of factors
    assert ask(make("naive2"), below) == pytest.approx([0, 1, -1, 0])


def test_naive2_of_an_even_season_centres_its_averages():
    """Against the decomposition written out, step by step."""
    noise = np.random.default_rng(2).uniform(0.9, 1.1, 30)
    x = np.resize([1.0, 5.0, 2.0, 9.0], 30) * noise
    ratios: dict[int, list[float]] = {phase: [] for phase in range(4)}
    for t in range(2, 28):
        trend = (x[t - 2] / 2 + x[t - 1] + x[t] + x[t + 1] + x[t + 2] / 2) / 4
        ratios[t % 4].append(x[t] / trend)
    figure = np.array([np.mean(ratios[phase]) for phase in range(4)])
    figure /= figure.mean()
    level = x[29] / figure[29 % 4]
    net = make("naive2", SeriesDataSpec(horizon_steps=4, season=4))
    assert ask(net, x) == pytest.approx([level * figure[t % 4] for t in range(30, 34)])


def test_naive2_without_season_is_naive():
    noise = np.random.default_rng(1).normal(9, 1, 60).tolist()
    assert ask(make("naive2"), noise) == pytest.approx([noise[-1]] * 4)


def test_theta_is_half_the_line_and_half_the_smoothed():
    """Against smoothing by brute force over its weight and first level."""
    rng = np.random.default_rng(0)
    series = 10 + 0.3 * np.arange(40) + rng.normal(0, 1, 40)
    slope, start = np.polyfit(np.arange(40), series, 1)
    doubled = 2 * series - (start + slope * np.arange(40))
    best = (np.inf, 0.0)
    for weight in np.linspace(0.001, 0.999, 250):
        for first in np.linspace(doubled.min(), doubled.max(), 120):
            level, error = first, 0.0
            for value in doubled:
                error += (value - level) ** 2
                level += weight * (value - level)
            best = min(best, (error, level))
    expected = (start + slope * np.arange(40, 44) + best[1]) / 2
    data = SeriesDataSpec(horizon_steps=4)
    assert ask(make("theta", data), series) == pytest.approx(expected, abs=0.02)


# Ridge.


def windows(count: int = 300, *, steps: int = 9, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).normal(size=(count, steps)).cumsum(1)
    ).float()


@pytest.mark.parametrize("relative_to", ["last", "mean"])
@pytest.mark.parametrize("scaling", ["series", "window"])
def test_the_solution_is_that_of_plain_least_squares(relative_to, scaling):
    data = windows()
    past, target = data[:, :6], data[:, 6:]
    moments = Moments(9)
    for part in (slice(0, 100), slice(100, 300)):
        moments.add(past[part], target[part])
    weight = solve(moments, Choice(4, relative_to, scaling, 0.1), context=6)
    assert not weight[:, :2].any()
    used = past[:, 2:].double()
    center = used[:, -1:] if relative_to == "last" else used.mean(1, keepdim=True)
    unit = past.double().std(1, keepdim=True) if scaling == "window" else 1
    x, y = (used - center) / unit, (target.double() - center) / unit
    product = x.T @ x / len(x)
    penalty = 0.1 * product.diagonal().mean() * torch.eye(4, dtype=torch.float64)
    plain = torch.linalg.solve(product + penalty, x.T @ y / len(x))
    net = backbones.create(
        "ridge", SeriesDataSpec(horizon_steps=3), preprocessing={"context_steps": 6}
    )
    with torch.no_grad():
        net.weight.copy_(weight)
    expected = center + (used - center) @ plain
    assert torch.allclose(net(past).double(), expected, atol=1e-4)


def test_what_is_chosen_has_the_least_error_of_validation():
    learnt, seen = Moments(9), Moments(9)
    train, val = windows(), windows(60, seed=1)
    learnt.add(train[:, :6], train[:, 6:])
    seen.add(val[:, :6], val[:, 6:])
    (choice, error), _ = choose(learnt, seen, contexts=contexts_of(6, 1), context=6)
    past, target = val[:, :6].double(), val[:, 6:].double()
    last = past[:, -1:]

    def error_of(other: Choice) -> float:
        forecast = last + (past - last) @ solve(learnt, other, context=6).T
        return float((forecast - target).square().mean())

    assert error == pytest.approx(error_of(choice), rel=1e-5)
    others = [
        Choice(steps, relative, "series", p)
        for steps in (6, 3, 1)
        for relative in ("last", "mean")
        for p in (1e-4, 1e-2, 1.0)
    ]
    assert error <= min(map(error_of, others)) * (1 + 1e-5)


def test_sums_of_parts_add_up():
    data = windows()
    whole, first, second = Moments(9), Moments(9), Moments(9)
    whole.add(data[:, :6], data[:, 6:])
    first.add(data[:100, :6], data[:100, 6:])
    second.add(data[100:, :6], data[100:, 6:])
    both = first.plus(second)
    for name in whole.sums:
        assert torch.allclose(both.sums[name], whole.sums[name], rtol=1e-5)
        assert both.counts[name] == whole.counts[name]


def test_default_context_fits_the_data():
    def steps(**more: int) -> int:
        spec = make("ridge", SeriesDataSpec(**more)).input_spec
        assert isinstance(spec, SeriesSpec)
        return spec.context_steps

    assert steps(horizon_steps=168, season=24, length_steps=9000) == 336
    assert steps(horizon_steps=720, length_steps=9000) == 512
    assert steps(horizon_steps=4, length_steps=100) == 25
    assert steps(horizon_steps=4, season=12, length_steps=40) == 12
