"""Trained nets for series: units of windows, losses, options, blocks, modules of the user's."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from mealkit import backbones
from mealkit.backbones.series_net import MOST_UNITS, WINDOW
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError
from mealkit.specs import COVARIATES, Covariate, InputSpec, SeriesDataSpec

DATA = SeriesDataSpec(horizon_steps=4, season=3)
SEEN = {"context_steps": 24}
NAMES = [n for n in backbones.find(kind="series") if backbones.describe(n).source == "mealkit"]
NETS = [n for n in NAMES if backbones.create(n, DATA).trained]


def make(name: str, **options):
    return backbones.create(name, DATA, preprocessing=SEEN, options=options or None)


def windows(net, count: int = 5, *, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    walks = torch.randn(count, 24, generator=generator).cumsum(1)
    tensors = {"past": walks, "level": torch.full((count,), 40.0)}
    return [tensors[name] for name in net.inputs]


def shaken(net):
    """Answer with the net, its last layers no longer zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return net.eval()


@pytest.mark.parametrize("name", NETS)
def test_from_json_a_net_answers_the_same(name):
    net = shaken(make(name, center="mean"))
    config = json.loads(json.dumps(net.config))
    spec = InputSpec.from_json(json.loads(json.dumps(net.input_spec.to_json())))
    again = backbones.rebuild(config, spec, pretrained=False).eval()
    again.load_state_dict(net.state_dict())
    assert again.center == "mean"
    assert torch.equal(net(*windows(net)), again(*windows(net)))


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_has_a_gradient_and_no_block_has_it_twice(name):
    torch.manual_seed(0)  # by bad luck every row could leave a unit of a ReLU at zero
    net = shaken(make(name)).train()
    tensors = windows(net)
    net.losses(*tensors, target=torch.ones(5, 4)).sum().backward()
    missing = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == []
    named = [n for block in net.blocks for n in block.parameters]
    assert len(named) == len(set(named))
    assert set(named) < {n for n, _ in net.named_parameters()}  # the last layer is the head


@pytest.mark.parametrize("name", NETS)
def test_a_window_that_moves_up_or_grows_moves_its_forecast(name):
    net = shaken(make(name, center="last", spread="deviation"))
    tensors = windows(net)
    before = net(*tensors)
    after = net(3 * tensors[0] + 7, *tensors[1:])
    assert torch.allclose(after, 3 * before + 7, atol=1e-3)


