"""From a file, bytes or a PIL image to pixels, or to the reason why there are none."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UnreadableError

if TYPE_CHECKING:
    from torch import Tensor

Mode = Literal["L", "RGB", "RGBA"]
Source = str | Path | bytes | Image.Image
"""What `read_image` reads: a path, the bytes of a file, or a picture."""

MODES: dict[int, Mode] = {1: "L", 3: "RGB", 4: "RGBA"}
"""The mode in which files are read for a number of channels."""

_TURNED_BY_XMP = b"tiff:Orientation"


def read_image(source: Source, *, mode: Mode = "RGB") -> Tensor:
    """Decode a picture, upright, to (C, H, W) of uint8.

    The pixels are those of ``ImageOps.exif_transpose(Image.open(path)).convert(mode)``, except that
    transparent pictures are laid over white where the mode has no alpha (Pillow would show colours
    that nobody sees), and 16-bit grey is scaled to 8 bit (Pillow would clip it). Of an animation
    the first frame is taken.

    Args:
        source: A path, the bytes of a file, or a PIL image.
        mode: Channels of the answer: "L", "RGB" or "RGBA".

    Raises:
        UnreadableError: There is no picture, or only a part of one. Its ``reason`` says why.
    """
    name = describe_source(source)
    try:
        return _read(source, mode)
    except UnreadableError as error:
        raise UnreadableError(f"{name}: {error}", reason=str(error)) from error


def describe_source(source: object) -> str:
    """Name a source in a message."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, bytes):
        return f"{len(source):,} bytes"
    return type(source).__name__


def read_bytes(path: str | Path) -> bytes:
    """Read a file, or say in a few words why it cannot be read.

    Raises:
        UnreadableError: With the bare reason as its message.
    """
    if not str(path):  # Path("") is the working folder
        raise UnreadableError("no path given")
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise UnreadableError("no such file") from error
    except IsADirectoryError as error:
        raise UnreadableError("a folder, not a file") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise UnreadableError(f"cannot be opened ({reason})") from error
    if not data:
        raise UnreadableError("empty (0 bytes)")
    return data


def _read(source: Source, mode: Mode) -> Tensor:
    if isinstance(source, Image.Image):
        return _pixels(source, mode)
    data = source if isinstance(source, bytes) else read_bytes(source)
    if not data:
        raise UnreadableError("empty (0 bytes)")
    if mode == "RGB" and data[:3] == b"\xff\xd8\xff" and _TURNED_BY_XMP not in data[:65536]:
        image = _read_jpeg(data)
        if image is not None:
            return image
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return _pixels(picture, mode)
    except UnidentifiedImageError as error:
        raise UnreadableError(f"not an image (it starts with {data[:12]!r})") from error
    except (Image.DecompressionBombError, OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableError(f"broken image ({error})") from error


def _read_jpeg(data: bytes) -> Tensor | None:
    """Decode with torchvision, which took 1.44 ms where Pillow took 1.90 (500 x 375, one core).

    It uses the same library and gives the same pixels. What it refuses (truncation, among others)
    is left to Pillow, whose reasons can be shown.
    """
    decode = _jpeg_decoder()
    if decode is None:
        return None
    try:
        return decode(torch.frombuffer(bytearray(data), dtype=torch.uint8))
    except RuntimeError:
        return None


@functools.cache
def _jpeg_decoder() -> Callable[[Tensor], Tensor] | None:
    """Find torchvision's decoder, or None in a version that has none.

    The operator behind ``torchvision.io.decode_jpeg`` is called: the function itself is deprecated
    from torchvision 0.29 on and warns at every call.
    """
    try:
        from torchvision.io import ImageReadMode

        operator, rgb = torch.ops.image.decode_jpeg, ImageReadMode.RGB.value
    except (ImportError, AttributeError, RuntimeError):
        return None
    return lambda data: operator(data, rgb, True)  # True: turn upright as EXIF says


def _pixels(picture: Image.Image, mode: Mode) -> Tensor:
    try:
        picture.load()
        array = np.array(_convert(_upright(picture), mode))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, UnreadableError):
            raise
        raise UnreadableError(f"broken image ({error})") from error
    image = torch.from_numpy(array)
    return image[None] if mode == "L" else image.permute(2, 0, 1)


def _upright(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # broken EXIF raises almost anything, and the pixels are whole
        return picture


def _convert(picture: Image.Image, mode: Mode) -> Image.Image:
    if picture.mode.startswith("I;16"):
        values = np.asarray(picture).astype(np.uint32)
        picture = Image.fromarray(((values + 128) // 257).astype(np.uint8))  # 65535 / 255 = 257
    elif picture.mode in ("I", "F"):
        raise UnreadableError(
            f"32-bit pixels (mode {picture.mode}) have no known range; scale them to [0, 1] and "
            "use from_arrays"
        )
    if mode != "RGBA" and picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture).convert("RGB")
    return picture if picture.mode == mode else picture.convert(mode)
