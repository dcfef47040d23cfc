"""Encoders of series: the same states below a head that forecasts, and strict weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file

from mealkit.backbones import Backbone, create, rebuild
from mealkit.backbones.series_encoder import SeriesEncoder, encoders
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError, WeightsError
from mealkit.specs import SeriesDataSpec

WINDOWS = SeriesDataSpec(horizon_steps=0)
SMALL = {
    "patchtst": {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 2},
    "patchtsmixer": {"d_model": 16, "num_layers": 2},
}


def make(name: str = "patchtst", *, context: int = 48, **options: Any) -> SeriesEncoder:
    torch.manual_seed(0)
    steps = {"context_steps": context}
    net = create(name, WINDOWS, preprocessing=steps, options={**SMALL[name], **options})
    assert isinstance(net, SeriesEncoder)
    return net.eval()


def windows(count: int = 3, *, steps: int = 48) -> torch.Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(rng.normal(size=(count, steps)).cumsum(1)).float()


def inside(net: Backbone) -> torch.nn.Module:
    return net.get_submodule("net.inner.model")


@pytest.mark.parametrize("name", SMALL)
def test_states_are_those_of_transformers_own_net(name: str) -> None:
    net, past = make(name), windows()
    plain = getattr(transformers, {"patchtst": "PatchTSTModel"}.get(name, "PatchTSMixerModel"))
    whole = plain(net.model_config).eval()
    whole.load_state_dict(net.net.state_dict())
    scaled = (past - past.mean(1, keepdim=True)) / past.std(1, keepdim=True, correction=0)
    expected = whole(past_values=scaled[..., None]).last_hidden_state[:, 0]
    states = net.states(past)
    assert states.shape == (3, net.num_patches, net.num_features) == (3, 4, 16)
    assert torch.allclose(states, expected, atol=1e-6)
    assert torch.allclose(net(past), expected.mean(1), atol=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_windows_count_by_their_shape_alone(name: str) -> None:
    net, past = make(name), windows()
    assert torch.allclose(net(7 + 3 * past), net(past), atol=1e-4)
    flat = net(torch.full((2, 48), 5.0))
    assert torch.isfinite(flat).all()
    assert torch.equal(flat, net(torch.full((2, 48), -1.0)))


@pytest.mark.parametrize("name", SMALL)
def test_hidden_patches_are_not_seen_and_only_for_one_call(name: str) -> None:
    net, past = make(name), windows()
    hidden = torch.zeros(3, 4, dtype=torch.bool)
    hidden[:, 1] = True
    states, patches = net.encode(past, hidden)
    other = past.clone()
    other[:, 12:24] = past[:, 12:24].flip(1)  # the mean and the deviation of windows stay
    again, true = net.encode(other, hidden)
    assert torch.allclose(states, again, atol=1e-5)
    assert not torch.allclose(net.states(other), net.states(past), atol=1e-3)
    assert torch.allclose(true[:, 1], patches[:, 1].flip(1), atol=1e-5)
    assert torch.equal(net.encode(past, None)[0], net.states(past))
    cut = net.patches(past)
    assert torch.equal(cut.flatten(1), past)


def test_patches_of_an_untrained_encoder_do_not_overlap() -> None:
    net = make(context=336)
    assert (net.patch_steps, net.stride_steps, net.num_patches) == (12, 12, 28)
    short = make(context=20)
    assert (short.patch_steps, short.stride_steps) == (5, 5)
    chosen = make(patch_length=8)
    assert (chosen.patch_steps, chosen.stride_steps) == (8, 8)
    assert create("patchtst", WINDOWS).input_spec.context_steps == 512
    told = SeriesDataSpec(horizon_steps=0, length_steps=200)
    assert create("patchtst", told).input_spec.context_steps == 50


@pytest.mark.parametrize("name", SMALL)
def test_a_net_that_forecasts_has_the_same_states_below_a_fresh_head(name: str) -> None:
    net, past = make(name), windows()
    net.pretrained = True
    made: Any = create(net, SeriesDataSpec(horizon_steps=7, season=12)).eval()
    assert (made.horizon_steps, made.season, made.input_spec.context_steps) == (7, 12, 48)
    assert made.pretrained
    assert made.head_is_fresh
    assert made(past).shape == (3, 7)
    assert inside(made).state_dict().keys() == net.net.state_dict().keys()
    for key, value in inside(made).state_dict().items():
        assert torch.equal(value, net.net.state_dict()[key])
    back: Any = create(made, WINDOWS).eval()
    assert torch.equal(back.states(past), net.states(past))
    assert inside(made) is not net.net  # a copy: what is trained later stays apart
    made.note_head(is_fresh=False)
    assert not made.head_is_fresh


def test_rebuilt_encoders_are_the_same() -> None:
    net = make()
    again: Any = rebuild(net.config, net.input_spec, pretrained=True).eval()
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.states(windows()), net.states(windows()))
    assert sum(len(block.parameters) for block in net.blocks) == len(list(net.parameters()))


def test_weights_load_strictly(tmp_path: Path) -> None:
    net = make()
    state = {name: value.clone() for name, value in net.net.state_dict().items()}
    save_file(state, tmp_path / "whole.safetensors")
    steps = {"context_steps": 48}

    def read(file: str) -> Any:
        weights = tmp_path / file
        return create(
            "patchtst", WINDOWS, weights=weights, preprocessing=steps, options=SMALL["patchtst"]
        )

    loaded = read("whole.safetensors").eval()
    assert loaded.pretrained
    assert torch.equal(loaded.states(windows()), net.states(windows()))
    first = "encoder.embedder.input_embedding.weight"
    save_file({**state, "extra": torch.zeros(1)}, tmp_path / "more.safetensors")
    with pytest.raises(WeightsError, match=r"1 unexpected .*extra"):
        read("more.safetensors")
    save_file({n: v for n, v in state.items() if n != first}, tmp_path / "less.safetensors")
    with pytest.raises(WeightsError, match=f"1 missing .*{first}"):
        read("less.safetensors")
    net.net.encoder.embedder.input_embedding = torch.nn.Linear(3, 16)
    with pytest.raises(WeightsError, match=f"1 misshapen .*{first}"):
        create(net, SeriesDataSpec(horizon_steps=7))


def test_a_folder_of_transformers_is_read_without_its_head(tmp_path: Path) -> None:
    sizes = {"context_length": 48, "patch_length": 12, "patch_stride": 12, "num_input_channels": 7}
    config = transformers.PatchTSTConfig(**sizes, **SMALL["patchtst"], prediction_length=5)
    torch.manual_seed(0)
    whole = transformers.PatchTSTForPrediction(config).eval()
    whole.save_pretrained(tmp_path)
    net: Any = create(tmp_path, WINDOWS).eval()
    assert net.pretrained
    for key, value in whole.model.state_dict().items():
        assert torch.equal(net.net.state_dict()[key], value)
    assert not create(tmp_path, WINDOWS, pretrained=False).pretrained
    with pytest.raises(BackboneError, match="cannot change a net that is trained already"):
        create(tmp_path, WINDOWS, options={"d_model": 8})


@pytest.mark.parametrize("name", ["ridge", "nlinear", "naive", "timesfm-2.5", "chronos-2"])
def test_nets_without_an_encoder_are_refused_with_those_that_have_one(name: str) -> None:
    assert encoders() == ["patchtst", "patchtsmixer"]
    with pytest.raises(BackboneError, match=f"'{name}' has no encoder.*patchtst, patchtsmixer"):
        create(name, WINDOWS)


def test_what_else_cannot_be_built() -> None:
    nlinear = create("nlinear", SeriesDataSpec(horizon_steps=3))
    with pytest.raises(BackboneError, match="'nlinear' has no encoder"):
        create(nlinear, WINDOWS)
    with pytest.raises(BackboneError, match=r"MaskedPatches\(share=0.4\)"):
        make(random_mask_ratio=0.7)
    with pytest.raises(UnknownNameError, match="loss"):
        make(loss="l1")
    with pytest.raises(UnknownNameError, match="option of 'patchtst'"):
        make(width=3)
    with pytest.raises(BackboneError, match="no trained weights for 'patchtst'"):
        create("patchtst", WINDOWS, pretrained=True)
    with pytest.raises(BackboneError, match="could not be built"):
        make(d_model=15)
    net = make()
    with pytest.raises(InvalidValueError, match="context=50: 'patchtst' sees 48 steps"):
        rebuild(net.config, net.input_spec.replace({"context_steps": 50}), pretrained=False)
    with pytest.raises(InvalidValueError, match="horizon=0"):
        create(torch.nn.Linear(4, 1), WINDOWS)
