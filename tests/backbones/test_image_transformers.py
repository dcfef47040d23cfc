"""Vision nets of transformers: preprocessing, features, weights, blocks, folders and the hub."""

from __future__ import annotations

import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers import AutoConfig, AutoImageProcessor, AutoModel

import mealkit
from mealkit import ImageClassifier, backbones
from mealkit.backbones.blocks import make_blocks, partition
from mealkit.data.decode import read_image
from mealkit.data.preprocess import Preprocess
from mealkit.errors import (
    BackboneError,
    InvalidValueError,
    UnknownNameError,
    WeightsError,
)
from mealkit.specs import ImageDataSpec

VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
DINO = {k: v for k, v in VIT.items() if k != "intermediate_size"} | {"mlp_ratio": 2}
STAGES = {"hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 2, 1]}
SWIN = {
    "embed_dim": 8,
    "depths": [1, 1, 1],
    "num_heads": [1, 2, 2],
    "window_size": 2,
    "image_size": 32,
    "patch_size": 4,
}
SQUARE = {"size": {"height": 32, "width": 32}}
CROPPED = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
# A net, its config, the class of its processor, settings of that, and its number of blocks.
NETS = {
    "vit": (VIT, "ViTImageProcessor", SQUARE, 3),
    "deit": (VIT, "DeiTImageProcessor", {**SQUARE, "do_center_crop": False}, 3),
    "beit": (VIT | {"use_mean_pooling": True}, "BeitImageProcessor", SQUARE, 3),
    "data2vec-vision": (VIT, "BeitImageProcessor", SQUARE, 3),
    "vit_mae": (VIT, "ViTImageProcessor", SQUARE, 3),
    "vit_msn": (VIT, "ViTImageProcessor", SQUARE, 3),
    "ijepa": (VIT, "ViTImageProcessor", SQUARE, 3),
    "dinov2": (DINO, "BitImageProcessor", CROPPED, 3),
    "dinov2_with_registers": (DINO, "BitImageProcessor", CROPPED, 3),
    "dinov3_vit": (VIT, "DINOv3ViTImageProcessor", SQUARE, 3),
    "dinov3_convnext": (STAGES | {"image_size": 64}, "DINOv3ViTImageProcessor", SQUARE, 4),
    "clip_vision_model": (VIT | {"projection_dim": 12}, "CLIPImageProcessor", CROPPED, 3),
    "siglip_vision_model": (VIT, "SiglipImageProcessor", SQUARE, 3),
    "convnext": (STAGES, "ConvNextImageProcessor", {"size": {"shortest_edge": 32}}, 4),
    "convnextv2": (STAGES, "ConvNextImageProcessor", {"size": {"shortest_edge": 32}}, 4),
    "swin": (SWIN, "ViTImageProcessor", SQUARE, 3),
    "swinv2": (SWIN, "ViTImageProcessor", SQUARE, 3),
    "resnet": (STAGES | {"embedding_size": 8}, "ConvNextImageProcessor", {}, 4),
}
# As smooth as a photo: on white noise even Pillow and torch are two levels apart.
NOISE = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((90, 60), Image.Resampling.BICUBIC)


def write(folder: Path, kind: str) -> Path:
    values, processor, settings, _ = NETS[kind]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(AutoConfig.for_model(kind, **values)).save_pretrained(folder)
    getattr(transformers, processor)(**settings).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def net_folder(tmp_path_factory):
    """Answer with a folder of a random net of a kind, as its `save_pretrained` writes it."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = write(tmp_path_factory.mktemp("nets") / kind, kind)
        return made[kind]

    return folder


@pytest.fixture
def vit(net_folder, tmp_path: Path) -> Path:
    """A folder of a random ViT that a test may spoil."""
    return Path(shutil.copytree(net_folder("vit"), tmp_path / "vit"))


def pictures(net: backbones.Backbone) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, *net.input_spec.size, generator=generator)


def own_output(folder: Path, images: torch.Tensor):
    net = AutoModel.from_pretrained(folder).eval()
    takes = inspect.signature(net.forward).parameters
    stretch = {"interpolate_pos_encoding": True} if "interpolate_pos_encoding" in takes else {}
    with torch.no_grad():
        return net(pixel_values=images, **stretch)


def features(net: backbones.Backbone, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return net.eval()(images)


def seen(spec, picture: Image.Image) -> np.ndarray:
    """What the net sees of a picture: (C, H, W), normalised."""
    pixels = Preprocess(spec)(read_image(picture)).numpy().astype(np.float32) / 255
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (spec.mean, spec.std))
    return (pixels - mean) / std


# Preprocessing


def save_processor(folder: Path, settings: dict[str, object]) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"image_processor_type": "ViTImageProcessor", **SQUARE, "image_mean": [0.5] * 3},
        {"image_processor_type": "ViTImageProcessor", **SQUARE, "do_normalize": False},
        {
            "image_processor_type": "ViTImageProcessor",
            **SQUARE,
            "do_rescale": False,
            "image_mean": [100.0] * 3,
        },
        {"image_processor_type": "ViTImageProcessorFast", "size": 32, "resample": None},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 32}},
        {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 32, "crop_pct": 0.8},
        {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
        # As OpenAI's CLIP on the hub: one number is the shorter edge here, and both edges there.
        {
            "feature_extractor_type": "CLIPFeatureExtractor",
            "size": 32,
            "crop_size": 32,
            "do_center_crop": True,
            "resample": 3,
        },
        {
            "feature_extractor_type": "DeiTFeatureExtractor",
            "size": 44,
            "crop_size": 32,
            "do_center_crop": True,
            "resample": 3,
        },
        {"image_processor_type": "BitImageProcessor", **CROPPED, "resample": 3},
        {"image_processor_type": "LevitImageProcessor", "size": 32, "crop_size": 32},
        {
            "image_processor_type": "EfficientNetImageProcessor",
            **SQUARE,
            "rescale_offset": True,
            "rescale_factor": 1 / 127.5,
            "include_top": True,
        },
        {"image_processor_type": "SiglipImageProcessor", **SQUARE, "resample": 3},
        {"image_processor_type": "DINOv3ViTImageProcessorFast", **SQUARE},
        {
            "image_processor_type": "PoolFormerImageProcessor",
            "size": {"shortest_edge": 32},
            "crop_size": {"height": 32, "width": 32},
            "crop_pct": 0.9,
        },
    ],
    ids=lambda settings: "-".join(str(value)[:24] for value in settings.values()),
)
@pytest.mark.parametrize("size", [(91, 60), (60, 90), (640, 480)])
def test_pictures_are_prepared_as_the_processor_does(vit, settings, size) -> None:
    spec = backbones.create(save_processor(vit, settings), pretrained=False).input_spec
    picture = PICTURE.resize(size, Image.Resampling.BICUBIC)
    try:
        processor = AutoImageProcessor.from_pretrained(vit, backend="pil")
    except (TypeError, ValueError):  # transformers 4, or a class that has only one backend
        processor = AutoImageProcessor.from_pretrained(vit)
    usual = {"resample": 2} if processor.resample is None else {}
    theirs = np.asarray(processor(picture, return_tensors="np", **usual)["pixel_values"][0])
    ours = seen(spec, picture)
    assert ours.shape == theirs.shape == (3, *spec.size)
    levels = 255 * np.array(spec.std)[:, None, None] * np.abs(ours - theirs)
    assert levels.max() <= 1.01


@pytest.mark.parametrize("kind", NETS)
def test_the_spec_is_that_of_the_folders_processor(net_folder, kind: str) -> None:
    folder = net_folder(kind)
    spec = backbones.create(folder, pretrained=False).input_spec
    theirs = AutoImageProcessor.from_pretrained(folder)(PICTURE, return_tensors="np")
    levels = np.abs(seen(spec, PICTURE) - theirs["pixel_values"][0])
    # Bicubic of Pillow and of torch are two levels of 255 apart.
    assert (255 * np.array(spec.std)[:, None, None] * levels).max() <= 2.01


@pytest.mark.parametrize(("kept", "edge"), [(17, 25), (224, 256), (25, 44), (448, 518)])
def test_the_edge_is_resized_to_exactly(vit, kept: int, edge: int) -> None:
    crop = {"shortest_edge": edge}, {"height": kept, "width": kept}
    settings = {"image_processor_type": "BitImageProcessor", "size": crop[0], "crop_size": crop[1]}
    spec = backbones.create(save_processor(vit, settings), pretrained=False).input_spec
    assert spec.size == (kept, kept)
    assert int(kept / spec.crop_pct) == edge


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"image_processor_type": "MobileViTImageProcessor", "size": 36, "crop_size": 32},
            r"MobileViTImageProcessor in .* cannot repeat \(red is \d+ levels of 255 off\)",
        ),
        (
            {"image_processor_type": "ViTImageProcessor", "do_resize": False},
            r"a picture becomes \(3, .*\), not \(3, 224, 224\)",
        ),
        (
            {"image_processor_type": "BitImageProcessor", "do_center_crop": False},
            r"a picture becomes \(3, .*\), not \(3, 224, 224\)",
        ),
    ],
)
def test_what_a_spec_cannot_say_is_refused(vit, settings, said: str) -> None:
    with pytest.raises(BackboneError, match=said):
        backbones.create(save_processor(vit, settings), pretrained=False)


def test_a_processor_that_nobody_knows_is_named(vit) -> None:
    save_processor(vit, {"image_processor_type": "SoupProcessor"})
    config = json.loads((vit / "config.json").read_text())
    (vit / "config.json").write_text(json.dumps(config))
    with pytest.raises(BackboneError, match=r"image processor in .* could not be read"):
        backbones.create(vit, pretrained=False)


def test_a_folder_without_a_processor_says_what_is_assumed(vit, caplog) -> None:
    (vit / "preprocessor_config.json").unlink()
    spec = backbones.create(vit, pretrained=False).input_spec
    assert (spec.size, spec.crop_mode, spec.crop_pct) == ((32, 32), "squash", 1.0)
    assert "There is no preprocessor_config.json" in caplog.text


# Features, weights and blocks


@pytest.mark.parametrize("kind", NETS)
def test_features_are_the_nets_own_pooling(net_folder, kind: str) -> None:
    folder = net_folder(kind)
    net = backbones.create(folder)
    images = pictures(net)
    ours = features(net, images)
    if kind == "vit_mae":  # which would leave patches out
        reference = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
        with torch.no_grad():
            states = reference(images, interpolate_pos_encoding=True).last_hidden_state
        torch.testing.assert_close(ours, states[:, 0])
        return
    output = own_output(folder, images)
    if kind in ("vit", "deit", "data2vec-vision", "vit_msn"):
        expected = output.last_hidden_state[:, 0]
    elif kind == "ijepa":
        expected = output.last_hidden_state.mean(1)
    else:
        expected = output.pooler_output.flatten(1)
    torch.testing.assert_close(ours, expected)
    assert net.pretrained
    assert net.num_features == ours.shape[1]
    with torch.no_grad():
        assert torch.equal(net.states(images), output.last_hidden_state)


@pytest.mark.parametrize("kind", NETS)
def test_weights_are_those_of_the_file(net_folder, kind: str) -> None:
    net = backbones.create(net_folder(kind)).net
    stored = load_file(net_folder(kind) / "model.safetensors")
    known = {tuple(tensor.flatten().tolist()) for tensor in stored.values()}  # names may differ
    for name, value in net.named_parameters():
        assert tuple(value.flatten().tolist()) in known, name


@pytest.mark.parametrize("kind", NETS)
def test_rebuilt_without_the_folder_it_answers_the_same(net_folder, kind: str, tmp_path) -> None:
    folder = Path(shutil.copytree(net_folder(kind), tmp_path / "net"))
    net = backbones.create(folder)
    images = pictures(net)
    expected = features(net, images)
    config = json.loads(json.dumps(net.config))
    shutil.rmtree(folder)
    again = backbones.rebuild(config, net.input_spec, pretrained=True)
    again.load_state_dict(net.state_dict())
    assert torch.equal(features(again, images), expected)
    assert str(tmp_path) not in json.dumps(config)


@pytest.mark.parametrize("kind", NETS)
def test_every_parameter_that_trains_has_a_gradient(net_folder, kind: str) -> None:
    """Several processes would wait for one that has none."""
    net = backbones.create(net_folder(kind))
    (net(pictures(net)) ** 3).sum().backward()
    trained = {name: value.grad for name, value in net.named_parameters() if value.requires_grad}
    assert [name for name, grad in trained.items() if grad is None] == []
    assert len(trained) >= len(list(net.parameters())) - 1


@pytest.mark.parametrize("kind", NETS)
def test_blocks_are_the_layers_of_a_net_of_real_size(kind: str) -> None:
    with torch.device("meta"):
        net = AutoModel.from_config(AutoConfig.for_model(kind))
    blocks = make_blocks(net, partition(net), prefix="")
    assert len(blocks) == (4 if NETS[kind][3] == 4 or "swin" in kind else 12)
    assert any("embed" in name or "stages.0" in name for name in blocks[0].parameters)


def test_another_size_interpolates_the_places(net_folder) -> None:
    net = backbones.create(net_folder("dinov2"), ImageDataSpec(size=48))
    images = pictures(net)
    assert images.shape[2:] == (48, 48)
    expected = own_output(net_folder("dinov2"), images).pooler_output
    torch.testing.assert_close(features(net, images), expected)


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("vit", "ViTForImageClassification"),
        ("beit", "BeitForImageClassification"),
        ("dinov2", "Dinov2ForImageClassification"),
        ("vit_mae", "ViTMAEForPreTraining"),
        ("swin", "SwinForImageClassification"),
        ("convnext", "ConvNextForImageClassification"),
        ("deit", "DeiTForImageClassificationWithTeacher"),
    ],
)
def test_heads_are_left_out(net_folder, tmp_path, kind: str, head: str) -> None:
    """Of the net's own folder, and of a file of weights for it."""
    own = net_folder(kind)
    folder = Path(shutil.copytree(own, tmp_path / "net"))
    config = AutoConfig.from_pretrained(own)
    if kind == "vit_mae":
        config.decoder_num_hidden_layers, config.decoder_hidden_size = 1, 32
    torch.manual_seed(3)
    getattr(transformers, head)(config).save_pretrained(folder)
    net = backbones.create(folder)
    assert not any("classifier" in name or "decoder" in name for name in net.state_dict())
    images = pictures(net)
    assert not torch.allclose(features(net, images), features(backbones.create(own), images))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state, name: state.pop(name), r"1 missing \(.*layernorm"),
        (lambda state, name: state.update(spice=torch.ones(1)), r"1 unexpected \(spice\)"),
        (lambda state, name: state.update({name: torch.ones(5)}), r"1 misshapen \(.*layernorm"),
    ],
)
def test_tensors_that_do_not_fit_are_named(vit, change, said: str) -> None:
    state = load_file(vit / "model.safetensors")
    change(state, next(name for name in state if name.endswith("layernorm_after.weight")))
    save_file(state, vit / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=said):
        backbones.create(vit)


