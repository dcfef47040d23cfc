from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as tv

from mealkit.data import rand_augment
from mealkit.data.rand_augment import CHANGES, strong


def pictures(num: int, size: tuple[int, int] = (32, 24)) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (num, 3, *size), generator=generator, dtype=torch.uint8)


def test_a_picture_gets_the_same_strong_view_in_any_batch():
    images, index = pictures(48), torch.arange(48) + 7
    kept = images.clone()
    whole = strong(images, seed=3, epoch=2, index=index)
    assert torch.equal(images, kept)
    part = strong(images[5:9], seed=3, epoch=2, index=index[5:9])
    assert torch.equal(part, whole[5:9])
    assert whole.dtype == torch.uint8
    assert not torch.equal(whole, strong(images, seed=3, epoch=3, index=index))
    floats = images.float() / 255
    changed = strong(floats, seed=3, epoch=2, index=index)
    assert torch.equal(floats, images.float() / 255)
    assert (changed - whole.float() / 255).abs().max() < 1 / 255
    assert changed.min() >= 0
    assert changed.max() <= 1


def test_holes_reach_half_the_side_and_lie_anywhere(monkeypatch):
    monkeypatch.setattr(rand_augment, "CHANGES", (lambda floats, draws: floats,))
    white = torch.ones(3000, 1, 40, 40)
    holes = strong(white, seed=0, epoch=0, index=torch.arange(3000))[:, 0] == 0.5
    widths = holes.any(1).sum(1)
    assert widths.max() == 20
    inner = holes[:, 10:30, 10:30].float().mean((1, 2))
    assert (inner > 0).float().mean() > 0.4
    often = holes.float().mean(0)
    assert often[:20].mean().item() == pytest.approx(often[20:].mean().item(), abs=0.01)
    # half of the largest square is missing on average where its middle may lie on the border
    assert 0.05 < often.mean() < 0.1


def test_colour_changes_are_those_of_torchvision():
    images = pictures(6).float() / 255
    draws = torch.linspace(0, 0.99, 6)
    theirs = {
        "_stretch": lambda image, draw: tv.autocontrast(image),
        "_equalise": lambda image, draw: tv.equalize((image * 255).round().byte()) / 255,
        "_posterise": lambda image, draw: (
            tv.posterize((image * 255).round().byte(), 4 + int(draw * 5)) / 255
        ),
        "_soften": lambda image, draw: tv.adjust_sharpness(image, 0.05 + 0.9 * draw),
        "_solarise": lambda image, draw: tv.solarize(image, draw),
    }
    known = {change.__name__: change for change in CHANGES}
    for name, reference in theirs.items():
        found = known[name](images.clone(), draws)
        for image, draw, changed in zip(images, draws.tolist(), found, strict=True):
            assert torch.allclose(changed, reference(image, draw), atol=1e-5), name


def test_moves_keep_their_ranges():
    steps = (torch.arange(41) + 0.5) / 41
    ramp = torch.stack([steps.expand(41, 41), steps[:, None].expand(41, 41)])
    draws = torch.tensor([0.0, 0.5, 0.999])
    known = {change.__name__: change for change in CHANGES}
    middle = (slice(None), slice(None), 20, 20)
    for name, channel in (("_shift_x", 0), ("_shift_y", 1)):
        found = known[name](ramp.expand(3, 2, 41, 41), draws)[middle]
        assert found[:, channel].tolist() == pytest.approx([0.2, 0.5, 0.8], abs=0.005)
        assert found[:, 1 - channel].tolist() == pytest.approx([0.5] * 3, abs=1e-4)
    turned = known["_turn"](ramp.expand(3, 2, 41, 41), draws)
    right = turned[:, :, 20, 25] - turned[:, :, 20, 20]
    angles = torch.atan2(right[:, 1], right[:, 0]).rad2deg()
    assert angles.tolist() == pytest.approx([-30, 0, 30], abs=0.5)
    assert len(CHANGES) == 14  # the pool of the paper
