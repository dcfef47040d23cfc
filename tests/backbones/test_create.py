"""What may be called a backbone, and what is refused with which words."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mealkit import backbones
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError, WeightsError
from mealkit.specs import ImageDataSpec, ImageSpec

SMALL = "test_resnet"  # timm's own net for tests: 0.5 M parameters


@pytest.fixture
def timm_folder(tmp_path):
    """A net with a classifier of 7 classes, saved as timm saves it."""
    folder = tmp_path / "saved_net"
    net = timm.create_model(SMALL, num_classes=7)
    timm.models.save_for_hf(net, folder, safe_serialization=True)
    return folder


@pytest.fixture
def task_folder(tmp_path):
    """What a saved task looks like to a backbone."""
    folder = tmp_path / "task"
    folder.mkdir()
    net = backbones.create("mealkit_tiny", pretrained=False, preprocessing={"crop_pct": 0.9})
    state = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
    save_file({**state, "head.weight": torch.zeros(2, 176)}, folder / "model.safetensors")
    entry = {"config": net.config, "input": net.input_spec.to_json(), "pretrained": True}
    (folder / "task.json").write_text(json.dumps({"format": 1, "backbone": entry}))
    return folder, net


def ones(spec: ImageSpec) -> torch.Tensor:
    return torch.linspace(-1, 1, spec.in_chans * spec.size[0] * spec.size[1]).reshape(
        1, spec.in_chans, *spec.size
    )


def test_a_misspelt_name_gets_the_five_nearest_in_a_short_message():
    with pytest.raises(UnknownNameError, match="'resnet18'") as caught:
        backbones.create("resnet81")
    assert len(str(caught.value)) < 500
    assert str(caught.value).split("?")[0].count("', '") == 4


def test_a_misspelt_tag_gets_the_tags_of_its_net():
    with pytest.raises(UnknownNameError, match=r"resnet18\.a1_in1k"):
        backbones.create("resnet18.a1_in2k")


def test_a_path_that_leads_nowhere_is_said_to_be_one():
    with pytest.raises(UnknownNameError, match=r"There is no folder and no backbone '\./nowhere'"):
        backbones.create("./nowhere")


@pytest.mark.parametrize(
    "name", ["resnet18", "torchvision/resnet18", "hf-hub:timm/resnet18.a1_in1k"]
)
def test_unreachable_weights_are_an_error_and_never_random(name):
    with pytest.raises(WeightsError, match=r"could not be reached.*pretrained=False") as caught:
        backbones.create(name)
    where = "download.pytorch.org" if "torchvision" in name else "timm/resnet18.a1_in1k"
    assert where in str(caught.value)


def test_a_name_without_weights_cannot_be_pretrained():
    untrained = backbones.find("beit3*", pretrained=False)[0]
    with pytest.raises(WeightsError, match="There are no pretrained weights"):
        backbones.create(untrained, pretrained=True)


def test_a_timm_folder_is_a_backbone_with_its_own_weights(timm_folder):
    net = backbones.create(str(timm_folder)).eval()
    assert net.pretrained
    reference = timm.create_model(f"local-dir:{timm_folder}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        assert torch.equal(net(ones(net.input_spec)), reference(ones(net.input_spec)))


def test_the_folder_is_not_needed_again(timm_folder):
    net = backbones.create(timm_folder)
    config, spec = json.loads(json.dumps(net.config)), net.input_spec
    (timm_folder / "config.json").unlink()
    again = backbones.rebuild(config, spec, pretrained=True)
    again.load_state_dict(net.state_dict())
    assert str(timm_folder) not in json.dumps(config)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("conv1.weight"), r"1 missing \(conv1\.weight\)"),
        (lambda state: state.update(spice=torch.ones(1)), r"1 unexpected \(spice\)"),
        (
            lambda state: state.update({"bn1.weight": torch.ones(5)}),
            r"1 misshapen \(bn1\.weight is \(5\)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(tmp_path, change, said):
    state = timm.create_model("resnet18", num_classes=3).state_dict()
    change(state)
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(WeightsError, match=said):
        backbones.create("resnet18", weights=tmp_path / "net.safetensors")


@pytest.mark.parametrize("name", ["torchvision/resnet18", "resnet18"])
def test_a_file_with_another_classifier_fits(tmp_path, name):
    import torchvision

    build = torchvision.models.resnet18 if "/" in name else None
    source = build(num_classes=5) if build else timm.create_model("resnet18", num_classes=5)
    torch.save(source.state_dict(), tmp_path / "net.pth")
    net = backbones.create(name, weights=tmp_path / "net.pth")
    assert torch.equal(net.net.conv1.weight, source.conv1.weight)
    assert net.pretrained


def test_pickled_code_is_not_run(tmp_path):
    torch.save(nn.Linear(2, 2), tmp_path / "net.pt")
    with pytest.raises(WeightsError, match="could not be read as plain tensors"):
        backbones.create("resnet18", weights=tmp_path / "net.pt")


def test_half_a_file_is_said_to_be_one(tmp_path):
    save_file({"a": torch.zeros(100)}, tmp_path / "whole.safetensors")
    content = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "half.safetensors").write_bytes(content[:200])
    with pytest.raises(WeightsError, match="only a part of one"):
        backbones.create("resnet18", weights=tmp_path / "half.safetensors")


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(WeightsError, match="There are no weights at"):
        backbones.create("resnet18", weights=tmp_path / "none.safetensors")


@pytest.mark.parametrize("in_chans", [1, 4])
@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_the_first_kernel_is_carried_over_to_other_channels(tmp_path, name, in_chans):
    kernel = timm.create_model("resnet18").state_dict()
    save_file(kernel, tmp_path / "net.safetensors")
    net = backbones.create(
        name, ImageDataSpec(in_chans=in_chans), weights=tmp_path / "net.safetensors"
    )
    old, new = kernel["conv1.weight"], net.net.conv1.weight
    expected = old.sum(1, keepdim=True) if in_chans == 1 else old[:, [0, 1, 2, 0]] * 0.75
    torch.testing.assert_close(new, expected)


def test_position_embeddings_are_stretched_to_another_size(tmp_path):
    source = timm.create_model("vit_tiny_patch16_224", depth=1)
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    net = backbones.create(
        "vit_tiny_patch16_224",
        ImageDataSpec(size=96),
        weights=tmp_path / "net.safetensors",
        options={"depth": 1},
    )
    assert net.net.pos_embed.shape == (1, 37, 192)
    torch.testing.assert_close(net.net.pos_embed[:, 0], source.pos_embed[:, 0])


def test_a_size_the_net_cannot_take_names_both_sizes():
    with pytest.raises(BackboneError, match=r"100x100 pixels.*own size is 224x224"):
        backbones.create("torchvision/maxvit_t", ImageDataSpec(size=100), pretrained=False)


def test_options_reach_the_source_library_and_wrong_ones_are_named():
    net = backbones.create("resnet18", pretrained=False, options={"drop_path_rate": 0.5})
    assert net.net.layer4[-1].drop_path.drop_prob == pytest.approx(0.5)
    assert net.config["options"] == {"drop_path_rate": 0.5}
    for name in ("resnet18", "torchvision/resnet18", "mealkit_tiny"):
        with pytest.raises(BackboneError, match="spiciness"):
            backbones.create(name, pretrained=False, options={"spiciness": 3})
    with pytest.raises(BackboneError, match="num_classes"):
        backbones.create("resnet18", pretrained=False, options={"num_classes": 3})


def test_preprocessing_is_the_nets_own_and_can_be_overridden():
    own = backbones.create("resnet18", pretrained=False).input_spec
    assert (own.size, own.crop_pct, own.interpolation) == ((224, 224), 0.95, "bicubic")
    changed = backbones.create(
        "resnet18", ImageDataSpec(size=96), pretrained=False, preprocessing={"crop_pct": 1.0}
    ).input_spec
    assert changed == own.replace({"size": (96, 96), "crop_pct": 1.0})
    with pytest.raises(UnknownNameError, match="crop_pct"):
        backbones.create("resnet18", pretrained=False, preprocessing={"crop_pc": 1.0})
    with pytest.raises(InvalidValueError, match="given twice"):
        backbones.create(
            "resnet18", ImageDataSpec(size=96), pretrained=False, preprocessing={"size": 64}
        )
    with pytest.raises(InvalidValueError, match="1 values and the pictures have 3"):
        backbones.create("resnet18", pretrained=False, preprocessing={"mean": [0], "std": [1]})


def test_torchvision_preprocessing_gives_the_resized_side_back():
    spec = backbones.describe("torchvision/resnet50").input
    assert int(spec.size[0] / spec.crop_pct) == 232
    assert spec.interpolation == "bilinear"


def test_a_saved_task_is_a_backbone(task_folder):
    folder, net = task_folder
    again = backbones.create(folder).eval()
    assert again.pretrained
    assert again.input_spec == net.input_spec
    picture = ones(net.input_spec)
    with torch.no_grad():
        assert torch.equal(again(picture), net.eval()(picture))
    grey = backbones.create(folder, ImageDataSpec(in_chans=1, size=48))
    kernel = net.net.stem[0].weight.sum(1, keepdim=True)
    torch.testing.assert_close(grey.net.stem[0].weight, kernel)
    assert grey.input_spec.size == (48, 48)
    assert grey.input_spec.crop_pct == 0.9


def test_the_weights_of_a_saved_task_go_into_a_name(task_folder):
    folder, net = task_folder
    again = backbones.create("mealkit_tiny", weights=folder)
    assert torch.equal(again.net.stem[0].weight, net.net.stem[0].weight)


def test_a_task_object_is_a_backbone_and_is_copied(task_folder):
    _, net = task_folder
    task = SimpleNamespace(backbone=net)
    copy = backbones.create(task)
    assert copy is not net
    assert copy.input_spec == net.input_spec
    with torch.no_grad():
        copy.net.stem[0].weight.zero_()
    assert net.net.stem[0].weight.abs().sum() > 0
    grey = backbones.create(task, ImageDataSpec(in_chans=1))
    torch.testing.assert_close(grey.net.stem[0].weight, net.net.stem[0].weight.sum(1, keepdim=True))


def test_a_backbone_passes_through_and_takes_nothing_else(task_folder):
    _, net = task_folder
    assert backbones.create(net) is net
    with pytest.raises(InvalidValueError, match="pretrained=True"):
        backbones.create(net, pretrained=True)
    with pytest.raises(InvalidValueError, match="options="):
        backbones.create(net, options={})
    with pytest.raises(BackboneError, match="was built for"):
        backbones.create(net, ImageDataSpec(in_chans=1))


def test_a_module_keeps_its_weights_or_takes_others(tmp_path):
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU())

    module, other = build(), build()
    net = backbones.create(module, ImageDataSpec(size=16))
    assert net.net is module
    assert not net.pretrained
    assert backbones.create(build(), pretrained=True).pretrained
    save_file(other.state_dict(), tmp_path / "net.safetensors")
    filled = backbones.create(build(), weights=tmp_path / "net.safetensors")
    assert torch.equal(filled.net[0].weight, other[0].weight)
    assert filled.pretrained
    with pytest.raises(InvalidValueError, match="already"):
        backbones.create(module, options={"depth": 3})
    with pytest.raises(BackboneError, match=r"cannot be run on pictures of shape \(1, 1, 16, 16\)"):
        backbones.create(module, ImageDataSpec(size=16, in_chans=1))


def test_a_module_of_maps_is_pooled_by_the_mean():
    net = backbones.create(nn.Conv2d(3, 4, 3), ImageDataSpec(size=16)).eval()
    picture = ones(net.input_spec)
    torch.testing.assert_close(net(picture), net.net(picture).mean((2, 3)))
    assert net.states(picture).shape == (1, 4, 14, 14)


def test_weights_with_pretrained_false_contradict(tmp_path):
    with pytest.raises(InvalidValueError, match="pretrained=False"):
        backbones.create("resnet18", weights=tmp_path, pretrained=False)


def test_what_is_no_backbone_is_refused():
    with pytest.raises(InvalidValueError, match="is a int"):
        backbones.create(3)


def test_the_hub_is_asked_for_safetensors_and_they_arrive(tmp_path, monkeypatch):
    """The whole way through timm's hub code, with only the transfer itself replaced."""
    source = timm.create_model("resnet18")
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    asked = []

    def download(repo_id, filename, **settings):
        asked.append((repo_id, filename))
        return str(tmp_path / filename)

    monkeypatch.setattr("timm.models._hub.hf_hub_download", download)
    net = backbones.create("resnet18.a1_in1k")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]
    state = {f"net.{k}": v for k, v in source.state_dict().items() if not k.startswith("fc.")}
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_a_hub_id_builds_what_its_config_says(timm_folder, monkeypatch):
    monkeypatch.setattr(
        "timm.models._hub.hf_hub_download",
        lambda repo_id, filename, **settings: str(timm_folder / filename),
    )
    net = backbones.create("hf-hub:someone/net")
    state = load_file(timm_folder / "model.safetensors")
    assert all(torch.equal(value, state[name]) for name, value in net.net.state_dict().items())
    assert net.config["name"] == "hf-hub:someone/net"
    backbones.rebuild(json.loads(json.dumps(net.config)), net.input_spec, pretrained=True)


