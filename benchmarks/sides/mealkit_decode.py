"""mealkit's side of the decode benchmark: the fetch path and loader that training uses.

Settings: photos (one folder per class), size, batch_size, num_first, out (file of pixels).
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import torch

from mealkit import ImageData, ImageSpec
from mealkit.tasks.normalise import Normalise


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds of wall and CPU; write the pixels of the first pictures."""
    torch.set_num_threads(1)
    data = ImageData.from_folders(settings["photos"], split=0)
    spec = ImageSpec(size=(settings["size"], settings["size"]), crop_pct=0.875)
    data.prepare(spec)
    loader = data.loader(data.train, batch_size=settings["batch_size"])
    normalise = Normalise(spec, channels_last=False)
    first: list[torch.Tensor] = []
    next(iter(loader))  # warm-up
    wall, cpu = time.perf_counter(), time.process_time()
    count, total = 0, 0.0
    for batch in loader:
        (images,) = normalise(batch["image"])
        count += len(images)
        total += float(images[:, :, 0, 0].sum())
        if len(first) * settings["batch_size"] < settings["num_first"]:
            first.append(batch["image"])
    result = {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}
    np.save(settings["out"], torch.cat(first)[: settings["num_first"]].numpy())
    return {**result, "num_images": count, "checksum": total}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
