"""Pictures made of two: shares, pixels, and who is mixed with whom."""

from __future__ import annotations

import pytest
import torch

from mealkit.data.mixing import mix_pictures
from mealkit.errors import UnknownNameError


def constant(num: int, size: int = 20) -> dict[str, torch.Tensor]:
    """Pictures of one value each: 0, 1, 0, 1 ..."""
    values = (torch.arange(num) % 2).float()[:, None, None, None]
    return {"image": values.expand(num, 3, size, size), "index": torch.arange(num) + 500}


def test_mixup_blends_a_picture_with_the_one_before_it() -> None:
    batch = constant(4000)
    mixed = mix_pictures(batch, "mixup", seed=0, epoch=0)
    assert mixed["partner"].tolist()[:3] == [3999, 0, 1]
    share, own = mixed["share"], batch["image"][:, 0, 0, 0]
    expected = share * own + (1 - share) * (1 - own)
    assert torch.allclose(mixed["image"][:, 1, 3, 5], expected, atol=1e-6)
    # Beta(1/2, 1/2): mean 1/2, variance 1/8
    assert share.mean() == pytest.approx(0.5, abs=0.02)
    assert share.var() == pytest.approx(0.125, abs=0.005)


def test_cutmix_puts_a_rectangle_of_the_other_in_and_counts_its_pixels() -> None:
    batch = constant(4000)
    mixed = mix_pictures(batch, "cutmix", seed=0, epoch=0)
    other = mixed["image"] != batch["image"]
    assert torch.allclose(mixed["share"], 1 - other[:, 0].float().mean((1, 2)), atol=1e-6)
    sides = other[:, 0].any(2).sum(1) * other[:, 0].any(1).sum(1)
    assert torch.equal(sides, other[:, 0].sum((1, 2))), "it is a rectangle"
    assert set(mixed["image"].unique().tolist()) == {0.0, 1.0}
    # even shares, less what the border cuts off
    assert 0.55 < mixed["share"].mean() < 0.75
    assert mixed["share"].min() < 0.1
    assert other[:, 0].float().mean(0).min() > 0.1, "rectangles reach every corner"


def test_both_takes_either_way_for_half_of_the_pictures() -> None:
    mixed = mix_pictures(constant(2000), "both", seed=0, epoch=0)["image"]
    whole = ((mixed > 0) & (mixed < 1)).all(3).all(2).all(1)
    assert whole.float().mean() == pytest.approx(0.5, abs=0.05)


def test_chance_depends_on_seed_epoch_and_index_alone() -> None:
    batch = constant(64)
    before = torch.get_rng_state()
    first = mix_pictures(batch, "both", seed=0, epoch=0)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first["image"], mix_pictures(batch, "both", seed=0, epoch=0)["image"])
    assert not torch.equal(first["share"], mix_pictures(batch, "both", seed=1, epoch=0)["share"])
    assert not torch.equal(first["share"], mix_pictures(batch, "both", seed=0, epoch=1)["share"])


def test_bytes_are_rounded_and_a_picture_alone_stays_as_it_is() -> None:
    image = torch.tensor([[0, 255]], dtype=torch.uint8).view(1, 1, 1, 2)
    batch = {"image": torch.cat([image, 255 - image]), "index": torch.arange(2)}
    mixed = mix_pictures(batch, "mixup", seed=0, epoch=0)
    assert mixed["image"].dtype == torch.uint8
    assert mixed["image"][0, 0, 0, 0] == round(255 * (1 - mixed["share"][0].item()))
    alone = {"image": image, "index": torch.tensor([7])}
    assert torch.equal(mix_pictures(alone, "both", seed=0, epoch=0)["image"], image)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(UnknownNameError, match=r"no way to mix 'mixpu'. Did you mean 'mixup'"):
        mix_pictures(constant(2), "mixpu", seed=0, epoch=0)
