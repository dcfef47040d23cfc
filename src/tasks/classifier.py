"""Classifier: what tasks that put a label on an input share, whatever the input is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import asdict, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, Self

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from torch import Tensor, nn

from ..backbones import Backbone
from ..data.frames import like
from ..data.inputs import Inputs
from ..data.module import BATCH_SIZE, Data
from ..data.samples import Samples
from ..data.with_unlabelled import WeakAndStrong
from ..errors import (
    ClassError,
    InvalidValueError,
    NoDataError,
    UnreadableError,
    check_count,
    check_number,
    check_switch,
)
from ..specs import Batch, DataSpec
from .calibration import Calibration, Conformal, compare, fit_temperature
from .classification import (
    class_metrics,
    compute_logits,
    embed_samples,
    evaluate_classes,
    predict_classes,
)
from .cross_validation import CrossValidation, fresh_copy, make_folds
from .finetuning import NUM_EPOCHS
from .multi_label import MultiLabel, multi_label_metrics
from .neighbors import BankCache, evaluate_by_neighbors, neighbor_columns
from .objectives import Supervised
from .results import Embeddings, Evaluation, History, Predictions
from .semi_supervised import SemiSupervised
from .semi_supervised_run import SemiSupervisedRun, check_call
from .strategies import Strategy, full, resolve
from .task import Task
from .thresholds import HALF, Thresholds, best_thresholds
from .training import Training, check_attached, check_training

_log = logging.getLogger("mealkit")


class Classifier(Task):
    """Put one of several labels on an input, or any number: a linear head over a backbone.

    Subclasses, one per kind of input, say where data come from and what `predict` takes.

    Args:
        backbone: The net below the head.
        spec: What the data said; it names the classes.
        preprocess: Turns batch entries into what the backbone takes.
        dropout: Share of the features that the head loses in training.
    """

    monitor = "val/accuracy"
    """With any number of labels per input it is ``val/map``, which needs no thresholds: these are
    found when training is over."""

    def __init__(
        self, *, backbone: Backbone, spec: DataSpec, preprocess: nn.Module, dropout: float
    ) -> None:
        check_switch("multi_label", spec.multi_label)
        num_classes = len(spec.classes)
        super().__init__(
            backbone=backbone,
            head=_linear_head(backbone.num_features, num_classes, dropout=dropout),
            spec=spec,
            preprocess=preprocess,
            objective=MultiLabel() if spec.multi_label else Supervised(),
            metrics=(multi_label_metrics if spec.multi_label else class_metrics)(num_classes),
        )
        if spec.multi_label:
            self.monitor = "val/map"
        self._dropout = float(dropout)
        self._thresholds: tuple[float, ...] | None = None
        self.temperature = 1.0  # the logits are divided by it; calibrate() sets it
        self._conformal: Conformal | None = None
        self._banks = BankCache()

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the labels, in the order of the probabilities."""
        return self.spec.classes

    @property
    def multi_label(self) -> bool:
        """Whether an input has any number of labels, and not exactly one."""
        return self.spec.multi_label

    @property
    def thresholds(self) -> tuple[float, ...] | None:
        """From which probability on each class is given; None where an input has one label.

        `finetune` finds them on the validation part, for the highest F1 of each class; without one
        they are 0.5.
        """
        if not self.multi_label:
            return None
        return self._thresholds or (HALF,) * len(self.classes)

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `from_settings` needs beside backbone and data."""
        conformal = None if self._conformal is None else asdict(self._conformal)
        return {
            "dropout": self._dropout,
            "temperature": self.temperature,
            "conformal": conformal,
            "thresholds": None if self._thresholds is None else list(self._thresholds),
        }

    @classmethod
    def from_settings(cls, backbone: Backbone, spec: DataSpec, settings: Mapping[str, Any]) -> Self:
        """Build the task that was saved with these settings."""
        build: Any = cls  # Any: subclasses take the backbone first, and their classes by name
        task: Self = build(
            backbone,
            classes=spec.classes,
            multi_label=spec.multi_label,
            dropout=settings["dropout"],
        )
        task.take_settings(settings)
        return task

    def take_settings(self, settings: Mapping[str, Any]) -> None:  # Any: plain JSON values
        """Take over thresholds and a calibration; tasks of before there were any have none."""
        self.temperature, self._conformal = settings.get("temperature", 1.0), None
        if (saved := settings.get("conformal")) is not None:
            self._conformal = Conformal(tuple(saved["scores"]), saved["num_inputs"])
        thresholds = settings.get("thresholds")
        self._thresholds = None if thresholds is None else tuple(thresholds)

    def probabilities(self, output: Tensor) -> Tensor:
        """Turn logits (B, K) into probabilities, at the task's temperature."""
        scaled = output.float() / self.temperature
        return scaled.sigmoid() if self.multi_label else scaled.softmax(1)

    def setup(self, stage: str) -> None:
        """Forget calibration and thresholds ahead of training, also by a Trainer of the user's."""
        super().setup(stage)
        if stage != "fit":
            return
        calibrated = self._conformal is not None or self.temperature != 1
        if calibrated and self.trainer.is_global_zero:
            sets = "" if self._conformal is None else ", and prediction sets are gone"
            _log.info(
                f"Training moves the logits: the temperature {self.temperature:.3g} is 1 again"
                f"{sets}. Call task.calibrate() afterwards."
            )
        self.temperature, self._conformal, self._thresholds = 1.0, None, None

    def configure_callbacks(self) -> list[pl.Callback]:
        """Attach what the plan asks for, and behind it what finds thresholds, to any Trainer."""
        attached = super().configure_callbacks()
        return (
            [*attached, Thresholds(self, self._take_thresholds)] if self.multi_label else attached
        )

    def _take_thresholds(self, thresholds: tuple[float, ...]) -> None:
        self._thresholds = thresholds

    def check_data(self, data: Data) -> None:
        """Refuse data of other classes, and one label per input where there are several."""
        super().check_data(data)
        if data.spec.multi_label is not self.multi_label:
            forms = ("any number of labels", "exactly one label")
            has, gives = forms if data.spec.multi_label else forms[::-1]
            raise InvalidValueError(
                f"The task gives {gives} per input, and in the data an input has {has}. Build the "
                f"task with multi_label={data.spec.multi_label}."
            )

    def finetune(
        self,
        data: Data | None = None,
        *,
        unlabelled: Any = None,  # Any: whatever holds inputs of this kind, see Args
        method: str | SemiSupervised | None = None,
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
        """Train on labelled inputs, and on unlabelled ones beside them where there are any.

        With ``unlabelled=``, a stage of labels alone comes first. Then every batch has unlabelled
        inputs too, an epoch is one pass over these, and a moving average of the weights is
        validated. Where the validation part says that labels alone were better, their weights are
        what is left in the task, and a warning says so. Labels are not smoothed then unless
        ``training=`` does.

        Args:
            data: As in `Task.finetune`, like all but the next two.
            unlabelled: Further inputs, of which nobody knows the class. Pictures: a folder, a list
                of paths or arrays, a stack, a data frame. Texts: a list, a table (a path or a data
                frame) with the column that is trained on, a folder of text files. Of either:
                samples, or data whose training part is meant.
            method: What makes use of them: ``"fixmatch"``, ``"freematch"``, ``"mean_teacher"``, or
                an object of `mealkit.tasks.FixMatch` and the like with settings of its own.
            epochs: How often every training row is seen; of unlabelled ones where there are any.
            strategy: Which part of the backbone trains when; with ``unlabelled=``, None is
                ``full``, because the head of a pretrained backbone is solved before.
            lr: Peak learning rate.
            batch_size: Rows in a training batch; of labelled ones where there are others.
            run: Folder for what happens.
            resume: Whether a run that was stopped goes on.
            precision: A precision, or ``"auto"``.
            training: The settings changed once in a while.
            trainer: Your own Trainer; not with ``unlabelled=``, which trains in two stages.
            logger: Added to our Trainer.
            callbacks: Added to our Trainer.

        Returns:
            One row per epoch; with ``unlabelled=``, also ``unlabelled/mask_rate`` (share of the
            inputs that count), ``unlabelled/agreement`` (of these, how many strong views have the
            label of the weak one) and ``unlabelled/largest_class``.

        Raises:
            NoDataError: There is nothing to train on, or no unlabelled input.
            DataError: The unlabelled inputs are of another kind, or a table lacks the column.
            UnreadableError: No unlabelled input can be read.
            InvalidValueError: Arguments contradict each other or the data.
            RunError: The run folder is in use, or its run was made with other settings or data.
        """
        planned: SemiSupervisedRun | None = None
        before = self.objective
        if unlabelled is not None or method is not None:
            objective = check_call(
                unlabelled, method, trainer=trainer, is_auto=batch_size == "auto"
            )
            labelled = self._resolve_data(data)
            if epochs is not None:
                check_count("epochs", epochs)
            check_training(training)
            check_attached(logger, callbacks)
            planned = SemiSupervisedRun.plan(
                self,
                labelled,
                *self._pair(labelled, unlabelled),
                method=objective,
                epochs=check_count("epochs", NUM_EPOCHS if epochs is None else epochs),
                strategy=full if strategy is None else resolve(strategy),
                batch_size=None
                if batch_size is None
                else check_count("batch_size", batch_size),  # "auto" is refused above
                training=training,
            )
            self.objective = objective
            objective.start(self)
        try:
            return super().finetune(
                data if planned is None else planned.data,
                epochs=epochs,
                strategy=strategy if planned is None else planned.strategy,
                lr=lr,
                batch_size=batch_size,
                run=run,
                resume=resume,
                precision=precision,
                training=training if planned is None else planned.training,
                trainer=trainer,
                logger=logger,
                callbacks=callbacks if planned is None else [*callbacks, planned.guard],
            )
        finally:
            self.objective = before

    def _pair(self, data: Data, unlabelled: Any) -> tuple[Samples, WeakAndStrong]:
        """Turn what holds unlabelled inputs into samples, and say which views they have.

        Args:
            data: The labelled data.
            unlabelled: As in `finetune`. (Any: as there.)
        """
        raise NotImplementedError

    def calibrate(self, data: Data | None = None, *, batch_size: int = BATCH_SIZE) -> Calibration:
        """Learn from the validation part how sure to be; the labels stay as they are.

        Fits one temperature that all logits are divided by (Guo et al. 2017, arXiv:1706.04599), and
        keeps what ``predict(coverage=)`` needs. Both are saved with the task. Training part and
        test part are not looked at, so `evaluate` on a test part says whether it helped. `finetune`
        takes it back.

        Where an input has any number of labels, the temperature is fitted to the binary
        cross-entropy of all classes, and thresholds are found anew among the probabilities that it
        makes. They may move a little, and with them labels, if validation has more inputs by now.

        Args:
            data: Whose validation part is used; None for the data this task was made from.
            batch_size: Inputs computed at a time.

        Returns:
            The temperature, with calibration error and loss before and after.

        Raises:
            NoDataError: There is no validation part, or nothing of it can be read.
        """
        source = self._source(data, "task.calibrate(data)")
        if source.val is None:
            raise NoDataError(
                "These data have no validation part, and calibration must not see what was trained "
                "on. Give one with val=, or leave split= above 0."
            )
        logits, targets = compute_logits(self, source.val, batch_size=batch_size)
        self.temperature = fit_temperature(logits, targets)
        probabilities = self.probabilities(logits)
        if self.multi_label:
            self._thresholds = best_thresholds(probabilities.numpy(), targets.numpy())
        else:
            self._conformal = Conformal.of(probabilities, targets)
        return compare(logits, targets, self.temperature)

    def set_head(self, weight: Tensor, bias: Tensor) -> None:
        """Take over a head that was solved on features of the frozen backbone."""
        if not isinstance(self.head, nn.Sequential):
            raise InvalidValueError(f"Expected a linear head, got {type(self.head).__name__}.")
        _fill_head(self.head, weight, bias)

    def cross_validate(
        self,
        data: Data | None = None,
        *,
        k: int = 5,
        epochs: int | None = None,
        strategy: str | Strategy | None = None,
        lr: float | Literal["auto"] | None = None,
        batch_size: int | Literal["auto"] | None = None,
        training: Training | None = None,
    ) -> CrossValidation:
        """Train a copy of this task k times, and score each on the fold it was not trained on.

        Folds are made of the training part, with equal shares of each class. Copies of an input and
        inputs of one group stay together. Each copy starts from the weights the task has now and
        sees the validation part as in `finetune`, to choose its best epoch. The test part is not
        looked at, and the task stays as it is.

        Args:
            data: Whose training part is used; None for the data this task was made from.
            k: Number of folds.
            epochs: As in `finetune`, like all below.
            strategy: Which part of the backbone trains when.
            lr: Peak learning rate.
            batch_size: Rows in a training batch.
            training: The settings changed once in a while.

        Raises:
            NoDataError: There is no training part.
            InvalidValueError: It is too small for k folds, or arguments do not fit.
        """
        source = self._source(data, "task.cross_validate(data)")
        if not self.head_is_fresh:
            _log.warning(
                "This task has been trained before. If that was on these data, every fold has been "
                "seen, and the scores are too good: cross-validate a new task."
            )
        evaluations = []
        for fold, (rest, held) in enumerate(make_folds(source, k)):
            _log.info(
                f"Fold {fold + 1} of {k}: {len(rest.train or ()):,} train, {len(held):,} held."
            )
            task = fresh_copy(self)
            task.finetune(
                rest,
                epochs=epochs,
                strategy=strategy,
                lr=lr,
                batch_size=batch_size,
                training=training,
            )
            evaluations.append(task._evaluate(held, BATCH_SIZE))
        return CrossValidation(tuple(evaluations))

    def knn(
        self, data: Data | None = None, *, k: int = 10, batch_size: int = BATCH_SIZE
    ) -> Evaluation:
        """Score a classifier that asks the nearest training inputs, and not the head.

        The features of the backbone are compared by cosine; neighbours vote with the weight
        exp(similarity / 0.07), as in Wu et al. 2018 (arXiv:1805.01978). It says how good the
        features are by themselves. The probabilities are shares of the votes: 0 for a class without
        a neighbour, which makes ``loss`` large. A neighbour with several labels gives its vote to
        each of them, and more than half of the votes give a label.

        Args:
            data: Whose training part is asked, and whose test part is scored, else the validation
                part; None for the data this task was made from.
            k: Neighbours that vote.
            batch_size: Inputs computed at a time.

        Raises:
            NoDataError: There is nothing to ask or to score.
            InvalidValueError: There are fewer training inputs than k.
        """
        train = self._source(data, "task.knn(data)").train
        samples = self._part_to_score(data)
        bank = self._banks.get(self, train, batch_size=batch_size)
        return evaluate_by_neighbors(self, bank, samples, k=k, batch_size=batch_size)

    def _neighbors(self, given: Inputs, k: int, data: Data | None, batch_size: int) -> Any:
        # Any: the kind of frame that came in, pandas or polars
        train = self._source(data, "data=").train
        bank = self._banks.get(self, train, batch_size=batch_size)
        embeddings = self._embed(given, batch_size)
        columns = neighbor_columns(bank, embeddings, k=k, classes=self.classes)
        return like(given.frame_kind, columns)

    def _predict(
        self,
        given: Inputs,
        batch_size: int,
        *,
        abstain: float | None = None,
        coverage: float | None = None,
        tta: bool = False,
    ) -> Predictions:
        if self.multi_label:
            _refuse_beside_many_labels(abstain, coverage)
        check_switch("tta", tta)
        if abstain is not None:
            check_number("abstain", abstain, "(0, 1]", what="a probability")
        if tta and coverage is not None:
            raise InvalidValueError(
                "coverage= beside tta=True: calibrate() measured what sets must hold without tta, "
                "so nobody knows with it. Leave one of them out."
            )
        set_score = None if coverage is None else self._set_score(coverage)
        predictions = predict_classes(
            self,
            given.samples,
            batch_size=batch_size,
            frame_kind=given.frame_kind,
            views=self._views() if tta else None,
            thresholds=self.thresholds,
        )
        predictions = replace(predictions, abstain=abstain, set_score=set_score)
        if given.single and predictions.errors:
            reason = predictions.errors[0]
            raise UnreadableError(
                f"{predictions.inputs[0] or 'The input'} cannot be read: {reason}.", reason=reason
            )
        return predictions

    def _views(self) -> Callable[[Batch], list[Batch]]:
        """Answer with what makes of a batch the views that ``tta=True`` averages over.

        Kinds of input that can be looked at in several ways say here in which.

        Raises:
            InvalidValueError: Inputs of this kind look one way only.
        """
        raise InvalidValueError(
            f"tta=True: inputs of {type(self).__name__} have no further views to average over. "
            "Leave it out."
        )

    def _set_score(self, coverage: float) -> float:
        if self._conformal is None:
            raise InvalidValueError(
                f"coverage={coverage}: this task is not calibrated, so nobody knows how large its "
                "sets must be. Call task.calibrate() first; it needs a validation part."
            )
        return self._conformal.highest_score(coverage)

    def _embed(self, given: Inputs, batch_size: int) -> Embeddings:
        return embed_samples(self, given.samples, batch_size=batch_size)

    def _evaluate(self, samples: Samples, batch_size: int) -> Evaluation:
        return evaluate_classes(self, samples, batch_size=batch_size, thresholds=self.thresholds)

    def _part_to_score(self, data: Data | None) -> Samples:
        """Answer with the test part of data, else with their validation part."""
        source = self._source(data, "task.evaluate(data)")
        samples = source.test if source.test is not None else source.val
        if samples is None:
            raise NoDataError("These data have neither a test nor a validation part to score.")
        return samples

    def _source(self, data: Data | None, call: str) -> Data:
        """Answer with the data to look at, once it is known that they fit."""
        source = self.data if data is None else data
        if source is None:
            raise NoDataError(
                f"This task has no data: saved tasks do not carry any. Say what to look at: {call}."
            )
        if not isinstance(source, Data):
            raise self.no_data_module(source)
        self.check_data(source)
        return source


def _refuse_beside_many_labels(abstain: float | None, coverage: float | None) -> None:
    """Refuse what asks for the one true label."""
    if abstain is not None:
        raise InvalidValueError(
            f"abstain={abstain}: this task gives any number of labels, and none is an answer "
            "already: a class is given from its own threshold on (task.thresholds). Leave it out."
        )
    if coverage is not None:
        raise InvalidValueError(
            f"coverage={coverage}: a set holds the one true label as often as asked, and here an "
            "input has any number of labels. Leave it out; the labels are what is predicted."
        )


def _linear_head(num_features: int, num_classes: int, *, dropout: float) -> nn.Sequential:
    """Build a linear head that starts at equal probabilities.

    Zero weights need no random numbers, and give every class the same start.
    """
    check_number("dropout", dropout, "[0, 1)", what="a share")
    linear = nn.Linear(num_features, num_classes, device="meta").to_empty(device="cpu")
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return nn.Sequential(nn.Dropout(dropout), linear)


def _fill_head(head: nn.Sequential, weight: Tensor, bias: Tensor) -> None:
    """Copy a solved head into place."""
    linear = head[-1]
    if not isinstance(linear, nn.Linear):
        raise InvalidValueError(f"Expected a linear head, got {type(linear).__name__}.")
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)


