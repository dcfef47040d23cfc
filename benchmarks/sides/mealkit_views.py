"""Two SimCLR views of random pictures by mealkit, a batch at a time.

Settings: size, count, batch_size.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch

from mealkit.data.views import draw_views, simclr_views


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with views per second of this process's CPU time."""
    torch.set_num_threads(1)
    size, count, batch_size = settings["size"], settings["count"], settings["batch_size"]
    pictures = torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)
    index, views = torch.arange(count), simclr_views(size)
    draw_views(pictures[:batch_size], views, seed=1, epoch=0, index=index[:batch_size])
    started = time.process_time()
    for start in range(0, count, batch_size):
        part = slice(start, start + batch_size)
        draw_views(pictures[part], views, seed=0, epoch=0, index=index[part])
    return {"views_per_second": 2 * count / (time.process_time() - started)}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
