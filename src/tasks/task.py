"""What every task is: a LightningModule of a backbone, a head and an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn
from torchmetrics import MetricCollection

from ..backbones import Backbone
from ..data.module import BATCH_SIZE, Data
from ..errors import InvalidValueError, NoDataError, check_path, shown
from ..specs import Batch, DataSpec, InputSpec, Kind, Stage
from .averaging import Averaging
from .best import BestWeights
from .checkpoint import Position
from .finetuning import finetune, fit_stage
from .forecast_results import Forecasts
from .lora import Adapters
from .objectives import FollowUp, Objective
from .optim import make_optimizer, make_scheduler, parameter_groups
from .phases import Phases, is_cacheable
from .processes import allow_frozen_blocks, refuse_sharded_weights
from .range_test import RangeTest
from .results import History, Predictions
from .saved import save_task
from .stopping import Patience, TimeLimit
from .strategies import FreezeUnfreeze, Lora, Schedule, Staged, Strategy, full, name_of, resolve
from .training import Plan, Training, check_training, count_epochs

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import OptimizerLRScheduler


class Task(pl.LightningModule):
    """A backbone with a head for one job, trained by an objective over the Lightning Trainer.

    Subclasses add how data are read and what answers look like.

    Args:
        backbone: The net below the head, with its preprocessing.
        head: Maps features (B, F) to what is predicted.
        spec: What the data said when the head was built.
        preprocess: Turns the batch entries that the backbone names into what it takes, on the
            device: as many tensors in, in that order, as a tuple out.
        objective: What a training step asks.
        metrics: Computed on validation and test; updated with (output, target).
    """

    monitor: str
    """The validation metric that chooses the best epoch."""

    monitor_mode: ClassVar[Literal["max", "min"]] = "max"
    """Whether the higher or the lower value of it is better."""

    verb: ClassVar[str] = "finetune"
    """The method that trains it, for messages."""

    default_lr: ClassVar[tuple[float, float]]
    """Peak learning rates for a pretrained backbone and for an untrained one."""

    saved_parts: ClassVar[tuple[str, ...]] = ("backbone.", "head.", "memory.")
    """The modules whose tensors are saved with the task."""

    trains_beside: ClassVar[str] = "head"
    """What trains beside blocks of the backbone, in words."""

    def __init__(
        self,
        *,
        backbone: Backbone,
        head: nn.Module,
        spec: DataSpec,
        preprocess: nn.Module,
        objective: Objective,
        metrics: MetricCollection,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.spec = spec
        self.preprocess = preprocess
        self.objective = objective
        self._metrics = {"val": metrics.clone("val/"), "test": metrics.clone("test/")}
        self._losses: dict[Stage, Tensor] = {}  # sum over rows, and their number
        self._scored: set[Stage] = set()  # what metrics are to be computed of
        self.data: Data | None = None
        self.measured: dict[str, float] = {}
        """What callbacks measured in an epoch, by name; the history takes it out."""
        self.precision = "auto"
        self._best: BestWeights | None = None
        self._phases: Phases | None = None
        self.plan_training()

    @property
    def input_spec(self) -> InputSpec:
        """What the backbone wants to see."""
        return self.backbone.input_spec

    # Forward: batch -> features -> output.

    def features(self, batch: Batch) -> Tensor:
        """Answer with the features of a batch, (B, F): cached ones, or the backbone's."""
        if "features" in batch:
            return batch["features"]
        inputs = self.preprocess(*(batch[name] for name in self.backbone.inputs))
        features: Tensor = self.backbone(*inputs)
        return _mean_of_pieces(features, batch) if "piece_of" in batch else features

    def forward(self, batch: Batch) -> Tensor:
        """Answer with what the head says of a batch, in fp32 at every precision."""
        features = self.features(batch)
        with torch.autocast(features.device.type, enabled=False):
            output: Tensor = self.head(features.float())
        return output

    def probabilities(self, output: Tensor) -> Tensor:
        """Turn what the head says into what is answered."""
        raise NotImplementedError

    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Take over a head that was solved on features of the frozen backbone."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside backbone and data."""
        raise NotImplementedError

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the task that was saved with these settings."""
        raise NotImplementedError

    def take_settings(self, settings: Mapping[str, Any]) -> None:  # Any: plain JSON values
        """Take over those of `settings` that training or calibration has changed; none here."""

    # Steps.

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Answer with the loss of a batch; None where no optimiser follows."""
        step = self.objective.step(self, batch, training=True)
        count = len(batch["index"])
        self.log(
            "train/loss", step.loss, on_step=False, on_epoch=True, batch_size=count, sync_dist=True
        )
        self.log("loss", step.loss, prog_bar=True, logger=False, batch_size=count)
        return step.loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch of the validation part."""
        self._score(batch, "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch of the test part."""
        self._score(batch, "test")

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Answer with ``index`` (B,) and ``probabilities`` of a batch."""
        return {"index": batch["index"], "probabilities": self.probabilities(self(batch))}

    def _score(self, batch: Batch, stage: Stage) -> None:
        step = self.objective.step(self, batch, training=False)
        # A batch that only fills up a round is computed, because processes wait for each other.
        count = 0 if "padding" in batch else len(batch["index"])
        # Summed up here: Lightning's mean over processes rounds their average number of rows down.
        sums = torch.stack([step.loss.detach().float() * count, step.loss.new_tensor(count)])
        self._losses[stage] = sums + self._losses.get(stage, torch.zeros_like(sums))
        if step.output is not None:
            self._scored.add(stage)
            if count:
                self._metrics[stage].to(self.device).update(step.output, batch["target"])

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the validation part."""
        self._log_metrics("val")

    def on_test_epoch_end(self) -> None:
        """Log the metrics of the test part."""
        self._log_metrics("test")

    def _log_metrics(self, stage: Stage) -> None:
        metrics = self._metrics[stage]
        if (sums := self._losses.pop(stage, None)) is not None:
            total, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
            self.log(f"{stage}/loss", total / count, sync_dist=True)
        if stage in self._scored:  # not whether they were updated: processes must not disagree
            # They are equal on all processes; without sync_dist, Lightning would doubt it aloud.
            self.log_dict(metrics.compute(), prog_bar=True, sync_dist=True)
        self._scored.discard(stage)
        metrics.reset()

    # What a Trainer needs, ours or the user's.

    def plan_training(
        self,
        *,
        strategy: str | Strategy | None = None,
        lr: float | Literal["auto"] | None = None,
        training: Training | None = None,
    ) -> Self:
        """Decide what happens when a Trainer fits this task; `finetune` does this by itself.

        Args:
            strategy: A name of `mealkit.tasks.STRATEGIES` or a function; None for
                ``freeze_unfreeze`` with a pretrained backbone and ``full`` with an untrained one.
            lr: Peak learning rate of AdamW; None for the default of `default_lr`, ``"auto"`` for
                what a `RangeTest` finds.
            training: The other settings.

        Returns:
            The task itself, so that the call can be chained.
        """
        pretrained = self.backbone.pretrained
        strategy = self.usual_strategy(None) if strategy is None else strategy
        check_training(training)
        if isinstance(lr, str) and lr != "auto":
            raise InvalidValueError(f"lr={lr!r}: expected a positive number, 'auto' or None.")
        strategy = resolve(strategy)
        usual = self.default_lr[0 if pretrained else 1]
        if isinstance(strategy, Lora):
            usual *= 10  # adapters start at zero and are scaled; measured, see the page of results
        self.plan = Plan(
            strategy=strategy,
            lr=usual if lr is None or lr == "auto" else lr,
            training=training or Training(),
            finds_lr=lr == "auto",
        )
        return self

    def usual_strategy(self, data: Data | None) -> Strategy:
        """Answer with the strategy where none is named.

        Args:
            data: What `finetune` trains on; None where a Trainer of the user's own brings them
                later.
        """
        return FreezeUnfreeze() if self.backbone.pretrained else full

    @property
    def freezes_batch_norm(self) -> bool:
        """Whether batch-norm statistics stay as they are while fine-tuning."""
        setting = self.plan.training.batch_norm
        return self.backbone.pretrained if setting == "auto" else setting == "frozen"

    def schedule(self, trainer: pl.Trainer) -> Schedule:
        """Lay the strategy out over the epochs of a Trainer.

        Raises:
            InvalidValueError: The Trainer or the loader has no end.
        """
        if isinstance(self.plan.strategy, Staged) and not self.plan.stage_done:
            raise InvalidValueError(
                f"The strategy {name_of(self.plan.strategy)!r} trains in two stages, which a plain "
                "Trainer knows nothing of. Use task.finetune(strategy=...)."
            )
        num_epochs, _ = count_epochs(trainer)
        return Schedule(self.plan.strategy, num_epochs, len(self.backbone.blocks))

    def caches_features(self, trainer: pl.Trainer) -> bool:
        """Whether frozen epochs run the backbone once and see its features from then on."""
        return is_cacheable(trainer)

    def solves_head(self, trainer: pl.Trainer) -> bool:
        """Whether frozen epochs solve the head; one that has learnt already is trained on.

        A run that is resumed does what it did: its head had learnt nothing when it began.
        """
        if self._phases is not None and self._phases.solves is not None:
            return self._phases.solves
        return self.objective.solves and self.head_is_fresh and self.caches_features(trainer)

    @property
    def head_is_fresh(self) -> bool:
        """Whether the head has learnt nothing yet."""
        return not any(bool(parameter.any()) for parameter in self.head.parameters())

    def setup(self, stage: str) -> None:
        """Tell the data what the backbone wants, check that they fit together, and prepare DDP.

        Raises:
            InvalidValueError: They do not fit, or the Trainer shards the weights.
        """
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, Data):
            self.check_data(data)
            data.prepare(self.input_spec)
        refuse_sharded_weights(self.trainer)
        if stage == "fit":
            allow_frozen_blocks(self, self.trainer)

    def check_data(self, data: Data) -> None:
        """Refuse data that are of another kind or have other classes than this task.

        Raises:
            InvalidValueError: They do not fit.
        """
        if data.spec.kind != self.spec.kind:
            raise InvalidValueError(
                f"{type(self).__name__} reads data of kind {self.spec.kind!r}, got data of kind "
                f"{data.spec.kind!r}."
            )
        if data.classes != self.spec.classes:
            raise InvalidValueError(
                f"The task knows the classes {_shorten(self.spec.classes)}, the data have "
                f"{_shorten(data.classes)}. Build the task with classes=data.classes."
            )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW with one group per block, and its schedule."""
        plan, trainer = self.plan, self.trainer
        groups = parameter_groups(
            self.backbone,
            self,
            lr=plan.lr,
            weight_decay=plan.training.weight_decay,
            times={f"objective.{name}": factor for name, factor in self.objective.times.items()},
        )
        optimizer = make_optimizer(groups)
        schedule = self.schedule(trainer)
        _, steps_per_epoch = count_epochs(trainer)
        scheduler = make_scheduler(
            optimizer,
            schedule,
            steps_per_epoch=steps_per_epoch,
            warmup=plan.training.warmup,
            head_is_solved=self.solves_head(trainer),
        )
        config = {"scheduler": scheduler, "interval": "step"}
        return {"optimizer": optimizer, "lr_scheduler": config}  # type: ignore[return-value]

    def configure_callbacks(self) -> list[pl.Callback]:
        """Attach what the plan asks for to any Trainer that fits this task."""
        self._best = BestWeights(self.monitor, mode=self.monitor_mode)
        self._phases = Phases(self)
        training = self.plan.training
        attached: list[pl.Callback] = []
        if self.plan.finds_lr:
            attached.append(RangeTest(self, self._phases))
        attached += [self._phases, self._best, FollowUp(self), Position()]
        if training.ema is not None:
            attached.append(Averaging(training.ema, best=self._best))
        if training.patience is not None:
            attached.append(Patience(self, epochs=training.patience))
        if training.time_limit_seconds is not None:
            attached.append(TimeLimit(training.time_limit_seconds))
        if isinstance(self.plan.strategy, Lora):  # last, because it merges what others restored
            attached.append(Adapters(self, self.plan.strategy))
        return attached

    @property
    def best_epoch(self) -> int | None:
        """The epoch whose weights the last fit left in the task; None where none was chosen."""
        return None if self._best is None else self._best.epoch

    @property
    def best_value(self) -> float | None:
        """The validation metric of that epoch."""
        return None if self._best is None else self._best.value

    def forget_best(self) -> None:
        """Note that the weights in the task are those of no epoch of the last fit."""
        self._best = None

    # Verbs.

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
        """Train on data; the best weights are in the task afterwards.

        A second call goes on from the current weights with a new schedule.

        Args:
            data: What to train on; None for the data this task was made from.
            epochs: How often every training row is seen; None for 5.
            strategy: Which part of the backbone trains when: ``full``, ``freeze``,
                ``freeze_unfreeze``, ``gradual``, ``layer_decay``, ``lora``, ``contrastive``, or a
                function. None for `usual_strategy`: ``freeze_unfreeze`` with a pretrained backbone
                (``freeze`` for few texts), ``full`` with an untrained one.
            lr: Peak learning rate; None for the task's `default_lr`: with a pretrained backbone
                2e-4 for images (measured, see the page of results) and 1e-4 for texts (not tuned),
                with an untrained one ten times that (not tuned). ``"auto"`` looks for it, in some
                dozens of steps ahead of those that count; see `RangeTest`. ``lora`` takes ten times
                as much.
            batch_size: Rows in a training batch; None for the data's own, else 32. ``"auto"``
                halves that until a step fits into memory, and adds up gradients so that a step
                counts as many rows as before.
            run: Folder for settings, history, checkpoint, curves and the saved task. Never
                overwritten.
            resume: Whether a run that was stopped goes on from its checkpoint, to the weights that
                it would have come to. One that is finished is not repeated: its weights are put
                into the task. Where there is no run yet, it starts.
            precision: ``"auto"``, ``"32-true"``, ``"bf16-mixed"`` or ``"16-mixed"``; None for the
                task's own, which is automatic at first. The task keeps it.
            training: The settings changed once in a while.
            trainer: Your own Trainer, in place of ours.
            logger: Added to our Trainer.
            callbacks: Added to our Trainer.

        Returns:
            One row per epoch, and which epoch's weights the task holds.

        Raises:
            NoDataError: There is nothing to train on.
            InvalidValueError: Arguments contradict each other or the data.
            RunError: The run folder is in use, or its run was made with other settings or data.
        """
        return finetune(
            self,
            self._resolve_data(data),
            epochs=epochs,
            strategy=strategy,
            lr=lr,
            batch_size=batch_size,
            run=run,
            resume=resume,
            precision=precision,
            training=training,
            trainer=trainer,
            logger=logger,
            callbacks=callbacks,
        )

    def conclude(self, data: Data, batch_size: int | None) -> None:
        """Do what follows a fit, before its run is finished and saved; by default nothing."""

    def fit_stage(
        self,
        data: Data,
        *,
        objective: Objective,
        lr: float,
        epochs: int = 1,
        strategy: Strategy = full,
    ) -> History:
        """Train on an objective of its own, beside or ahead of a run.

        Args:
            data: What to train on, with its batch size.
            objective: What its steps ask.
            lr: Peak learning rate.
            epochs: How often every training row is seen.
            strategy: Which block trains when; all of them by default.
        """
        return fit_stage(self, data, objective=objective, lr=lr, epochs=epochs, strategy=strategy)

    def reset_head(self) -> None:
        """Make the head as fresh as it was built."""
        with torch.no_grad():
            for parameter in self.head.parameters():
                parameter.zero_()

    def _resolve_data(self, data: Data | None) -> Data:
        data = self.data if data is None else data
        if data is not None and not isinstance(data, Data):
            raise self.no_data_module(data)
        if data is None or data.train is None:
            raise NoDataError(
                "This task has no data to train on: saved tasks do not carry any. Pass them: "
                f"task.{self.verb}(data)."
            )
        self.check_data(data)
        return data

    def no_data_module(self, given: object) -> InvalidValueError:
        """Describe what was given as data and is none, and name what this task reads."""
        return InvalidValueError(
            f"data={shown(given)}: expected a data module of mealkit, such as "
            f"mealkit.{_SOURCES[self.spec.kind]}(...)."
        )

    def predict(self, inputs: Any, *, batch_size: int = BATCH_SIZE) -> Predictions | Forecasts:
        """Answer for each of the inputs, in input order; what they may be, each task says.

        Args:
            inputs: Whatever holds them. (Any: that is up to the task.)
            batch_size: Inputs computed at a time.
        """
        raise NotImplementedError

    def save(self, folder: str | Path) -> Path:
        """Write the task to a folder: ``task.json`` and ``model.safetensors``, no pickle.

        Args:
            folder: Absent, empty, or an earlier saved task, which is replaced as a whole.

        Raises:
            SavedTaskError: The folder holds something else.
            InvalidValueError: It is no path.
        """
        check_path("folder", folder, what="a folder")
        return save_task(self, Path(folder))


def _mean_of_pieces(features: Tensor, batch: Batch) -> Tensor:
    """Average the rows that are pieces of the same input: (rows, F) to (B, F)."""
    piece_of, count = batch["piece_of"], len(batch["index"])
    sums = features.new_zeros(count, features.shape[1], dtype=torch.float32)
    sums = sums.index_add(0, piece_of, features.float())
    return sums / torch.bincount(piece_of, minlength=count)[:, None]


_SOURCES: dict[Kind, str] = {
    "image": "ImageData.from_folders",
    "text": "TextData.from_csv",
    "series": "SeriesData.from_csv",
}
"""What makes data of each kind, as a user writes it."""


def _shorten(classes: Sequence[str]) -> str:
    shown = ", ".join(classes[:5])
    return f"({shown}, ... {len(classes)} in all)" if len(classes) > 5 else f"({shown})"
