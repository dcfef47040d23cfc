"""Names: finding, describing and adding them."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from mealkit import backbones
from mealkit.backbones.registry import REGISTERED
from mealkit.errors import InvalidValueError, UnknownNameError, WeightsError
from mealkit.specs import ImageSpec


@pytest.fixture
def table():
    before = dict(REGISTERED["image"])
    yield REGISTERED["image"]
    REGISTERED["image"].clear()
    REGISTERED["image"].update(before)


def test_find_knows_all_sources_with_and_without_prefix():
    found = backbones.find("resnet18*")
    assert {"resnet18", "resnet18.a1_in1k"} <= set(found)
    assert "torchvision/resnet18" in found
    assert backbones.find("torchvision/resnet18") == ["torchvision/resnet18"]
    assert backbones.find("mealkit_tiny*") == ["mealkit_tiny", "mealkit_tiny.v1"]
    assert set(timm.list_models()) <= set(backbones.find())


def test_find_tells_names_with_weights_from_those_without():
    trained = backbones.find("resnet*", pretrained=True)
    untrained = backbones.find("resnet*", pretrained=False)
    assert "resnet18.a1_in1k" in trained
    assert not set(trained) & set(untrained)
    assert sorted([*trained, *untrained]) == backbones.find("resnet*")


def test_describe_says_what_a_builder_wants_to_know():
    info = backbones.describe("resnet18")
    assert info.name == "resnet18.a1_in1k"
    assert info.num_parameters == 11_176_512
    assert info.num_features == 512
    assert info.input == ImageSpec(size=(224, 224), interpolation="bicubic", crop_pct=0.95)
    assert (info.licence, info.weights) == (
        "apache-2.0",
        "Hugging Face hub id timm/resnet18.a1_in1k",
    )
    assert "11,176,512" in str(info)


@pytest.mark.parametrize("name", ["torchvision/mobilenet_v3_small", "mealkit_tiny"])
def test_describe_agrees_with_the_built_net(name):
    info, net = backbones.describe(name), backbones.create(name, pretrained=False)
    assert info.num_parameters == sum(parameter.numel() for parameter in net.parameters())
    assert info.num_features == net.num_features
    assert info.input == net.input_spec


def test_describe_draws_no_random_numbers():
    before = torch.get_rng_state()
    for name in ("resnet18", "torchvision/resnet18", "mealkit_tiny"):
        backbones.describe(name)
    assert torch.equal(torch.get_rng_state(), before)


def test_describe_of_a_misspelt_name_suggests():
    with pytest.raises(UnknownNameError, match="'mealkit_tiny'"):
        backbones.describe("mealkit_tini")


def test_prefixes_choose_the_library():
    assert backbones.create("timm/resnet18", pretrained=False).config["source"] == "timm"
    tv = backbones.create("torchvision/resnet18", pretrained=False)
    assert tv.config["name"] == "resnet18.IMAGENET1K_V1"


def test_the_own_net_is_small_and_records_its_version():
    net = backbones.create("mealkit_tiny", pretrained=False)
    assert net.config["name"] == "mealkit_tiny.v1"
    assert 100_000 < sum(parameter.numel() for parameter in net.parameters()) < 1_000_000
    assert net.input_spec.size == (32, 32)
    assert net.eval().states(torch.zeros(1, 3, 32, 32)).shape == (1, 176, 4, 4)


def test_a_registered_net_is_found_created_and_rebuilt(table):
    @backbones.register("soup", input=ImageSpec(size=(16, 16)))
    def soup(width: int = 8) -> nn.Module:
        return nn.Conv2d(3, width, 3)

    assert backbones.find("soup") == ["soup"]
    net = backbones.create("soup", options={"width": 5})
    assert (net.num_features, net.pretrained) == (5, False)
    assert net.input_spec.size == (16, 16)
    again = backbones.rebuild(net.config, net.input_spec, pretrained=False)
    again.load_state_dict(net.state_dict())
    with pytest.raises(WeightsError, match="There are no pretrained weights"):
        backbones.create("soup", pretrained=True)


def test_registered_weights_are_read_in_half_precision(table, tmp_path):
    source = nn.Conv2d(3, 8, 3)
    half = {name: tensor.half() for name, tensor in source.state_dict().items()}
    save_file(half, tmp_path / "stew.safetensors")

    @backbones.register(
        "stew", input=ImageSpec(size=(16, 16)), weights=tmp_path / "stew.safetensors"
    )
    def stew() -> nn.Module:
        return nn.Conv2d(3, 8, 3)

    net = backbones.create("stew")
    assert net.pretrained
    assert net.net.weight.dtype == torch.float32
    assert torch.equal(net.net.weight, source.weight.half().float())
    (tmp_path / "stew.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"stew\.safetensors.*could not be reached"):
        backbones.create("stew")


def test_the_newest_version_answers_to_the_bare_name(table):
    for version in (2, 10):

        @backbones.register(f"mealkit_tiny.v{version}", input=ImageSpec(size=(16, 16)))
        def build() -> nn.Module:
            return nn.Conv2d(3, 8, 3)

    assert backbones.create("mealkit_tiny").config["name"] == "mealkit_tiny.v10"


def test_names_of_other_libraries_cannot_be_registered():
    with pytest.raises(InvalidValueError, match="without slash and colon"):
        backbones.register("timm/soup", input=ImageSpec(size=(16, 16)))
