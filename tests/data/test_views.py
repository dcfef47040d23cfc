from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tv

from mealkit.data import colours
from mealkit.data.chance import chance, chances
from mealkit.data.crops import NUM_DRAWS, crop_boxes, resize_boxes
from mealkit.data.views import VIEWS, View, blur_kernel, dino_views, draw_views
from mealkit.errors import InvalidValueError

TOLERANCE = 2e-4
"""Of a pixel in [0, 1]: a twentieth of a grey level, from torchvision's rounded weights of grey."""


def pictures(num: int, size: tuple[int, int] = (32, 24), channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (num, channels, *size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def floats(num: int, size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    return pictures(num, size).float() / 255


every_recipe = pytest.mark.parametrize("name", sorted(VIEWS))


@every_recipe
@pytest.mark.parametrize("size", [32, 80])
def test_a_picture_gets_the_same_views_in_any_batch(name: str, size: int):
    images, index = pictures(24, (size, size)), torch.arange(24) + 100
    whole = draw_views(images, VIEWS[name](size), seed=3, epoch=2, index=index)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))[:5]
    part = draw_views(images[order], VIEWS[name](size), seed=3, epoch=2, index=index[order])
    for one, other in zip(whole, part, strict=True):
        assert torch.equal(one[order], other)
        assert one.dtype == torch.float32
        assert one.min() >= 0
        assert one.max() <= 1
    alone = draw_views(images[:1], VIEWS[name](size), seed=3, epoch=2, index=index[:1])
    assert all(torch.equal(a, b[:1]) for a, b in zip(alone, whole, strict=True))


@every_recipe
def test_seed_epoch_and_view_change_what_is_drawn(name: str):
    images, index = pictures(16), torch.arange(16)
    view = VIEWS[name](24)[0]
    first = view(images, seed=0, epoch=0, index=index)
    assert torch.equal(first, view(images, seed=0, epoch=0, index=index))
    for other in ({"seed": 1}, {"epoch": 1}, {"view": 1}):
        settings = {"seed": 0, "epoch": 0, **other}
        assert not torch.equal(first, view(images, index=index, **settings))


@every_recipe
def test_bytes_and_floats_give_the_same_views_and_stay_as_they_are(name: str):
    images, index = pictures(8), torch.arange(8)
    kept, scaled = images.clone(), images.float() / 255
    kept_scaled = scaled.clone()
    of_bytes = draw_views(images, VIEWS[name](32), seed=0, epoch=0, index=index)
    of_floats = draw_views(scaled, VIEWS[name](32), seed=0, epoch=0, index=index)
    assert all(torch.equal(a, b) for a, b in zip(of_bytes, of_floats, strict=True))
    assert torch.equal(images, kept)
    assert torch.equal(scaled, kept_scaled)


@every_recipe
def test_global_random_state_is_not_touched(name: str):
    before = torch.get_rng_state()
    draw_views(pictures(4), VIEWS[name](32), seed=0, epoch=0, index=torch.arange(4))
    assert torch.equal(before, torch.get_rng_state())


def test_many_draws_are_those_of_chance():
    index = torch.tensor([0, 5, 2**40])
    many = chances(7, 3, index, first=10, num=4)
    one_by_one = [chance(7, 3, index, draw=draw) for draw in range(10, 14)]
    assert torch.equal(many, torch.stack(one_by_one, 1))


# Pixels: those of torchvision for the same numbers.


@pytest.mark.parametrize(
    ("full", "size"),
    [((32, 24), (32, 24)), ((32, 24), (48, 40)), ((60, 80), (24, 20)), ((60, 20), (24, 24))],
)
def test_resampled_boxes_are_those_of_torchvision(full, size):
    images = floats(40, full)
    draws = torch.rand(40, NUM_DRAWS, generator=torch.Generator().manual_seed(0))
    boxes = crop_boxes(draws, size=full, scale=(0.05, 1.0), ratio=(0.5, 2.0))
    flip = torch.arange(40) % 2 == 0
    resized = resize_boxes(images, boxes, size, flip=flip)
    for image, box, mirrored, found in zip(images, boxes.tolist(), flip, resized, strict=True):
        expected = tv.resized_crop(image, *box, list(size), antialias=True)
        expected = expected.flip(-1) if mirrored else expected
        assert torch.allclose(found, expected, atol=1e-5)


def test_boxes_of_one_pixel_are_that_pixel():
    image = floats(1, (8, 8))
    boxes = torch.tensor([[7, 0, 1, 1]])
    for size in ((8, 8), (4, 4)):
        found = resize_boxes(image, boxes, size)
        assert torch.allclose(found, image[:, :, 7:, :1].expand(1, 3, *size), atol=1e-6)


PAIRS: list[tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor], float, float]] = [
    (colours.brightness_, tv.adjust_brightness, 0.2, 1.8),
    (colours.contrast_, tv.adjust_contrast, 0.2, 1.8),
    (colours.saturation_, tv.adjust_saturation, 0.2, 1.8),
    (colours.hue_, tv.adjust_hue, -0.5, 0.5),
    (colours.solarize, tv.solarize, 0.0, 1.0),
]