@pytest.mark.parametrize("name", NETS)
def test_a_net_learns_what_repeats(name):
    torch.manual_seed(0)
    options = {"tsmixer": {"width": 16}, "deepar": {"num_layers": 1}}
    net = make(name, **options.get(name, {}))
    steps = torch.arange(28)
    phases = torch.rand(32, 1) * 24
    waves = torch.sin((steps + phases) * 2 * torch.pi / 12) + 0.02 * phases
    past, target = waves[:, :24], waves[:, 24:]
    tensors = [{"past": past, "level": torch.full((32,), 3.0)}[n] for n in net.inputs]

    def error() -> float:
        with torch.no_grad():
            return float((net.eval()(*tensors) - target).abs().mean())

    first = error()
    optimizer = torch.optim.AdamW(net.parameters(), lr=5e-3)
    for _ in range(100):
        loss = net.train().losses(*tensors, target=target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert error() < 0.3 * first


def test_units_are_those_of_the_window():
    past = torch.tensor([[1.0, 2.0, 3.0, 6.0] * 6])
    level = torch.tensor([10.0])
    expected = {
        ("last", "deviation"): (6.0, past.std(correction=0)),
        ("mean", "none"): (3.0, 1.0),
        ("none", "level"): (0.0, 13.0),
    }
    for (center, spread), (zero, unit) in expected.items():
        net = make("nlinear", center=center, spread=spread)
        tensors = [past, level][: len(net.inputs)]
        found = net.units(*tensors)
        assert [float(one) for one in found] == pytest.approx([zero, float(unit)])


@pytest.mark.parametrize(
    ("loss", "expected"), [("mae", [0.5, 3.0]), ("mse", [0.25, 9.0]), ("huber", [0.125, 2.5])]
)
def test_losses_by_hand(loss, expected):
    """An untrained net repeats the last value, so that errors are steps from there."""
    net = make("nlinear", loss=loss, spread="deviation")
    past = torch.tensor([[0.0, 2.0] * 12])  # a deviation of 1
    target = torch.tensor([[2.5, 5.0, 2.0, 2.0 + 3 * MOST_UNITS]])
    found = net.losses(past, target=target)[0]
    assert found[:2].tolist() == pytest.approx(expected)
    assert found[2] == 0
    jump = net.losses(past, target=torch.full((1, 4), 2.0 + MOST_UNITS))[0]
    assert found[3] == jump[3]  # no jump counts for more


def test_what_follows_a_constant_window_teaches_nothing():
    net = shaken(make("resmlp"))
    past = torch.full((1, 24), 5.0)
    assert net(past).tolist() == [[5.0] * 4]
    assert not net.losses(past, target=torch.full((1, 4), 9.0)).any()


def test_options_are_checked():
    assert make("resmlp", width=8).net.blocks[0].forecast.in_features == 8
    with pytest.raises(InvalidValueError, match="width='8': expected int"):
        make("resmlp", width="8")
    with pytest.raises(InvalidValueError, match="num_blocks=0: expected at least 1"):
        make("resmlp", num_blocks=0)
    with pytest.raises(UnknownNameError, match="no loss 'mea'"):
        make("resmlp", loss="mea")


# Modules of the user's.


class Recurrent(nn.Module):
    def __init__(self, horizon: int = 4) -> None:
        super().__init__()
        self.cells = nn.GRU(1, 8, batch_first=True)
        self.output = nn.Linear(8, horizon)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        states, _ = self.cells(past[..., None])
        return self.output(states[:, -1])


def test_a_module_is_a_backbone():
    net = backbones.create(Recurrent(), DATA, preprocessing=SEEN)
    assert net.trained
    assert net.config["options"] == WINDOW
    assert [block.name for block in net.blocks] == ["cells"] or not net.blocks
    (past,) = windows(net)
    last, deviation = past[:, -1:], past.std(1, keepdim=True, correction=0)
    expected = last + deviation * net.net((past - last) / deviation)
    assert torch.allclose(net(past), expected, atol=1e-6)


def test_a_module_that_does_not_fit_is_refused():
    with pytest.raises(BackboneError, match=r"with \(2, 5\).*\(B, horizon\) = \(2, 4\)"):
        backbones.create(Recurrent(5), DATA, preprocessing=SEEN)
    with pytest.raises(BackboneError, match=r"cannot be run on windows of shape \(2, 24\)"):
        backbones.create(nn.Linear(7, 4), DATA, preprocessing=SEEN)
    with pytest.raises(InvalidValueError, match="already built"):
        backbones.create(Recurrent(), DATA, options={"width": 3})


# What only some of them can.

SPLIT = [name for name in NETS if name in ("dlinear", "nbeats")]
COVERING = [name for name in NETS if make(name).covariates]


@pytest.mark.parametrize("name", SPLIT)
def test_parts_add_up_to_the_forecast(name):
    net = shaken(make(name, center="last", spread="deviation"))
    parts = net.parts(*windows(net))
    expected = {
        "dlinear": ["trend", "rest"],
        "nbeats": ["trend", "seasonality", "generic"],
    }
    assert list(parts) == expected[name]
    assert torch.allclose(torch.stack(list(parts.values())).sum(0), net(*windows(net)), atol=1e-4)


def test_a_trend_is_a_parabola_and_a_season_repeats():
    net = shaken(make("nbeats"))
    parts = net.parts(*windows(net))
    assert torch.allclose(parts["trend"].diff(n=3), torch.zeros(5, 1), atol=1e-4)
    block = net.net.blocks[1]
    assert torch.allclose(block.behind[:, :1], block.behind[:, 12:13].abs() * block.behind[:, :1])
    with pytest.raises(BackboneError, match="no parts: use 'nbeats'"):
        make("nhits").parts(*windows(net))


def test_smooth_blocks_of_nhits_interpolate():
    net = make("nhits", pools=[4], strides=[4])
    (block,) = net.net.blocks
    assert block.forecast.out_features == 1
    assert block.hidden[0].in_features == 6
    with torch.no_grad():
        block.forecast.bias.fill_(2.0)
    assert torch.allclose(net.net(windows(net)[0]), torch.full((5, 4), 2.0))


@pytest.mark.parametrize("name", COVERING)
@pytest.mark.parametrize("kind", COVARIATES)
def test_covariates_of_each_kind_reach_the_forecast(name, kind):
    several = (Covariate(column="a"), Covariate(column="b"))
    data = SeriesDataSpec(horizon_steps=4, season=3, **{kind: several})
    net = shaken(backbones.create(name, data, preprocessing=SEEN))
    generator = torch.Generator().manual_seed(0)
    shape = {"static": (5, 2), "past": (5, 24, 2), "future": (5, 28, 2)}[kind]
    known = torch.randn(shape, generator=generator)
    (past,) = windows(make("nlinear"))
    before = net(past, known)
    assert before.shape == (5, 4)
    other = known.clone()
    other[0, ..., 1] += 1 if kind == "static" else torch.arange(shape[1]) % 3
    after = net(past, other)
    assert not torch.allclose(before[0], after[0], atol=1e-5)
    assert torch.allclose(before[1:], after[1:], atol=1e-6)
    assert net.forecast(past, known, horizon=9)[:, :4].allclose(before, atol=1e-5)


@pytest.mark.parametrize("name", COVERING)
def test_a_decisive_covariate_is_learnt(name):
    torch.manual_seed(0)
    data = SeriesDataSpec(horizon_steps=4, future=(Covariate(column="price"),))
    narrow = {"tide": 32, "tsmixer": 16, "itransformer": 16}
    options = {"width": narrow[name]}
    net = backbones.create(name, data, preprocessing=SEEN, options=options)
    generator = torch.Generator().manual_seed(1)
    price = torch.randn(64, 28, 1, generator=generator)
    values = 3 * price[..., 0] + 0.1 * torch.randn(64, 28, generator=generator)
    past, target = values[:, :24], values[:, 24:]
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(60):
        loss = net.train().losses(past, price, target=target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        forecast = net.eval()(past, price)
    assert (forecast - target).abs().mean() < 0.5 * target.abs().mean()


def test_deepar_draws_from_what_it_forecasts():
    net = shaken(make("deepar"))
    drawn = net.draw(*windows(net), count=400, horizon=1)
    assert drawn.shape == (400, 5, 1)
    assert torch.equal(drawn, net.draw(*windows(net), count=400, horizon=1))
    assert not torch.equal(drawn, net.draw(*windows(net), count=400, horizon=1, seed=1))
    center, units = net.units(*windows(net))
    past = (windows(net)[0] - center) / units
    states, _ = net.net._read(past)
    step = net.net._of(states[:, -1])
    share = ((drawn[..., 0] - center[:, 0]) / units[:, 0] < step.loc).float().mean(0)
    assert torch.allclose(share, torch.full((5,), 0.5), atol=0.1)
    with pytest.raises(BackboneError, match="use 'deepar'"):
        make("nlinear").draw(windows(net)[0], count=1, horizon=1)


def test_deepar_is_trained_by_its_likelihood():
    net = shaken(make("deepar"))
    tensors, target = windows(net), torch.ones(5, 4)
    center, units = net.units(*tensors)
    past, wanted = (tensors[0] - center) / units, (target - center) / units
    whole = torch.cat([past, wanted], dim=1)
    lag = net.net.lag
    assert lag == 3
    states, _ = net.net.cells(torch.stack([whole[:, lag - 1 : -1], whole[:, :-lag]], dim=2))
    mean, spread, freedom = net.net.output(states[:, -4:]).unbind(-1)
    expected = torch.distributions.StudentT(
        2 + nn.functional.softplus(freedom + 4), mean, nn.functional.softplus(spread + 0.54) + 1e-4
    ).log_prob(wanted)
    assert torch.allclose(net.losses(*tensors, target=target), -expected, atol=1e-4)
    with pytest.raises(UnknownNameError, match="no option of 'deepar' 'loss'"):
        make("deepar", loss="mae")
