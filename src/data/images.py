"""ImageData: labelled pictures from any source, checked, split and ready to train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import DataError, InvalidValueError, check_count
from ..specs import ImageDataSpec
from . import sources
from .augment import Augmentation, change_pictures, light, resolve
from .channels import examine_beside, first_channels
from .check import examine, same_content
from .decode import MODES
from .image_samples import ImageSamples
from .label_columns import check_delimiter, plain_columns
from .mixing import Mix, mix_pictures
from .module import Data, Views
from .parts import Form, build_parts, build_scored
from .report import Report
from .stream_samples import StreamSamples, open_streams
from .streams import as_stream, refuse_for_streams

if TYPE_CHECKING:
    from ..specs import Batch
    from .label_columns import LabelColumns
    from .sources import Labelled, OnError, Table


class ImageData(Data):
    """Labelled pictures, split into parts, as a ``LightningDataModule``.

    All ways in share these arguments: ``val`` and ``test`` are further parts of the same form;
    without ``val``, the share ``split`` of the training part becomes it, chosen by ``seed`` (0 is
    none). Pictures of one ``group`` stay on one side, and so do exact copies. A picture keeps its
    side when others are added. Files are checked first: those that cannot be read are left out and
    listed in ``data.report``, or with ``on_error="raise"`` are an error.

    A picture has one label, or any number of them: where labels are lists, where ``label`` names
    several columns of 0 and 1 (which are the classes), or where ``label_delimiter`` says what
    stands between the labels of a text. A text is never cut otherwise.

    Example:
        >>> data = ImageData.from_folders("photos/train", val="photos/val")
        >>> data.classes
        ('circle', 'square', 'triangle')
    """

    spec: ImageDataSpec

    augment: str | Augmentation | None = None
    """What changes training pictures by chance: a name of `AUGMENTATIONS`, or a function of yours.

    None is "light", except while the backbone is frozen: it then sees every picture once, as it
    is. Said in so many words, an augmentation also holds for frozen epochs, which take longer.
    """

    n_views: int | None = None
    """How many augmented versions of each training picture a frozen backbone sees, once each.

    It needs an augmentation with a name or of yours. The head learns from all versions, each as a
    share of its picture. With None, frozen epochs of an augmentation run the backbone each time.
    """

    mix: Mix | None = None
    """Whether training pictures are made of two: ``"mixup"``, ``"cutmix"`` or ``"both"``.

    A head on features that were computed once never sees mixed pictures.
    """

    _names: ClassVar[tuple[str, str, str]] = ("train", "val", "test")
    _num_channels: int | None = None  # of the first picture, where it is an array

    @classmethod
    def from_folders(
        cls,
        train: str | Path,
        *,
        val: str | Path | None = None,
        test: str | Path | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: Callable[[str], str] | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read folders with one subfolder per class; deeper folders belong to their class.

        Args:
            train: Folder to train on.
            val: Folder that chooses the best epoch.
            test: Folder that is scored once.
            split: Share of train that becomes val where no val is given.
            seed: Decides the split, the order and the augmentation.
            group: Turns a path relative to ``train`` ("cat/paul_1.jpg") into the name of a group.
            on_error: What happens to files that cannot be read: "skip" or "raise".

        Raises:
            NoDataError: A folder is absent or empty.
            DataError: A folder has no class folders.
            ClassError: Labels do not fit the classes of train, or these are fewer than two.
            UnreadableError: Files are broken and ``on_error="raise"``; or all of a class are.
        """
        tables = [
            None if folder is None else sources.from_folders(folder, group=group)
            for folder in (train, val, test)
        ]
        return cls._from_tables(tables, split=split, seed=seed, on_error=on_error)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[str | Path],
        labels: Sequence[Any],  # Any: checked to be str or int, or lists of them
        *,
        val: Labelled | None = None,
        test: Labelled | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: Sequence[Any] | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read files from lists of paths and labels.

        Args:
            paths: One per picture.
            labels: One per picture, str or int; or one list of labels per picture.
            val: Pair of paths and labels.
            test: Pair of paths and labels.
            split: See the class, like all below.
            seed: Decides the split, the order and the augmentation.
            group: One per picture of train.
            on_error: What happens to files that cannot be read: "skip" or "raise".
        """
        sources.check_pair("val", val)
        sources.check_pair("test", test)
        more = [None if part is None else sources.from_files(*part) for part in (val, test)]
        tables = [sources.from_files(paths, labels, group=group), *more]
        return cls._from_tables(tables, split=split, seed=seed, on_error=on_error)

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        image: str,
        label: LabelColumns,
        label_delimiter: str | None = None,
        root: str | Path | None = None,
        val: Any = None,
        test: Any = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read files whose paths and labels are columns of a pandas or polars DataFrame.

        Args:
            frame: One row per picture of train.
            image: Column of paths.
            label: Column of labels, text or integers or lists of them; or several columns of 0
                and 1, which are the classes.
            label_delimiter: What stands between the labels of one text, such as "|".
            root: Folder that the paths are relative to; None for the working folder.
            val: Frame with the same columns.
            test: Frame with the same columns.
            split: See the class, like all below.
            seed: Decides the split, the order and the augmentation.
            group: Column of groups.
            on_error: What happens to files that cannot be read: "skip" or "raise".

        Raises:
            DataError: A column is missing, or a value in it.
        """
        parts = ((frame, group), (val, None), (test, None))
        tables = [
            None
            if part is None
            else sources.from_data_frame(
                part,
                image=image,
                label=label,
                root=root,
                group=by,
                label_delimiter=label_delimiter,
            )
            for part, by in parts
        ]
        check_delimiter(tables[0], label, label_delimiter)
        data = cls._from_tables(tables, split=split, seed=seed, on_error=on_error)
        return data._with_columns(image, label, label_delimiter)

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        image: str,
        label: LabelColumns,
        label_delimiter: str | None = None,
        root: str | Path | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read files whose paths and labels are columns of a CSV file. All labels are texts.

        Args:
            path: File with one row per picture of train.
            image: Column of paths.
            label: Column of labels; or several columns of 0 and 1, which are the classes.
            label_delimiter: What stands between the labels of one cell, such as "|"; an empty
                cell then has none.
            root: Folder that the paths are relative to; None for the folder of each CSV file.
            val: File with the same columns.
            test: File with the same columns.
            split: See the class, like all below.
            seed: Decides the split, the order and the augmentation.
            group: Column of groups.
            on_error: What happens to files that cannot be read: "skip" or "raise".

        Raises:
            NoDataError: A CSV file is absent or empty.
            DataError: A column is missing, or a value in it.
        """
        parts = ((path, group), (val, None), (test, None))
        tables = [
            None
            if part is None
            else sources.from_csv(
                part,
                image=image,
                label=label,
                root=root,
                group=by,
                label_delimiter=label_delimiter,
            )
            for part, by in parts
        ]
        check_delimiter(tables[0], label, label_delimiter)
        data = cls._from_tables(tables, split=split, seed=seed, on_error=on_error)
        return data._with_columns(image, label, label_delimiter)

    @classmethod
    def from_arrays(
        cls,
        images: Any,  # Any: an array, a tensor, or a list of arrays or PIL images
        labels: Sequence[Any],
        *,
        val: Labelled | None = None,
        test: Labelled | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: Sequence[Any] | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Take pictures in memory: an array or tensor, or a list of arrays or PIL images.

        Args:
            images: (N, H, W, C), (N, C, H, W), (N, H, W), or a list; uint8, or floats in [0, 1].
            labels: One per picture, str or int; or one list of labels per picture.
            val: Pair of images and labels.
            test: Pair of images and labels.
            split: See the class, like all below.
            seed: Decides the split, the order and the augmentation.
            group: One per picture of train.
            on_error: What happens to pictures that cannot be used: "skip" or "raise".
        """
        sources.check_pair("val", val)
        sources.check_pair("test", test)
        more = [None if part is None else sources.from_arrays(*part) for part in (val, test)]
        tables = [sources.from_arrays(images, labels, group=group), *more]
        return cls._from_tables(tables, split=split, seed=seed, on_error=on_error)

    @classmethod
    def from_dataset(
        cls,
        train: Any,  # Any: a torch Dataset, one of Hugging Face, or a Stream
        *,
        image: str = "image",
        label: str = "label",
        classes: Sequence[str] | None = None,
        val: Any = None,
        test: Any = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Take a torch Dataset of (image, label) or dicts, a Hugging Face dataset, or a `Stream`.

        Args:
            train: Dataset to train on. Give no transforms: pictures are resized as the backbone
                wants them, and their pixels must be uint8 or floats in [0, 1]. An iterable dataset
                is read as a `Stream` whose length it knows.
            image: Column of pictures; tuples have them first. In streams of tar files, their
                ending: "jpg", or "jpg;png" for either.
            label: Column of labels; tuples have them second. The class names that the dataset
                knows are used. In streams of tar files, an ending: "cls" for positions, "txt" for
                names.
            classes: Names of the classes, where train is a stream that does not know them.
            val: Dataset of the same form, or a stream.
            test: Dataset of the same form, or a stream.
            split: See the class, like all below.
            seed: Decides the split, the order and the augmentation.
            group: Column of groups; tuples have them third.
            on_error: What happens to pictures that cannot be read: "skip" or "raise".

        Raises:
            DataError: The dataset lacks a column; or it is a stream, and nobody knows its length,
                or what validates it.
        """
        columns = {"image": image, "label": label}
        for name, value in columns.items():
            if not isinstance(value, str):
                raise DataError(f"{name}={value!r}: expected the name of a column.")
        given = dict(zip(cls._names, (train, val, test), strict=True))
        streams = {
            name: stream for name, part in given.items() if (stream := as_stream(part)) is not None
        }
        tables = [
            None
            if part is None or name in streams
            else sources.from_dataset(
                part, image=image, label=label, group=group if name == "train" else None
            )
            for name, part in given.items()
        ]
        if "train" in streams:
            refuse_for_streams(group=group, split=split if val is None else 0)
            opened = open_streams(streams, **columns, classes=classes, on_error=on_error)
            return cls._from_stream(opened, tables, seed=seed, on_error=on_error)
        if classes is not None:
            raise InvalidValueError(
                "classes= beside a dataset with a length, which is read for them: leave it out."
            )
        data = cls._from_tables(
            tables, split=0 if "val" in streams else split, seed=seed, on_error=on_error
        )
        opened = open_streams(streams, **columns, classes=data.classes, on_error=on_error)
        data.val, data.test = opened.get("val", data.val), opened.get("test", data.test)
        return data

    @classmethod
    def _from_stream(
        cls,
        streams: Mapping[str, StreamSamples],
        tables: Sequence[Table | None],
        *,
        seed: int,
        on_error: str,
    ) -> Self:
        """Put together a stream to train on and parts of any kind to score."""
        train, report = streams["train"], Report()
        given = dict(zip(cls._names, tables, strict=True))
        scored = build_scored(PICTURES, given, train.classes, report=report, on_error=on_error)
        parts = {**scored, **streams}
        data = cls(
            spec=_spec(train.classes, first_channels([train.first_image])),
            train=train,
            val=parts.get("val"),
            test=parts.get("test"),
            report=report,
            seed=seed,
        )
        data._num_channels = first_channels([train.first_image])
        return data

    @classmethod
    def _from_tables(
        cls, tables: Sequence[Table | None], *, split: float, seed: int, on_error: str
    ) -> Self:
        named = dict(zip(cls._names, tables, strict=True))
        first = None if named["train"] is None else first_channels(named["train"].inputs)
        form = replace(
            PICTURES,
            examine=lambda image, fully: examine_beside(first, image, fully),
            spec=lambda classes, images: _spec(classes, first),
        )
        parts = build_parts(form, named, split=split, seed=seed, on_error=on_error)
        data = cls(
            spec=parts.spec,
            train=parts.samples["train"],
            val=parts.samples.get("val"),
            test=parts.samples.get("test"),
            report=parts.report,
            seed=seed,
        )
        data.keys = parts.keys
        data._num_channels = first
        return data

    def _with_columns(self, image: str, label: LabelColumns, label_delimiter: str | None) -> Self:
        """Remember what the columns are called that the parts were read from."""
        self.spec = replace(
            self.spec, image=image, label=plain_columns(label), label_delimiter=label_delimiter
        )
        return self

    def check_channels(self, in_chans: int) -> None:
        """Refuse pictures that cannot have as many channels as a net takes.

        Raises:
            InvalidValueError: Arrays have others, or there are files, which have 1, 3 or 4.
        """
        has = self._num_channels if self.spec.in_chans == 3 else self.spec.in_chans
        if has is None and in_chans not in MODES:
            raise InvalidValueError(
                f"The net takes {in_chans} channels, and files are read with "
                f"{', '.join(map(str, MODES))}. Build the task with one of these as in_chans=, or "
                f"give arrays of {in_chans} channels (from_arrays)."
            )
        if has in (None, in_chans) or (has, in_chans) == (1, 3):  # grey is repeated
            return
        raise InvalidValueError(
            f"The arrays have {has} channels and the net takes {in_chans}. Build the task with "
            f"in_chans={has}, or give arrays of {in_chans} channels."
        )

    def augment_batch(self, batch: Batch, *, epoch: int) -> Batch:
        """Change the pictures of a training batch, as a pure function of (seed, epoch, index)."""
        change = light if self.augment is None else resolve(self.augment)
        if change is not None:
            batch = change_pictures(change, batch, seed=self.seed, epoch=epoch)
        if self.mix is None:
            return batch
        return mix_pictures(batch, self.mix, seed=self.seed, epoch=epoch)

    @property
    def views(self) -> Views | None:
        """The `n_views` versions of training pictures: those of as many epochs, the first ones.

        Raises:
            InvalidValueError: There is no augmentation, the number cannot be meant, or pictures are
                a stream.
        """
        if self.n_views is None:
            return None
        if isinstance(self.train, StreamSamples):
            raise InvalidValueError(
                f"n_views={self.n_views} with a stream, whose features are not kept. Leave it at "
                "None."
            )
        change = None if self.augment is None else resolve(self.augment)
        check_count("n_views", self.n_views)
        if change is None:
            raise InvalidValueError(
                f"n_views={self.n_views} with augment={self.augment!r}: nothing tells the views "
                "apart. Name an augmentation (data.augment = 'light'), or leave n_views at None."
            )
        name = f"{self.augment} {self.seed}" if isinstance(self.augment, str) else None

        def make(batch: Batch, number: int) -> Batch:
            return change_pictures(change, batch, seed=self.seed, epoch=number)

        return Views(self.n_views, make, name)

    @property
    def caches(self) -> bool:
        """Whether a frozen backbone may be run once per picture, or per view of it."""
        if self.views is not None:
            return True
        return super().caches and (self.augment is None or resolve(self.augment) is None)

    @property
    def mixes(self) -> bool:
        """Whether training pictures are made of two."""
        return self.mix is not None

    @property
    def sees(self) -> str:
        """What a training batch holds, in words for the table of what trains when."""
        mixed = "" if self.mix is None else f", mixed by {self.mix!r}"
        if self.augment is None or isinstance(self.augment, str):
            return f"pictures, augmentation {self.augment or 'light'!r}{mixed}"
        name = getattr(self.augment, "__name__", repr(self.augment))
        return f"pictures, augmented by {name}{mixed}"


def _spec(classes: tuple[str, ...], num_channels: int | None) -> ImageDataSpec:
    # Files (None) are read in colour, and grey is repeated.
    in_chans = 3 if num_channels is None or num_channels == 1 else num_channels
    return ImageDataSpec(classes=classes, in_chans=in_chans)


PICTURES = Form(
    noun="image",
    examine=lambda image, fully: examine(image, fully=fully),
    same=same_content,
    samples=lambda images, ids, targets: ImageSamples(images, ids=ids, targets=targets),
    spec=lambda classes, images: _spec(classes, first_channels(images)),
)
