"""How many channels pictures have, before anyone knows how many a net takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import DataError
from .arrays import array_to_image
from .check import examine


def first_channels(images: Sequence[Any]) -> int | None:  # Any: whatever a source keeps
    """Number of channels of the first picture that is one.

    None for a file, which is read with as many as a net wants.
    """
    for image in images:
        if isinstance(image, Exception):  # what a dataset raised
            continue
        try:
            return _channels_of(image)
        except DataError:  # which is said where all are examined
            continue
    return None


def examine_beside(first: int | None, image: Any, fully: bool) -> tuple[str, str | None]:
    """Look at a picture as `examine` does, and at the channels of an array.

    Args:
        first: How many the first picture to train on has; None for a file.
        image: The picture. (Any: as above.)
        fully: Whether all of a file is looked at.
    """
    key, reason = examine(image, fully=fully)
    if reason is not None or first is None:
        return key, reason
    own = _channels_of(image)
    if own in (None, first) or {own, first} == {1, 3}:  # grey is repeated
        return key, None
    return "", f"an array with {own} channels, and the first one to train on has {first}"


def _channels_of(image: Any) -> int | None:
    if isinstance(image, str | Path | bytes | Image.Image):
        return None
    return len(array_to_image(image))
