"""PretrainTask: what a pretrainer does when a Trainer fits it."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

import pytorch_lightning as pl
from torch import nn
from torchmetrics import MetricCollection

from ..data import Data
from ..errors import InvalidValueError, unknown_name
from ..specs import Kind
from .collapse import CollapseAlarm, OnCollapse
from .pretext import METHODS, Method, Pretext, resolve_method
from .pretrain_kind import NetOptions, PretrainKind
from .pretrain_kinds import KINDS, kind_of
from .probing import Probing
from .strategies import Strategy, full, name_of, resolve
from .task import Task
from .training import Plan, Training, check_training

DEFAULT_BACKBONE = "resnet18"
"""11 M parameters: the net of most published comparisons of methods on small sets of pictures."""


class PretrainTask(Task):
    """A backbone without a head whose objective is that of a method.

    See `SSLPretrainer`, which adds what is asked of it; the arguments are the same.
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
        method: str | Method | None = None,
        pretrained: bool | None = None,
        weights: str | Path | None = None,
        in_chans: int | None = None,
        size: int | tuple[int, int] | None = None,
        context: int | None = None,
    ) -> None:
        chosen = resolve_method(KINDS[kind_of(backbone)].usual_method if method is None else method)
        kind = KINDS[chosen.kind]
        asked = NetOptions(
            pretrained=pretrained, weights=weights, in_chans=in_chans, size=size, context=context
        )
        net = kind.build(backbone, asked)
        self._watched: tuple[Data | None, int | None, OnCollapse] = (None, None, "warn")
        super().__init__(
            backbone=net,
            head=nn.Identity(),
            spec=kind.spec_of(net),
            preprocess=kind.preprocess(net),
            objective=chosen.objective(net),
            metrics=MetricCollection({}),
        )
        self.precision = kind.precision

    @staticmethod
    def methods(kind: Kind | None = None) -> list[str]:
        """List the names of the methods, each a class with its paper in `mealkit.tasks.METHODS`.

        Args:
            kind: Of the input that they learn from: ``"image"``, ``"text"`` or ``"series"``; None
                for all.

        Raises:
            UnknownNameError: There is no such kind.

        Example:
            >>> from mealkit import SSLPretrainer
            >>> "simclr" in SSLPretrainer.methods()
            True
            >>> SSLPretrainer.methods("series")
            ['masked_patches']
        """
        if kind is not None and kind not in KINDS:
            raise unknown_name("kind of input", str(kind), KINDS)
        return sorted(name for name, method in METHODS.items() if kind in (None, method.kind))

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
        check_training(training)
        if training is not None and training.label_smoothing is not None:
            raise InvalidValueError(
                f"Training(label_smoothing={training.label_smoothing}): there are no labels to "
                "smooth in pretraining. Leave it out."
            )
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
        """Refuse labelled data, other kinds, and what does not fit the net; remember columns.

        Raises:
            InvalidValueError: They do not fit.
        """
        self._kind.check_data(data, self.backbone)
        self.spec = self._kind.learnt(self.spec, data)
