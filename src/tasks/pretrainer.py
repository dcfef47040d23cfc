"""SSLPretrainer: learn a backbone from inputs without labels, and hand it to a task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from safetensors.torch import save_file
from torch import nn
from torchmetrics import MetricCollection

from ..backbones import Backbone
from ..backbones.stem import STEM
from ..data import Data, TextData, TextSamples
from ..data.module import BATCH_SIZE
from ..data.sources import OnError
from ..data.text_inputs import samples_of_texts
from ..data.text_sources import Columns
from ..data.unlabelled import UnlabelledImages
from ..errors import InvalidValueError, NoDataError, unknown_name
from ..specs import DataSpec, Kind, TextDataSpec
from .classification import embed_samples
from .collapse import CollapseAlarm, OnCollapse
from .pretext import METHODS, Method, Pretext, method_from, resolve_method
from .pretrain_evaluation import Asked, PretrainEvaluation, evaluate_backbone
from .pretrain_kinds import KINDS, Pictures, PretrainKind
from .probing import Probing
from .results import Embeddings, History, Predictions
from .strategies import Strategy, full, name_of, resolve
from .task import Task
from .training import Plan, Training

_log = logging.getLogger("mealkit")

DEFAULT_BACKBONE = "resnet18"
"""11 M parameters: the net of most published comparisons of methods on small sets of pictures."""

DEFAULT_TEXT_BACKBONE = "distilbert-base-uncased"
"""66 M parameters, Apache-2.0, trained by guessing words, as it is here."""

PRETRAIN_BATCH_SIZE: dict[Kind, int] = {"image": 256, "text": BATCH_SIZE}
"""Rows in a batch when nobody says otherwise: several methods for pictures compare within it."""


NUM_EPOCHS = 100
"""How often every input is seen when nobody says otherwise."""


class SSLPretrainer(Task):
    """Learn a backbone from pictures without labels, and hand it to a task with few.

    ``pre.backbone``, the pretrainer itself and the folder it was saved to are all backbones for
    every task of the kind: ``ImageClassifier.from_folders("few_labels", backbone=pre)``.

    Args:
        backbone: A name from `mealkit.backbones.find`, a folder of weights, a saved task or a task,
            any ``nn.Module`` that returns features, or what `mealkit.backbones.create` made.
        method: A name of `SSLPretrainer.methods`, or a method with settings of your own, such as
            ``SimCLR(temperature=0.5)``.
        pretrained: Whether the backbone starts from trained weights. None for random ones where a
            name is given, and for those that a folder, a task or a module holds.
        weights: File or folder of weights to start from.
        in_chans: Number of channels of a picture; None for 3, or what a finished backbone has.
        size: Height and width in pixels; None for the backbone's own.

    Raises:
        UnknownNameError: There is no such backbone or method.
        BackboneError: The method cannot take the backbone.
        WeightsError: Weights cannot be reached, or do not fit.

    Example:
        >>> pre = SSLPretrainer("mealkit_tiny", method="simclr")
        >>> pre.backbone.num_features
        176
    """

    monitor = "train/loss"
    monitor_mode = "min"
    default_lr: ClassVar[tuple[float, float]] = (2e-3, 2e-3)
    verb: ClassVar[str] = "pretrain"
    saved_parts: ClassVar[tuple[str, ...]] = ("backbone.", "objective.")
    trains_beside: ClassVar[str] = "projector"

    def __init__(
        self,
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        *,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> None:
        chosen = resolve_method(method)
        kind = KINDS[chosen.kind]
        net = kind.build(
            backbone, pretrained=pretrained, weights=weights, in_chans=in_chans, size=size
        )
        self._watched: tuple[Data | None, int | None, OnCollapse] = (None, None, "warn")
        super().__init__(
            backbone=net,
            head=nn.Identity(),
            spec=kind.spec_of(net),
            preprocess=kind.preprocess(net),
            objective=chosen.objective(net),
            metrics=MetricCollection({}),
        )

    @staticmethod
    def methods() -> list[str]:
        """List the names of the methods, each a class with its paper in `mealkit.tasks.METHODS`.

        Example:
            >>> "simclr" in SSLPretrainer.methods()
            True
        """
        return sorted(METHODS)

    @property
    def method(self) -> Method:
        """How it learns: settings and paper."""
        return self._pretext.method

    @property
    def _kind(self) -> PretrainKind:
        return KINDS[self.method.kind]

    @property
    def _pretext(self) -> Pretext:
        if not isinstance(self.objective, Pretext):
            raise InvalidValueError(f"Expected the objective of a method, got {self.objective}.")
        return self.objective

    # Sources.

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for all pictures below a folder, whatever its subfolders are called.

        See `UnlabelledImages.from_folder` for the source and `SSLPretrainer` for the net. Pictures
        of up to 64 pixels are seen at their own size, by a net that is made to keep more of them;
        the log says how.
        """
        data = UnlabelledImages.from_folder(folder, seed=seed, on_error=on_error)
        return cls._on(data, backbone, method, pretrained, weights, in_chans, size)

    @classmethod
    def from_files(
        cls,
        paths: Sequence[str | Path],
        *,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for files.

        See `UnlabelledImages.from_files` for the source and `from_folder` for the net.
        """
        data = UnlabelledImages.from_files(paths, seed=seed, on_error=on_error)
        return cls._on(data, backbone, method, pretrained, weights, in_chans, size)

    @classmethod
    def from_data_frame(
        cls,
        frame: Any,  # Any: a DataFrame of pandas or polars
        *,
        image: str,
        root: str | Path | None = None,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for files whose paths stand in a column of a frame.

        See `UnlabelledImages.from_data_frame` for the source and `from_folder` for the net.
        """
        data = UnlabelledImages.from_data_frame(
            frame, image=image, root=root, seed=seed, on_error=on_error
        )
        return cls._on(data, backbone, method, pretrained, weights, in_chans, size)

    @classmethod
    def from_arrays(
        cls,
        images: Any,  # Any: an array, a tensor, or a list of arrays or PIL images
        *,
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for arrays, tensors or PIL images.

        See `UnlabelledImages.from_arrays` for the source and `from_folder` for the net.
        """
        data = UnlabelledImages.from_arrays(images, seed=seed, on_error=on_error)
        return cls._on(data, backbone, method, pretrained, weights, in_chans, size)

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,  # Any: a torch Dataset, or one of Hugging Face
        *,
        image: str = "image",
        seed: int = 0,
        on_error: OnError = "skip",
        backbone: str | Path | nn.Module = DEFAULT_BACKBONE,
        method: str | Method = "simclr",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
    ) -> Self:
        """Make a pretrainer for the pictures of a torch or Hugging Face dataset.

        See `UnlabelledImages.from_dataset` for the source and `from_folder` for the net.
        """
        data = UnlabelledImages.from_dataset(dataset, image=image, seed=seed, on_error=on_error)
        return cls._on(data, backbone, method, pretrained, weights, in_chans, size)

    @classmethod
    def _on(
        cls,
        data: UnlabelledImages,
        backbone: str | Path | nn.Module,
        method: str | Method,
        pretrained: bool | None,
        weights: str | Path | None,
        in_chans: int | None,
        size: int | tuple[int, int] | None,
    ) -> Self:
        # Files are read in as many channels as the net wants; arrays have what they have.
        if in_chans is None and data.spec.in_chans != 3:
            in_chans = data.spec.in_chans
        net: str | Path | nn.Module = backbone
        if size is None and not pretrained and weights is None:
            found = Pictures().for_small(backbone, data.side, in_chans)
            if found is not None:
                net, pretrained, in_chans = found, None, None
        task = cls(
            net, method=method, pretrained=pretrained, weights=weights, in_chans=in_chans, size=size
        )
        task.data = data
        return task

    @classmethod
    def from_texts(
        cls,
        texts: Any,  # Any: whatever holds texts; samples_of_texts names what it takes
        *,
        text: str | None = None,
        seed: int = 0,
        backbone: str | Path | nn.Module = DEFAULT_TEXT_BACKBONE,
        method: str | Method = "mlm",
        pretrained: bool | None = None,
        weights: str | Path | None = None,
    ) -> Self:
        """Make a pretrainer for texts, which goes on from trained weights where there are.

        Missing and empty texts are left out.

        Args:
            texts: A list of texts, a data frame, or the path of a table (CSV, TSV, JSON, parquet).
            text: The column of a table.
            seed: Decides the order.
            backbone: As `TextClassifier` takes it.
            method: A method for texts.
            pretrained: Whether the backbone starts from trained weights; None for yes where there
                are.
            weights: File or folder of weights to start from.

        Raises:
            NoDataError: There are no texts.
            BackboneError: The backbone cannot guess words.
        """
        spec = TextDataSpec() if text is None else TextDataSpec(text=(text,))
        samples = samples_of_texts(texts, spec, text=text).samples
        if not isinstance(samples, TextSamples) or not samples.num_usable:
            raise NoDataError("Not one of the texts can be read: all are missing or empty.")
        lost = len(samples) - samples.num_usable
        if lost:
            _log.warning(
                f"Left out {lost:,} of {len(samples):,} texts, which are missing or empty."
            )
        task = cls(backbone, method=method, pretrained=pretrained, weights=weights)
        task.data = TextData(spec=spec, train=samples, seed=seed)
        task.spec = spec
        return task

    # Training.

    @property
    def freezes_batch_norm(self) -> bool:
        """False unless asked: what is learnt without labels needs statistics of its own."""
        return self.plan.training.batch_norm == "frozen"

    def caches_features(self, trainer: pl.Trainer) -> bool:
        """Answer with False: the backbone trains from the first step."""
        return False

    def usual_strategy(self, data: Data | None) -> Strategy:
        """Train everything from the first step, also what was trained before."""
        return full

    def plan_training(
        self,
        *,
        strategy: str | Strategy | None = None,
        lr: float | Literal["auto"] | None = None,
        training: Training | None = None,
    ) -> Self:
        """Decide what happens when a Trainer fits this task; `pretrain` does this by itself.

        Args:
            strategy: ``"full"`` or None; nothing of the backbone is frozen.
            lr: Peak learning rate of AdamW; None for the method's own.
            training: The other settings; None for the method's own.

        Returns:
            The task itself, so that the call can be chained.
        """
        if strategy is not None and resolve(strategy) is not full:
            raise InvalidValueError(
                f"strategy={name_of(resolve(strategy))!r}: a pretrainer trains all of the "
                "backbone. Leave it out."
            )
        if isinstance(lr, str):
            raise InvalidValueError(f"lr={lr!r}: expected a positive number or None.")
        method = self.method
        self.plan = Plan(
            strategy=full,
            lr=method.lr if lr is None else lr,
            training=method.training if training is None else training,
        )
        return self

    def watch(
        self,
        *,
        probe: str | Path | Data | None = None,
        probe_every: int | None = None,
        on_collapse: OnCollapse = "warn",
    ) -> Self:
        """Decide what is looked at while a Trainer fits this task; see `pretrain`.

        Returns:
            The task itself, so that the call can be chained.
        """
        if on_collapse not in ("warn", "stop"):
            raise unknown_name("reaction to a collapse", str(on_collapse), ("warn", "stop"))
        if probe is None and probe_every is not None:
            raise InvalidValueError(
                f"probe_every={probe_every} without probe=: there is nothing to probe on. Give a "
                "folder of labelled pictures."
            )
        labelled = None if probe is None else self._kind.labelled(probe)
        if labelled is not None:
            Probing(self, labelled, every=probe_every)  # which refuses what it cannot use
        self._watched = (labelled, probe_every, on_collapse)
        return self

    def configure_callbacks(self) -> list[pl.Callback]:
        """Attach the alarm and the probes to any Trainer that fits this task."""
        attached = super().configure_callbacks()
        labelled, every, on_collapse = self._watched
        attached.append(CollapseAlarm(self, on_collapse))
        if labelled is not None:
            attached.append(Probing(self, labelled, every=every))
        return attached

    def check_data(self, data: Data) -> None:
        """Refuse labelled data, other kinds, and arrays of another number of channels.

        Raises:
            InvalidValueError: They do not fit.
        """
        self._kind.check_data(data, self.backbone)

    def pretrain(
        self,
        data: Data | None = None,
        *,
        epochs: int | None = None,
        lr: float | None = None,
        batch_size: int | Literal["auto"] | None = None,
        run: str | Path | None = None,
        resume: bool = False,
        probe: str | Path | Data | None = None,
        probe_every: int | None = None,
        on_collapse: OnCollapse = "warn",
        precision: str | None = None,
        training: Training | None = None,
        trainer: pl.Trainer | None = None,
        logger: Logger | None = None,
        callbacks: Sequence[pl.Callback] = (),
    ) -> History:
        """Learn from inputs without labels; the last weights are in the task afterwards.

        A second call goes on from the current weights with a new schedule.

        Args:
            data: What to learn from; None for the data this task was made from.
            epochs: How often every input is seen; None for 100. Learning without labels takes many.
            lr: Peak learning rate of AdamW; None for the method's own.
            batch_size: Rows in a batch; None for the data's own, else the method's: 256, or 64
                where little or nothing is told from the batch (``pre.method.batch_size``).
                ``"auto"`` halves that until a step fits into memory, and adds up gradients.
            run: Folder for settings, history, checkpoint, curves and the saved task. Never
                overwritten.
            resume: Whether a run that was stopped goes on from its checkpoint, to the weights that
                it would have come to: teacher, queue, schedule and chance go on, too.
            probe: Labelled pictures on which the features are measured while they are learnt: a
                folder with one subfolder per class, or `ImageData`. Nothing is learnt from them.
            probe_every: Epochs from one probe to the next; None for a tenth of the run, or more
                where probes would take over 5 % of its passes.
            on_collapse: ``"warn"`` where embeddings become all alike, or ``"stop"`` to end the run.
            precision: ``"auto"``, ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``; None for the
                task's own, which is automatic at first.
            training: The settings changed once in a while, in place of ``pre.method.training``.
            trainer: Your own Trainer, in place of ours.
            logger: Added to our Trainer.
            callbacks: Added to our Trainer.

        Returns:
            One row per epoch: the loss, ``embedding/spread`` and ``embedding/rank``, and where
            there is a probe ``probe/knn`` and ``probe/linear``.

        Raises:
            NoDataError: There is nothing to learn from.
            InvalidValueError: Arguments contradict each other or the data.
            RunError: The run folder is in use, or its run was made with other settings or data.
        """
        self.watch(probe=probe, probe_every=probe_every, on_collapse=on_collapse)
        source = self._resolve_data(data)
        size = batch_size
        if size is None and source.batch_size is None:
            size = self.method.batch_size or PRETRAIN_BATCH_SIZE[self.method.kind]
        self._introduce(source, size)
        return super().finetune(
            source,
            epochs=NUM_EPOCHS if epochs is None and trainer is None else epochs,
            lr=lr,
            batch_size=size,
            run=run,
            resume=resume,
            precision=precision,
            training=self.method.training if training is None else training,
            trainer=trainer,
            logger=logger,
            callbacks=callbacks,
        )

    def _introduce(self, data: Data, batch_size: int | str | None) -> None:
        """Say what is about to be learnt, and warn of batches that are too small for it."""
        method = self.method
        paper = (type(method).__doc__ or "").partition("\n")[0].rstrip(".")
        size = batch_size if batch_size is not None else data.batch_size
        _log.info(f"Pretraining by {method.name}: {paper}.")
        count = len(data.train or ())
        rows = min(size, count) if isinstance(size, int) else count
        if rows < min(2, method.few_rows):
            raise InvalidValueError(
                f"Batches of {rows} row: {method.name} compares within a batch. Give batch_size=, "
                "or more inputs."
            )
        if isinstance(size, int) and rows < method.few_rows:
            _log.warning(
                f"Batches of {rows} rows: {method.name} compares within a batch and wants at least "
                f"{method.few_rows}. Give batch_size=, more inputs, or choose method='moco'."
            )

    def finetune(
        self,
        data: Data | None = None,
        *,
        epochs: int | None = None,
        strategy: str | Strategy | None = None,
        lr: float | Literal["auto"] | None = None,
        batch_size: int | Literal["auto"] | None = None,
        run: str | Path | None = None,
        resume: bool = False,
        precision: str | None = None,
        training: Training | None = None,
        trainer: pl.Trainer | None = None,
        logger: Logger | None = None,
        callbacks: Sequence[pl.Callback] = (),
    ) -> History:
        """Refuse: a pretrainer has no labels to be fine-tuned on.

        Raises:
            InvalidValueError: Always; the message says what to call.
        """
        raise InvalidValueError(
            "A pretrainer learns without labels: call pre.pretrain(). To fine-tune what it has "
            "learnt, hand it over: ImageClassifier.from_folders(..., backbone=pre).finetune()."
        )

    # Answers.

    def predict(self, inputs: Any, *, batch_size: int = BATCH_SIZE) -> Predictions:
        """Refuse: a pretrainer knows no labels to answer with.

        Raises:
            InvalidValueError: Always; the message says what to call.
        """
        raise InvalidValueError(
            "A pretrainer has no labels to predict. Take pre.embed(inputs) for features, or hand "
            "it to a task: ImageClassifier.from_folders(..., backbone=pre)."
        )

    def embed(
        self,
        inputs: Any,  # Any: whatever holds inputs, see Args
        *,
        image: str | None = None,
        text: Columns | None = None,
        batch_size: int = BATCH_SIZE,
    ) -> Embeddings:
        """Answer with the features of the backbone, one vector per input, in input order.

        Args:
            inputs: As in `ImageClassifier.predict`, or as in `TextClassifier.predict`.
            image: The column of a data frame of pictures.
            text: The column of a table of texts.
            batch_size: Inputs computed at a time.

        Raises:
            UnreadableError: An input cannot be read.
        """
        given = self._kind.samples(inputs, self.spec, image=image, text=text)
        return embed_samples(self, given.samples, batch_size=batch_size)

    def evaluate(
        self,
        labelled: str | Path | Data,
        *,
        protocol: str | Sequence[str] = ("knn", "linear"),
        label_fractions: Sequence[float] = (1.0,),
        seeds: int | Sequence[int] = 1,
        epochs: int = 20,
        batch_size: int = BATCH_SIZE,
    ) -> PretrainEvaluation:
        """Score the features on labelled inputs, beside those of the same net with random weights.

        Whatever is chosen (the penalty of a linear head) is chosen on the labels that are learnt
        from, and never on those that are scored.

        Args:
            labelled: A folder with one subfolder per class, of which a fifth is scored; or
                `ImageData`, of which the test part is scored, else the validation part.
            protocol: ``"knn"`` (20 neighbours), ``"linear"`` (a head on frozen features) and
                ``"finetune"`` (of the whole net; an untrained one learns from scratch).
            label_fractions: Shares of the labelled training part that are learnt from, drawn class
                by class.
            seeds: How many draws of labels, or the seeds of them.
            epochs: Of fine-tuning.
            batch_size: Inputs computed at a time.

        Raises:
            NoDataError: There is nothing to learn from or to score.
            InvalidValueError: A value that cannot be meant.
        """
        data = self._kind.labelled(labelled)
        asked = Asked(
            protocol=(protocol,) if isinstance(protocol, str) else tuple(protocol),
            fractions=tuple(label_fractions),
            seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
            epochs=epochs,
            batch_size=batch_size,
        )
        if "knn" in asked.protocol and not self.method.neighbors_tell:
            _log.info(f"Nearest neighbours say little of features by {self.method.name}.")
        return evaluate_backbone(self.backbone, data, asked, self._kind.classifier)

    # Keeping and handing over.

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside backbone and data."""
        return {"method": self.method.settings()}

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the pretrainer that was saved with these settings."""
        return cls(backbone, method=method_from(settings["method"]))

    def export(self, path: str | Path) -> Path:
        """Write the weights of the backbone alone, under the names of the library it comes from.

        The file loads with ``load_state_dict`` into the same net of timm or torchvision without its
        classifier (``num_classes=0``, or ``net.fc = nn.Identity()``). A net that was changed for
        small pictures must be changed alike first; the log says how.

        Args:
            path: Of the file, which ends in ``.safetensors`` and is written anew.

        Returns:
            The path.

        Raises:
            InvalidValueError: The path has another ending.
        """
        file = Path(path)
        if file.suffix != ".safetensors":
            raise InvalidValueError(
                f"path={str(path)!r}: weights are written as safetensors. Name a file that ends in "
                ".safetensors; for the whole pretrainer use save()."
            )
        net = self.backbone.get_submodule("net")
        tensors = {
            name: value.detach().cpu().contiguous().clone()
            for name, value in net.state_dict().items()
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, file)
        config = self.backbone.config
        how = f"; {_SMALL_STEM}" if STEM in config else ""
        options = f", options {config['options']}" if config.get("options") else ""
        name = config.get("name") or config.get("module")
        _log.info(f"Wrote {len(tensors):,} tensors of {name}{options} to {file}{how}.")
        return file


_SMALL_STEM = (
    "before they load: net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False) "
    "and net.maxpool = nn.Identity()"
)
