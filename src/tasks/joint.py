"""The joint batch of several processes, with a gradient that is right without a flag."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed


def joint_batch(rows: Tensor) -> Tensor:
    """Answer with the rows of all processes, in the order of the processes, on each of them.

    A loss of the joint batch is then computed by every process alike. What flows back reaches the
    own rows only, times the number of processes, because DDP averages gradients: together that is
    the gradient of one process with the joint batch. Without several processes, rows pass through.

    Args:
        rows: (B, ...); B may differ between processes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return rows
    if distributed.get_world_size() == 1:
        return rows
    joint: Tensor = _Joint.apply(rows)
    return joint


class _Joint(torch.autograd.Function):
    """Gather rows with a gradient to the own ones."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # Any: torch's context
        num_processes = distributed.get_world_size()
        own = torch.tensor([len(rows)], device=rows.device)
        counts = [torch.zeros_like(own) for _ in range(num_processes)]
        distributed.all_gather(counts, own)
        sizes = [int(count) for count in counts]
        # Every process must bring as many rows, so short ones are filled up and cut again.
        filled = rows.new_zeros(max(sizes), *rows.shape[1:])
        filled[: len(rows)] = rows
        every = [torch.empty_like(filled) for _ in range(num_processes)]
        distributed.all_gather(every, filled)
        rank = distributed.get_rank()
        ctx.start, ctx.count, ctx.scale = sum(sizes[:rank]), len(rows), num_processes
        return torch.cat([part[:size] for part, size in zip(every, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (grad,) = grads
        own: Tensor = grad[ctx.start : ctx.start + ctx.count] * ctx.scale
        return own
