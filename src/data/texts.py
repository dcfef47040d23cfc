"""TextData: labelled texts from any source, checked, split and ready to train on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from ..errors import InvalidValueError, NoDataError
from ..specs import TextDataSpec
from . import frames, text_sources
from .label_columns import check_delimiter, plain_columns
from .module import Data
from .parts import Form, build_parts
from .sources import check_pair, with_empty_labels
from .text_samples import TextSamples, examine_text
from .text_sources import Columns, columns_of
from .token_batches import TokenBatches

if TYPE_CHECKING:
    from pandas import DataFrame

    from .label_columns import LabelColumns
    from .samples import Samples
    from .sources import Labelled, OnError, Table


class TextData(Data):
    """Labelled texts, split into parts, as a ``LightningDataModule``.

    All ways in share these arguments: ``val`` and ``test`` are further parts of the same form;
    without ``val``, the share ``split`` of the training part becomes it, chosen by ``seed`` (0 is
    none). Texts of one ``group`` stay on one side, and so do exact copies. A text keeps its side
    when others are added. Missing and empty texts are left out and listed in ``data.report``, or
    with ``on_error="raise"`` are an error. ``text`` names one column, or two of pairs of texts.

    An input has one label, or any number of them: where labels are lists, where ``label`` names
    several columns of 0 and 1 (which are the classes), or where ``label_delimiter`` says what
    stands between the labels of a text. A label is never cut otherwise.

    Example:
        >>> data = TextData.from_csv("tickets.csv", text="message", label="team")
        >>> data.classes
        ('billing', 'delivery', 'login')
    """

    spec: TextDataSpec

    batch_tokens: int | None = None
    """Most tokens in a training batch, padding included; ``batch_size`` then is the most texts.
    None for batches of ``batch_size`` texts."""

    hidden_share: float = 0.15
    """Share of the tokens of an unlabelled text that its strong view hides, where `finetune` has
    ``unlabelled=``. That of masked language models (Devlin et al. 2018, arXiv:1810.04805)."""

    _names: ClassVar[tuple[str, str, str]] = ("train", "val", "test")

    @classmethod
    def from_csv(
        cls,
        path: str | Path,
        *,
        text: Columns,
        label: LabelColumns,
        label_delimiter: str | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read texts and labels from columns of a CSV file (or with tabs: .tsv), in UTF-8.

        Args:
            path: File with one row per text of train; rows are counted from 0, below the header.
            text: Column of texts, or two columns of pairs.
            label: Column of labels, which are read as texts; or several columns of 0 and 1, which
                are the classes.
            label_delimiter: What stands between the labels of one cell, such as "|"; an empty
                cell then has none.
            val: File with the same columns.
            test: File with the same columns.
            split: See the class, like all below.
            seed: Decides the split and the order.
            group: Column of groups.
            on_error: What happens to texts that cannot be used: "skip" or "raise".

        Raises:
            NoDataError: A file is absent or empty.
            DataError: It cannot be parsed (the line is named), or lacks a column.
            ClassError: Labels do not fit the classes of train, or these are fewer than two.
        """
        return cls._from_files(
            frames.read_csv,
            (path, val, test),
            text,
            label,
            label_delimiter,
            split,
            seed,
            group,
            on_error,
        )

    @classmethod
    def from_json(
        cls,
        path: str | Path,
        *,
        text: Columns,
        label: LabelColumns,
        label_delimiter: str | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read texts and labels from JSON: an array of objects, or one object a line.

        The arguments are those of `from_csv`; labels are texts or integers, or lists of them.
        """
        return cls._from_files(
            text_sources.read_json,
            (path, val, test),
            text,
            label,
            label_delimiter,
            split,
            seed,
            group,
            on_error,
        )

    @classmethod
    def from_parquet(
        cls,
        path: str | Path,
        *,
        text: Columns,
        label: LabelColumns,
        label_delimiter: str | None = None,
        val: str | Path | None = None,
        test: str | Path | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read texts and labels from columns of a parquet file (needs ``mealkit[parquet]``).

        The arguments are those of `from_csv`; labels are texts or integers, or lists of them.
        """
        return cls._from_files(
            text_sources.read_parquet,
            (path, val, test),
            text,
            label,
            label_delimiter,
            split,
            seed,
            group,
            on_error,
        )

    @classmethod
    def _from_files(
        cls,
        read: Callable[[str | Path], DataFrame],
        paths: tuple[str | Path, str | Path | None, str | Path | None],
        text: Columns,
        label: LabelColumns,
        label_delimiter: str | None,
        split: float,
        seed: int,
        group: str | None,
        on_error: OnError,
    ) -> Self:
        tables = [None if path is None else read(path) for path in paths]
        if read is frames.read_csv:
            tables = [
                None if one is None else with_empty_labels(one, label, label_delimiter)
                for one in tables
            ]
        return cls.from_data_frame(
            tables[0],
            text=text,
            label=label,
            label_delimiter=label_delimiter,
            val=tables[1],
            test=tables[2],
            split=split,
            seed=seed,
            group=group,
            on_error=on_error,
        )

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        text: Columns,
        label: LabelColumns,
        label_delimiter: str | None = None,
        val: Any = None,
        test: Any = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Read texts and labels from columns of a pandas or polars DataFrame.

        The arguments are those of `from_csv`, with frames in place of files. Labels are texts or
        integers, or lists of them; with a delimiter, an empty text has none, and a missing one is
        an error.
        """
        parts = ((frame, group), (val, None), (test, None))
        tables = [
            None
            if part is None
            else text_sources.from_data_frame(
                part, text=text, label=label, group=by, label_delimiter=label_delimiter
            )
            for part, by in parts
        ]
        check_delimiter(tables[0], label, label_delimiter)
        return cls._from_tables(
            tables, text, label, split, seed, on_error, label_delimiter=label_delimiter
        )

    @classmethod
    def from_lists(
        cls,
        texts: Sequence[Any],  # Any: checked to be texts, or pairs of them
        labels: Sequence[Any],  # Any: checked to be str or int, or lists of them
        *,
        val: Labelled | None = None,
        test: Labelled | None = None,
        split: float = 0.2,
        seed: int = 0,
        group: Sequence[Any] | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Take texts in memory.

        Args:
            texts: One per label; pairs are tuples of two texts.
            labels: Str or int, or a list of labels per text.
            val: Pair of texts and labels.
            test: Pair of texts and labels.
            split: See the class, like all below.
            seed: Decides the split and the order.
            group: One per text of train.
            on_error: What happens to texts that cannot be used: "skip" or "raise".
        """
        check_pair("val", val)
        check_pair("test", test)
        more = [None if part is None else text_sources.from_lists(*part) for part in (val, test)]
        first = text_sources.from_lists(texts, labels, group=group)
        pairs = any(isinstance(text, tuple) for text in first.inputs)
        text: Columns = ("first", "second") if pairs else "text"
        return cls._from_tables([first, *more], text, "label", split, seed, on_error)

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
        """Read folders with one subfolder of text files per class.

        Args:
            train: Folder to train on; its files are texts in UTF-8.
            val: Folder of the same form.
            test: Folder of the same form.
            split: See the class, like all below.
            seed: Decides the split and the order.
            group: Turns a path relative to ``train`` ("spam/paul_1.txt") into the name of a group.
            on_error: What happens to files that cannot be read: "skip" or "raise".

        Raises:
            NoDataError: A folder is absent or empty.
            DataError: A folder has no class folders.
        """
        parts = ((train, group), (val, None), (test, None))
        tables = [
            None if part is None else text_sources.from_folders(part, group=by)
            for part, by in parts
        ]
        return cls._from_tables(tables, "text", "label", split, seed, on_error)

    @classmethod
    def from_dataset(
        cls,
        train: Any,  # Any: a torch Dataset, or one of Hugging Face
        *,
        text: Columns = "text",
        label: str = "label",
        val: Any = None,
        test: Any = None,
        split: float = 0.2,
        seed: int = 0,
        group: str | None = None,
        on_error: OnError = "skip",
    ) -> Self:
        """Take a torch Dataset of (text, label) or of dicts, or a Hugging Face dataset.

        Args:
            train: Dataset with a length, to train on.
            text: Column of texts, or two columns of pairs; tuples have the text first.
            label: Column of labels; tuples have them second. The class names that the dataset
                knows are used.
            val: Dataset of the same form.
            test: Dataset of the same form.
            split: See the class, like all below.
            seed: Decides the split and the order.
            group: Column of groups; tuples have them third.
            on_error: What happens to texts that cannot be used: "skip" or "raise".

        Raises:
            DataError: The dataset is a stream, or lacks a column.
        """
        parts = ((train, group), (val, None), (test, None))
        tables = [
            None
            if part is None
            else text_sources.from_dataset(part, text=text, label=label, group=by)
            for part, by in parts
        ]
        return cls._from_tables(tables, text, label, split, seed, on_error)

    @classmethod
    def _from_tables(
        cls,
        tables: Sequence[Table | None],
        text: Columns,
        label: LabelColumns,
        split: float,
        seed: int,
        on_error: OnError,
        *,
        label_delimiter: str | None = None,
    ) -> Self:
        named = dict(zip(cls._names, tables, strict=True))
        form = _form(columns_of(text), plain_columns(label), label_delimiter)
        parts = build_parts(form, named, split=split, seed=seed, on_error=on_error)
        if not isinstance(parts.spec, TextDataSpec):
            raise NoDataError(f"Expected texts, got {parts.spec.kind}.")
        data = cls(
            spec=parts.spec,
            train=parts.samples["train"],
            val=parts.samples.get("val"),
            test=parts.samples.get("test"),
            report=parts.report,
            seed=seed,
        )
        data.keys = parts.keys
        return data

    @property
    def sees(self) -> str:
        """What a training batch holds, in words for the table of what trains when."""
        return "texts" if self.batch_tokens is None else f"{self.batch_tokens:,} tokens of texts"

    def _whole_batches(self, samples: Samples) -> TokenBatches | None:
        if self.batch_tokens is None:
            return None
        if self.balance == "sampler":
            raise InvalidValueError(
                "batch_tokens= beside balance='sampler': which texts are drawn changes every epoch,"
                " and so would the number of batches. Use balance='weights', or batch_size=."
            )
        num_processes, rank = self.processes
        return TokenBatches(
            samples,
            batch_tokens=self.batch_tokens,
            max_rows=self.batch_size,
            seed=self.seed,
            num_processes=num_processes,
            rank=rank,
        )


def _form(text: tuple[str, ...], label: str | tuple[str, ...], label_delimiter: str | None) -> Form:
    return Form(
        noun="text",
        examine=lambda given, fully: examine_text(given, pairs=len(text) == 2),
        same=lambda first, second: bool(first == second),
        samples=lambda texts, ids, targets: TextSamples(texts, ids=ids, targets=targets),
        spec=lambda classes, _: TextDataSpec(
            classes=classes, text=text, label=label, label_delimiter=label_delimiter
        ),
    )
