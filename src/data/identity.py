"""Whether inputs are the same as in another process: digests that change when an input does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from .digest import digest_of
from .parts import Rows
from .sources import DatasetImages


def identify_pictures(images: Sequence[Any]) -> str | None:  # Any: as `ImageSamples` takes them
    """Answer with a digest of pictures; None where nobody can say whether they are the same.

    Files count by place, size and time of their last change, as for ``make``; what is in memory, by
    all of its content; rows of a Hugging Face dataset, by the fingerprint that it keeps of how it
    was made. Web addresses and datasets of others cannot be told apart.
    """
    items, rows = (images.items, images.rows) if isinstance(images, Rows) else (images, None)
    if isinstance(items, DatasetImages):
        made = items.fingerprint()
        return None if made is None else digest_of([made, repr(rows)])
    parts: list[str | bytes] = []
    for image in images:
        described = _describe(image)
        if described is None:
            return None
        parts.append(described)
    return digest_of(parts)


def _describe(image: Any) -> str | bytes | None:
    if isinstance(image, str | Path):
        path = Path(image).absolute()
        try:
            stat = path.stat()
        except OSError:
            return f"{path} absent"
        return f"{path} {stat.st_size} {stat.st_mtime_ns}"
    if isinstance(image, bytes):
        return image
    if isinstance(image, Image.Image):
        return digest_of([image.mode, str(image.size), image.tobytes()])
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().numpy()
    if isinstance(image, np.ndarray) and image.dtype != object:
        return digest_of([str(image.dtype), str(image.shape), image.tobytes()])
    return None
