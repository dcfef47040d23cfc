"""What every way of learning without labels is, and the objective of those that compare views.

A method is a frozen set of settings with its paper: which views it wants, the modules beside the
backbone, the loss. Adding one is a class with `register_method` above it, and nothing elsewhere.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, fields, replace
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..backbones import Backbone
from ..data.module import Data
from ..data.views import VIEWS, View, draw_views
from ..errors import BackboneError, InvalidValueError, check_positive, unknown_name
from ..specs import ImageSpec, Kind
from .averaging import follow
from .joint import joint_batch
from .objectives import Objective, Step
from .training import Training, count_epochs

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task

MethodT = TypeVar("MethodT", bound="Method")
Parts = Mapping[str, Any]
"""Modules by name. Any: torch's modules of modules have no closer type."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way of learning without labels: settings, and the objective that they make.

    Subclasses are frozen dataclasses whose fields are plain values, because a saved pretrainer
    records them.
    """

    name: ClassVar[str]
    """Under which `register_method` knows it."""

    kind: ClassVar[Kind] = "image"
    """Which inputs it learns from."""

    lr: ClassVar[float] = 2e-3
    """Peak learning rate of AdamW for batches of the usual size. Measured on CIFAR-10."""

    batch_size: ClassVar[int | None] = None
    """Rows in a batch when nobody says otherwise; None for what is usual for the kind."""

    few_rows: ClassVar[int] = 0
    """Batches of fewer rows are warned of."""

    neighbors_tell: ClassVar[bool] = True
    """Whether nearest neighbours say how good the features are."""

    lowest_spread: ClassVar[float] = 0.05
    """Spread of the embeddings (see `CollapseAlarm`) below which they count as collapsed."""

    lowest_rank: ClassVar[float] = 4.0
    """Effective rank of the embeddings below which they count as collapsed. On CIFAR-10, those of
    all methods stayed above 8 and fell below 4 within 20 steps where a gradient was let through."""

    remedy: ClassVar[str]
    """What helps where its embeddings collapse, in words for the warning."""

    training: ClassVar[Training] = Training(weight_decay=0.01, warmup=0.05)
    """Settings of a run for which the user gave none."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if "temperature" in field.name:
                check_positive(field.name, value)

    def objective(self, net: Backbone) -> Pretext:
        """Build what trains a backbone by this method.

        Raises:
            BackboneError: The method cannot take the net; the message says which can.
        """
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:  # Any: plain JSON values
        """Answer with what `method_from` reads."""
        return {"name": self.name, **asdict(self)}


class Pretext(Objective):
    """The objective of a method; it keeps what the collapse alarm and the probes ask for."""

    passes: float = 3.0
    """Forward passes that a step costs per input; one backward pass counts as two."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method
        self.embedding: Tensor | None = None
        """What the last training step compared, (B, D), of all processes."""

    def check(self, data: Data) -> None:
        """Refuse data of which nothing would be learnt; by default, all will do.

        Args:
            data: What is about to be learnt from.
        """


METHODS: dict[str, type[Method]] = {}
"""One row per method; `register_method` adds it."""


def register_method(name: str) -> Callable[[type[MethodT]], type[MethodT]]:
    """Add a method of your own: a decorator for its class.

    Args:
        name: Under which `SSLPretrainer` shall know it. Saved pretrainers record it: register
            before you load them.
    """

    def add(method: type[MethodT]) -> type[MethodT]:
        method.name = name
        METHODS[name] = method
        return method

    return add


def resolve_method(method: str | Method) -> Method:
    """Turn a name into its method with the usual settings; a method passes through.

    Raises:
        UnknownNameError: No method has this name.
        InvalidValueError: Neither a name nor a method.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str):
        raise InvalidValueError(
            f"method={method!r}: expected one of {', '.join(METHODS)}, or a Method with settings."
        )
    if method not in METHODS:
        raise unknown_name("method", method, METHODS, most=len(METHODS))
    return METHODS[method]()


def method_from(settings: Mapping[str, Any]) -> Method:  # Any: plain JSON values
    """Build the method whose settings were saved."""
    values = dict(settings)
    name = values.pop("name")
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    plain = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
    return METHODS[name](**plain)


def progress(task: Task) -> float:
    """Answer with how much of a run is behind, in [0, 1]."""
    num_epochs, steps_per_epoch = count_epochs(task.trainer)
    return min(1.0, task.trainer.global_step / (num_epochs * steps_per_epoch))


