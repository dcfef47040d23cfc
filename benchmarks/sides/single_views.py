"""Two SimCLR views of random pictures, one picture at a time, by torchvision v2 or lightly.

Settings: size, count, batch_size (pictures that are stacked), and side: "pil" or "tensor" for
torchvision on Pillow images or uint8 tensors, "lightly" for its ``SimCLRTransform`` on Pillow
images. All have the crops, colours and shares of mealkit's views, and none normalises.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional


def torchvision_view(size: int, strength: float, low: float, *, pil: bool) -> Callable[[Any], Any]:
    """Compose the view of torchvision's own parts; PIL images become tensors at its end."""
    kernel = max(3, int(size * 0.1) // 2 * 2 + 1)
    changes: list[v2.Transform] = [
        v2.RandomResizedCrop(size, scale=(low, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply(
            [v2.ColorJitter(0.8 * strength, 0.8 * strength, 0.8 * strength, 0.2 * strength)], p=0.8
        ),
        v2.RandomGrayscale(0.2),
    ]
    if size > 64:
        changes.append(v2.RandomApply([v2.GaussianBlur(kernel)], p=0.5))
    end = [v2.PILToTensor()] if pil else []
    return v2.Compose([*changes, *end, v2.ToDtype(torch.float32, scale=True)])


def make_pair(side: str, size: int) -> Callable[[Any], list[torch.Tensor]]:
    """Answer with what turns a picture into two views."""
    strength, low = (0.5, 0.2) if size <= 64 else (1.0, 0.08)
    if side == "lightly":
        from lightly.transforms import SimCLRTransform

        pair: Callable[[Any], list[torch.Tensor]] = SimCLRTransform(
            input_size=size,
            cj_strength=strength,
            min_scale=low,
            gaussian_blur=0.0 if size <= 64 else 0.5,
            normalize=None,
        )
        return pair
    view = torchvision_view(size, strength, low, pil=side == "pil")
    return lambda picture: [view(picture), view(picture)]


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with views per second of this process's CPU time."""
    torch.set_num_threads(1)
    size, count, batch_size = settings["size"], settings["count"], settings["batch_size"]
    tensors = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    pictures: list[Any] = list(tensors)
    if settings["side"] != "tensor":
        pictures = [functional.to_pil_image(tensor) for tensor in tensors]
    pair = make_pair(settings["side"], size)
    pair(pictures[0])
    started = time.process_time()
    for start in range(0, count, batch_size):
        pairs = [pair(picture) for picture in pictures[start : start + batch_size]]
        for view in zip(*pairs, strict=True):
            torch.stack(view)
    return {"views_per_second": 2 * count / (time.process_time() - started)}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
