"""Tasks small enough to train in a test."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mealkit import ImageClassifier, ImageData
from mealkit.backbones import create
from mealkit.specs import ImageDataSpec

PLAIN = ImageDataSpec(size=16)


class SmallNet(nn.Module):
    """Three blocks with batch norm; features (B, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU())
        self.middle = nn.Sequential(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU())
        self.last = nn.Sequential(nn.Conv2d(12, 12, 1), nn.Dropout(0.1))
        self.num_forwards = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.num_forwards += len(image)
        return self.last(self.middle(self.stem(image))).mean((2, 3))


@pytest.fixture
def data(photos: Path) -> ImageData:
    made = ImageData.from_folders(photos / "train", val=photos / "val", test=photos / "test")
    made.batch_size = 12
    return made


@pytest.fixture
def make_task(data: ImageData) -> Callable[..., ImageClassifier]:
    def make(*, pretrained: bool = True, seed: int = 0) -> ImageClassifier:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            net = SmallNet()
        backbone = create(net, PLAIN)
        backbone.pretrained = pretrained
        task = ImageClassifier(backbone, classes=data.classes)
        task.data = data
        return task

    return make
