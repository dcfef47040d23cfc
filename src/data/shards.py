"""Where streams come from: tar shards, Hugging Face streams, and whatever else can be iterated."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from torch.utils.data import IterableDataset

from ..errors import DataError, NoDataError, UnreadableError, require
from .digest import digest_of

_log = logging.getLogger("mealkit")

Item = tuple[str, Any]
"""The id of a raw item, and the item: a dict of columns or a tuple. Any: what a source keeps."""


_BLOCK = 512
"""Bytes of a block of a tar file."""


class Shards(Protocol):
    """Parts of a stream that can be opened by number, as often as one likes."""

    length: int | None
    """How many items there are in all; None where the source does not know."""

    def __len__(self) -> int:
        """Answer with the number of shards."""

    def open(self, number: int) -> Iterator[Item]:
        """Read a shard from its beginning, undecoded where the source allows it."""

    def identity(self) -> str:
        """Answer with a digest that changes where it is seen that the source has."""


class TarShards:
    """Tar files in the form of webdataset: files of one name and several endings are one item.

    Args:
        urls: Paths or addresses, or patterns such as ``train-{000..099}.tar``.

    Raises:
        NoDataError: A file is absent, or there is none.
        MissingPackageError: webdataset is not installed.
    """

    length: int | None = None

    def __init__(self, urls: Sequence[str]) -> None:
        package = require("webdataset", extra="webdataset", purpose="streams of tar files")
        expand: Callable[[str], list[str]] = package.shardlists.expand_urls
        self._urls = [url for pattern in urls for url in expand(pattern)]
        absent = [url for url in self._urls if is_local(url) and not Path(url).is_file()]
        if absent:
            raise NoDataError(
                f"{len(absent):,} of {len(self._urls):,} tar files are absent, the first is "
                f"{absent[0]} (looked in {Path.cwd()})."
            )
        if not self._urls:
            raise NoDataError("The stream has no tar files: the list is empty.")
        open_ended = [url for url in self._urls if is_local(url) and not _has_end(Path(url))]
        if open_ended:
            _log.warning(
                f"{len(open_ended):,} of {len(self._urls):,} tar files have no mark at their end, "
                f"so they may be cut off, and pictures missing. The first is {open_ended[0]}."
            )

    def __len__(self) -> int:
        return len(self._urls)

    def open(self, number: int) -> Iterator[Item]:
        """Read a tar file from its beginning."""
        url = self._urls[number]
        package = require("webdataset", extra="webdataset", purpose="streams of tar files")
        tar, name = package.tariterators, Path(url).name
        try:
            with closing(package.gopen(url)) as file:  # the package itself leaves it open
                members = tar.tar_file_expander([{"url": url, "stream": file}])
                for sample in tar.group_by_keys(members):
                    yield f"{name}/{sample['__key__']}", sample
        except Exception as error:  # tarfile, the network and the package raise many kinds
            raise UnreadableError(
                f"The tar file {url} cannot be read to its end ({type(error).__name__}: {error}). "
                "Repair it, or leave it out and lower length=."
            ) from error

    def identity(self) -> str:
        """Digest the names of the files, and the sizes of those on this machine."""
        sizes = [Path(url).stat().st_size if is_local(url) else "" for url in self._urls]
        names = [Path(url).name for url in self._urls]  # they may have moved as a whole
        return digest_of([f"{name} {size}" for name, size in zip(names, sizes, strict=True)])


def _has_end(file: Path) -> bool:
    """Whether a tar file ends with the empty block that marks it; packed ones are not looked at.

    One that is cut off behind a member reads like a whole one that is shorter.
    """
    if file.suffix != ".tar" or not file.stat().st_size:
        return True  # reading an empty file is an error by itself
    with file.open("rb") as opened:
        opened.seek(max(0, file.stat().st_size - _BLOCK))
        return not any(opened.read())


def is_local(url: str) -> bool:
    """Whether webdataset reads this as a file, and not as an address or a command."""
    return ":" not in url or Path(url).exists()


class HuggingFaceShards:
    """An ``IterableDataset`` of Hugging Face's datasets, which we must not import.

    Args:
        dataset: The stream; its own shuffling is not needed, as shards are shuffled here.
        image: The column of pictures, which are left encoded.
        label: The column of labels.
    """

    def __init__(self, dataset: Any, *, image: str, label: str) -> None:
        self._features: Any = dataset.features  # Any: a dict of the library's own types, or None
        feature: Any = None if self._features is None else self._features.get(image)
        if getattr(feature, "decode", False):  # else a broken picture would stop the stream
            dataset = dataset.cast_column(image, type(feature)(decode=False))
        self._dataset, self._image, self._label = dataset, image, label
        self.length = self._known_length()

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The names that the labels stand for; None where the stream does not know."""
        feature = None if self._features is None else self._features.get(self._label)
        names = getattr(feature, "names", None)
        return None if names is None else tuple(names)

    def _known_length(self) -> int | None:
        splits: Any = getattr(self._dataset.info, "splits", None) or {}
        split = splits.get(str(self._dataset.split))
        return getattr(split, "num_examples", None)

    def __len__(self) -> int:
        return int(self._dataset.num_shards)

    def open(self, number: int) -> Iterator[Item]:
        """Read a shard from its beginning."""
        shard: Iterable[dict[str, Any]] = self._dataset.shard(len(self), number)
        for place, item in enumerate(shard):
            yield f"shard {number}, item {place}", item

    def identity(self) -> str:
        """Digest what the stream says of itself; it keeps no fingerprint."""
        info = self._dataset.info
        described = (info.builder_name, info.config_name, str(info.version), info.dataset_size)
        return digest_of([repr(described), str(self._dataset.split), repr(self._features)])


