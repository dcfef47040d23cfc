"""Groups and rates, by hand."""

import copy
import math

import pytest
import torch
from torch import nn

from mealkit.backbones import create
from mealkit.tasks.optim import (
    HEAD,
    make_optimizer,
    make_scheduler,
    one_cycle,
    parameter_groups,
)
from mealkit.tasks.strategies import LayerDecay, Schedule, resolve


@pytest.fixture
def task_like() -> nn.ModuleDict:
    backbone = create("mealkit_tiny", pretrained=False)
    return nn.ModuleDict({"backbone": backbone, "head": nn.Linear(backbone.num_features, 3)})


def groups_of(module: nn.ModuleDict) -> list[dict]:
    return parameter_groups(module["backbone"], module, lr=0.1, weight_decay=0.5)


def test_every_parameter_is_in_one_group(task_like: nn.ModuleDict) -> None:
    found = [id(p) for group in groups_of(task_like) for p in group["params"]]
    assert sorted(found) == sorted(id(p) for p in task_like.parameters())


def test_a_named_module_has_a_rate_of_its_own(task_like: nn.ModuleDict) -> None:
    groups = parameter_groups(
        task_like["backbone"], task_like, lr=0.1, weight_decay=0.5, times={"head": 3, "hea": 9}
    )
    for group in groups:
        assert group["lr"] == pytest.approx(0.3 if group["part"] == HEAD else 0.1)
    (matrix, vector) = [group for group in groups if group["part"] == HEAD]
    assert (matrix["weight_decay"], vector["weight_decay"]) == (0.5, 0.0)


def test_vectors_have_no_weight_decay(task_like: nn.ModuleDict) -> None:
    for group in groups_of(task_like):
        flat = {p.ndim <= 1 for p in group["params"]}
        assert flat == {group["weight_decay"] == 0.0}


def test_what_the_library_excludes_has_no_weight_decay() -> None:
    backbone = create("timm/vit_tiny_patch16_224", pretrained=False)
    excluded = {id(p) for n, p in backbone.named_parameters() if n in backbone.no_weight_decay}
    groups = parameter_groups(backbone, nn.ModuleDict({"b": backbone}), lr=1, weight_decay=0.5)
    decays = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    assert excluded
    assert not excluded & decays


def test_the_optimiser_steps_as_plain_adamw_does(task_like: nn.ModuleDict) -> None:
    other = copy.deepcopy(task_like)
    optimizer = make_optimizer(groups_of(task_like))
    plain = torch.optim.AdamW(groups_of(other), fused=False)
    assert all(group["fused"] for group in optimizer.param_groups)
    generator = torch.Generator().manual_seed(0)
    for _ in range(5):
        for one, same in zip(task_like.parameters(), other.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=generator)
            same.grad = one.grad.clone()
        optimizer.step()
        plain.step()
    for one, same in zip(task_like.parameters(), other.parameters(), strict=True):
        assert torch.allclose(one, same, atol=1e-6)


def test_one_cycle_rises_linearly_and_falls_along_a_cosine() -> None:
    rates = [one_cycle(step, num_steps=10, warmup=0.2) for step in range(10)]
    assert rates[:2] == [0.5, 1.0]
    assert rates[2] == 1.0
    assert rates[6] == pytest.approx(0.5 * (1 + math.cos(math.pi * 4 / 8)))
    assert rates[2:] == sorted(rates[2:], reverse=True)
    assert one_cycle(10, num_steps=10, warmup=0.2) == pytest.approx(0.0)


def lrs(task_like: nn.ModuleDict, strategy: object, *, solved: bool) -> list[dict]:
    """Rates of every part at every one of 3 epochs x 4 steps."""
    backbone = task_like["backbone"]
    schedule = Schedule(resolve(strategy), 3, len(backbone.blocks))
    optimizer = make_optimizer(groups_of(task_like))
    scheduler = make_scheduler(
        optimizer, schedule, steps_per_epoch=4, warmup=0.25, head_is_solved=solved
    )
    seen = []
    for _ in range(12):
        seen.append({group["part"]: group["lr"] for group in optimizer.param_groups})
        optimizer.step()
        scheduler.step()
    return seen


def test_frozen_epochs_and_the_rest_have_a_cycle_each(task_like: nn.ModuleDict) -> None:
    seen = lrs(task_like, "freeze_unfreeze", solved=False)
    assert [row[0] for row in seen[:4]] == [0, 0, 0, 0]
    assert seen[0][HEAD] == pytest.approx(0.1)
    assert [row[0] for row in seen[4:6]] == pytest.approx([0.05, 0.1])  # warmed up again
    assert seen[11][0] < 0.01


def test_a_solved_head_is_not_stepped_while_frozen(task_like: nn.ModuleDict) -> None:
    seen = lrs(task_like, "freeze_unfreeze", solved=True)
    assert [row[HEAD] for row in seen[:4]] == [0, 0, 0, 0]
    assert seen[5][HEAD] == pytest.approx(0.1)


def test_layer_decay_scales_rates_of_blocks_and_not_of_the_head(task_like: nn.ModuleDict) -> None:
    row = lrs(task_like, LayerDecay(0.5), solved=False)[3]
    count = len(task_like["backbone"].blocks)
    assert row[count - 1] == pytest.approx(0.5 * row[HEAD])
    assert row[0] == pytest.approx(0.5**count * row[HEAD])
    assert torch.tensor(list(row.values())).max() == row[HEAD]
