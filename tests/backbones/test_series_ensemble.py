"""Ensemble: the weighted mean of its members, each on as much past as it wants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import mealkit
from mealkit import Forecaster, SeriesData
from mealkit.backbones import create, rebuild
from mealkit.backbones.series_base import SeriesBackbone
from mealkit.backbones.series_ensemble import Ensemble
from mealkit.errors import InvalidValueError
from mealkit.specs import SeriesDataSpec

SPEC = SeriesDataSpec(horizon_steps=3, season=4, length_steps=200)


def build(name: str, spec: SeriesDataSpec, **given: Any) -> SeriesBackbone:
    net = create(name, spec, **given)
    assert isinstance(net, SeriesBackbone)
    return net


def nets(*contexts: int) -> list:
    made = [create("ridge", SPEC, preprocessing={"context_steps": steps}) for steps in contexts]
    for number, net in enumerate(made):
        generator = torch.Generator().manual_seed(number)
        net.weight.copy_(torch.rand(net.weight.shape, generator=generator))
    return made


def test_the_forecast_is_the_weighted_mean_of_those_of_the_members():
    short, long = nets(2, 6)
    naive = build("naive", SPEC)
    mix = Ensemble([short, long, naive], weights=[1, 2, 1], season=4)
    assert mix.input_spec.context_steps == 6
    assert mix.inputs == ("past", "history")
    assert mix.share == {"ridge": 0.75, "naive": 0.25}
    past = torch.randn(5, 6, generator=torch.Generator().manual_seed(9))
    history = torch.full((5,), 80)
    expected = (short(past[:, -2:]) + 2 * long(past) + naive(past[:, -1:])) / 4
    assert torch.allclose(mix(past, history), expected, atol=1e-6)
    further = mix.forecast(past, history, horizon=7)
    assert further.shape == (5, 7)
    assert torch.allclose(further[:, :3], expected, atol=1e-6)


def test_members_that_want_more_than_there_is_do_not_answer():
    short, long = nets(2, 6)
    mix = Ensemble([short, long], weights=[0.1, 0.9], season=4)
    assert mix.needs_steps == 2
    past = torch.randn(2, 6, generator=torch.Generator().manual_seed(9))
    past[0, :3] = torch.nan  # not its own past
    answer = mix(past, torch.tensor([3, 6]))
    assert torch.allclose(answer[0], short(past[:1, -2:])[0])
    assert not torch.allclose(answer[1], short(past[1:, -2:])[0])


def test_nets_see_their_own_inputs():
    level = build("resmlp", SPEC, options={"spread": "level", "width": 8})
    (ridge,) = nets(level.input_spec.context_steps)
    mix = Ensemble([ridge, level], weights=[1, 1], season=4)
    assert mix.inputs == ("past", "history", "level")
    data = SeriesData.from_arrays(np.random.default_rng(0).normal(9, 1, (200, 2)), horizon=3)
    data.val.prepare(mix.input_spec)
    batch = data.val.__getitems__([0, 5])
    answer = mix(*(batch[name] for name in mix.inputs))
    expected = (ridge(batch["past"]) + level(batch["past"], batch["level"])) / 2
    assert torch.allclose(answer, expected, atol=1e-6)


def test_an_ensemble_is_rebuilt_from_its_config():
    resmlp = build("resmlp", SPEC, options={"width": 8})
    mix = Ensemble([*nets(5), resmlp, build("seasonal-naive", SPEC)], weights=[3, 2, 1], season=4)
    again = rebuild(mix.config, mix.input_spec, pretrained=False)
    again.load_state_dict(mix.state_dict())
    past, history = torch.randn(4, mix.input_spec.context_steps), torch.full((4,), 99)
    assert torch.equal(mix.eval()(past, history), again.eval()(past, history))
    assert again.weights == mix.weights


def test_a_task_with_an_ensemble_is_saved_and_loaded(tmp_path):
    rng = np.random.default_rng(0)
    data = SeriesData.from_arrays(rng.normal(size=(200, 2)).cumsum(0), horizon=3, season=4)
    mix = Ensemble([*nets(5, 9), build("naive", data.spec)], weights=[3, 2, 1], season=4)
    task = Forecaster.from_data(data, backbone=mix)
    task.finetune()
    task.save(tmp_path / "task")
    again = mealkit.load(tmp_path / "task")
    assert again.model == "ensemble"
    assert np.array_equal(again.predict(None).quantiles, task.predict().quantiles)


def test_what_cannot_be_mixed_is_refused():
    with pytest.raises(InvalidValueError, match=r"got 1 members and the weights \[1, 2\]"):
        Ensemble(nets(2), weights=[1, 2], season=4)
    with pytest.raises(InvalidValueError, match="weight above 0"):
        Ensemble(nets(2, 3), weights=[1, 0], season=4)
    with pytest.raises(InvalidValueError, match=r"see the same numbers .* ridge, theta"):
        Ensemble([*nets(2), build("theta", SPEC)], weights=[1, 1], season=4)
