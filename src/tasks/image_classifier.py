"""ImageClassifier: put one of several labels on a picture, or any number of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn

from ..backbones import Backbone, create
from ..backbones.text_tower import text_tower
from ..data import Data, ImageData, samples_from
from ..data.augment import views
from ..data.inputs import Inputs, labelled_from
from ..data.label_columns import LabelColumns
from ..data.module import BATCH_SIZE
from ..data.samples import Samples
from ..data.unlabelled_inputs import unlabelled_pictures
from ..data.weak_strong import PictureViews
from ..data.with_unlabelled import WeakAndStrong
from ..errors import InvalidValueError, check_switch
from ..specs import Batch, DataSpec, ImageDataSpec, ImageSpec
from .classifier import check_classes, check_untouched
from .normalise import Normalise
from .pictures import predicted_pictures, training_pictures
from .results import Embeddings, Evaluation, Predictions
from .sourced_images import DEFAULT_BACKBONE, SourcedImages
from .zero_shot import Prompts, describe_classes, head_of_texts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ImageClassifier(SourcedImages):
    """Put one of several labels on a picture, or any number of them.

    Args:
        backbone: A name from `mealkit.backbones.find`, a folder of weights, a saved task or a task,
            any ``nn.Module`` that returns features, or what `mealkit.backbones.create` made.
        classes: Names of the labels.
        multi_label: Whether a picture has any number of these labels, and not exactly one.
        pretrained: Whether the backbone starts from trained weights; None for yes where there are.
        weights: File or folder of weights for the backbone.
        in_chans: Number of channels of a picture; None for 3, or what a finished backbone has.
        size: Height and width in pixels; None for the backbone's own.
        dropout: Share of the features that the head loses in training.

    Raises:
        UnknownNameError: There is no such backbone.
        WeightsError: The weights cannot be reached, or do not fit.
        ClassError: The classes cannot be meant.

    Example:
        >>> task = ImageClassifier("mealkit_tiny", classes=["ant", "bee"], pretrained=False)
        >>> task.input_spec.size
        (32, 32)
    """

    default_lr: ClassVar[tuple[float, float]] = (2e-4, 2e-3)

    def __init__(
        self,
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        *,
        classes: Sequence[str],
        multi_label: bool = False,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
        dropout: float = 0.0,
    ) -> None:
        names = check_classes(classes)
        check_switch("multi_label", multi_label)
        wanted = ImageDataSpec(
            classes=names, in_chans=3 if in_chans is None else in_chans, size=size
        )
        if isinstance(backbone, Backbone):
            check_untouched(backbone, {"pretrained": pretrained, "weights": weights, "size": size})
            net = backbone
        else:
            net = create(backbone, wanted, pretrained=pretrained, weights=weights)
        wants = net.input_spec
        if not isinstance(wants, ImageSpec):
            raise InvalidValueError(
                f"ImageClassifier needs a backbone for images, got one for {wants.kind}."
            )
        if in_chans is not None and wants.in_chans != in_chans:
            raise InvalidValueError(
                f"The backbone was built for {wants.in_chans} channels, in_chans={in_chans} are "
                "asked for: build it with mealkit.backbones.create(name, ImageDataSpec(in_chans="
                f"{in_chans}))."
            )
        convolves = any(isinstance(module, nn.Conv2d) for module in net.modules())
        if convolves:
            net.to(memory_format=torch.channels_last)
        super().__init__(
            backbone=net,
            spec=ImageDataSpec(
                classes=names, multi_label=multi_label, in_chans=wants.in_chans, size=size
            ),
            preprocess=Normalise(wants, channels_last=convolves),
            dropout=dropout,
        )

    # How it is made.

    @classmethod
    def zero_shot(
        cls,
        classes: Sequence[str],
        *,
        backbone: str | Path,
        prompts: Prompts | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a task that knows its classes by their names, without a single labelled picture.

        A net that was trained on pictures and their captions embeds both in one space. The texts
        that describe a class become its row of the head; afterwards this is a task as any other,
        which needs no encoder of texts. Its probabilities are those among the classes given: one of
        them is right, also for a SigLIP, whose bias the head keeps. `finetune` goes on from this
        head; ``task.reset_head()`` ahead of it forgets the texts.

        Args:
            classes: Names of the labels, in words that captions have.
            backbone: A CLIP or a SigLIP of transformers: a hub id
                (``"openai/clip-vit-base-patch32"``) or a folder with its tokenizer.
            prompts: Sentences with ``{}`` for the name of a class, whose embeddings are averaged;
                or the sentences of each class, by its name. None for
                `mealkit.tasks.zero_shot.PROMPTS`.
            size: Height and width in pixels; None for the backbone's own.

        Raises:
            ClassError: The classes cannot be meant.
            InvalidValueError: A prompt has no ``{}``, or is too long.
            BackboneError: The backbone has no encoder of texts.
            WeightsError: The weights cannot be reached, or do not fit.
        """
        names = check_classes(classes)
        texts = describe_classes(names, prompts)
        tower = text_tower(backbone)
        wanted = ImageDataSpec(classes=names, size=size)
        task = cls(create(backbone, wanted, options={"features": "shared"}), classes=names)
        task.set_head(*head_of_texts(tower, texts))
        task.eval()
        return task

    @classmethod
    def _on(
        cls,
        data: ImageData,
        backbone: str | Path | nn.Module,
        pretrained: bool | None,
        weights: str | Path | None,
        in_chans: int | None,
        size: int | tuple[int, int] | None,
    ) -> Self:
        task = cls(
            backbone,
            classes=data.classes,
            multi_label=data.spec.multi_label,
            pretrained=pretrained,
            weights=weights,
            # Files are read in as many channels as the net wants; arrays have what they have.
            in_chans=data.spec.in_chans
            if in_chans is None and data.spec.in_chans != 3
            else in_chans,
            size=size,
        )
        task.data = data
        task._learn_columns(data.spec)
        return task

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the task that was saved with these settings."""
        task = super().from_settings(backbone, spec, settings)
        task._learn_columns(spec)
        return task

    def setup(self, stage: str) -> None:
        """Remember what the columns are called that are trained on."""
        super().setup(stage)
        data = getattr(self.trainer, "datamodule", None)
        if stage == "fit" and isinstance(data, Data):
            self._learn_columns(data.spec)

    def _learn_columns(self, spec: DataSpec) -> None:
        if isinstance(spec, ImageDataSpec):
            self.spec = replace(
                self._images,
                image=spec.image,
                label=spec.label,
                label_delimiter=spec.label_delimiter,
            )

    @property
    def _images(self) -> ImageDataSpec:
        if not isinstance(self.spec, ImageDataSpec):
            raise InvalidValueError(f"Expected what pictures tell, got {self.spec}.")
        return self.spec

    def check_data(self, data: Data) -> None:
        """Refuse data of other classes, or pictures of another number of channels."""
        super().check_data(data)
        if isinstance(data, ImageData):
            data.check_channels(self._images.in_chans)

    def _pair(self, data: Data, unlabelled: Any) -> tuple[Samples, WeakAndStrong]:
        if not isinstance(data, ImageData):
            raise InvalidValueError(
                f"data={data!r} beside unlabelled=: expected mealkit.ImageData."
            )
        return unlabelled_pictures(unlabelled), PictureViews(data)

    # Answers.

    def predict(
        self,
        inputs: Any,  # Any: whatever holds pictures; samples_from names what it takes
        *,
        image: str | None = None,
        batch_size: int = BATCH_SIZE,
        abstain: float | None = None,
        coverage: float | None = None,
        tta: bool = False,
    ) -> Predictions:
        """Label pictures.

        Args:
            inputs: A path, URL, PIL image, array, tensor or bytes; a list of these; a folder; a
                data frame with a column of paths.
            image: The column of a data frame; None for the one trained on, or to find it.
            batch_size: Pictures computed at a time.
            abstain: Give no label where the most probable class is less probable than this. Not
                where pictures have any number of labels, like ``coverage``.
            coverage: Add the set of classes that holds the true one this often, on pictures like
                those of the validation part (split conformal prediction, Sadinle et al. 2019,
                arXiv:1609.00451); needs `calibrate`.
            tta: Average the probabilities of each picture and of its mirror image: twice the work,
                and wrong where left and right mean something.

        Returns:
            One row per input, in input order. Among several inputs, one that cannot be read gets
            an error row. Where pictures have any number of labels, `MultiLabelPredictions`.

        Raises:
            UnreadableError: The one input cannot be read.
            NoDataError: There are no inputs.
            InvalidValueError: Sets are asked for and the task is not calibrated; or with tta.
        """
        given = self._given(inputs, image)
        return self._predict(given, batch_size, abstain=abstain, coverage=coverage, tta=tta)

    def _given(self, inputs: Any, image: str | None) -> Inputs:  # Any: as in predict
        return samples_from(inputs, image=image, usual=self._images.image)

    def _views(self) -> Callable[[Batch], list[Batch]]:
        return lambda batch: [{**batch, "image": images} for images in views(batch["image"])]

    def embed(
        self,
        inputs: Any,  # Any: as in predict
        *,
        image: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Embeddings:
        """Answer with the features that the head sees, one vector per picture, in input order.

        Args:
            inputs: As in `predict`.
            image: The column of a data frame.
            batch_size: Pictures computed at a time.

        Raises:
            UnreadableError: An input cannot be read.
        """
        return self._embed(self._given(inputs, image), batch_size)

    def neighbors(
        self,
        inputs: Any,  # Any: as in predict
        *,
        k: int = 5,
        data: ImageData | None = None,
        image: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Any:  # Any: a frame of the kind that came in, pandas or polars
        """Find the training pictures that look most alike to the backbone.

        Their features are computed once and kept in memory until the weights change.

        Args:
            inputs: As in `predict`.
            k: Neighbours of each input.
            data: Whose training part is searched; None for the data this task was made from.
            image: The column of a data frame.
            batch_size: Pictures computed at a time.

        Returns:
            A frame of k rows per input, the nearest first: ``input``, ``rank`` from 1, ``neighbor``
            (the id of a training picture), its ``label``, and the cosine ``similarity``.

        Raises:
            UnreadableError: An input cannot be read.
            NoDataError: There is no training part to search.
            InvalidValueError: There are fewer training pictures than k.
        """
        return self._neighbors(self._given(inputs, image), k, data, batch_size)

    def evaluate(
        self,
        data: Any = None,  # Any: see Args
        *,
        image: str | None = None,
        label: LabelColumns | None = None,
        label_delimiter: str | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Evaluation:
        """Score labelled pictures that were not trained on.

        Args:
            data: A folder with one subfolder per class; a CSV file or a data frame; or `ImageData`,
                of which the test part is scored, else the validation part. None for the data this
                task was made from.
            image: The column of paths of a table, relative to the CSV file or the working folder;
                None for the one trained on.
            label: Its column of labels, or its columns of 0 and 1, one per class; None for those
                trained on.
            label_delimiter: What stands between the labels of one cell of the column that ``label``
                names.
            batch_size: Pictures computed at a time.

        Returns:
            Metrics and tables; where pictures have any number of labels, `MultiLabelEvaluation`.

        Raises:
            NoDataError: There is nothing to score.
            ClassError: A label is none of the task's classes.
            InvalidValueError: Columns are named without a table; or nobody knows those of one; or
                the task gives several labels, and a folder says one.
        """
        if data is not None and not isinstance(data, Data):
            samples = labelled_from(
                data, spec=self._images, image=image, label=label, label_delimiter=label_delimiter
            )
            return self._evaluate(samples, batch_size)
        if image is not None or label is not None or label_delimiter is not None:
            raise InvalidValueError("image= and label= name columns, and no table was given.")
        return self._evaluate(self._part_to_score(data), batch_size)

    # Pictures.

    def show_batch(self, n: int = 9, *, data: ImageData | None = None) -> Figure:
        """Draw training pictures as the net sees them, with their classes (``mealkit[plots]``).

        They are resized, cropped and augmented as in the first epoch that trains the backbone, and
        normalised and back again.

        Args:
            n: How many pictures.
            data: Whose training part is shown; None for the data this task was made from.

        Raises:
            NoDataError: There is no training part.
        """
        from ..plots import plot_pictures

        return plot_pictures(*training_pictures(self, self._source(data, "data="), n))

    def show_predictions(
        self,
        inputs: Any,  # Any: as in predict
        *,
        n: int = 9,
        image: str | None = None,
    ) -> Figure:
        """Draw pictures as the net sees them, with their predicted labels (``mealkit[plots]``).

        Args:
            inputs: As in `predict`.
            n: How many of them are predicted and drawn, from the first on.
            image: The column of a data frame.

        Raises:
            UnreadableError: The one input cannot be read. Among several it leaves a gap.
        """
        from ..plots import plot_pictures

        return plot_pictures(*predicted_pictures(self, self._given(inputs, image), n))