@pytest.mark.parametrize(("ours", "theirs", "low", "high"), PAIRS, ids=lambda x: str(x)[:20])
def test_colours_are_those_of_torchvision(ours, theirs, low, high):
    images = floats(12)
    images[3] = images[3].mean(0)  # grey: no hue to turn
    images[4] = 0.0
    factors = torch.linspace(low, high, 12)
    expected = [
        theirs(image, factor) for image, factor in zip(images, factors.tolist(), strict=True)
    ]
    assert torch.allclose(ours(images.clone(), factors), torch.stack(expected), atol=TOLERANCE)


def test_greys_are_those_of_torchvision():
    images = floats(4)
    expected = tv.rgb_to_grayscale(images, num_output_channels=3)
    assert torch.allclose(colours.grey(images), expected, atol=TOLERANCE)


@pytest.mark.parametrize("kernel", [3, 9, 23])
def test_blurs_are_those_of_torchvision(kernel):
    images, sigmas = floats(6, (40, 30)), torch.linspace(0.1, 2.0, 6)
    expected = [
        tv.gaussian_blur(image, kernel, sigma)
        for image, sigma in zip(images, sigmas.tolist(), strict=True)
    ]
    assert torch.allclose(
        colours.blur(images, sigmas, kernel=kernel), torch.stack(expected), atol=1e-5
    )


def test_colours_follow_each_other_in_the_order_that_was_drawn():
    images, theirs = floats(24), [tv.adjust_brightness, tv.adjust_contrast]
    theirs += [tv.adjust_saturation, tv.adjust_hue]
    factors = torch.tensor([1.6, 0.5, 1.7, 0.2]).expand(24, 4)
    chosen = torch.arange(24) != 5
    found = colours.jitter_(images.clone(), factors, torch.arange(24), chosen)
    for number, (image, order) in enumerate(zip(images, colours.ORDERS, strict=True)):
        for kind in order if number != 5 else ():
            image = theirs[kind](image, factors[0, kind].item())
        assert torch.allclose(found[number], image, atol=5 * TOLERANCE)


def test_one_channel_and_five_keep_what_is_no_colour():
    view = View(jitter=1.0, saturation=0.9, hue=0.5, grey=1.0, flip=0.0)
    for channels in (1, 5):
        images = pictures(6, channels=channels)
        found = view(images, seed=0, epoch=0, index=torch.arange(6))
        assert torch.equal(found, images.float() / 255)
    brighter = View(jitter=1.0, brightness=0.9, contrast=0.5, flip=0.0)
    found = brighter(pictures(6, channels=1), seed=0, epoch=0, index=torch.arange(6))
    assert not torch.equal(found, pictures(6, channels=1).float() / 255)


# Distributions: those of torchvision's transforms of one picture at a time.


