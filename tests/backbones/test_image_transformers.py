"""What a processor's settings come to; the values are those of transformers' own classes."""

import numpy as np
import pytest
from PIL import Image
from transformers import ConvNextImageProcessor, ViTImageProcessor

from mealkit.backbones.image_transformers import _spec_of
from mealkit.data.decode import read_image
from mealkit.data.preprocess import Preprocess

SMALL = {"height": 32, "width": 32}
# As smooth as a photo: on white noise even Pillow and torch are two levels apart.
NOISE = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
PICTURE = Image.fromarray(NOISE).resize((90, 60), Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("processor", "most_levels"),
    [
        (ViTImageProcessor(size=SMALL, image_mean=[0.5] * 3), 1),
        (ViTImageProcessor(size=SMALL, do_normalize=False), 1),
        (ViTImageProcessor(size=SMALL, do_rescale=False, image_mean=[100.0] * 3), 1),
        (ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.8), 1),
        (ConvNextImageProcessor(size={"shortest_edge": 384}), 2),
    ],
    ids=["normalised", "only scaled", "only normalised", "cropped", "warped"],
)
def test_pictures_are_prepared_as_the_processor_does(processor, most_levels: int) -> None:
    settings = processor.to_dict()
    settings.setdefault("image_processor_type", type(processor).__name__)
    spec = _spec_of(settings, {})
    pixels = Preprocess(spec)(read_image(PICTURE)).numpy().astype(np.float32) / 255
    mean, std = (np.array(values)[:, None, None] for values in (spec.mean, spec.std))
    ours = (pixels - mean) / std
    theirs = np.asarray(processor(PICTURE, return_tensors="np")["pixel_values"][0])
    assert ours.shape == theirs.shape
    # In units of what the net sees. Bicubic of Pillow and of torch are two levels of 255 apart.
    assert np.abs(ours - theirs).max() <= 1.01 * most_levels / 255 / std.min()


def test_a_resampling_of_none_is_transformers_usual_one() -> None:
    assert (
        _spec_of({"size": {"height": 8, "width": 8}, "resample": None}, {}).interpolation
        == "bilinear"
    )
