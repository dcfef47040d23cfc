"""Every file is looked at before the first batch: is there a whole picture, and which one?"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from torch.utils.data import get_worker_info

from ..errors import DataError, UnreadableError
from .arrays import array_to_image
from .decode import read_bytes, read_image

CHECK_FULLY = 10_000
"""Up to this many files every one is decoded before training; of more, headers and endings."""

_PIECE = 16_384

Item = TypeVar("Item")
Result = TypeVar("Result")


def num_cores() -> int:
    """Number of cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Do work on items in a small pool of threads, and answer in their order.

    In a loader's worker process there is one thread: the processes share the cores already.
    """
    num_threads = 1 if get_worker_info() is not None else min(num_cores(), len(items))
    if num_threads <= 1:
        return [work(item) for item in items]
    with ThreadPoolExecutor(num_threads, thread_name_prefix="mealkit-images") as pool:
        return list(pool.map(work, items))


def examine(source: Any, *, fully: bool = True) -> tuple[str, str | None]:
    """Answer with what tells a picture from others, and with why it cannot be read (or None).

    Any in the type: a path, bytes, a PIL image, an array, or what a dataset keeps.

    The first answer is a hash of the size of the file and of 16 KiB each of its beginning, middle
    and end, all of it where it is smaller, so that large sets need not be read through. It does not
    depend on ``fully``, on the name or on the place of the file.
    """
    try:
        if isinstance(source, str | Path) and not fully:
            return _glance(source)
        if isinstance(source, str | Path):
            source = read_bytes(source)
        if isinstance(source, bytes):
            key = fingerprint(source)
            read_image(source)
        elif isinstance(source, Image.Image):
            pixels = read_image(source, mode="RGBA").numpy()
            key = fingerprint(pixels.tobytes(), str(pixels.shape))
        elif isinstance(source, Exception):
            raise UnreadableError(f"the dataset failed ({type(source).__name__}: {source})")
        else:
            pixels = np.ascontiguousarray(array_to_image(source).numpy())
            key = fingerprint(pixels.tobytes(), str(pixels.shape))
    except UnreadableError as error:
        return "", error.reason
    except DataError as error:
        return "", str(error).removesuffix(".")
    return key, None


def fingerprint(data: bytes, more: str = "") -> str:
    """Hash the size of a content and its beginning, middle and end."""
    middle = max(0, len(data) // 2 - _PIECE // 2)
    pieces = [data]
    if len(data) > 3 * _PIECE:
        pieces = [data[:_PIECE], data[middle : middle + _PIECE], data[-_PIECE:]]
    return _hash(len(data), pieces, more)


def _hash(size: int, pieces: Sequence[bytes], more: str = "") -> str:
    digest = hashlib.blake2b(f"{size} {more}".encode(), digest_size=16)
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _glance(path: str | Path) -> tuple[str, str | None]:
    """Look at header and ending alone; decode where these raise a doubt."""
    try:
        with Path(path).open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            if size <= 3 * _PIECE:
                return examine(str(path))
            pieces = []
            for start in (0, max(0, size // 2 - _PIECE // 2), size - _PIECE):
                file.seek(start)
                pieces.append(file.read(_PIECE))
    except OSError:
        return examine(str(path))  # which knows how to say what is wrong
    if not _looks_whole(pieces[0], pieces[2]):
        return examine(str(path))
    return _hash(size, pieces), None


def _looks_whole(start: bytes, end: bytes) -> bool:
    """Whether a file begins as a picture does, and ends as one of its format does."""
    if start[:3] == b"\xff\xd8\xff":
        return end.rstrip(b"\0").endswith(b"\xff\xd9")
    if start[:8] == b"\x89PNG\r\n\x1a\n":
        return b"IEND" in end[-16:]
    return False  # other formats have no ending to look for


def same_content(first: Any, second: Any) -> bool:
    """Whether two sources with the same fingerprint are the same to the last byte or pixel."""
    return _content(first) == _content(second)


def _content(source: Any) -> bytes:
    if isinstance(source, str | Path):
        return read_bytes(source)
    if isinstance(source, bytes):
        return source
    if isinstance(source, Image.Image):
        return read_image(source, mode="RGBA").numpy().tobytes()
    return array_to_image(source).numpy().tobytes()
