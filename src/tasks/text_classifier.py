"""TextClassifier: put one of several labels on a text, or any number of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from ..backbones import Backbone, create
from ..data import TextData
from ..data.label_columns import LabelColumns
from ..data.module import BATCH_SIZE, Data
from ..data.samples import Samples
from ..data.sources import OnError
from ..data.split import rows_per_class
from ..data.text_inputs import labelled_texts, samples_of_texts
from ..data.text_samples import TextSamples, examine_text
from ..data.text_sources import Columns
from ..data.unlabelled_inputs import unlabelled_texts
from ..data.weak_strong import TextViews
from ..data.with_unlabelled import WeakAndStrong
from ..errors import InvalidValueError, NoDataError, UnreadableError, check_count
from ..specs import DataSpec, LongTexts, TextDataSpec, TextSpec
from .classifier import Classifier, check_classes, check_untouched
from .explain import Explanation, explain_text, token_table
from .masked import MaskedLanguage
from .results import Embeddings, Evaluation, History, Predictions
from .strategies import Strategy, freeze

_log = logging.getLogger("mealkit")

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"
"""22.7 M parameters, Apache-2.0. The encoder that the page of results measures; it is small enough
for a CPU, and with few labels its frozen features are hard to beat."""


class Unchanged(nn.Module):
    """Hand tokens on as they are: a net of texts needs no scaling."""

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Answer with what came in."""
        return tensors


