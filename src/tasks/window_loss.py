"""The objective of nets for series: the loss of forecasts, in units of each window."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..backbones.series_base import SeriesBackbone
from ..errors import InvalidValueError
from .objectives import Objective, Step

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task


class WindowLoss(Objective):
    """The mean loss over steps that were observed, as the backbone measures it.

    Windows with less past than the backbone wants to see do not count: a simpler method forecasts
    them.
    """

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Compare the forecasts of a batch with what happened."""
        net = task.backbone
        if not isinstance(net, SeriesBackbone):
            raise InvalidValueError(f"Expected a backbone for series, got {net}.")
        losses = net.losses(*(batch[name] for name in net.inputs), target=batch["target"])
        counts = batch["observed"] & (batch["history"] >= net.needs_steps)[:, None]
        loss = torch.where(counts, losses, 0.0).sum() / counts.sum().clamp(min=1)
        return Step(loss, None)
