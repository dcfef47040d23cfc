from __future__ import annotations

import pytest
import torch

from mealkit.data.augment import AUGMENTATIONS, Augmentation, light, resolve
from mealkit.data.augment_presets import heavy, medium
from mealkit.data.chance import chance
from mealkit.errors import InvalidValueError, UnknownNameError


def batch(num: int = 64, size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, *size), generator=generator, dtype=torch.uint8)


HALVES = (slice(0, 20), slice(20, 40))
every_preset = pytest.mark.parametrize("change", [light, medium, heavy])


@every_preset
def test_the_same_picture_gets_the_same_change_in_any_batch(change: Augmentation):
    images, index = batch(), torch.arange(64) + 100
    whole = change(images, seed=3, epoch=2, index=index)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    part = change(images[order[:7]], seed=3, epoch=2, index=index[order[:7]])
    assert torch.equal(part, whole[order[:7]])
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    alone = change(images[:1], seed=3, epoch=2, index=index[:1])
    assert torch.equal(alone, whole[:1])


@every_preset
def test_seed_and_epoch_change_what_happens(change: Augmentation):
    images, index = batch(), torch.arange(64)
    first = change(images, seed=0, epoch=0, index=index)
    assert not torch.equal(first, change(images, seed=1, epoch=0, index=index))
    assert not torch.equal(first, change(images, seed=0, epoch=1, index=index))


@every_preset
def test_floats_stay_floats_in_their_range(change: Augmentation):
    floats = batch(200).float() / 255
    changed = change(floats, seed=0, epoch=0, index=torch.arange(200))
    assert changed.dtype == torch.float32
    assert changed.min() >= 0
    assert changed.max() <= 1
    wide = torch.rand(3, 5, 20, 20)  # more channels than colours
    assert change(wide, seed=0, epoch=0, index=torch.arange(3)).shape == wide.shape


def test_half_are_flipped_and_shifts_reach_an_eighth_and_no_further():
    columns = torch.arange(32).float().expand(4000, 1, 32, 32)
    moved = light(columns, seed=0, epoch=0, index=torch.arange(4000))[:, 0, 16]
    steps = moved[:, 16] - moved[:, 15]
    assert abs((steps == -1).float().mean().item() - 0.5) < 0.03
    middle = torch.where(steps == -1, moved[:, 15], moved[:, 16])
    shifts = (middle - 16).int()
    counts = torch.bincount(shifts + 4, minlength=9)
    assert set(shifts.tolist()) == set(range(-4, 5))
    assert counts.min() > 4000 / 9 * 0.8


def test_uncovered_edges_are_reflected():
    rows = torch.arange(16).float()[:, None].expand(200, 1, 16, 16)
    moved = light(rows, seed=0, epoch=0, index=torch.arange(200))[:, 0, :, 0]
    up_by_two = [[2, 1, *range(14)], [*range(2, 16), 14, 13]]
    found = moved.int().tolist()
    assert all(row in found for row in up_by_two)


@every_preset
def test_a_single_pixel_survives(change: Augmentation):
    image = torch.full((2, 3, 1, 1), 7, dtype=torch.uint8)
    changed = change(image, seed=0, epoch=0, index=torch.arange(2))
    assert (changed.int() - 7).abs().max() <= (0 if change is light else 3)


def ramps(num: int, size: int) -> torch.Tensor:
    """Pictures whose two channels say where a pixel is, from 0 to 1: (column, row)."""
    steps = (torch.arange(size) + 0.5) / size
    columns, rows = steps.expand(size, size), steps[:, None].expand(size, size)
    return torch.stack([columns, rows]).expand(num, 2, size, size)


def moves(change: Augmentation, size: int, monkeypatch: pytest.MonkeyPatch, num: int = 3000):
    """Measure the moves alone: steps from pixel to pixel, in pixels, and places in the middle."""
    monkeypatch.setattr("mealkit.data.augment_presets._tint", lambda floats, draws, most: floats)
    monkeypatch.setattr("mealkit.data.augment_presets._erase", lambda floats, draws, share: floats)
    moved = change(ramps(num, size), seed=0, epoch=0, index=torch.arange(num)) * size
    half = size // 2
    right = moved[:, :, half, half] - moved[:, :, half, half - 1]
    down = moved[:, :, half, half] - moved[:, :, half - 1, half]
    return right, down, moved


@pytest.mark.parametrize(("size", "low"), [(32, 0.7), (72, 0.5)])
def test_medium_crops_keep_the_aspect_and_lie_inside(size, low, monkeypatch):
    right, down, moved = moves(medium, size, monkeypatch)
    assert torch.allclose(right[:, 0].abs(), down[:, 1], atol=1e-3)
    assert right[:, 1].abs().max() < 1e-3
    area = down[:, 1].square()
    assert area.min() == pytest.approx(low, abs=0.01)
    assert area.max() == pytest.approx(1.0, abs=0.01)
    assert area.mean() == pytest.approx((1 + low) / 2, abs=0.01)
    assert (right[:, 0] < 0).float().mean() == pytest.approx(0.5, abs=0.03)
    # a crop of the whole height begins at the first row; one of half of it anywhere
    top, bottom = moved[:, 1, 0, 0], moved[:, 1, -1, 0]
    assert top.min() >= 0.5 - 1e-3
    assert bottom.max() <= size - 0.5 + 1e-3
    start = (top - 0.5 * down[:, 1]) / (size * (1 - down[:, 1])).clamp_min(1e-3)
    inner = start[area < 0.9]
    assert inner.mean() == pytest.approx(0.5, abs=0.03)
    assert inner.std() == pytest.approx(12**-0.5, abs=0.03)


