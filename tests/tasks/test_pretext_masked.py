"""MAE: hidden patches are hidden, and are rebuilt better and better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from mealkit import SSLPretrainer
from mealkit.backbones import Backbone, create
from mealkit.errors import BackboneError, InvalidValueError
from mealkit.specs import ImageDataSpec
from mealkit.tasks import MAE
from mealkit.tasks.pretext_masked import _seeing

VIT = {"depth": 2, "embed_dim": 32, "num_heads": 2, "patch_size": 4}


def vit() -> Backbone:
    spec = ImageDataSpec(size=16)
    torch.manual_seed(0)
    return create("vit_tiny_patch16_224", spec, pretrained=False, options=VIT)


def scenes(num: int = 48) -> np.ndarray:
    """Pictures that change slowly from place to place, so that patches can be guessed."""
    coarse = torch.rand(num, 3, 3, 3, generator=torch.Generator().manual_seed(0)) * 255
    fine = functional.interpolate(coarse, size=16, mode="bilinear")
    return fine.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def make() -> SSLPretrainer:
    pre = SSLPretrainer.from_arrays(scenes(), backbone=vit(), method=MAE(depth=1))
    pre.precision = "32-true"
    return pre


def test_patches_are_cut_row_by_row() -> None:
    objective = make().objective
    images = torch.arange(2 * 3 * 16 * 16.0).reshape(2, 3, 16, 16)
    patches = objective.patches_of(images)
    assert patches.shape == (2, 16, 48)
    # The sixth patch is the second of the second row.
    expected = images[1, :, 4:8, 4:8].permute(1, 2, 0).flatten()
    assert torch.equal(patches[1, 5], expected)


def test_hidden_patches_send_nothing_to_the_net() -> None:
    pre = make()
    net = pre.backbone.net
    kept = torch.tensor([[2, 7, 11, 13]])
    image = torch.rand(1, 3, 16, 16, requires_grad=True)
    with _seeing(net, kept):
        tokens = net.forward_features(image)
    assert tokens.shape == (1, 1 + 4, 32)
    tokens.square().sum().backward()
    moved = pre.objective.patches_of(image.grad).abs().sum(2)[0] > 0
    assert moved.nonzero()[:, 0].tolist() == kept[0].tolist()
    assert net.forward_features(image).shape == (1, 17, 32)  # as before


def test_rebuilding_gets_better_than_the_mean() -> None:
    pre = make()
    history = pre.pretrain(epochs=30, batch_size=48, lr=5e-3)
    losses = [row["train/loss"] for row in history.rows]
    assert losses[-1] < 0.8 * losses[0]
    assert losses[-1] < 0.9  # guessing the mean of a patch costs 1
    assert all("embedding/rank" in row for row in history.rows)


def test_masks_are_a_function_of_seed_epoch_and_index() -> None:
    one, other = make(), make()
    assert (
        one.pretrain(epochs=2, batch_size=24).rows[1]["train/loss"]
        == (other.pretrain(epochs=2, batch_size=24).rows[1]["train/loss"])
    )


def test_the_net_is_a_plain_one_afterwards() -> None:
    pre = make()
    pre.pretrain(epochs=1, batch_size=24)
    assert type(pre.backbone.net.patch_drop).__name__ == "Identity"
    assert pre.embed(scenes(4)).values.shape == (4, 32)


def test_other_nets_are_refused_with_the_methods_that_take_them() -> None:
    with pytest.raises(BackboneError, match=r"'mealkit_tiny\.v1' is none.*simclr"):
        SSLPretrainer("mealkit_tiny", method="mae")
    spec = ImageDataSpec(size=16)
    coarse = create(
        "vit_tiny_patch16_224", spec, pretrained=False, options={**VIT, "patch_size": 16}
    )
    with pytest.raises(BackboneError, match=r"into 1 patches.*patch_size"):
        SSLPretrainer(coarse, method="mae")


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"share": 1.0}, "share=1"), ({"depth": 0}, "depth=0"), ({"width": 20}, "width=20")],
)
def test_settings_that_cannot_be_meant(settings: dict, said: str) -> None:
    with pytest.raises(InvalidValueError, match=said):
        MAE(**settings)