class OneShard:
    """Any other dataset that can be iterated again and again, as a single shard.

    Args:
        dataset: Its items are dicts of columns, or tuples with the picture first.

    Raises:
        DataError: It can be iterated only once.
    """

    def __init__(self, dataset: Iterable[Any]) -> None:
        if iter(dataset) is dataset:
            raise DataError(
                f"A {type(dataset).__name__} can be read only once, and every epoch reads a stream "
                "from its beginning. Wrap what makes it in a class with __iter__."
            )
        self._dataset = dataset
        # Any: a list has a length, and so has a WebDataset after with_length
        sized: Any = dataset
        self.length = len(sized) if hasattr(sized, "__len__") else None

    def __len__(self) -> int:
        return 1

    def open(self, number: int) -> Iterator[Item]:
        """Read the dataset from its beginning."""
        for place, item in enumerate(self._dataset):
            key = item.get("__key__") if isinstance(item, dict) else None
            yield str(place if key is None else key), item

    def identity(self) -> str:
        """Digest the kind: nothing else is known of it."""
        return digest_of([type(self._dataset).__qualname__])


def shards_of(source: Any, *, image: str, label: str) -> Shards:
    """Find out how a source is read.

    Args:
        source: Paths or patterns of tar files, a Hugging Face stream, or what has ``__iter__``.
        image: The column of pictures.
        label: The column of labels.

    Raises:
        DataError: It is none of these.
    """
    if isinstance(source, str | Path):
        return TarShards([str(source)])
    if isinstance(source, list | tuple) and all(isinstance(one, str | Path) for one in source):
        return TarShards([str(one) for one in source])
    if all(hasattr(source, name) for name in ("shard", "num_shards", "features", "info")):
        return HuggingFaceShards(source, image=image, label=label)
    if isinstance(source, Iterable) and not isinstance(source, dict):
        return OneShard(source)
    raise DataError(
        f"A stream cannot be made of {type(source).__name__}: expected paths of tar files, a "
        "Hugging Face IterableDataset, or a dataset with __iter__."
    )


def is_streaming(dataset: object) -> bool:
    """Whether a dataset can be iterated, and its items not be fetched by position."""
    if isinstance(dataset, str | Path | dict):
        return False
    return isinstance(dataset, IterableDataset) or (
        isinstance(dataset, Iterable) and not hasattr(dataset, "__getitem__")
    )
