"""The hand-written PyTorch loop: one epoch over a folder of pictures, nothing but torch and timm.

variant "same" does what mealkit's full strategy does: decoding and resizing with torchvision,
flip and shifted crop, channels-last, the precision asked for, AdamW without decay on vectors,
one-cycle, label smoothing, clipping, frozen batch-norm statistics. variant "plain" is what one
writes first: ImageFolder, per-image transforms in Pillow, fp32, contiguous, one AdamW group.

Settings: photos, weights (timm folder, or None for random ones), variant, size, batch_size,
num_workers, precision ("bf16-mixed" or "32-true"), seed.
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

MEAN = STD = (0.5, 0.5, 0.5)
LR, WEIGHT_DECAY, SMOOTHING = 2e-4, 0.05, 0.1


class Photos(Dataset[tuple[Tensor, int]]):
    """Files of a folder, decoded, resized and augmented one by one, as uint8."""

    def __init__(self, folder: Path, size: int) -> None:
        names = sorted(path.name for path in folder.iterdir())
        self.items = [
            (str(path), label)
            for label, name in enumerate(names)
            for path in sorted((folder / name).iterdir())
        ]
        self.transform = v2.Compose(
            [
                v2.Resize((size, size), antialias=True),
                v2.RandomHorizontalFlip(),
                v2.RandomCrop(size, padding=size // 8, padding_mode="reflect"),
            ]
        )

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        path, label = self.items[index]
        image: Tensor = self.transform(decode_image(path, mode=ImageReadMode.RGB))
        return image, label


def plain_photos(folder: Path, size: int) -> ImageFolder:
    """Build the data as torchvision's tutorials do."""
    transform = v2.Compose(
        [
            v2.Resize((size, size)),
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(size, padding=size // 8, padding_mode="reflect"),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )
    return ImageFolder(str(folder), transform)


def make_net(weights: str | None, num_classes: int) -> nn.Module:
    """Build mobilenetv1_100 with a fresh classifier."""
    name = "mobilenetv1_100" if weights is None else f"local-dir:{weights}"
    net: nn.Module = timm.create_model(
        name, pretrained=weights is not None, num_classes=num_classes
    )
    return net


def make_optimizer(net: nn.Module, *, same: bool) -> torch.optim.Optimizer:
    """Build AdamW, with two groups where the loop is to be the same as mealkit's."""
    if not same:
        return torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    decays = [parameter for parameter in net.parameters() if parameter.ndim > 1]
    stays = [parameter for parameter in net.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decays},
        {"params": stays, "weight_decay": 0.0},
    ]  # Any: torch's
    return torch.optim.AdamW(groups, lr=LR, weight_decay=WEIGHT_DECAY)


def peak_mib() -> float:
    """Answer with the most memory this process has held so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with the seconds of one epoch and the peak memory."""
    torch.manual_seed(settings["seed"])
    same, size = settings["variant"] == "same", settings["size"]
    folder = Path(settings["photos"]) / "train"
    photos = Photos(folder, size) if same else plain_photos(folder, size)
    net = make_net(settings["weights"], len(list(folder.iterdir())))
    if same:
        net.to(memory_format=torch.channels_last)
    base_mib = peak_mib()
    started = time.perf_counter()
    loss = train(net, photos, settings, same=same)
    return {
        "seconds": time.perf_counter() - started,
        "loss": loss,
        "num_images": len(photos),
        "peak_mib": peak_mib(),
        "base_mib": base_mib,
    }


def train(
    net: nn.Module,
    photos: Dataset[Any],  # Any: pairs of picture and label
    settings: dict[str, Any],
    *,
    same: bool,
) -> float:
    """Train for one epoch and answer with the last loss."""
    loader = DataLoader(
        photos,
        batch_size=settings["batch_size"],
        shuffle=True,
        num_workers=settings["num_workers"],
    )
    optimizer = make_optimizer(net, same=same)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, LR, total_steps=len(loader))
    bf16 = same and settings["precision"] == "bf16-mixed"
    precision = torch.autocast("cpu", torch.bfloat16) if bf16 else contextlib.nullcontext()
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
    net.train()
    if same:
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
    total, count = 0.0, 0
    for images, labels in loader:
        if same:
            images = images.to(torch.float32, memory_format=torch.channels_last)
            images = images.div_(255).sub_(mean).div_(std)
        with precision:
            logits = net(images)
        loss = functional.cross_entropy(
            logits.float(), labels, label_smoothing=SMOOTHING if same else 0.0
        )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        if same:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        total, count = total + loss.item() * len(labels), count + len(labels)
    return total / count


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
