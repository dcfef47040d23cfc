"""StreamSamples: the pictures of a stream, the iterable twin of samples."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from ..errors import ClassError, DataError, InvalidValueError, NoDataError, UnreadableError
from ..specs import ImageSpec
from .check import in_threads
from .image_samples import FEW, load, stack_pictures
from .labels import plain_labels
from .preprocess import Preprocess
from .shards import HuggingFaceShards, Item, Shards, shards_of
from .sources import column_of
from .streams import Order, Stream

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import Batch, InputSpec


@dataclass(frozen=True)
class Raw:
    """A picture of a stream, still encoded. Any: whatever the source keeps."""

    index: int
    id: str
    image: Any
    target: int


Failure = tuple[int, str, str]
"""Index and id of a picture that cannot be read, and why."""


class StreamSamples:
    """The pictures of a stream, with their classes.

    It has the face of `Samples`, so that data may hold it, and says what to do where something
    needs pictures by position.

    Args:
        stream: Where they come from.
        part: Of the data, for messages: "train", "val" or "test".
        image: The column of pictures; several endings of files are separated by ``;``.
        label: The column of labels.
        classes: Names of the labels; None where the stream knows them.
        scored: Whether pictures count from 0 in the order of the stream, and their ids and classes
            can be asked for. That takes one more pass over the stream and memory for all of both.
        on_error: What happens to pictures that cannot be read: "skip" or "raise".

    Raises:
        DataError: Nobody knows the length; or the first picture lacks a column.
        ClassError: Nobody knows the classes; or the label of the first picture is none of them.
    """

    def __init__(
        self,
        stream: Stream,
        *,
        part: str,
        image: str,
        label: str,
        classes: Sequence[str] | None,
        scored: bool,
        on_error: str = "skip",
    ) -> None:
        self._part, self._image, self._label, self._scored = part, image, label, scored
        self._shards = shards_of(stream.source, image=image, label=label)
        self._length = _length(stream, self._shards)
        self._buffer, self._raises = stream.buffer, on_error == "raise"
        self.classes, self._named = _classes(classes, self._shards)
        # Whether integers are names of classes or their positions is decided once, for all labels.
        self._numbers = any(name.lstrip("-").isdecimal() for name in self.classes)
        self._position = {name: place for place, name in enumerate(self.classes)}
        self._preprocess: Preprocess | None = None
        self._known: tuple[list[str], Tensor] | None = None
        self._reasons: dict[int, str] = {}
        first = next(self._items(range(len(self._shards))), None)
        if first is None:
            raise NoDataError(f"The stream of the {part} part is empty.")
        self.first_image = self._raw(*first).image

    def __len__(self) -> int:
        return self._length

    @property
    def ids(self) -> Sequence[str]:
        """A name per picture, of parts that are scored."""
        return self._pass()[0]

    @property
    def targets(self) -> Tensor | None:
        """Positions of the classes, (N,), of parts that are scored; None for a training part."""
        return self._pass()[1] if self._scored else None

    @property
    def lengths(self) -> None:
        """None: pictures of a batch are of one size."""

    def prepare(self, input_spec: InputSpec) -> None:
        """Learn the size and form that the backbone wants.

        Raises:
            InvalidValueError: The backbone does not want pictures.
        """
        if not isinstance(input_spec, ImageSpec):
            raise InvalidValueError(f"Pictures were given; the backbone wants {input_spec.kind}.")
        self._preprocess = Preprocess(input_spec)

    def __getitems__(self, indices: Sequence[int]) -> NoReturn:
        """Refuse: a stream has no positions."""
        raise self._no_positions()

    def why(self, index: int) -> str:
        """Say why a picture could not be read in the last pass."""
        return self._reasons.get(index, "missing in the stream")

    def identity(self) -> str:
        """Answer with a digest of where the stream comes from."""
        return self._shards.identity()

    def num_rows(self, order: Order) -> int:
        """Answer with how many pictures a process reads in an epoch, at most."""
        if self._by_shards(order):
            return math.ceil(self._length / order.num_processes)
        return len(range(order.rank, self._length, order.num_processes))

    def read(self, order: Order) -> Iterator[Raw]:
        """Read the pictures of one process and epoch, still encoded.

        Shuffled, whole shards are dealt out to processes, where there are enough of them. Else each
        process reads all shards in the same order and keeps every n-th picture.

        Raises:
            DataError: The stream ends before its length is reached.
        """
        by_shards, rng = self._by_shards(order), random.Random(f"{order.seed} {order.epoch}")
        numbers = list(range(len(self._shards)))
        if order.shuffle:
            rng.shuffle(numbers)
        if by_shards:
            numbers = numbers[order.rank :: order.num_processes]
        items = self._items(numbers)
        if order.shuffle:
            items = _shuffled(items, self._buffer, rng)
        limit = self.num_rows(order) if by_shards else self._length
        count = 0
        for count, (index, item) in enumerate(islice(items, limit), start=1):
            if not by_shards and (count - 1) % order.num_processes != order.rank:
                continue
            yield self._raw(count - 1 if self._scored else index, item)
        # Shards of several processes may hold unequal numbers: see StreamLoader.
        if count < limit and not (by_shards and count):
            raise DataError(
                f"The stream of the {self._part} part ended after {count:,} pictures, and its "
                f"length is {limit:,}. Say how many there are: Stream(..., length={count})."
            )

    def load(self, rows: Sequence[Raw]) -> tuple[Batch, list[Failure]]:
        """Decode pictures; answer with a batch of those that can be read, and with the others.

        Raises:
            UnreadableError: None of many can be read, or ``on_error="raise"``.
        """
        preprocess = self._preprocess
        if preprocess is None:
            raise InvalidValueError("Call prepare(task.input_spec) before the stream is read.")
        loaded = in_threads(lambda row: load(row.image, preprocess), rows)
        pairs = list(zip(rows, loaded, strict=True))
        bad = [(row.index, row.id, why) for row, why in pairs if isinstance(why, str)]
        if bad and (self._raises or len(bad) == len(rows) >= FEW):
            _, id, why = bad[0]
            raise UnreadableError(
                f"{len(bad)} of {len(rows)} pictures of a batch cannot be read: {id}: {why}.",
                reason=why,
            )
        good = [(row, image) for row, image in pairs if not isinstance(image, str)]
        batch = {
            "image": stack_pictures([image for _, image in good], preprocess.spec),
            "index": torch.tensor([row.index for row, _ in good], dtype=torch.int64),
            "target": torch.tensor([row.target for row, _ in good], dtype=torch.int64),
        }
        return batch, bad

    def remember(self, failures: Iterable[Failure]) -> None:
        """Keep why pictures of a scored part could not be read; of others there may be many."""
        if self._scored:
            self._reasons.update({index: why for index, _, why in failures})

    def _by_shards(self, order: Order) -> bool:
        return order.shuffle and 1 < order.num_processes <= len(self._shards)

    def _items(self, numbers: Iterable[int]) -> Iterator[tuple[int, Item]]:
        """Read shards; an index names a picture in every epoch: its shard and its place in it."""
        for number in numbers:
            for place, item in enumerate(self._shards.open(number)):
                yield (number << 32) + place, item

    def _raw(self, index: int, item: Item) -> Raw:
        id, columns = item
        try:
            image, label = self._image_of(columns), column_of(columns, self._label, 1)
        except DataError as error:  # which does not know where in the stream it is
            raise DataError(f"{id} of the {self._part} part: {error}") from None
        return Raw(index, id, image, self._target_of(id, label))

    def _image_of(self, columns: Any) -> Any:
        if not isinstance(columns, dict):
            return column_of(columns, self._image, 0)
        names = self._image.split(";")
        name = next((name for name in names if name in columns), names[0])
        value = column_of(columns, name, 0)
        if isinstance(value, dict) and {"bytes", "path"} <= set(value):  # undecoded Hugging Face
            return value["bytes"] if value["bytes"] is not None else value["path"]
        return value

    def _target_of(self, id: str, value: Any) -> int:
        if isinstance(value, bytes):
            text = value.decode("utf-8", "replace").strip()
            # webdataset's own convention: a file .cls holds the number of a class.
            is_number = self._label == "cls" and text.lstrip("-").isdecimal()
            value = int(text) if is_number else text
        if self._named is not None and isinstance(value, int) and 0 <= value < len(self._named):
            value = self._named[value]
        (label,) = plain_labels([value], ids=[id])
        if isinstance(label, int) and not self._numbers:
            if 0 <= label < len(self.classes):
                return label
        elif str(label) in self._position:
            return self._position[str(label)]
        raise ClassError(
            f"{id} of the {self._part} part has the label {label!r}, which is none of the "
            f"{len(self.classes)} classes ({', '.join(map(repr, self.classes[:8]))}). Texts are "
            "names of classes, integers their positions from 0, or their names where classes= has "
            "numbers."
        )

    def _pass(self) -> tuple[list[str], Tensor]:
        """Read the stream once for ids and classes."""
        if not self._scored:
            raise self._no_positions()
        if self._known is None:
            rows = [(row.id, row.target) for row in self.read(Order(shuffle=False))]
            targets = torch.tensor([target for _, target in rows], dtype=torch.int64)
            self._known = [id for id, _ in rows], targets
        return self._known

    def _no_positions(self) -> InvalidValueError:
        return InvalidValueError(
            f"The {self._part} part is a stream, which is read from front to back: its pictures "
            "cannot be asked for by position. Write those you need to files, and use from_folders."
        )


def open_streams(
    streams: Mapping[str, Stream],
    *,
    image: str,
    label: str,
    classes: Sequence[str] | None,
    on_error: str,
) -> dict[str, StreamSamples]:
    """Look at the first picture of the streams of some parts; those of train decide the classes.

    Args:
        streams: By the names "train", "val" and "test".
        image: The column of pictures.
        label: The column of labels.
        classes: Names of the labels; None where the stream of train knows them.
        on_error: What happens to pictures that cannot be read: "skip" or "raise".
    """
    if on_error not in ("skip", "raise"):
        raise InvalidValueError(f"on_error={on_error!r}: expected 'skip' or 'raise'.")
    opened: dict[str, StreamSamples] = {}
    for part, stream in streams.items():  # train comes first
        opened[part] = StreamSamples(
            stream,
            part=part,
            image=image,
            label=label,
            classes=classes,
            scored=part != "train",
            on_error=on_error,
        )
        classes = opened[part].classes
    return opened


def _length(stream: Stream, shards: Shards) -> int:
    length = shards.length if stream.length is None else stream.length
    if length is None:
        raise DataError(
            "Nobody knows how many pictures the stream has, and an epoch and its learning rate "
            "must end somewhere. Say it: from_dataset(mealkit.data.Stream(source, length=...))."
        )
    return length


def _classes(
    classes: Sequence[str] | None, shards: Shards
) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    """Answer with the names of the classes, and with what integers of the stream stand for."""
    named = shards.class_names if isinstance(shards, HuggingFaceShards) else None
    given = named if classes is None else classes
    if given is None or isinstance(given, str):
        raise ClassError(
            f"classes={given!r}: a stream is not read through for its labels before training. Name "
            "its classes: from_dataset(..., classes=['ant', 'bee'])."
        )
    names = tuple(map(str, given))
    if len(names) < 2 or len(set(names)) < len(names):
        raise ClassError(f"classes={list(names[:8])}: expected two or more names, all different.")
    if absent := set(named or ()) - set(names):
        raise ClassError(
            f"The stream has the class {sorted(absent)[0]!r}, which is none of the {len(names)} "
            f"given ({', '.join(map(repr, names[:8]))})."
        )
    return names, named


def _shuffled(
    items: Iterator[tuple[int, Item]], size: int, rng: random.Random
) -> Iterator[tuple[int, Item]]:
    """Draw from a buffer that is filled up from behind."""
    buffer = list(islice(items, size))
    for item in items:
        place = rng.randrange(len(buffer))
        buffer[place], drawn = item, buffer[place]
        yield drawn
    rng.shuffle(buffer)
    yield from buffer
