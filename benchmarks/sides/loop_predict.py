"""The reference of the predict benchmark: Pillow, timm's own transform, fp32, a plain loop.

Settings: net (folder with timm/), photos (flat folder), batch_size.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds and probabilities by file name."""
    net = timm.create_model(f"local-dir:{settings['net']}/timm", pretrained=True).eval()
    transform = create_transform(**resolve_model_data_config(net), is_training=False)
    files = sorted(Path(settings["photos"]).iterdir())
    size = settings["batch_size"]
    probabilities: list[list[float]] = []
    started = time.perf_counter()
    with torch.inference_mode():
        for start in range(0, len(files), size):
            images = [Image.open(file).convert("RGB") for file in files[start : start + size]]
            logits = net(torch.stack([transform(image) for image in images]))
            probabilities += logits.softmax(1).tolist()
    seconds = time.perf_counter() - started
    names = [file.name for file in files]
    return {"seconds": seconds, "probabilities": dict(zip(names, probabilities, strict=True))}


if __name__ == "__main__":
    print(json.dumps(measure(json.loads(sys.argv[1]))))