def check_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """Refuse class names that cannot be meant."""
    names = _names(classes)
    if len(names) < 2:
        raise ClassError(f"Got {len(names)} classes: expected at least two.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise ClassError(f"Class names must differ, got twice: {', '.join(twice[:5])}.")
    return names


def _names(classes: Any) -> tuple[str, ...]:  # Any: whatever was given for them
    """Turn texts and integers into names; nothing else can be one."""
    several = isinstance(classes, Iterable) and not isinstance(classes, str)
    if not several:
        raise ClassError(f"classes={classes!r}: expected several names.")
    if isinstance(classes, Set | Mapping):
        raise ClassError(
            f"classes is a {type(classes).__name__}: expected a list, whose order is that of the "
            "probabilities, such as data.classes."
        )
    given = list(classes)
    for name in given:
        whole = isinstance(name, Integral) and not isinstance(name, bool)
        if not (whole or (isinstance(name, str) and name)):
            raise ClassError(f"classes={given[:8]!r}: {name!r} is no name; expected texts.")
    return tuple(map(str, given))


def check_untouched(backbone: Backbone, given: Mapping[str, object]) -> None:
    """Refuse arguments (None where left out) that would have built another net than the given."""
    named = [f"{name}=" for name, value in given.items() if value is not None]
    if named:
        raise InvalidValueError(
            f"{', '.join(named)} beside a backbone that is already built "
            f"({backbone.config.get('name')}): give them to mealkit.backbones.create."
        )
