"""Nets for photos on small pictures: which change, and how."""

from __future__ import annotations

import pytest
import torch

from mealkit import backbones
from mealkit.backbones.stem import options_for_small
from mealkit.errors import WeightsError
from mealkit.specs import ImageDataSpec

SMALL = {"stem": "small"}


@pytest.mark.parametrize(
    ("name", "side", "options"),
    [
        ("resnet18", 32, SMALL),
        ("torchvision/resnet50", 64, SMALL),
        ("resnet18", 65, {}),
        ("vit_tiny_patch16_224", 32, {"patch_size": 4}),
        ("vit_tiny_patch16_224", 64, {"patch_size": 8}),
        ("torchvision/vit_b_16", 32, {}),
        ("convnext_atto", 32, {}),
    ],
)
def test_names_that_are_known_get_options(name: str, side: int, options: dict) -> None:
    assert options_for_small(name, side) == options


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_the_stem_is_recorded_and_rebuilt(name: str) -> None:
    net = backbones.create(name, ImageDataSpec(size=32), pretrained=False, options=SMALL)
    assert net.config["stem"] == "small"
    assert "stem" not in net.config["options"]
    again = backbones.rebuild(net.config, net.input_spec, pretrained=False)
    again.load_state_dict(net.state_dict())
    image = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.eval()(image), net.eval()(image))


def test_weights_of_another_stem_are_refused(tmp_path) -> None:
    from safetensors.torch import save_file

    plain = backbones.create("resnet18", pretrained=False)
    save_file(plain.net.state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(WeightsError, match=r"conv1\.weight is \(64, 3, 7, 7\)"):
        backbones.create("resnet18", weights=tmp_path / "plain.safetensors", options=SMALL)