def test_options_are_values_of_transformers_config(vit) -> None:
    net = backbones.create(vit, pretrained=False, options={"num_hidden_layers": 2})
    assert sum("layernorm_after.weight" in name for name in net.state_dict()) == 2
    with pytest.raises(BackboneError, match=r"option 'spiciness'.*ViTConfig"):
        backbones.create(vit, pretrained=False, options={"spiciness": 3})


# The hub


def cached(folder: Path, name: str) -> None:
    """Put a folder where a download of the hub would."""
    place = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / "abc123")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc123")


def test_a_hub_id_comes_from_the_cache_without_network(net_folder) -> None:
    cached(net_folder("dinov2"), "cooks/dino")
    direct = backbones.create(net_folder("dinov2"))
    images = pictures(direct)
    for name in ("cooks/dino", "transformers/cooks/dino"):
        net = backbones.create(name)
        assert (net.config["name"], net.pretrained) == ("cooks/dino", True)
        assert net.input_spec == direct.input_spec
        assert torch.equal(features(net, images), features(direct, images))
    assert not backbones.create("cooks/dino", pretrained=False).pretrained
    info = backbones.describe("cooks/dino")
    assert (info.kind, info.num_features, info.input) == ("image", 16, direct.input_spec)
    assert info.num_parameters == sum(value.numel() for value in direct.parameters())


