from __future__ import annotations

import pytest
import torch

from mealkit.data.augment import AUGMENTATIONS, Augmentation, chance, light, resolve
from mealkit.errors import InvalidValueError, UnknownNameError


def batch(num: int = 64, size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, *size), generator=generator, dtype=torch.uint8)


def test_the_same_picture_gets_the_same_change_in_any_batch():
    images, index = batch(), torch.arange(64) + 100
    whole = light(images, seed=3, epoch=2, index=index)
    order = torch.randperm(64, generator=torch.Generator().manual_seed(1))
    part = light(images[order[:7]], seed=3, epoch=2, index=index[order[:7]])
    assert torch.equal(part, whole[order[:7]])
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8


def test_seed_and_epoch_change_what_happens():
    images, index = batch(), torch.arange(64)
    first = light(images, seed=0, epoch=0, index=index)
    assert not torch.equal(first, light(images, seed=1, epoch=0, index=index))
    assert not torch.equal(first, light(images, seed=0, epoch=1, index=index))


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


def test_a_single_pixel_survives():
    image = torch.full((2, 3, 1, 1), 7, dtype=torch.uint8)
    assert torch.equal(light(image, seed=0, epoch=0, index=torch.arange(2)), image)


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


def test_global_random_state_is_not_touched():
    before = torch.get_rng_state()
    light(batch(4), seed=0, epoch=0, index=torch.arange(4))
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
    assert set(AUGMENTATIONS) == {"none", "light"}