@pytest.mark.slow
def test_torchvisions_position_embeddings_are_stretched(tmp_path):
    import torchvision

    source = torchvision.models.vit_b_16()
    save_file(source.state_dict(), tmp_path / "net.safetensors")
    net = backbones.create(
        "torchvision/vit_b_16", ImageDataSpec(size=96), weights=tmp_path / "net.safetensors"
    )
    stretched = net.net.encoder.pos_embedding
    assert stretched.shape == (1, 37, 768)
    torch.testing.assert_close(stretched[:, 0], source.encoder.pos_embedding[:, 0])
    assert len(net.blocks) == 12


def test_torchvision_weights_come_from_its_address(tmp_path, monkeypatch):
    import torchvision

    source = torchvision.models.squeezenet1_1().state_dict()

    def download(url, **settings):
        assert settings["weights_only"] is True
        assert url.startswith("https://download.pytorch.org/models/squeezenet1_1")
        return source

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", download)
    net = backbones.create("torchvision/squeezenet1_1")
    assert torch.equal(net.net.features[0].weight, source["features.0.weight"])
    assert net.num_features == 512


@pytest.mark.real
def test_the_shared_mobilenet_gives_timms_features(shared):
    folder = shared / "models" / "mobilenetv1_100"
    net = backbones.create(folder, ImageDataSpec(size=96), preprocessing={"crop_pct": 1.0}).eval()
    reference = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert net.num_features == 1024
    assert net.input_spec.mean == (0.5, 0.5, 0.5)
    picture = ones(net.input_spec)
    with torch.no_grad():
        assert torch.equal(net(picture), reference(picture))


def test_a_first_layer_that_cannot_be_carried_over_is_refused_not_random(tmp_path):
    name = "naflexvit_base_patch16_gap"  # a linear layer sees the patches
    small = {"depth": 1, "embed_dim": 64, "num_heads": 1}
    save_file(timm.create_model(name, **small).state_dict(), tmp_path / "net.safetensors")
    with pytest.raises(BackboneError, match=r"embeds\.proj\) cannot be carried over to 4 channels"):
        backbones.create(
            name,
            ImageDataSpec(in_chans=4),
            weights=tmp_path / "net.safetensors",
            options=small,
        )


def test_a_net_of_several_branches_says_that_it_has_no_states():
    net = backbones.create("crossvit_tiny_240", pretrained=False).eval()
    with pytest.raises(BackboneError, match="has no unpooled features"):
        net.states(torch.zeros(1, 3, 240, 240))