def test_a_net_of_texts_is_no_vision_net(text_folder) -> None:
    cached(text_folder("distilbert"), "cooks/words")
    for name in ("cooks/words", text_folder("distilbert")):
        with pytest.raises(BackboneError, match=r"no vision net of transformers.*'distilbert'"):
            backbones.create(name)
    assert backbones.describe("cooks/words").kind == "text"  # although the id could be either's


def test_unreachable_weights_are_an_error_and_never_random() -> None:
    for name in ("someone/net", "transformers/someone/net"):
        with pytest.raises(WeightsError, match=r"'someone/net' .* could not be reached"):
            backbones.create(name)


def test_a_folder_goes_before_a_hub_id(vit, monkeypatch) -> None:
    monkeypatch.chdir(vit.parent.parent)
    name = f"{vit.parent.name}/vit"
    assert backbones.create(name).config["module"] == "transformers folder vit"


def test_a_misspelt_name_of_a_library_is_no_hub_id() -> None:
    with pytest.raises(UnknownNameError, match="torchvision/resnet18"):
        backbones.create("torchvision/resnet81")


def test_a_hub_id_of_timm_says_how_to_call_it(tmp_path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"architecture": "resnet18"}))
    cached(folder, "cooks/timm-net")
    with pytest.raises(BackboneError, match=r"no net of transformers.*'hf-hub:cooks/timm-net'"):
        backbones.create("cooks/timm-net")


