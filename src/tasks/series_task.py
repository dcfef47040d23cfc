"""SeriesTask: what a task over series does when a Trainer fits it, by sums or by steps."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MetricCollection

from ..backbones import find
from ..backbones.series import covariates_of
from ..backbones.series_base import SeriesBackbone, kinds_of
from ..backbones.series_ridge import Ridge, contexts_of
from ..data.module import Data
from ..data.series import SeriesData
from ..errors import InvalidValueError
from ..specs import Batch, SeriesDataSpec
from .finetuning import fit_task
from .least_squares import LeastSquares, Nothing
from .objectives import Objective
from .strategies import Staged, Strategy, name_of, resolve
from .task import Task
from .training import Training, fit_quietly, fit_with
from .window_loss import WindowLoss

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import OptimizerLRScheduler


_log = logging.getLogger("mealkit")


class SeriesTask(Task):
    """A backbone for series that is fitted by sums or trained by steps, or has nothing to fit.

    Args:
        backbone: What forecasts.
        head: What puts intervals around its forecasts.
        spec: What the data said, or the user before there were any.
        context: Steps of context, where the user decided them.
    """

    monitor: str = "val/loss"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    default_lr: ClassVar[tuple[float, float]] = (1e-3, 1e-3)  # each net has a rate of its own
    data: SeriesData | None
    spec: SeriesDataSpec

    def __init__(
        self,
        *,
        backbone: SeriesBackbone,
        head: nn.Module,
        spec: SeriesDataSpec,
        context: int | None,
    ) -> None:
        super().__init__(
            backbone=backbone,
            head=head,
            spec=spec,
            preprocess=nn.Identity(),
            objective=objective_of(backbone, context),
            metrics=MetricCollection({}),
        )
        self.precision = "32-true"
        self.plan_training()
        self._is_solved = False  # whether this run has its solution
        self._adds = False  # whether a run goes on from what was learnt

    @property
    def net(self) -> SeriesBackbone:
        """The backbone, as what it is."""
        if not isinstance(self.backbone, SeriesBackbone):
            raise InvalidValueError(f"Expected a backbone for series, got {self.backbone}.")
        return self.backbone

    @property
    def model(self) -> str:
        """The name of what makes the forecasts."""
        return self.net.name

    def forward(self, batch: Batch) -> Tensor:
        """Forecast the windows of a batch, in the scale of ``past``."""
        forecasts: Tensor = self.backbone(*(batch[name] for name in self.backbone.inputs))
        return forecasts

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Answer with ``index`` (B,) and ``mean`` (B, H) of a batch, in the scale of ``past``."""
        return {"index": batch["index"], "mean": self(batch)}

    def check_data(self, data: Data) -> None:
        """Refuse data of another kind, horizon or season; remember their columns and their grid."""
        super().check_data(data)
        if not isinstance(data, SeriesData):
            raise InvalidValueError(f"Forecaster needs SeriesData, got {type(data).__name__}.")
        for name in ("horizon_steps", "season"):
            mine, theirs = getattr(self.spec, name), getattr(data.spec, name)
            if mine != theirs:
                raise InvalidValueError(
                    f"The task has {name}={mine}, the data have {theirs}. Build the task from the "
                    "data: Forecaster.from_data(data)."
                )
        if _names(self.spec) != _names(data.spec):
            warn_of_unused(self.net, data.spec)
        self.spec = data.spec

    def plan_training(
        self,
        *,
        strategy: str | Strategy | None = None,
        lr: float | Literal["auto"] | None = None,
        training: Training | None = None,
    ) -> Self:
        """Decide what happens when a Trainer fits this task; `finetune` does this by itself.

        Args:
            strategy: See `Task.plan_training`; None for ``full``. The last layer of a net for
                series trains in each, as the head of other tasks does.
            lr: Peak learning rate of AdamW; None for the backbone's own.
            training: The other settings.

        Returns:
            The task itself, so that the call can be chained.
        """
        chosen = resolve(strategy or "full")
        if isinstance(chosen, Staged):
            raise InvalidValueError(
                f"strategy={name_of(chosen)!r} compares classes, and series have none. Use one of "
                "full, freeze, freeze_unfreeze, gradual, layer_decay."
            )
        rate = self.net.default_lr if lr is None else lr
        return super().plan_training(strategy=chosen, lr=rate, training=training)

    def setup(self, stage: str) -> None:
        """Tell the data whether windows are to be drawn or passed through, and what they hold."""
        data = getattr(self.trainer, "datamodule", None)
        if isinstance(data, SeriesData):
            data.draws = self.net.trained
        if stage == "fit" and self.trainer.world_size > 1 and not self.net.trained:
            # DDP wraps only what has gradients, and says so in words that help nobody.
            raise InvalidValueError(
                f"{self.model!r} is fitted without steps, in seconds, and the Trainer shares steps "
                f"among {self.trainer.world_size} processes. Leave trainer= out: every process "
                "then comes to the same; or name a backbone that is trained."
            )
        super().setup(stage)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW and its schedule for what is trained; none for what is solved."""
        return super().configure_optimizers() if self.net.trained else None

    def configure_callbacks(self) -> list[pl.Callback]:
        """Attach what the plan asks for; nothing where nothing is trained."""
        return super().configure_callbacks() if self.net.trained else []

    def on_fit_start(self) -> None:
        """Start to add up."""
        if isinstance(self.objective, LeastSquares) and isinstance(self.net, Ridge):
            data = getattr(self.trainer, "datamodule", None)
            known = data if isinstance(data, SeriesData) else None
            self.objective.begin(self.net, goes_on=self._adds, data=known)
        self._is_solved = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Answer with the loss of a batch, or add its windows up; once, and not every epoch."""
        if self.net.trained:
            return super().training_step(batch, batch_idx)
        first = self.current_epoch == 0
        if isinstance(self.objective, LeastSquares) and isinstance(self.net, Ridge) and first:
            self.objective.add(self.net, batch)
        return None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch of validation windows, or add them up."""
        if self.net.trained:
            super().validation_step(batch, batch_idx)
            return
        watched = not self.trainer.sanity_checking and self.current_epoch == 0
        if isinstance(self.objective, LeastSquares) and isinstance(self.net, Ridge) and watched:
            self.objective.see(self.net, batch)

    def on_validation_epoch_end(self) -> None:
        """Log the error of validation, or solve with the setting that it chooses."""
        if self.net.trained:
            super().on_validation_epoch_end()
            return
        fitting = self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking
        if fitting and self.trainer.is_last_batch:  # a Trainer may validate within an epoch, too
            self._solve()

    def on_train_epoch_end(self) -> None:
        """Solve where nothing validates."""
        self._solve()

    def _solve(self) -> None:
        if not (isinstance(self.objective, LeastSquares) and isinstance(self.net, Ridge)):
            return
        if self._is_solved:
            return
        self._is_solved = True

        def total(value: Tensor) -> Tensor:
            if self.trainer.world_size == 1:
                return value
            reduced = self.trainer.strategy.reduce(value.to(self.device), reduce_op="sum")
            return reduced.cpu() if isinstance(reduced, Tensor) else value

        error = self.objective.end(self.net, total)
        if error is not None:
            self.log("val/loss", error)

    def _fit_once(
        self,
        data: SeriesData,
        batch_size: int | None,
        trainer: pl.Trainer | None,
        logger: Logger | None,
        callbacks: Sequence[pl.Callback],
    ) -> None:
        if trainer is not None:
            fit = fit_with(trainer, callbacks)
            num_epochs = trainer.max_epochs or 1
            fit_task(self, data, fit, num_epochs=num_epochs, batch_size=batch_size)
            return
        fit = fit_quietly(
            epochs=1,
            precision="32-true",
            training=replace(self.plan.training, clip_norm=None),
            logger=logger,
            callbacks=callbacks,
        )
        fit_task(self, data, fit, num_epochs=1, batch_size=batch_size)


def warn_of_unused(net: SeriesBackbone, spec: SeriesDataSpec) -> None:
    """Say which covariates of data a backbone cannot use: they would change nothing."""
    unused = {kind: v for kind, v in spec.covariates.items() if kind not in net.covariates}
    if not unused:
        return
    columns = ", ".join(
        f"{kind} {', '.join(dict.fromkeys(repr(c.column) for c in several))}"
        for kind, several in unused.items()
    )
    usable = ", ".join(kinds_of(net.covariates)) or "none"
    able = [name for name in find(kind="series") if covariates_of(name) >= set(spec.covariates)]
    _log.warning(
        f"{net.name} cannot use these covariates, which will change nothing: {columns}. It uses "
        f"{usable}; backbones that use all of them: {', '.join(able)}."
    )


def _names(spec: SeriesDataSpec) -> list[tuple[str, str]]:
    return [(kind, c.name) for kind, several in spec.covariates.items() for c in several]


def refuse_forks(trainer: pl.Trainer) -> None:
    """Refuse a Trainer that forks or spawns: what is calibrated there would not come home.

    Raises:
        InvalidValueError: It does.
    """
    # Lightning's class of such launchers is private, and so is what tells the others apart.
    if type(trainer.strategy.launcher).__name__ == "_MultiProcessingLauncher":
        raise InvalidValueError(
            "The Trainer forks or spawns its processes, and intervals and series that they learn "
            'would stay there. Use strategy="ddp", or start the script by torchrun.'
        )


def objective_of(net: SeriesBackbone, context: int | None) -> Objective:
    """Answer with what a backbone is asked; validation chooses a context that nobody decided."""
    if net.trained:
        return WindowLoss()
    if not net.solved:
        return Nothing()
    steps = net.input_spec.context_steps
    return LeastSquares((steps,) if context else contexts_of(steps, net.season))