class TextClassifier(Classifier):
    """Put one of several labels on a text or on a pair of texts, or any number of them.

    Args:
        backbone: A name from ``mealkit.backbones.find(kind="text")``, any encoder of the Hugging
            Face hub by its id, a folder of one, a saved task or a task, or what
            `mealkit.backbones.create` made.
        classes: Names of the labels.
        multi_label: Whether a text has any number of these labels, and not exactly one.
        pretrained: Whether the backbone starts from trained weights; None for yes where there are.
        weights: File or folder of weights for the backbone.
        max_length: Most tokens that the net sees of a text at once; None for the backbone's own.
        long: What happens to longer texts: ``"cut"``, or ``"chunk"`` to read them in windows.
        pooling: How tokens become one vector: ``"mean"``, ``"cls"``, ``"last"``, or ``"auto"`` for
            what the backbone was trained with.
        dropout: Share of the features that the head loses in training.

    Raises:
        UnknownNameError: There is no such backbone.
        WeightsError: The weights cannot be reached, or do not fit.
        ClassError: The classes cannot be meant.

    Example:
        >>> task = TextClassifier("mealkit_tiny_text", classes=["spam", "ham"], pretrained=False)
        >>> task.input_spec.max_length
        128
    """

    default_lr: ClassVar[tuple[float, float]] = (1e-4, 1e-3)

    few_labels: ClassVar[int] = 64
    """Training texts of a class (the median over classes) below which `finetune` leaves a
    pretrained backbone frozen where no strategy is named. Few labels make a backbone forget more
    than it learns: in the results of Tunstall et al. 2022 (arXiv:2209.11055) plain fine-tuning
    passes what is solved on frozen features at about this many."""

    def __init__(
        self,
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        *,
        classes: Sequence[str],
        multi_label: bool = False,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
        pooling: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        spec = TextDataSpec(classes=check_classes(classes), multi_label=multi_label)
        seen = {"max_length": max_length, "long": long}
        changes = {name: value for name, value in seen.items() if value is not None}
        if isinstance(backbone, Backbone):
            given = {"pretrained": pretrained, "weights": weights, "pooling": pooling, **seen}
            check_untouched(backbone, given)
            net = backbone
        else:
            net = create(
                backbone,
                spec,
                pretrained=pretrained,
                weights=weights,
                preprocessing=changes or None,
                options=None if pooling is None else {"pooling": pooling},
            )
        if not isinstance(net.input_spec, TextSpec):
            raise InvalidValueError(
                f"TextClassifier needs a backbone for texts, got one for {net.input_spec.kind}."
            )
        super().__init__(backbone=net, spec=spec, preprocess=Unchanged(), dropout=dropout)

    # Sources.

    def usual_strategy(self, data: Data | None) -> Strategy:
        """Answer with ``freeze`` where labels are few, and say so; with the usual one elsewhere."""
        targets = None if data is None or data.train is None else data.train.targets
        if targets is None or not self.backbone.pretrained:
            return super().usual_strategy(data)
        typical = int(rows_per_class(targets, len(self.classes)).median())
        if typical >= self.few_labels:
            return super().usual_strategy(data)
        _log.info(
            f"{typical} training texts per class are few (below {self.few_labels}): the backbone "
            "stays frozen and the head is solved. strategy='freeze_unfreeze' trains both."
        )
        return freeze

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
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from a CSV table (or one with tabs: .tsv) of texts and labels.

        See `TextData.from_csv` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_csv(
            path,
            text=text,
            label=label,
            label_delimiter=label_delimiter,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

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
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from JSON: an array of objects, or one object a line.

        See `TextData.from_json` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_json(
            path,
            text=text,
            label=label,
            label_delimiter=label_delimiter,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

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
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from a parquet table of texts and labels (needs ``mealkit[parquet]``).

        See `TextData.from_parquet` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_parquet(
            path,
            text=text,
            label=label,
            label_delimiter=label_delimiter,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

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
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from a data frame of texts and labels, pandas or polars.

        See `TextData.from_data_frame` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_data_frame(
            frame,
            text=text,
            label=label,
            label_delimiter=label_delimiter,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

    @classmethod
    def from_lists(
        cls,
        texts: Sequence[Any],  # Any: checked to be texts, or pairs of them
        labels: Sequence[Any],  # Any: checked to be str or int, or lists of them
        *,
        val: tuple[Sequence[Any], Sequence[Any]] | None = None,
        test: tuple[Sequence[Any], Sequence[Any]] | None = None,
        group: Sequence[Any] | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from texts, or tuples of two texts, and their labels.

        See `TextData.from_lists` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_lists(
            texts,
            labels,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

    @classmethod
    def from_folders(
        cls,
        train: str | Path,
        *,
        val: str | Path | None = None,
        test: str | Path | None = None,
        group: Callable[[str], str] | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from a folder with one subfolder of text files per class.

        See `TextData.from_folders` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_folders(
            train, val=val, test=test, group=group, split=split, seed=seed, on_error=on_error
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

    @classmethod
    def from_dataset(
        cls,
        train: Any,  # Any: a torch Dataset, or one of Hugging Face
        *,
        text: Columns = "text",
        label: str = "label",
        val: Any = None,
        test: Any = None,
        group: str | None = None,
        split: float = 0.2,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        max_length: int | None = None,
        long: LongTexts | None = None,
    ) -> Self:
        """Make a task from a torch or Hugging Face dataset.

        See `TextData.from_dataset` for the source and `TextClassifier` for the net.
        """
        data = TextData.from_dataset(
            train,
            text=text,
            label=label,
            val=val,
            test=test,
            group=group,
            split=split,
            seed=seed,
            on_error=on_error,
        )
        return cls._on(data, backbone, pretrained, weights, max_length, long)

    @classmethod
    def _on(
        cls,
        data: TextData,
        backbone: str | Path | nn.Module,
        pretrained: bool | None,
        weights: str | Path | None,
        max_length: int | None,
        long: LongTexts | None,
    ) -> Self:
        task = cls(
            backbone,
            classes=data.classes,
            multi_label=data.spec.multi_label,
            pretrained=pretrained,
            weights=weights,
            max_length=max_length,
            long=long,
        )
        task.data = data
        task.spec = data.spec
        return task

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the task that was saved with these settings."""
        task = super().from_settings(backbone, spec, settings)
        task.spec = spec  # it also names the columns
        return task

    def check_data(self, data: Data) -> None:
        """Refuse data of other classes, and single texts where pairs were learnt or the reverse."""
        super().check_data(data)
        pairs = isinstance(data.spec, TextDataSpec) and data.spec.pairs
        if pairs is not self._texts.pairs and not self.head_is_fresh:
            forms = ("pairs of texts", "single texts")
            learnt, got = forms if self._texts.pairs else forms[::-1]
            raise InvalidValueError(f"The task was trained on {learnt}, the data hold {got}.")

    def setup(self, stage: str) -> None:
        """Remember what the columns are called that are trained on."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, Data) and isinstance(data.spec, TextDataSpec):
            self.spec = replace(
                self._texts,
                text=data.spec.text,
                label=data.spec.label,
                label_delimiter=data.spec.label_delimiter,
            )

    def _pair(self, data: Data, unlabelled: Any) -> tuple[Samples, WeakAndStrong]:
        if not isinstance(data, TextData):
            raise InvalidValueError(f"data={data!r} beside unlabelled=: expected mealkit.TextData.")
        views = TextViews(data, self._text_spec)
        return unlabelled_texts(unlabelled, data.spec), views

    # Answers.

    def predict(
        self,
        inputs: Any,  # Any: whatever holds texts; samples_of_texts names what it takes
        *,
        text: Columns | None = None,
        batch_size: int = BATCH_SIZE,
        abstain: float | None = None,
        coverage: float | None = None,
    ) -> Predictions:
        """Label texts.

        Args:
            inputs: A text (or a pair of them), a list of these or of ``pathlib.Path`` of text
                files, a data frame, or the ``Path`` of a table (CSV, TSV, JSON, parquet) or of one
                text file.
            text: The column of a table, or the two of pairs; None for the one trained on. With it,
                a str is the path of a table.
            batch_size: Texts computed at a time.
            abstain: Give no label where the most probable class is less probable than this. Not
                where texts have any number of labels, like ``coverage``.
            coverage: Add the set of classes that holds the true one this often, on texts like those
                of the validation part (split conformal prediction, Sadinle et al. 2019,
                arXiv:1609.00451); needs `calibrate`.

        Returns:
            One row per input, in input order. Among several inputs, a missing or empty text gets an
            error row. Where texts have any number of labels, `MultiLabelPredictions`.

        Raises:
            UnreadableError: The one input is empty.
            NoDataError: There are no inputs.
            DataError: The inputs hold no texts, or lack the column.
            InvalidValueError: Sets are asked for and the task is not calibrated.
        """
        given = samples_of_texts(inputs, self._texts, text=text)
        return self._predict(given, batch_size, abstain=abstain, coverage=coverage)

    def embed(
        self,
        inputs: Any,  # Any: as in predict
        *,
        text: Columns | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Embeddings:
        """Answer with the features that the head sees, one vector per text, in input order.

        Args:
            inputs: As in `predict`.
            text: As in `predict`.
            batch_size: Texts computed at a time.

        Raises:
            UnreadableError: A text is missing or empty.
        """
        return self._embed(samples_of_texts(inputs, self._texts, text=text), batch_size)

    def neighbors(
        self,
        inputs: Any,  # Any: as in predict
        *,
        k: int = 5,
        data: TextData | None = None,
        text: Columns | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Any:  # Any: a frame of the kind that came in, pandas or polars
        """Find the training texts that read most alike to the backbone.

        Their features are computed once and kept in memory until the weights change.

        Args:
            inputs: As in `predict`.
            k: Neighbours of each input.
            data: Whose training part is searched; None for the data this task was made from.
            text: As in `predict`.
            batch_size: Texts computed at a time.

        Returns:
            A frame of k rows per input, the nearest first: ``input``, ``rank`` from 1, ``neighbor``
            (the row of a training text), its ``label``, and the cosine ``similarity``.

        Raises:
            UnreadableError: A text is missing or empty.
            NoDataError: There is no training part to search.
            InvalidValueError: There are fewer training texts than k.
        """
        given = samples_of_texts(inputs, self._texts, text=text)
        return self._neighbors(given, k, data, batch_size)

    def evaluate(
        self,
        data: Any = None,  # Any: see Args
        *,
        text: Columns | None = None,
        label: LabelColumns | None = None,
        label_delimiter: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Evaluation:
        """Score labelled texts that were not trained on.

        Args:
            data: A table (path or data frame), a folder with one subfolder per class, or
                `TextData`, of which the test part is scored, else the validation part. None for the
                data this task was made from.
            text: The column of texts of a table, or the two of pairs; None for the one trained on.
            label: Its column of labels, or its columns of 0 and 1; None for those trained on.
            label_delimiter: What stands between the labels of one cell of the column that ``label``
                names.
            batch_size: Texts computed at a time.

        Raises:
            NoDataError: There is nothing to score.
            ClassError: A label is none of the task's classes.
        """
        if data is None or isinstance(data, Data):
            if text is not None or label is not None or label_delimiter is not None:
                raise InvalidValueError("text= and label= name columns, and no table was given.")
            return self._evaluate(self._part_to_score(data), batch_size)
        samples = labelled_texts(
            data, self._texts, text=text, label=label, label_delimiter=label_delimiter
        )
        return self._evaluate(samples, batch_size)

    def adapt(
        self,
        texts: Any,  # Any: as in predict
        *,
        text: Columns | None = None,
        epochs: int = 1,
        lr: float = 5e-5,
        batch_size: int = BATCH_SIZE,
    ) -> History:
        """Let the backbone read unlabelled texts of your field, before `finetune`.

        Words are hidden and guessed (masked language modelling, see `MaskedLanguage`); the guessing
        head is thrown away afterwards. Worth a try where the texts are unlike what the backbone was
        trained on and there are many of them (Gururangan et al. 2020, arXiv:2004.10964).

        Args:
            texts: As in `predict`; labels are not needed, and test texts do not belong here.
            text: As in `predict`.
            epochs: How often every text is read.
            lr: Peak learning rate.
            batch_size: Texts in a batch.

        Returns:
            One row per epoch, with the loss of the hidden words.

        Raises:
            NoDataError: There are no texts, or so few words that none would be hidden.
            BackboneError: The backbone cannot guess words: it is a decoder, or no net of words.
        """
        check_count("batch_size", batch_size)
        objective = MaskedLanguage(
            self._text_spec, token_table(self.backbone), num_features=self.backbone.num_features
        )
        samples = samples_of_texts(texts, self._texts, text=text).samples
        if not isinstance(samples, TextSamples) or not samples.num_usable:
            raise NoDataError("Not one of the texts can be read: all are missing or empty.")
        samples.prepare(self._text_spec)
        objective.check(samples, batch_size=batch_size)
        if not self.head_is_fresh:
            _log.warning("The head had learnt other features than those of now: it is fresh again.")
            self.reset_head()
        data = TextData(spec=self._texts, train=samples)
        data.batch_size = batch_size
        return self.fit_stage(data, objective=objective, lr=lr, epochs=epochs)

    def explain(
        self, text: str | tuple[str, str], *, label: str | None = None, steps: int = 32
    ) -> Explanation:
        """Say which words of a text speak for a label, and which against it.

        By integrated gradients (arXiv:1703.01365) from a text of padding to this one. Printed in a
        terminal or shown in a notebook, the answer is the text in colours.

        Args:
            text: A text, or a pair.
            label: What to explain; None for the most probable one.
            steps: Points of the path that are computed, all in one batch. With more, the values add
                up more exactly; the answer's ``error`` says how exactly.

        Raises:
            UnknownNameError: The label is none of the classes.
            UnreadableError: The text is empty.
        """
        _, problem = examine_text(text, pairs=self._texts.pairs)
        if problem is not None:
            raise UnreadableError(f"The text cannot be explained: {problem}.", reason=problem)
        return explain_text(self, text, label=label, steps=steps)

    @property
    def _text_spec(self) -> TextSpec:
        if not isinstance(self.input_spec, TextSpec):
            raise InvalidValueError(f"Expected what a net of texts wants, got {self.input_spec}.")
        return self.input_spec

    @property
    def _texts(self) -> TextDataSpec:
        if not isinstance(self.spec, TextDataSpec):
            raise InvalidValueError(f"Expected what texts tell, got {self.spec}.")
        return self.spec
