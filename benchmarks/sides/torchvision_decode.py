"""torchvision's side of the decode benchmark: ImageFolder, v2 transforms, a DataLoader.

Settings: photos (one folder per class), size, batch_size, num_first, out (file of pixels), order
("tensor": resize tensors, "PIL": resize PIL images).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds of wall and CPU; write the pixels of the first pictures."""
    torch.set_num_threads(1)
    size, first = settings["size"], settings["order"] == "tensor"
    geometry = [v2.Resize(int(size / 0.875), antialias=True), v2.CenterCrop(size)]
    pixels = [v2.ToImage(), *geometry] if first else [*geometry, v2.ToImage()]
    finish = [
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]),
    ]
    dataset = ImageFolder(settings["photos"], transform=v2.Compose([*pixels, *finish]))
    loader = DataLoader(dataset, batch_size=settings["batch_size"], num_workers=0)
    next(iter(loader))  # warm-up
    wall, cpu = time.perf_counter(), time.process_time()
    count, total = 0, 0.0
    for images, _ in loader:
        count += len(images)
        total += float(images[:, :, 0, 0].sum())
    result = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    dataset.transform = v2.Compose(pixels)
    seen = [np.asarray(dataset[number][0]) for number in range(settings["num_first"])]
    np.save(settings["out"], np.stack(seen))
    return {**result, "num_images": count, "checksum": total}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
