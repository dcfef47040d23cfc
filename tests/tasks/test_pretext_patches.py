"""Masked patches: transformers' own loss, masks that chance alone decides, and what is refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from mealkit import SSLPretrainer
from mealkit.backbones import create
from mealkit.errors import BackboneError, InvalidValueError
from mealkit.specs import SeriesDataSpec
from mealkit.tasks import MaskedPatches
from mealkit.tasks.pretext_patches import HiddenPatches

WINDOWS = SeriesDataSpec(horizon_steps=0)
SMALL = {
    "patchtst": {"d_model": 16, "num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 1},
    "patchtsmixer": {"d_model": 16, "num_layers": 1},
}


def make(name: str = "patchtst", share: float = 0.4, **options: Any) -> SSLPretrainer:
    torch.manual_seed(0)
    given = {**SMALL[name], "patch_length": 6, **options}
    net = create(name, WINDOWS, preprocessing={"context_steps": 60}, options=given)
    return SSLPretrainer(net, method=MaskedPatches(share=share)).eval()


def batch(count: int = 5) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(0)
    past = torch.from_numpy(rng.normal(size=(count, 60)).cumsum(1)).float()
    observed = torch.ones_like(past, dtype=torch.bool)
    return {"past": past, "observed": observed, "index": torch.arange(count)}


def masks(pre: SSLPretrainer, **where: Any) -> torch.Tensor:
    """Answer with the patches that a step hides, at a step of an index."""
    seen: dict[str, torch.Tensor] = {}
    net: Any = pre.backbone
    encode = net.encode

    def note(past: torch.Tensor, hidden: torch.Tensor) -> Any:
        seen["hidden"] = hidden
        return encode(past, hidden)

    objective: Any = pre.objective
    task = SimpleNamespace(
        backbone=net, global_step=where.get("step", 0), plan=pre.plan, _trainer=None
    )
    net.encode = note
    try:
        objective.step(task, {**batch(), **where.get("batch", {})}, training=True)
    finally:
        del net.encode
    return seen["hidden"]


@pytest.mark.parametrize("name", SMALL)
def test_the_loss_is_that_of_transformers_pretraining_net(name: str) -> None:
    pre, given = make(name), batch()
    net, objective = pre.backbone, pre.objective
    kind = {"patchtst": "PatchTSTForPretraining", "patchtsmixer": "PatchTSMixerForPretraining"}
    whole: Any = getattr(transformers, kind[name])(net.model_config).eval()
    whole.model.load_state_dict(net.net.state_dict())
    whole.head.load_state_dict(objective.head.state_dict())
    hidden = masks(pre)
    given_mask = hidden[:, None]
    whole.model.masking.forward = lambda patches: (
        patches.masked_fill(given_mask[..., None], 0.0),
        given_mask,
    )
    past = given["past"]
    scaled = (past - past.mean(1, keepdim=True)) / past.std(1, keepdim=True, correction=0)
    expected = whole(scaled[..., None]).loss.detach()
    found = objective.step(pre, given, training=True).loss.detach()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert objective.embedding.shape == (5, 16)


@pytest.mark.parametrize("share", [0.15, 0.4, 0.75])
def test_as_many_patches_are_hidden_as_transformers_hides(share: float) -> None:
    hidden = masks(make(share=share))
    patches = torch.zeros(5, 1, 10, 6)
    _, theirs = transformers.models.patchtst.modeling_patchtst.random_masking(patches, share)
    assert hidden.sum(1).tolist() == theirs[:, 0].sum(-1).tolist()


def test_masks_differ_by_step_and_window_and_are_the_same_in_any_batch() -> None:
    pre = make()
    first = masks(pre)
    assert torch.equal(masks(pre), first)
    assert not torch.equal(masks(pre, step=1), first)
    assert len({tuple(row) for row in first.tolist()}) > 1
    turned = masks(pre, batch={"index": torch.arange(5).flip(0)})
    assert torch.equal(turned, first.flip(0))
    many = torch.cat([masks(pre, step=step) for step in range(60)]).float().mean(0)
    assert torch.allclose(many, torch.full((10,), 0.4), atol=0.1)  # 300 draws: 3.5 deviations


def test_what_was_filled_is_not_learnt_from() -> None:
    pre, given = make(), batch()
    hidden = masks(pre)
    row, place = 0, int(hidden[0].nonzero()[0])
    steps = slice(place * 6, place * 6 + 6)
    objective: Any = pre.objective
    whole = float(objective.step(pre, given, training=True).loss.detach())
    given["observed"][row, steps] = False
    part = float(objective.step(pre, given, training=True).loss.detach())
    assert part != whole
    given["observed"][:] = False
    assert float(objective.step(pre, given, training=True).loss.detach()) == 0


def test_what_cannot_be_hidden_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"overlap \(6 steps, one every 3\).*'patch_stride': 6"):
        make(patch_stride=3)
    with pytest.raises(BackboneError, match="cuts 60 steps into 2 patches, too few to hide 75%"):
        make(patch_length=30, share=0.75)
    with pytest.raises(InvalidValueError, match=r"share=1: expected a share of patches"):
        MaskedPatches(share=1)
    pictures = SSLPretrainer("mealkit_tiny").backbone
    with pytest.raises(BackboneError, match="rebuilds patches of series, and the backbone"):
        HiddenPatches(MaskedPatches(), pictures)
    with pytest.raises(BackboneError, match="Its methods are: masked_patches"):
        SSLPretrainer(make().backbone, method="simclr")
    with pytest.raises(BackboneError, match="'ridge' has no encoder"):
        SSLPretrainer("ridge")
