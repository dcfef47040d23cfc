"""UnlabelledImages: pictures without labels from any source, checked and ready to learn from."""

from __future__ import annotations

import io
import logging
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from ..errors import DataError, InvalidValueError, NoDataError, UnreadableError, check_path
from ..specs import ImageDataSpec
from . import check
from .arrays import array_to_image, split_stack
from .frames import check_no_missing, column
from .image_samples import ImageSamples
from .inputs import images_below
from .module import Data
from .parts import Rows
from .report import Report
from .sources import DatasetImages, OnError

_log = logging.getLogger("mealkit")

_LOOKED_AT = 64  # pictures whose size is looked up to tell thumbnails from photos


class UnlabelledImages(Data):
    """Pictures to learn from without labels, as a ``LightningDataModule``.

    Files are checked first: those that cannot be read are left out and listed in ``data.report``,
    or with ``on_error="raise"`` are an error. There is no validation part.

    Example:
        >>> data = UnlabelledImages.from_folder("unlabelled")
        >>> len(data.train)
        12
    """

    spec: ImageDataSpec
    train: ImageSamples

    side: int
    """Pixels of the shorter side of a picture, the median of the first few."""

    @classmethod
    def from_folder(cls, folder: str | Path, *, seed: int = 0, on_error: OnError = "skip") -> Self:
        """Take all pictures below a folder, whatever its subfolders are called.

        Args:
            folder: Searched to any depth; files without the ending of a picture are passed over.
            seed: Decides order and augmentation.
            on_error: What happens to files that cannot be read: "skip" or "raise".

        Raises:
            NoDataError: The folder is absent, or holds no pictures.
            UnreadableError: Files are broken and ``on_error="raise"``, or all of them are.
        """
        check_path("folder", folder, what="a folder with pictures")
        root = Path(folder)
        if not root.is_dir():
            what = "is a file" if root.exists() else f"does not exist (looked in {Path.cwd()})"
            raise NoDataError(f"The folder {root} {what}. Expected a folder with pictures.")
        paths = [str(root / path) for path in images_below(root)]
        return cls._of(paths, paths, seed=seed, on_error=on_error)

    @classmethod
    def from_files(
        cls, paths: Sequence[str | Path], *, seed: int = 0, on_error: OnError = "skip"
    ) -> Self:
        """Take files from a list of paths.

        Args:
            paths: One per picture.
            seed: Decides order and augmentation.
            on_error: What happens to files that cannot be read: "skip" or "raise".
        """
        if isinstance(paths, str | Path) or not isinstance(paths, Iterable):
            raise DataError(
                f"paths={str(paths)!r}: expected a list of paths; for a folder use from_folder."
            )
        ids = [str(path) for path in paths]
        return cls._of(ids, ids, seed=seed, on_error=on_error)

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        image: str,
        root: str | Path | None = None,
        seed: int = 0,
        on_error: OnError = "skip",
    ) -> Self:
        """Take files whose paths stand in a column of a pandas or polars DataFrame.

        Args:
            frame: One row per picture.
            image: Column of paths.
            root: Folder that the paths are relative to; None for the working folder.
            seed: Decides order and augmentation.
            on_error: What happens to files that cannot be read: "skip" or "raise".

        Raises:
            DataError: The column is missing, or a value in it.
        """
        if root is not None:
            check_path("root", root, what="a folder")
        given = column(frame, image)
        check_no_missing(given, what=f"{image!r}", ids=[])
        ids = [str(value) for value in given]
        paths = ids if root is None else [str(Path(root) / value) for value in ids]
        return cls._of(paths, ids, seed=seed, on_error=on_error)

    @classmethod
    def from_arrays(
        cls,
        images: Any,  # Any: an array, a tensor, or a list of arrays or PIL images
        *,
        seed: int = 0,
        on_error: OnError = "skip",
    ) -> Self:
        """Take pictures in memory: an array or tensor, or a list of arrays or PIL images.

        Args:
            images: (N, H, W, C), (N, C, H, W), (N, H, W), or a list; uint8, or floats in [0, 1].
            seed: Decides order and augmentation.
            on_error: What happens to pictures that cannot be used: "skip" or "raise".
        """
        stack = split_stack(images)
        return cls._of(stack, _numbers(len(stack)), seed=seed, on_error=on_error)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,  # Any: a torch Dataset, or one of Hugging Face
        *,
        image: str = "image",
        seed: int = 0,
        on_error: OnError = "skip",
    ) -> Self:
        """Take the pictures of a torch or Hugging Face dataset; labels in it are not looked at.

        Args:
            dataset: With a length; items are dicts, or tuples with the picture first.
            image: Column of pictures.
            seed: Decides order and augmentation.
            on_error: What happens to pictures that cannot be read: "skip" or "raise".

        Raises:
            DataError: The dataset is a stream, or lacks the column.
        """
        if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
            raise DataError(
                f"{type(dataset).__name__} cannot be counted and fetched by position. Expected a "
                "dataset with __len__ and __getitem__; write a stream to files and use from_folder."
            )
        if hasattr(dataset, "select_columns"):  # of Hugging Face: others need not be decoded
            if image not in dataset.column_names:
                raise DataError(
                    f"The dataset has no column {image!r} but {dataset.column_names}. Name the "
                    "column of pictures with image=."
                )
            dataset = dataset.select_columns([image])
        items = DatasetImages(dataset, image)
        return cls._of(items, _numbers(len(items)), seed=seed, on_error=on_error)

    @classmethod
    def _of(cls, images: Sequence[Any], ids: list[str], *, seed: int, on_error: str) -> Self:
        if on_error not in ("skip", "raise"):
            raise InvalidValueError(f"on_error={on_error!r}: expected 'skip' or 'raise'.")
        if not len(images):
            raise NoDataError("There are no pictures: the source is empty.")
        report = Report()
        rows = _readable(images, ids, report, on_error)
        kept = Rows(images, rows)
        samples = ImageSamples(kept, ids=[ids[row] for row in rows])
        first = [kept[row] for row in range(min(_LOOKED_AT, len(kept)))]
        data = cls(
            spec=ImageDataSpec(in_chans=_in_chans(first[0])),
            train=samples,
            report=report,
            seed=seed,
        )
        data.side = int(statistics.median(_short_side(image) for image in first))
        _log.info(f"{len(kept):,} pictures without labels, about {data.side} pixels each way.")
        return data

    @property
    def caches(self) -> bool:
        """False: every epoch sees other views."""
        return False

    @property
    def sees(self) -> str:
        """What a training batch holds, in words."""
        return "pictures without labels"


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _readable(images: Sequence[Any], ids: list[str], report: Report, on_error: str) -> list[int]:
    """Look at every picture, and answer with the rows of those that can be read."""
    fully = len(images) <= check.CHECK_FULLY
    reasons: list[str | None] = []
    for start in range(0, len(images), 256):  # some at a time: a dataset's rows are not kept
        some = [images[row] for row in range(start, min(start + 256, len(images)))]
        found = check.in_threads(lambda image: check.examine(image, fully=fully), some)
        reasons += [reason for _, reason in found]
    broken = [(ids[row], reason) for row, reason in enumerate(reasons) if reason is not None]
    for id, reason in broken:
        report.add(id, reason)
    if broken and (on_error == "raise" or len(broken) == len(ids)):
        shown = "; ".join(f"{id}: {reason}" for id, reason in broken[:5])
        raise UnreadableError(
            f"{len(broken):,} of {len(ids):,} pictures cannot be read: {shown}. Repair or remove "
            "them, or pass on_error='skip' to go on without them."
        )
    if broken:
        _log.warning(
            f"Left out {len(broken):,} of {len(ids):,} pictures that cannot be read; data.report "
            f"lists them ({broken[0][0]}: {broken[0][1]})."
        )
    return [row for row, reason in enumerate(reasons) if reason is None]


def _in_chans(image: Any) -> int:
    """Number of channels of a picture; files are read in colour, and grey is repeated."""
    if isinstance(image, str | Path | bytes | Image.Image):
        return 3
    num_channels = len(array_to_image(image))
    return 3 if num_channels == 1 else num_channels


def _short_side(image: Any) -> int:
    """Pixels of the shorter side; of files, what their header says."""
    if isinstance(image, torch.Tensor | np.ndarray):
        return min(array_to_image(image).shape[-2:])
    if isinstance(image, str | Path):
        with Image.open(image) as opened:
            return min(opened.size)
    if isinstance(image, bytes):
        with Image.open(io.BytesIO(image)) as opened:
            return min(opened.size)
    size: tuple[int, int] = image.size
    return min(size)
