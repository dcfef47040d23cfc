"""SSLPretrainer: learn a backbone from inputs without labels, and hand it to a task."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from safetensors.torch import save_file

from ..backbones import Backbone
from ..backbones.stem import STEM
from ..data import Data
from ..data.module import BATCH_SIZE
from ..data.text_sources import Columns
from ..errors import InvalidValueError, check_count, check_path
from ..specs import DataSpec, Kind
from .classification import embed_samples
from .collapse import OnCollapse
from .pretext import method_from
from .pretrain_evaluation import Asked, PretrainEvaluation, evaluate_backbone, several
from .results import Embeddings, History, Predictions
from .sourced_pretrainer import SourcedPretrainer
from .strategies import Strategy
from .training import Training

_log = logging.getLogger("mealkit")

PRETRAIN_BATCH_SIZE: dict[Kind, int] = {"image": 256, "text": BATCH_SIZE, "series": 256}
"""Rows in a batch when nobody says otherwise: several methods for pictures compare within it."""

NUM_EPOCHS = 100
"""How often every input is seen when nobody says otherwise; of series, how often 100 batches."""


class SSLPretrainer(SourcedPretrainer):
    """Learn a backbone from inputs without labels, and hand it to a task with few.

    ``pre.backbone``, the pretrainer itself and the folder it was saved to are all backbones for
    every task of the kind: ``ImageClassifier.from_folders("few_labels", backbone=pre)``.

    Args:
        backbone: A name from `mealkit.backbones.find`, a folder of weights, a saved task or a task,
            any ``nn.Module`` that returns features, or what `mealkit.backbones.create` made.
        method: A name of `SSLPretrainer.methods`, or a method with settings of your own, such as
            ``SimCLR(temperature=0.5)``. None for the usual one of what the backbone reads:
            ``"simclr"``, ``"mlm"`` or ``"masked_patches"``.
        pretrained: Whether the backbone starts from trained weights. None for random ones where a
            name is given, and for those that a folder, a task or a module holds.
        weights: File or folder of weights to start from.
        in_chans: Number of channels of a picture; None for 3, or what a finished backbone has.
        size: Height and width in pixels; None for the backbone's own.
        context: Steps of a window of series; None for 512, or what a finished backbone sees.

    Raises:
        UnknownNameError: There is no such backbone or method.
        BackboneError: The method cannot take the backbone.
        WeightsError: Weights cannot be reached, or do not fit.
        InvalidValueError: An option is of another kind of input.

    Example:
        >>> pre = SSLPretrainer("mealkit_tiny", method="simclr")
        >>> pre.backbone.num_features
        176
    """

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
                Of series, how often 100 batches of windows are drawn.
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
                Series have no labels, so that there is no probe of them.
            probe_every: Epochs from one probe to the next; None for a tenth of the run, or more
                where probes would take over 5 % of its passes.
            on_collapse: ``"warn"`` where embeddings become all alike, or ``"stop"`` to end the run.
            precision: ``"auto"``, ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``; None for the
                task's own, which is automatic at first. Series run in fp32.
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
        known = self._kind.precisions
        if precision is not None and known is not None and precision not in known:
            raise InvalidValueError(
                f"precision={precision!r}: {self._kind.words} run in fp32. Leave it out."
            )
        self.watch(probe=probe, probe_every=probe_every, on_collapse=on_collapse)
        source = self._resolve_data(data)
        size = batch_size
        if size is None and source.batch_size is None:
            size = self.method.batch_size or PRETRAIN_BATCH_SIZE[self.method.kind]
        self._introduce(source, size)
        self._pretext.check(source)
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
        if not isinstance(size, str | None):
            check_count("batch_size", size)
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
            f"learnt, hand it over: {self._kind.hand_over}.finetune()."
        )

    # Answers.

    def predict(self, inputs: Any, *, batch_size: int = BATCH_SIZE) -> Predictions:
        """Refuse: a pretrainer knows no labels to answer with.

        Raises:
            InvalidValueError: Always; the message says what to call.
        """
        raise InvalidValueError(
            "A pretrainer has no labels to predict. Take pre.embed(inputs) for features, or hand "
            f"it to a task: {self._kind.hand_over}."
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
            inputs: As in `ImageClassifier.predict`, or as in `TextClassifier.predict`. Of series a
                table (path or data frame) with the columns that were learnt from, arrays as in
                `from_arrays`, or `UnlabelledSeries`: the last window of each, by its name.
            image: The column of a data frame of pictures.
            text: The column of a table of texts.
            batch_size: Inputs computed at a time.

        Raises:
            UnreadableError: An input cannot be read.
            DataError: A series has fewer steps than the net sees.
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

        Series have no labels: their features are scored by the forecasts of a `Forecaster` that
        takes them, as the page on learning without labels shows.

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
            InvalidValueError: A value that cannot be meant, or the pretrainer is for series.
        """
        data = self._kind.labelled(labelled)
        asked = Asked(
            protocol=(protocol,) if isinstance(protocol, str) else several("protocol", protocol),
            fractions=several("label_fractions", label_fractions),
            seeds=tuple(range(seeds)) if type(seeds) is int else several("seeds", seeds),
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
        task = cls(backbone, method=method_from(settings["method"]))
        task.spec = spec  # with the columns that were learnt from
        return task

    def export(self, path: str | Path) -> Path:
        """Write the weights of the backbone alone, under the names of the library it comes from.

        The file loads with ``load_state_dict`` into the same net of timm or torchvision without its
        classifier (``num_classes=0``, or ``net.fc = nn.Identity()``), or of transformers
        (``PatchTSTModel``). A net that was changed for small pictures must be changed alike first;
        the log says how.

        Args:
            path: Of the file, which ends in ``.safetensors`` and is written anew.

        Returns:
            The path.

        Raises:
            InvalidValueError: The path has another ending.
        """
        check_path("path", path, what="a file")
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
