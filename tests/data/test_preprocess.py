from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image
from sklearn.datasets import load_sample_image
from timm.data.transforms_factory import transforms_imagenet_eval

from mealkit import ImageSpec
from mealkit.data.preprocess import Preprocess

SIZES = [(427, 640), (640, 427), (333, 211), (51, 71), (32, 32), (257, 256), (1, 1), (3, 400)]


def picture(height: int, width: int, mode: str = "RGB") -> Image.Image:
    return Image.fromarray(load_sample_image("china.jpg")).resize((width, height)).convert(mode)


def noise(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def to_tensor(image: Image.Image) -> torch.Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def difference(image: torch.Tensor, reference: torch.Tensor) -> int:
    assert image.shape == reference.shape
    assert image.dtype == reference.dtype == torch.uint8
    return int((image.int() - reference.int()).abs().max())


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(224, 224), (96, 160)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_equals_timm_to_one_level(interpolation, size, crop_mode):
    spec = ImageSpec(size=size, interpolation=interpolation, crop_mode=crop_mode, crop_pct=0.9)
    transform = transforms_imagenet_eval(
        img_size=size[0] if size[0] == size[1] else size,
        crop_pct=0.9,
        crop_mode=crop_mode,
        interpolation=interpolation,
        mean=spec.mean,
        normalize=False,
    )
    for height, width in SIZES:
        if crop_mode == "border" and min(height, width) < 4 < max(height, width):
            continue  # timm itself fails: the picture is thinner than a pixel
        for image in (picture(height, width), noise(height, width)):
            assert difference(Preprocess(spec)(to_tensor(image)), transform(image)) <= 1


@pytest.mark.parametrize("name", ["resnet18", "vit_base_patch16_224", "mobilenetv3_large_100"])
def test_equals_the_transform_timm_creates_for_a_model(name):
    model = timm.create_model(name, pretrained=False)
    config = timm.data.resolve_model_data_config(model)
    transform = timm.data.create_transform(**config, normalize=False)
    spec = ImageSpec(
        size=config["input_size"][1:],
        interpolation=config["interpolation"],
        crop_pct=config["crop_pct"],
        crop_mode=config["crop_mode"],
    )
    for height, width in SIZES:
        image = picture(height, width)
        assert difference(Preprocess(spec)(to_tensor(image)), transform(image)) <= 1


@pytest.mark.parametrize(
    "weights",
    [
        torchvision.models.ResNet18_Weights.IMAGENET1K_V1,  # 224 of 256
        torchvision.models.ResNet50_Weights.IMAGENET1K_V2,  # 224 of 232
        torchvision.models.EfficientNet_B2_Weights.IMAGENET1K_V1,  # 288 of 288, bicubic
        torchvision.models.ViT_L_16_Weights.IMAGENET1K_V1,  # 224 of 242
    ],
)
def test_equals_torchvision_to_one_level(weights):
    transform = weights.transforms()
    crop, resized = transform.crop_size[0], transform.resize_size[0]
    spec = ImageSpec(
        size=(crop, crop), crop_pct=crop / resized, interpolation=transform.interpolation.value
    )
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (transform.mean, transform.std))
    for height, width in SIZES:
        image = picture(height, width)
        reference = ((transform(image) * std + mean) * 255).round().to(torch.uint8)
        assert difference(Preprocess(spec)(to_tensor(image)), reference) <= 1


def test_grey_pictures_equal_timm():
    spec = ImageSpec(size=(64, 64), mean=(0.5,), std=(0.5,), interpolation="bicubic")
    transform = transforms_imagenet_eval(
        img_size=64, crop_pct=0.875, interpolation="bicubic", normalize=False
    )
    for height, width in SIZES:
        image = picture(height, width, "L")
        assert difference(Preprocess(spec)(to_tensor(image)), transform(image)) <= 1


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos", "box"])
@pytest.mark.parametrize("num_channels", [1, 2, 3, 5])
def test_floats_agree_with_levels_of_255(interpolation, num_channels):
    spec = ImageSpec(
        size=(40, 40),
        mean=(0.5,) * num_channels,
        std=(0.5,) * num_channels,
        interpolation=interpolation,
        crop_mode="border",
    )
    levels = to_tensor(picture(61, 83))[[0, 1, 2, 0, 1][:num_channels]]
    floats = Preprocess(spec)(levels / 255)
    assert floats.dtype == torch.float32
    assert 0 <= floats.min() <= floats.max() <= 1
    whole = Preprocess(spec)(levels)
    assert whole.shape == (num_channels, 40, 40)
    # Whole levels are cut to 0..255 between the two passes, floats are not.
    assert (floats * 255 - whole.float()).abs().mean() < 0.5


def test_a_picture_of_the_right_size_stays_as_it_is():
    image = to_tensor(picture(32, 32))
    assert torch.equal(Preprocess(ImageSpec(size=(32, 32), crop_pct=1.0))(image), image)
