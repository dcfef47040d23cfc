"""A SimCLR step on a folder of pictures: by mealkit, by lightly's parts, or by a loop of its own.

Settings: side ("mealkit", "loop" or "lightly"), paths, size, batch_size, precision ("bf16-mixed" or
"32-true"). The first steps, in which kernels are chosen and memory grows, are left out. What is
counted is the CPU time of the process, on one thread, with reading, decoding and views in it.

All train the same net on the same files. "loop" is the limit for mealkit: its views and its loss on
pictures that are decoded before, and nothing else. "lightly" is its SimCLR example (1.6.0,
examples/pytorch/simclr.py): its transform, head and loss, a DataLoader without workers, SGD.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Settings = dict[str, Any]  # Any: plain JSON values
WIDTHS = (32, 32, 64, 128)
NUM_WARMUP = 3


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.Conv2d(after, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            convolution = nn.Conv2d(before, after, 1, bias=False)
            self.shortcut = nn.Sequential(nn.AvgPool2d(2), convolution)

    def forward(self, maps: Tensor) -> Tensor:
        """Turn maps (B, C, H, W) into maps (B, F, h, w)."""
        return functional.relu(self.body(maps) + self.shortcut(maps))


def resnet8() -> nn.Module:
    """Build the net of `mealkit_resnet8`, of torch alone: the peer's interpreter has no mealkit."""
    first = nn.Conv2d(3, WIDTHS[0], 3, stride=2, padding=1, bias=False)
    stem = nn.Sequential(first, nn.BatchNorm2d(WIDTHS[0]), nn.ReLU())
    blocks = [Block(*pair) for pair in pairwise(WIDTHS)]
    return nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def times_of_mealkit(settings: Settings) -> list[float]:
    """Pretrain for an epoch and answer with when each step ended."""
    import pytorch_lightning as pl

    from mealkit import SSLPretrainer
    from mealkit.backbones import create
    from mealkit.specs import ImageDataSpec

    class Stamps(pl.Callback):
        """Note when each step ends."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def on_train_batch_end(self, *given: object) -> None:
            """Add a time."""
            self.times.append(time.process_time())

    logging.getLogger("mealkit").setLevel(logging.WARNING)
    net = create(resnet8(), ImageDataSpec(size=settings["size"]))
    pre = SSLPretrainer.from_files(settings["paths"], backbone=net, method="simclr")
    stamps = Stamps()
    pre.pretrain(
        epochs=1,
        batch_size=settings["batch_size"],
        precision=settings["precision"],
        callbacks=[stamps],
    )
    return stamps.times


def times_of_loop(settings: Settings) -> list[float]:
    """Train over the pictures once with mealkit's views and loss, and answer the same."""
    from torchvision.io import decode_image

    from mealkit.data.views import draw_views, simclr_views
    from mealkit.tasks.pretext_losses import nt_xent

    pictures = torch.stack([decode_image(path) for path in settings["paths"]])
    net = resnet8().to(memory_format=torch.channels_last)
    head = nn.Sequential(
        nn.Linear(128, 128, bias=False), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 128)
    )
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=2e-3)
    views, times = simclr_views(settings["size"]), []
    for rows in torch.randperm(len(pictures)).split(settings["batch_size"]):
        pair = torch.cat(draw_views(pictures[rows], views, seed=0, epoch=0, index=rows))
        pair = ((pair - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        with precision_of(settings):
            features = net(pair)
        first, second = head(features.float()).chunk(2)
        loss = nt_xent(first, second, temperature=0.2)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.process_time())
    return times


class Photos(Dataset[tuple[Any, int, str]]):
    """Files as Pillow images through a transform, and what lightly's datasets answer beside."""

    def __init__(self, paths: Sequence[str], transform: Any) -> None:  # Any: a callable
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Any, int, str]:
        path = self.paths[index]
        with Image.open(path) as picture:
            return self.transform(picture.convert("RGB")), 0, Path(path).name


def times_of_lightly(settings: Settings) -> list[float]:
    """Train over the pictures once as lightly's example does, and answer the same."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    transform = SimCLRTransform(input_size=settings["size"], gaussian_blur=0.0)
    photos = Photos(settings["paths"], transform)
    loader = DataLoader(photos, settings["batch_size"], shuffle=True, drop_last=True)
    net = resnet8()
    if settings["precision"] == "bf16-mixed":
        net.to(memory_format=torch.channels_last)
    head = SimCLRProjectionHead(128, 128, 128)
    criterion = NTXentLoss()
    optimizer = torch.optim.SGD([*net.parameters(), *head.parameters()], lr=0.06)
    times = []
    for batch in loader:
        with precision_of(settings):
            first, second = (net(view) for view in batch[0])
        loss = criterion(head(first.float()), head(second.float()))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.process_time())
    return times


def precision_of(settings: Settings) -> contextlib.AbstractContextManager[Any]:
    """Answer with autocast to bf16 where the settings ask for it."""
    if settings["precision"] != "bf16-mixed":
        return contextlib.nullcontext()
    return torch.autocast("cpu", torch.bfloat16)


def measure(settings: Settings) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with pictures per second of this process's CPU time."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    sides = {"mealkit": times_of_mealkit, "loop": times_of_loop, "lightly": times_of_lightly}
    times = sides[settings["side"]](settings)
    num_steps = len(times) - NUM_WARMUP
    seconds = times[-1] - times[NUM_WARMUP - 1]
    return {"images_per_second": num_steps * settings["batch_size"] / seconds, "steps": num_steps}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