def seed_of(task: Task) -> int:
    """Answer with the seed of the data that are trained on, else with that of the training."""
    trainer = getattr(task, "_trainer", None)  # Lightning's property raises where there is none
    data = getattr(trainer, "datamodule", None)
    return data.seed if isinstance(data, Data) else task.plan.training.seed


def rising(start: float, done: float) -> float:
    """Raise a momentum from its start to 1 along a cosine (arXiv:2006.07733, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * done) + 1) / 2


def mlp(
    *widths: int,
    norm: bool = True,
    last_norm: bool = False,
    activation: Callable[[], nn.Module] = nn.ReLU,
) -> nn.Sequential:
    """Build linear layers with batch norm and an activation between them.

    Args:
        widths: Of the input, of what lies between, of the output.
        norm: Whether batch norm follows every layer but the last.
        last_norm: Whether it also follows the last, without weights of its own.
        activation: What follows every layer but the last.
    """
    layers: list[nn.Module] = []
    last = len(widths) - 2
    for place, (before, after) in enumerate(pairwise(widths)):
        norms = norm if place < last else last_norm
        layers.append(nn.Linear(before, after, bias=not norms))
        if norms:
            layers.append(nn.BatchNorm1d(after, affine=place < last))
        if place < last:
            layers.append(activation())
    return nn.Sequential(*layers)


PREDICTOR_RATE = MappingProxyType({"predictor": 10.0})
"""A predictor that is ahead of what it predicts keeps dimensions from collapsing (Tian et al. 2021,
arXiv:2102.06810, section 3; 10 as in arXiv:2006.07733, appendix). On CIFAR-10, SimSiam had after an
epoch an effective rank of 17.5 in place of 7.0 with it."""


class Running(nn.Module):
    """Something that embeddings are noted for in a step, and that moves once the step is over.

    It must not move earlier: the backward pass still needs what the loss was computed with.
    """

    def __init__(self) -> None:
        super().__init__()
        self._noted: list[Tensor] = []

    def note(self, rows: Tensor) -> None:
        """Keep rows, (B, D), until the optimiser has stepped."""
        self._noted.append(rows.detach())

    def advance(self) -> None:
        """Take in what was noted."""
        if self._noted:
            self.take(torch.cat(self._noted))
            self._noted = []

    def take(self, rows: Tensor) -> None:
        """Take in rows, (N, D)."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class ViewMethod(Method):
    """A method that compares several views of a picture."""

    views: ClassVar[str]
    """A name of `mealkit.data.views.VIEWS`."""

    student: ClassVar[slice] = slice(None)
    """Which of the views the backbone sees."""

    teacher: ClassVar[slice] = slice(0, 0)
    """Which of them its moving average sees; none where there is no such teacher."""

    shuffles: ClassVar[bool] = False
    """Whether the teacher sees other batches than the student."""

    times: ClassVar[Mapping[str, float]] = MappingProxyType({})
    """Of the modules beside the backbone, by name: how many times the learning rate is theirs."""

    def draw(self, net: Backbone, size: int) -> tuple[View, ...]:
        """Answer with the views for a net that takes pictures of a size in pixels."""
        return VIEWS[self.views](size)

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build the modules beside the backbone; one is the ``projector``."""
        raise NotImplementedError

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare what the projector said of views, (B, D) each.

        Args:
            parts: What `parts` built.
            student: By the view.
            teacher: By the view, without gradient.
        """
        raise NotImplementedError

    def momentum(self, done: float) -> float:
        """Answer with how much of the teacher stays at a step.

        Args:
            done: How much of the run is behind, in [0, 1].
        """
        raise NotImplementedError

    def objective(self, net: Backbone) -> Pretext:
        """Build projector and teacher beside a net."""
        return JointViews(self, net)


