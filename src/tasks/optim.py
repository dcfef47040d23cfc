"""Optimiser and learning rate: AdamW, one group per block, warm-up and cosine."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from ..backbones import Backbone
from .strategies import Schedule

HEAD = "head"


def parameter_groups(
    backbone: Backbone,
    others: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    times: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:  # Any: what torch's optimisers take
    """Put every parameter in one group per block, apart by whether it decays.

    Vectors and scalars (biases, norms) and what the source library names have no weight decay:
    shrinking them towards zero is no regularisation (He et al. 2018, arXiv:1812.01187, sec. 3.1).

    Args:
        backbone: Groups named after the position of its blocks.
        others: The modules beside it, as the group `HEAD`; shared parameters count once. What no
            block of the backbone names belongs to it, too: the last layer of a net for series.
        lr: The peak rate of every group; the schedule multiplies it.
        weight_decay: For the parameters that decay.
        times: Of modules beside the backbone, by their names in ``others``: how many times the
            rate is theirs. Such parameters have groups of their own.
    """
    named = dict(backbone.named_parameters())
    parts: list[tuple[str | int, dict[str, nn.Parameter]]] = [
        (position, {name: named[name] for name in block.parameters})
        for position, block in enumerate(backbone.blocks)
    ]
    in_blocks = {id(parameter) for _, part in parts for parameter in part.values()}
    rest = {n: p for n, p in others.named_parameters() if id(p) not in in_blocks}
    parts.append((HEAD, rest))
    groups: list[dict[str, Any]] = []
    for part, parameters in parts:
        alike: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in parameters.items():
            flat = parameter.ndim <= 1 or name in backbone.no_weight_decay
            factor = _times(name, times or {}) if part == HEAD else 1.0
            alike.setdefault((factor, flat), []).append(parameter)
        for (factor, flat), params in sorted(alike.items(), key=lambda group: group[0]):
            decay = 0.0 if flat else weight_decay
            group = {"params": params, "weight_decay": decay, "lr": factor * lr, "part": part}
            groups.append(group)
    return groups


def _times(name: str, times: Mapping[str, float]) -> float:
    """Answer with the factor of the module that a parameter belongs to, else with 1."""
    return next((factor for of, factor in times.items() if name.startswith(f"{of}.")), 1.0)


def make_optimizer(groups: list[dict[str, Any]]) -> AdamW:
    """Build AdamW over the groups; on a CPU the fused one.

    A step over the 22.7 M parameters of MiniLM took 0.13 CPU seconds without it and 0.016 with it
    (2026-11-25, one thread of an AMD EPYC), of 0.4 for all of a step of 32 short texts. On CUDA
    torch chooses a fast way by itself.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    on_cpu = all(one.device.type == "cpu" and one.is_floating_point() for one in parameters)
    if not on_cpu:
        return AdamW(groups)
    optimizer = AdamW(groups, fused=True)
    # It says that it unscales gradients, and Lightning then refuses to clip them. It only does so
    # where a scaler of fp16 hands it the scale, and that scaler believes the same attribute.
    optimizer._step_supports_amp_scaling = False
    return optimizer


def one_cycle(step: int, *, num_steps: int, warmup: float) -> float:
    """Rise linearly to 1 over the warm-up share of the steps, then fall to 0 along a cosine.

    Starts at one step's share, not at 0: a zero rate would waste the first batch.
    """
    num_warmup = max(1, round(num_steps * warmup))
    if step < num_warmup:
        return (step + 1) / num_warmup
    progress = (step - num_warmup) / max(1, num_steps - num_warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def make_scheduler(
    optimizer: Optimizer,
    schedule: Schedule,
    *,
    steps_per_epoch: int,
    warmup: float,
    head_is_solved: bool,
) -> LambdaLR:
    """Multiply every group's rate by the cycle and by what the strategy says of its block.

    The frozen epochs at the start and the epochs after them have a cycle each, so that a backbone
    which is unfrozen late is warmed up, too.

    Args:
        optimizer: Made of `parameter_groups`.
        schedule: The strategy over the epochs.
        steps_per_epoch: Optimiser steps.
        warmup: Share of a cycle's steps.
        head_is_solved: Whether the head is solved in frozen epochs and must not be stepped there.
    """
    frozen_steps = schedule.num_frozen_epochs * steps_per_epoch
    all_steps = schedule.num_epochs * steps_per_epoch
    rows = [schedule.row(epoch) for epoch in range(schedule.num_epochs)]

    def rate(part: str | int) -> Callable[[int], float]:
        def factor(step: int) -> float:
            if step >= all_steps:  # asked for once more than there are steps
                return 0.0
            epoch = step // steps_per_epoch
            if step < frozen_steps:
                cycle = one_cycle(step, num_steps=frozen_steps, warmup=warmup)
                cycle = 0.0 if head_is_solved else cycle
            else:
                num_steps = all_steps - frozen_steps
                cycle = one_cycle(step - frozen_steps, num_steps=num_steps, warmup=warmup)
            return cycle * (1.0 if isinstance(part, str) else rows[epoch][part])

        return factor

    return LambdaLR(optimizer, [rate(group["part"]) for group in optimizer.param_groups])
