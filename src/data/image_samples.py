"""ImageSamples: pictures of any source, fetched a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..errors import DataError, InvalidValueError, UnreadableError
from ..specs import ImageSpec
from .arrays import array_to_image, with_channels
from .check import CHECK_FULLY, examine, in_threads, same_content
from .decode import MODES, read_bytes, read_image
from .identity import identify_pictures
from .preprocess import Preprocess
from .web import Address

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec


FEW = 8
"""Of fewer pictures, all may have gone bad by chance; of more, their disk is gone."""


class ImageSamples:
    """Pictures that are decoded, resized and cropped when they are fetched.

    Args:
        images: Paths, bytes, PIL images or arrays, one per picture.
        ids: Names that the user recognises.
        targets: Positions of the classes, (N,); None where they are not known.
        allow_none: Whether a batch may be empty because none of its pictures can be read; it is an
            error otherwise.

    Example:
        >>> from mealkit import ImageSpec
        >>> samples = ImageSamples(["new.jpg"], ids=["new.jpg"])
        >>> samples.prepare(ImageSpec(size=(32, 32)))
        >>> samples.__getitems__([0])["image"].shape
        torch.Size([1, 3, 32, 32])
    """

    def __init__(
        self,
        images: Sequence[Any],  # Any: see Args
        *,
        ids: Sequence[str],
        targets: Tensor | None = None,
        allow_none: bool = False,
    ) -> None:
        self._images = images
        self._ids = ids
        self._targets = targets
        self._allow_none = allow_none
        self._preprocess: Preprocess | None = None
        self._reasons: dict[int, str] = {}

    @property
    def ids(self) -> Sequence[str]:
        """A name per picture."""
        return self._ids

    @property
    def targets(self) -> Tensor | None:
        """Positions of the classes, (N,) of int64."""
        return self._targets

    @property
    def lengths(self) -> None:
        """None: pictures of a batch are of one size."""

    def prepare(self, input_spec: InputSpec) -> None:
        """Learn the size and form that the backbone wants.

        Raises:
            InvalidValueError: The backbone does not want pictures, or a number of channels in which
                files cannot be read.
        """
        if not isinstance(input_spec, ImageSpec):
            raise InvalidValueError(f"Pictures were given; the backbone wants {input_spec.kind}.")
        self._preprocess = Preprocess(input_spec)

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Fetch ``image`` (B, C, H, W), uint8, or floats in [0, 1] where an array has floats.

        Raises:
            InvalidValueError: `prepare` was not called.
            UnreadableError: Not one of the pictures can be read.
        """
        preprocess = self._prepared()
        images = [self._images[index] for index in indices]
        loaded = in_threads(lambda image: load(image, preprocess), images)
        good = [place for place, image in enumerate(loaded) if not isinstance(image, str)]
        if not good and not self._allow_none and len(indices) >= FEW:
            raise UnreadableError(
                f"None of the {len(indices)} pictures of a batch can be read; the first is "
                f"{self._ids[indices[0]]}: {loaded[0]}. Is their disk still there?"
            )
        index = torch.tensor([indices[place] for place in good], dtype=torch.int64)
        stack = stack_pictures([loaded[place] for place in good], preprocess.spec)
        batch = {"image": stack, "index": index}
        if self._targets is not None:
            batch["target"] = self._targets[index]
        if len(good) < len(indices):
            batch["failed"] = torch.tensor(sorted(self._remember(indices, loaded)))
        return batch

    def why(self, index: int) -> str:
        """Say why a picture cannot be read; in another process than it was tried in, try again."""
        if index in self._reasons:
            return self._reasons[index]
        result = load(self._images[index], self._prepared())
        return result if isinstance(result, str) else "could not be read at first, and then could"

    def identity(self) -> str | None:
        """Answer with a digest of all pictures; None where some cannot be told from others."""
        return identify_pictures(self._images)

    def contents(self) -> list[tuple[str, str | None]]:
        """Answer with what tells each picture from others, and why it cannot be read (or None)."""
        fully = len(self._images) <= CHECK_FULLY
        rows = range(len(self._images))
        return in_threads(lambda row: examine(self._source(row), fully=fully), rows)

    def same(self, row: int, other: ImageSamples, other_row: int) -> bool:
        """Whether two pictures are the same to the last byte or pixel."""
        return same_content(self._source(row), other._source(other_row))

    def _source(self, row: int) -> Any:  # Any: see Args
        image = self._images[row]
        return image.read() if isinstance(image, Address) else image

    def _remember(self, indices: Sequence[int], loaded: Sequence[Tensor | str]) -> list[int]:
        pairs = zip(indices, loaded, strict=True)
        failed = {index: image for index, image in pairs if isinstance(image, str)}
        self._reasons.update(failed)
        return list(failed)

    def _prepared(self) -> Preprocess:
        if self._preprocess is None:
            raise InvalidValueError(
                "These pictures do not know yet which size the backbone wants; call "
                "prepare(task.input_spec) first."
            )
        return self._preprocess


def stack_pictures(images: Sequence[Any], spec: ImageSpec) -> Tensor:  # Any: tensors
    """Make one batch of pictures of one size, (B, C, H, W); floats win over uint8."""
    if not images:
        return torch.empty((0, spec.in_chans, *spec.size), dtype=torch.uint8)
    if len({image.dtype for image in images}) > 1:
        images = [image / 255 if image.dtype == torch.uint8 else image for image in images]
    return torch.stack(list(images))


def load(image: Any, preprocess: Preprocess) -> Tensor | str:
    """Answer with a picture as the backbone wants it, or with why there is none.

    Any in the type: a path, bytes, a PIL image, an array, or the exception a dataset raised.
    """
    spec = preprocess.spec
    try:
        if isinstance(image, Address):
            image = image.read()
        if isinstance(image, Exception):
            return f"the dataset failed ({type(image).__name__}: {image})"
        if isinstance(image, str | Path | bytes | Image.Image):
            mode = MODES.get(spec.in_chans)
            if mode is None:
                read_bytes(image) if isinstance(image, str | Path) else None
                return f"files have 1, 3 or 4 channels, and the backbone wants {spec.in_chans}"
            pixels = read_image(image, mode=mode)
        else:
            pixels = with_channels(array_to_image(image), spec.in_chans)
        return preprocess(pixels)
    except UnreadableError as error:
        return error.reason
    except DataError as error:
        return str(error).removesuffix(".")
