"""Streams: parts of data that are read from front to back, and how they are shared out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import DataError, check_count
from .shards import is_streaming

BUFFER = 1_000
"""Pictures, still encoded, among which a shuffled stream draws the next one."""


@dataclass(frozen=True)
class Stream:
    """A part of data that is read from front to back, and may be larger than memory and disk.

    Args:
        source: Tar files in the form of webdataset (a path, a pattern such as
            ``"train-{000..099}.tar"``, or a list of these), an ``IterableDataset`` of Hugging Face
            or torch, or anything that can be iterated again and again. (Any: all of these.)
        length: How many pictures make an epoch; None where the source knows how many it has. Fewer
            than there are make shorter epochs, each of other shards where the stream is shuffled.
        buffer: From among how many pictures in memory, still encoded, a shuffled stream draws the
            next one. Shards come in an order of their own in every epoch in any case.

    Raises:
        InvalidValueError: A number that cannot be meant.

    Example:
        >>> Stream("train-{000..099}.tar", length=100_000).buffer
        1000
    """

    source: Any
    length: int | None = None
    buffer: int = BUFFER

    def __post_init__(self) -> None:
        if self.length is not None:
            check_count("length", self.length)
        check_count("buffer", self.buffer)


@dataclass(frozen=True)
class Order:
    """Which of a stream's pictures one process reads in an epoch, and in which order.

    Args:
        shuffle: Whether every epoch has an order of its own.
        seed: Decides the orders.
        epoch: Counted from 0.
        num_processes: How many processes share the stream.
        rank: Which of them this one is.
    """

    shuffle: bool
    seed: int = 0
    epoch: int = 0
    num_processes: int = 1
    rank: int = 0


def as_stream(part: object) -> Stream | None:
    """Answer with what is a stream, or what can only be read as one; None for anything else."""
    if isinstance(part, Stream):
        return part
    return Stream(part) if is_streaming(part) else None


def refuse_for_streams(*, group: str | None, split: float) -> None:
    """Refuse what needs to know all pictures of the training part beforehand.

    Raises:
        DataError: It is asked for.
    """
    if group is not None:
        raise DataError(f"group={group!r} with a stream, which is not split up: leave it out.")
    if split:
        raise DataError(
            f"split={split} with a stream, whose pictures are not known beforehand. Give a "
            "validation part with val= (a dataset or a stream), or split=0 for none."
        )
