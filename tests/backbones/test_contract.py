"""What every backbone for pictures promises, over one of each sort, built without network."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from transformers import ViTConfig, ViTModel

from mealkit import backbones
from mealkit.errors import BackboneError
from mealkit.specs import ImageDataSpec, InputSpec

NAMES = [
    "mealkit_tiny",
    "mealkit_resnet8",
    "resnet18",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "convnext_atto",
    "timm/mobilenetv3_small_050",
    "torchvision/resnet18",
    "torchvision/mobilenet_v3_small",
    "module",
    "transformers",
]
SMALL = {  # fewer layers, so that the suite stays quick: the source library's own options
    "swin_tiny_patch4_window7_224": {"depths": (1, 1, 2, 1), "embed_dim": 24},
    "vit_tiny_patch16_224": {"depth": 4},
}


class Net(nn.Module):
    """What a user would bring."""

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(in_chans, 8, 3, stride=4), nn.BatchNorm2d(8))
        self.body = nn.Sequential(nn.Conv2d(8, 12, 3, stride=2), nn.ReLU(), nn.Dropout(0.1))
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.pool(self.body(self.stem(image))).flatten(1)


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vit")
    config = ViTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=64,
        image_size=32,
        patch_size=8,
    )
    ViTModel(config).save_pretrained(folder)
    processor = {
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps({**processor, "resample": 3}))
    return folder


@pytest.fixture(scope="session")
def make(vit_folder):
    def make(name: str, data: ImageDataSpec | None = None) -> backbones.Backbone:
        data = data or ImageDataSpec()
        what: object = {"module": Net(data.in_chans), "transformers": vit_folder}.get(name, name)
        pretrained = None if name == "module" else False
        return backbones.create(what, data, pretrained=pretrained, options=SMALL.get(name))

    return make


@pytest.fixture(scope="session")
def built(make):
    return {name: make(name).eval() for name in NAMES}


@pytest.fixture(params=NAMES)
def backbone(request, built):
    return built[request.param]


def picture(backbone: backbones.Backbone, *, seed: int = 0) -> torch.Tensor:
    spec = backbone.input_spec
    return torch.randn(2, spec.in_chans, *spec.size, generator=torch.Generator().manual_seed(seed))


def test_features_have_the_promised_length_and_depend_on_the_picture(backbone):
    with torch.no_grad():
        one, other = backbone(picture(backbone)), backbone(picture(backbone, seed=1))
    assert one.shape == (2, backbone.num_features)
    assert torch.isfinite(one).all()
    assert not torch.allclose(one, other, atol=0)  # some random nets answer with tiny numbers


def test_states_are_a_map_or_tokens_with_features_in_the_right_place(backbone):
    with torch.no_grad():
        states = backbone.states(picture(backbone))
    widens = "mobile" in str(backbone.config["name"])  # a layer stands between pooling and features
    num_states = {"m": 576, "t": 288}["t" if "050" in str(backbone.config["name"]) else "m"]
    expected = num_states if widens else backbone.num_features
    assert states.ndim in (3, 4)
    assert states.shape[1 if states.ndim == 4 else 2] == expected
    if states.ndim == 4:
        assert states.shape[2] == states.shape[3] > 1


def test_blocks_have_each_parameter_once_from_input_to_output(backbone):
    blocks = backbone.blocks
    named = [name for block in blocks for name in block.parameters]
    own = [name for name, _ in backbone.named_parameters()]
    assert sorted(named) == sorted(own)
    assert len(blocks) >= 2
    convs = (n for n, module in backbone.named_modules() if isinstance(module, nn.Conv2d))
    first = next(convs)
    assert f"{first}.weight" in blocks[0].parameters


def test_each_mode_belongs_to_one_block(backbone):
    modules = [id(module) for block in backbone.blocks for module in block.modules]
    assert len(modules) == len(set(modules))
    for name, module in backbone.named_modules():
        if isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.Dropout)):
            assert id(module) in modules, name
    for block in backbone.blocks:
        inside = {id(p) for module in block.modules for p in module.parameters()}
        named = dict(backbone.named_parameters())
        assert inside <= {id(named[name]) for name in block.parameters}


def test_the_gradient_of_features_reaches_the_first_block(backbone):
    backbone.zero_grad()
    (backbone(picture(backbone)) ** 2).sum().backward()
    named = dict(backbone.named_parameters())
    gradients = [named[name].grad for name in backbone.blocks[0].parameters]
    assert any(g is not None and g.abs().sum() > 0 for g in gradients)
    backbone.zero_grad()


def test_no_weight_decay_names_parameters_that_exist(backbone):
    assert backbone.no_weight_decay <= {name for name, _ in backbone.named_parameters()}


def test_rebuilt_from_json_it_answers_the_same(backbone):
    config = json.loads(json.dumps(backbone.config))
    spec = InputSpec.from_json(json.loads(json.dumps(backbone.input_spec.to_json())))
    assert spec == backbone.input_spec
    if config["name"] is None and config["source"] == "module":
        with pytest.raises(
            BackboneError, match=r"Pass the module: mealkit\.load\(folder, backbone="
        ):
            backbones.rebuild(config, spec, pretrained=True)
        return
    again = backbones.rebuild(config, spec, pretrained=True).eval()
    again.load_state_dict(backbone.state_dict())
    assert again.pretrained
    assert again.num_features == backbone.num_features
    with torch.no_grad():
        assert torch.equal(again(picture(backbone)), backbone(picture(backbone)))


@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_of_channels_work(make, name, in_chans):
    backbone = make(name, ImageDataSpec(in_chans=in_chans)).eval()
    assert backbone.input_spec.in_chans == in_chans
    with torch.no_grad():
        assert backbone(picture(backbone)).shape == (2, backbone.num_features)


@pytest.mark.parametrize("name", NAMES)
def test_another_size_works_and_is_recorded(make, name):
    backbone = make(name, ImageDataSpec(size=64)).eval()
    assert backbone.input_spec.size == (64, 64)
    with torch.no_grad():
        assert backbone(picture(backbone)).shape == (2, backbone.num_features)


def test_building_leaves_modes_as_a_new_net_has_them(make):
    assert all(module.training for module in make("torchvision/resnet18").modules())
