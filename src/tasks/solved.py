"""SolvedTask: what a task over series does when a Trainer fits it, without any optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MetricCollection

from ..backbones.series_base import SeriesBackbone
from ..backbones.series_ridge import Ridge, contexts_of
from ..data.module import Data
from ..data.series import SeriesData
from ..errors import InvalidValueError
from ..specs import Batch, SeriesDataSpec
from .least_squares import LeastSquares, Nothing
from .task import Task
from .training import fit_quietly, fit_with

if TYPE_CHECKING:
    from pytorch_lightning.utilities.types import OptimizerLRScheduler


class SolvedTask(Task):
    """A backbone for series that is fitted by sums, or has nothing to fit.

    Args:
        backbone: What forecasts.
        head: What puts intervals around its forecasts.
        spec: What the data said, or the user before there were any.
        context: Steps of context, where the user decided them.
    """

    monitor: str = "val/loss"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    default_lr: ClassVar[tuple[float, float]] = (1e-3, 1e-3)
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
        self.spec = data.spec

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build none: what is learnt here is solved."""
        return None

    def configure_callbacks(self) -> list[pl.Callback]:
        """Attach none: nothing is frozen, and there is one solution."""
        return []

    def on_fit_start(self) -> None:
        """Start to add up."""
        if isinstance(self.objective, LeastSquares) and isinstance(self.net, Ridge):
            self.objective.begin(self.net, goes_on=self._adds)
        self._is_solved = False

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | None:
        """Add the windows of a batch up; a second epoch has nothing to add."""
        if isinstance(self.objective, LeastSquares) and self.current_epoch == 0:
            self.objective.add(batch)
        return None

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add the validation windows of a batch up."""
        watched = not self.trainer.sanity_checking and self.current_epoch == 0
        if isinstance(self.objective, LeastSquares) and isinstance(self.net, Ridge) and watched:
            self.objective.see(self.net, batch)

    def on_validation_epoch_end(self) -> None:
        """Solve with the setting that validation chooses, and log its error."""
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
            self._fit(fit, data, trainer.max_epochs or 1, batch_size, None)
            return
        fit = fit_quietly(
            epochs=1,
            precision="32-true",
            training=replace(self.plan.training, clip_norm=None),
            logger=logger,
            callbacks=callbacks,
        )
        self._fit(fit, data, 1, batch_size, None)


def objective_of(net: SeriesBackbone, context: int | None) -> LeastSquares | Nothing:
    """Answer with what a backbone is asked; validation chooses a context that nobody decided."""
    if not net.solved:
        return Nothing()
    steps = net.input_spec.context_steps
    return LeastSquares((steps,) if context else contexts_of(steps, net.season))