def differ(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    """Answer with the Kolmogorov-Smirnov distance of two samples."""
    everything = torch.cat([ours, theirs]).unique()
    steps = [
        torch.searchsorted(values.sort().values, everything, right=True) / len(values)
        for values in (ours.float(), theirs.float())
    ]
    return (steps[0] - steps[1]).abs().max().item()


@pytest.mark.parametrize(
    ("size", "scale", "ratio"),
    [((32, 24), (0.08, 1.0), (3 / 4, 4 / 3)), ((16, 200), (0.3, 1.0), (3 / 4, 4 / 3))],
)
def test_boxes_have_the_distribution_of_torchvision(size, scale, ratio):
    num = 4000
    draws = chances(0, 0, torch.arange(num), first=0, num=NUM_DRAWS)
    ours = crop_boxes(draws, size=size, scale=scale, ratio=ratio)
    crop = v2.RandomResizedCrop(8, scale=scale, ratio=ratio)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [crop.make_params([torch.empty(3, *size)]) for _ in range(num)]
    theirs = torch.tensor([[d["top"], d["left"], d["height"], d["width"]] for d in drawn])
    # of two samples of 4000 of one distribution, 1 pair in 1000 is further apart than 0.044
    for column in range(4):
        assert differ(ours[:, column], theirs[:, column]) < 0.044
    for measure in (lambda box: box[:, 2] * box[:, 3], lambda box: box[:, 3] / box[:, 2]):
        assert differ(measure(ours), measure(theirs)) < 0.044


def middle_of(view: View, num: int = 4000, colour: tuple[float, ...] = (0.5, 0.5, 0.5)):
    """Draw a view of pictures of one colour, and answer with the colours, (N, 3)."""
    plain = torch.tensor(colour)[None, :, None, None].expand(num, 3, 4, 4)
    return view(plain, seed=0, epoch=0, index=torch.arange(num))[:, :, 1, 1]


def theirs_of(transform: v2.Transform, num: int, colour: tuple[float, ...]) -> torch.Tensor:
    plain = torch.tensor(colour)[:, None, None].expand(3, 1, 1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.stack([transform(plain)[:, 0, 0] for _ in range(num)])


def test_jittered_colours_have_the_distribution_of_torchvision():
    colour, num = (0.6, 0.4, 0.2), 3000
    settings = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
    ours = middle_of(View(jitter=0.8, **settings), num, colour)
    jitter = v2.RandomApply([v2.ColorJitter(**settings)], p=0.8)
    theirs = theirs_of(jitter, num, colour)
    for channel in range(3):
        assert differ(ours[:, channel], theirs[:, channel]) < 0.05
    kept = (ours - torch.tensor(colour)).abs().amax(1) < 1e-6
    assert kept.float().mean() == pytest.approx(0.2, abs=0.025)


def test_factors_are_even_between_their_bounds():
    factors = middle_of(View(jitter=1.0, brightness=0.4))[:, 0] / 0.5
    assert differ(factors, 0.6 + 0.8 * (torch.arange(4000) + 0.5) / 4000) < 0.035
    halves = middle_of(View(jitter=1.0, brightness=1.5))[:, 0] / 0.5  # not below 0
    assert halves.min() == pytest.approx(0, abs=0.01)
    assert halves.max() == pytest.approx(2, abs=0.01)  # white


def test_shares_are_kept_and_independent():
    view = View(flip=0.5, grey=0.2, solarize=0.3)
    ramp = torch.tensor([0.1, 0.3]).expand(3, 1, 2) * torch.tensor([1.0, 0.5, 0.2])[:, None, None]
    found = view(ramp.expand(5000, 3, 1, 2), seed=0, epoch=0, index=torch.arange(5000))
    flipped = found[:, 0, 0, 0] > found[:, 0, 0, 1]
    grey = found[:, 0, 0, 0] == found[:, 1, 0, 0]
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.03)
    assert grey.float().mean() == pytest.approx(0.2, abs=0.03)
    assert (flipped & grey).float().mean() == pytest.approx(0.1, abs=0.02)
    bright = middle_of(View(solarize=0.3), colour=(0.9, 0.9, 0.9))[:, 0]
    assert (bright < 0.5).float().mean() == pytest.approx(0.3, abs=0.03)
    assert bright.min() == pytest.approx(0.1, abs=1e-6)


def test_a_share_is_blurred_by_deviations_between_their_bounds():
    view = View(flip=0.0, blur=0.5, blur_sigma=(0.5, 1.5))
    points = torch.zeros(2000, 1, 41, 41)
    points[:, :, 20, 20] = 1.0
    found = view(points, seed=0, epoch=0, index=torch.arange(2000))
    blurred = found[:, 0, 20, 20] < 1
    assert blurred.float().mean() == pytest.approx(0.5, abs=0.035)
    assert blur_kernel((41, 41)) == 5
    peak = found[blurred, 0, 20, 20]
    expected = colours.blur(points[:2], torch.tensor([0.5, 1.5]), kernel=5)[:, 0, 20, 20]
    assert peak.max() == pytest.approx(expected[0].item(), abs=0.01)
    assert peak.min() == pytest.approx(expected[1].item(), abs=0.01)
    assert blur_kernel((224, 224)) == 23


# Recipes, sizes and errors.


def test_small_pictures_are_not_blurred_and_tinted_less():
    for name, recipe in VIEWS.items():
        assert all(view.blur == 0 for view in recipe(64)), name
    assert VIEWS["simclr"](64)[0].brightness == 0.4
    assert VIEWS["simclr"](65)[0].brightness == 0.8
    assert [view.blur for view in VIEWS["byol"](224)] == [1.0, 0.1]
    assert [view.solarize for view in VIEWS["byol"](32)] == [0.0, 0.2]


def test_dino_has_two_large_crops_and_many_small_ones():
    views = draw_views(
        pictures(3, (70, 70)), dino_views(70, num_local=4), seed=0, epoch=0, index=torch.arange(3)
    )
    assert [view.shape[-1] for view in views] == [70, 70, 30, 30, 30, 30]
    assert not torch.equal(views[2], views[3])
    assert dino_views(224)[2].size == 96
    assert dino_views(32, local_size=16)[2].size == 16


def test_pictures_of_several_sizes_get_the_views_they_would_get_alone():
    sizes = [(30, 30), (20, 40), (30, 30), (50, 18)]
    images = [pictures(1, size)[0] for size in sizes]
    index = torch.tensor([4, 9, 2, 7])
    view = VIEWS["simclr"](24)[0]
    found = view(images, seed=1, epoch=5, index=index, view=1)
    for number, image in enumerate(images):
        alone = view(image[None], seed=1, epoch=5, index=index[number : number + 1], view=1)
        assert torch.equal(found[number], alone[0])
    with pytest.raises(InvalidValueError, match=r"several sizes.*View\(size=\.\.\.\)"):
        View()(images, seed=0, epoch=0, index=index)


def test_a_view_without_a_crop_shows_the_whole_picture():
    image = pictures(1, (20, 20))
    index = torch.tensor([0])
    same = View(flip=0.0)(image, seed=0, epoch=0, index=index)
    assert torch.equal(same, image.float() / 255)
    half = View(flip=0.0, size=10)(image, seed=0, epoch=0, index=index)
    expected = tv.resize(image.float() / 255, [10, 10], antialias=True)
    assert torch.allclose(half, expected, atol=1e-5)
    mirrored = View(flip=1.0)(image, seed=0, epoch=0, index=index)
    assert torch.equal(mirrored, same.flip(-1))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"flip": 1.5}, r"flip=1\.5: expected a number from 0 to 1"),
        ({"brightness": -0.1}, r"brightness=-0\.1"),
        ({"hue": 0.6}, r"hue=0\.6: expected a number from 0 to 0\.5"),
        ({"scale": (0.5, 0.2)}, r"scale=\(0\.5, 0\.2\): expected two positive numbers"),
        ({"scale": (0.5, 1.2)}, r"a crop keeps at most all"),
        ({"size": 0}, r"size=0: expected at least 1 pixel"),
        ({"grey": math.nan}, r"grey=nan"),
    ],
)
def test_views_that_cannot_be_are_refused(settings, says):
    with pytest.raises(InvalidValueError, match=says):
        View(**settings)