class JointViews(Pretext):
    """Compare views of the joint batch of all processes.

    Each process runs the backbone on its own rows. Projectors see the rows of all of them, so that
    their batch norm and the loss are those of one process with the joint batch.

    Args:
        method: Whose loss it is.
        net: The backbone.
    """

    method: ViewMethod

    def __init__(self, method: ViewMethod, net: Backbone) -> None:
        super().__init__(method)
        size = image_spec(net).size
        self.views = tuple(
            replace(view, size=size) if view.size == min(size) else view
            for view in method.draw(net, min(size))
        )
        self.parts = nn.ModuleDict(method.parts(net.num_features))
        self.times = {f"parts.{name}": factor for name, factor in method.times.items()}
        seen, kept = self.views[method.student], self.views[method.teacher]
        self.teacher: nn.ModuleDict | None = None
        if kept:
            copies = {"backbone": net, "projector": self.parts["projector"]}
            self.teacher = copy.deepcopy(nn.ModuleDict(copies)).requires_grad_(False)
        areas = [_area(view) / (size[0] * size[1]) for view in (*seen, *seen, *seen, *kept)]
        self.passes = sum(areas)

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Draw views, encode them, and compare."""
        index = batch["index"]
        pixels = draw_views(
            batch["image"], self.views, seed=seed_of(task), epoch=task.current_epoch, index=index
        )
        features = _encode(task, task.backbone, pixels[self.method.student])
        taught = self._teach(task, pixels[self.method.teacher])
        with torch.autocast(index.device.type, enabled=False):
            student = [self.parts["projector"](joint_batch(one.float())) for one in features]
            teacher = self._project(taught)
            loss = self.method.loss(dict(self.parts.items()), student, teacher)
        self.embedding = student[0].detach()
        return Step(loss, None)

    @torch.no_grad()
    def _teach(self, task: Task, pixels: Sequence[Tensor]) -> list[Tensor]:
        if self.teacher is None:
            return []
        net: Any = self.teacher["backbone"]  # Any: modules of a ModuleDict have no closer type
        if not self.method.shuffles:
            return _encode(task, net, pixels)
        # Batch norm would else tell which key belongs to a query (arXiv:1911.05722, section 3.3).
        order = torch.randperm(len(pixels[0]), device=pixels[0].device)
        halves = [order[::2], order[1::2]] if len(order) > 3 else [order]
        answers = []
        for view in pixels:
            parts = [_encode(task, net, [view[rows]])[0] for rows in halves]
            answer = torch.empty_like(torch.cat(parts))
            answer[torch.cat(halves)] = torch.cat(parts)
            answers.append(answer)
        return answers

    @torch.no_grad()
    def _project(self, taught: Sequence[Tensor]) -> list[Tensor]:
        if self.teacher is None:
            return []
        return [self.teacher["projector"](joint_batch(one.float())) for one in taught]

    def after_step(self, task: Task) -> None:
        """Move the teacher, the queue, the centre."""
        if self.teacher is not None:
            share = 1 - self.method.momentum(progress(task))
            follow(self.teacher["backbone"], task.backbone, share)
            follow(self.teacher["projector"], self.parts["projector"], share)
        for part in self.parts.values():
            if isinstance(part, Running):
                part.advance()


def takes_size(net: Backbone, side: int) -> bool:
    """Say whether a net can also be run on square pictures of another size."""
    spec = image_spec(net)
    modes = {module: module.training for module in net.modules()}
    like = next(net.parameters())
    net.eval()
    try:
        with torch.no_grad():
            net(torch.zeros(1, spec.in_chans, side, side, device=like.device))
    except Exception:  # nets raise whatever their operations raise
        return False
    finally:
        for module, mode in modes.items():
            module.training = mode
    return True


def _encode(task: Task, net: nn.Module, pixels: Sequence[Tensor]) -> list[Tensor]:
    """Run a net over views, those of one size in one pass, and answer with features of each.

    Batch statistics are kept of the first size alone: features are later asked of whole pictures,
    of which those of small crops are no estimate.
    """
    features: list[Tensor] = []
    for place, (_, alike) in enumerate(groupby(pixels, key=lambda view: view.shape)):
        views = list(alike)
        with _still_statistics(net) if place else nullcontext():
            joined: Tensor = net(*task.preprocess(torch.cat(views)))
        features += joined.chunk(len(views))
    return features


@contextmanager
def _still_statistics(net: nn.Module) -> Iterator[None]:
    """Let batch norm use the statistics of a batch without keeping them."""
    norms = [part for part in net.modules() if isinstance(part, _BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum


def image_spec(net: Backbone) -> ImageSpec:
    """Answer with what a net for pictures wants to see.

    Raises:
        BackboneError: The net reads something else.
    """
    spec = net.input_spec
    if not isinstance(spec, ImageSpec):
        known = [name for name, method in METHODS.items() if method.kind == spec.kind]
        raise BackboneError(
            f"Views are of pictures, and the backbone reads {spec.kind}. Its methods are: "
            f"{', '.join(known) or 'none yet'}."
        )
    return spec


def _area(view: View) -> float:
    size = view.size if isinstance(view.size, tuple) else (view.size or 0, view.size or 0)
    return float(size[0] * size[1])