def test_heavy_turns_shears_either_way_or_leaves_a_quarter_each(monkeypatch):
    right, down, _ = moves(heavy, 97, monkeypatch)
    flat, upright = right[:, 1].abs() < 1e-3, down[:, 0].abs() < 1e-3
    for share in (flat & upright, flat & ~upright, ~flat & upright, ~flat & ~upright):
        assert share.float().mean() == pytest.approx(0.25, abs=0.03)
    turned = ~flat & ~upright
    angles = torch.atan2(down[turned, 0], down[turned, 1]).rad2deg()
    assert angles.abs().max() == pytest.approx(30, abs=1)
    assert angles.std() == pytest.approx(60 / 12**0.5, abs=1)
    # turns keep right angles
    products = (right[turned] * down[turned]).sum(1)
    assert products.abs().max() < 1e-2
    area = (right[:, 0] * down[:, 1] - right[:, 1] * down[:, 0]).abs()
    assert area[turned].min() == pytest.approx(0.25, abs=0.03)


def test_colours_change_by_a_fifth_or_two(monkeypatch):
    grey = torch.full((3000, 3, 4, 4), 0.5)
    index = torch.arange(3000)
    for change, most in ((medium, 0.2), (heavy, 0.4)):
        monkeypatch.setattr(
            "mealkit.data.augment_presets._erase", lambda floats, draws, share: floats
        )
        factors = change(grey, seed=0, epoch=0, index=index)[:, 0, 0, 0] / 0.5
        assert factors.min() == pytest.approx(1 - most, abs=0.01)
        assert factors.max() == pytest.approx(1 + most, abs=0.01)
        assert factors.mean() == pytest.approx(1, abs=0.01)


def test_every_fourth_picture_has_a_hole_of_its_mean_colour(monkeypatch):
    monkeypatch.setattr("mealkit.data.augment_presets._tint", lambda floats, draws, most: floats)
    monkeypatch.setattr("mealkit.data.augment_presets.sample", lambda floats, move: floats)
    images = torch.rand(2000, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    erased = heavy(images, seed=0, epoch=0, index=torch.arange(2000))
    hole = (erased != images).any(1)
    sizes = hole.float().mean((1, 2))
    assert (sizes > 0).float().mean() == pytest.approx(0.25, abs=0.03)
    holed = sizes > 0
    assert sizes[holed].mean() == pytest.approx(0.11, abs=0.01)
    assert sizes.max() <= 0.21
    number = int(holed.nonzero()[0, 0])
    expected = images[number].mean((1, 2), keepdim=True).expand(3, 40, 40)
    assert torch.allclose(erased[number][:, hole[number]], expected[:, hole[number]], atol=1e-6)
    often = hole[holed].float().mean(0)
    quarters = [often[rows][:, columns].mean() for rows in HALVES for columns in HALVES]
    assert torch.tensor(quarters).tolist() == pytest.approx([0.11] * 4, abs=0.03)


def test_chance_is_even_uncorrelated_and_fixed_for_all_time():
    index = torch.arange(20_000)
    draws = [chance(0, epoch, index, draw=draw) for epoch in (0, 1) for draw in (0, 1)]
    for values in draws:
        assert values.min() >= 0
        assert values.max() < 1
        assert abs(values.mean().item() - 0.5) < 0.01
        assert abs(values.var().item() - 1 / 12) < 0.003
    correlation = torch.corrcoef(torch.stack(draws)) - torch.eye(4)
    assert correlation.abs().max() < 0.03
    fixed = chance(7, 3, torch.tensor([0, 1, 2**40]), draw=1)
    assert fixed.tolist() == pytest.approx(FIXED, abs=1e-7)


def reference(seed: int, epoch: int, index: int, draw: int) -> float:
    """Compute `chance` in Python's unbounded integers."""
    mask = (1 << 64) - 1

    def mix(state: int) -> int:
        state = (state + 0x9E3779B97F4A7C15) & mask
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & mask
        return state ^ (state >> 31)

    state = seed & mask
    for number in (epoch + 1, draw + 1, index):
        state = mix(state ^ number)
    return (state >> 40) / (1 << 24)


FIXED = [reference(7, 3, index, 1) for index in (0, 1, 2**40)]


@every_preset
def test_global_random_state_is_not_touched(change: Augmentation):
    before = torch.get_rng_state()
    change(batch(4), seed=0, epoch=0, index=torch.arange(4))
    assert torch.equal(before, torch.get_rng_state())


def test_names_and_functions_resolve():
    def darker(images, *, seed, epoch, index):
        return images // 2

    assert resolve("light") is light
    assert resolve("none") is None
    assert resolve(darker) is darker
    assert isinstance(darker, Augmentation)
    with pytest.raises(UnknownNameError, match=r"augmentation 'lihgt'.*'light'"):
        resolve("lihgt")
    with pytest.raises(InvalidValueError, match="expected a name"):
        resolve(3)
    assert set(AUGMENTATIONS) == {"none", "light", "medium", "heavy"}