# Image encoders of nets of pictures and texts


def test_an_encoder_beside_texts_has_its_own_pooling_or_the_shared_space(both_folder) -> None:
    for kind in ("clip", "siglip"):
        folder = both_folder(kind)
        net = backbones.create(folder)
        images = pictures(net)
        model = AutoModel.from_pretrained(folder).eval()
        with torch.no_grad():
            pooled = model.vision_model(images).pooler_output
            shared = model.get_image_features(images)
        shared = getattr(shared, "pooler_output", shared)  # transformers 4 answers with a tensor
        torch.testing.assert_close(features(net, images), pooled)
        other = backbones.create(folder, options={"features": "shared"})
        ours = features(other, images)
        unit = functional.normalize(shared, dim=1)
        torch.testing.assert_close(ours / ours.shape[1] ** 0.5, unit)
        torch.testing.assert_close(ours.square().mean(1), torch.ones(2))
        for made in (net, other):
            assert not any("text" in name for name in made.state_dict())
            assert "text_config" not in json.dumps(made.config)
        assert len(net.blocks) == len(other.blocks)


def test_a_classifier_of_a_clip_has_no_texts_and_needs_none(both_folder, tmp_path) -> None:
    folder = Path(shutil.copytree(both_folder("clip"), tmp_path / "clip"))
    config = AutoConfig.from_pretrained(folder)
    torch.manual_seed(5)
    model = transformers.CLIPForImageClassification(config)
    model.save_pretrained(folder)
    net = backbones.create(folder)
    images = pictures(net)
    with torch.no_grad():
        expected = model.eval().vision_model(images).pooler_output
    torch.testing.assert_close(features(net, images), expected)
    with pytest.raises(WeightsError, match=r"1 missing \(visual_projection\.weight\)"):
        backbones.create(folder, options={"features": "shared"})


def test_features_that_a_net_does_not_have_are_refused(vit) -> None:
    with pytest.raises(InvalidValueError, match=r"features='shared': .*not trained together with"):
        backbones.create(vit, options={"features": "shared"})
    with pytest.raises(
        UnknownNameError, match=r"no kind of features 'maximal'.*'pooled', 'shared'"
    ):
        backbones.create(vit, options={"features": "maximal"})


# In a task


@pytest.mark.parametrize("kind", ["vit", "dinov2", "convnext", "siglip_vision_model"])
def test_a_saved_task_needs_neither_folder_nor_network(net_folder, photos, kind, tmp_path) -> None:
    folder = Path(shutil.copytree(net_folder(kind), tmp_path / "net"))
    task = ImageClassifier.from_folders(photos / "train", val=photos / "val", backbone=folder)
    task.finetune(epochs=1, strategy="freeze")
    paths = sorted(map(str, (photos / "test").glob("*/*")))
    expected = task.predict(paths).probabilities
    task.save(tmp_path / "task")
    shutil.rmtree(folder)
    again = mealkit.load(tmp_path / "task").predict(paths).probabilities
    assert np.abs(again - expected).max() < 1e-6
