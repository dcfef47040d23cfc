"""Methods that learn from a moving average of their own weights: MoCo, BYOL, DINO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..backbones import Backbone
from ..data.pixels import SMALL
from ..data.views import View, dino_views
from ..errors import check_count, check_number, check_switch
from .pretext import (
    PREDICTOR_RATE,
    Parts,
    Running,
    ViewMethod,
    mlp,
    register_method,
    rising,
    takes_size,
)
from .pretext_losses import byol, dino, info_nce


class Queue(Running):
    """The last keys, (Q, D), of length 1 each, the oldest replaced first; the same everywhere."""

    keys: Tensor
    place: Tensor

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.register_buffer("keys", functional.normalize(torch.randn(size, width), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    def take(self, rows: Tensor) -> None:
        """Put keys in the place of the oldest."""
        newest = functional.normalize(rows[-len(self.keys) :], dim=1)
        places = torch.arange(len(newest), device=rows.device) + self.place
        self.keys[places % len(self.keys)] = newest
        self.place.copy_((self.place + len(newest)) % len(self.keys))


class Centre(Running):
    """The running mean of scores, (K,)."""

    mean: Tensor

    def __init__(self, width: int, momentum: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self._momentum = momentum

    def take(self, rows: Tensor) -> None:
        """Move towards the mean of rows."""
        self.mean.lerp_(rows.mean(0), 1 - self._momentum)


@register_method("moco")
@dataclass(frozen=True, kw_only=True)
class MoCo(ViewMethod):
    """MoCo v2: tell the other view from a queue of earlier ones (arXiv:2003.04297, 1911.05722).

    Args:
        temperature: Divides similarities.
        width: Length of what is compared.
        queue_size: Earlier keys to compare with; the paper's 65,536 are for 1.3 million pictures.
        teacher_momentum: How much of the teacher stays at a step; the paper's 0.999 is for runs of
            a million steps. 0.75 collapsed on CIFAR-10 within 79.
    """

    views: ClassVar[str] = "moco"
    student: ClassVar[slice] = slice(0, 1)
    teacher: ClassVar[slice] = slice(1, 2)
    shuffles: ClassVar[bool] = True
    lr: ClassVar[float] = 5e-4
    batch_size: ClassVar[int] = 64  # the queue is what a key is told from, and steps count for more
    remedy: ClassVar[str] = "a longer queue, a higher teacher_momentum, or a lower lr="

    temperature: float = 0.2
    width: int = 128
    queue_size: int = 4096
    teacher_momentum: float = 0.99

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)
        check_count("queue_size", self.queue_size)
        check_number("teacher_momentum", self.teacher_momentum, "[0, 1)")

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build the projector of two layers, without norms, and the queue."""
        return {
            "projector": mlp(num_features, num_features, self.width, norm=False),
            "queue": Queue(self.queue_size, self.width),
        }

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare queries with their keys and the queue."""
        (query,), (key,), queue = student, teacher, parts["queue"]
        queue.note(key)
        return info_nce(query, key, queue.keys, temperature=self.temperature)

    def momentum(self, done: float) -> float:
        """Answer with the same at all times."""
        return self.teacher_momentum


@register_method("byol")
@dataclass(frozen=True, kw_only=True)
class BYOL(ViewMethod):
    """Predict what a teacher says of the other view (arXiv:2006.07733).

    Args:
        teacher_momentum: How much of the teacher stays at the first step; it rises to 1. 0.99 is
            the paper's for 300 epochs, 0.996 for 1,000. Lower ones did not help short runs.
        width: Length of what is compared.
    """

    views: ClassVar[str] = "byol"
    teacher: ClassVar[slice] = slice(0, 2)
    lr: ClassVar[float] = 5e-4
    batch_size: ClassVar[int] = 64  # nothing is told from the batch, and steps count for more
    times: ClassVar[Mapping[str, float]] = PREDICTOR_RATE
    few_rows: ClassVar[int] = 32
    remedy: ClassVar[str] = "a teacher_momentum nearer to 1, or a lower lr="

    teacher_momentum: float = 0.99
    width: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)
        check_number("teacher_momentum", self.teacher_momentum, "[0, 1)")

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build projector and predictor, twice as wide as the features, as in the paper."""
        hidden = 2 * num_features
        return {
            "projector": mlp(num_features, hidden, self.width),
            "predictor": mlp(self.width, hidden, self.width),
        }

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Predict the teacher's view from the other, both ways."""
        first, second = (parts["predictor"](one) for one in student)
        return byol(first, teacher[1]) + byol(second, teacher[0])

    def momentum(self, done: float) -> float:
        """Rise to 1 along a cosine."""
        return rising(self.teacher_momentum, done)


class Prototypes(nn.Module):
    """Scores of prototypes, by cosine: the head of DINO (arXiv:2104.14294, appendix C).

    Args:
        num_features: F.
        num_prototypes: K.
        norm: Whether there are batch norms between its layers.
    """

    def __init__(self, num_features: int, num_prototypes: int, *, norm: bool) -> None:
        super().__init__()
        hidden, bottleneck = min(2048, 4 * num_features), min(256, num_features)
        self.body = mlp(num_features, hidden, hidden, bottleneck, norm=norm, activation=nn.GELU)
        self.prototypes = nn.Parameter(torch.randn(num_prototypes, bottleneck) * 0.02)

    def forward(self, features: Tensor) -> Tensor:
        """Turn features (B, F) into scores (B, K)."""
        unit = functional.normalize(self.body(features), dim=1)
        return unit @ functional.normalize(self.prototypes, dim=1).T


@register_method("dino")
@dataclass(frozen=True, kw_only=True)
class DINO(ViewMethod):
    """Say of small crops what a teacher says of large ones (arXiv:2104.14294).

    Args:
        num_local: Small crops beside the two large ones; the paper has 8, each costs time. None for
            4, and for none of pictures of up to 64 pixels, which leave little to crop.
        num_prototypes: K; the paper's 65,536 are for 1.3 million pictures.
        norm: Whether the head has batch norms. An untrained net says nearly the same of all
            pictures, and batch norms tell them apart from the first step; without them, which is a
            point better in long runs of transformers (appendix D), a short run hardly starts.
        teacher_momentum: How much of the teacher stays at the first step; it rises to 1.
        student_temperature: Divides the student's scores.
        teacher_temperature: Divides the teacher's scores.
        centre_momentum: How much of the centre stays at a step.
    """

    views: ClassVar[str] = "dino"
    teacher: ClassVar[slice] = slice(0, 2)
    lr: ClassVar[float] = 5e-4
    batch_size: ClassVar[int] = 64
    remedy: ClassVar[str] = "a teacher_momentum nearer to 1, a lower lr=, or larger batches"

    num_local: int | None = None
    num_prototypes: int = 2048
    norm: bool = True
    teacher_momentum: float = 0.99
    student_temperature: float = 0.1
    teacher_temperature: float = 0.04
    centre_momentum: float = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_local is not None:
            check_count("num_local", self.num_local, least=0)
        check_count("num_prototypes", self.num_prototypes, least=2)
        check_switch("norm", self.norm)
        for name in ("teacher_momentum", "centre_momentum"):
            check_number(name, getattr(self, name), "[0, 1)")

    def draw(self, net: Backbone, size: int) -> tuple[View, ...]:
        """Make small crops of about 3/7 of the size, or of all of it where the net takes one."""
        num_local = self.num_local
        if num_local is None:
            num_local = 0 if size <= SMALL else 4
        local = max(8, round(size * 3 / 7 / 8) * 8)  # nets that halve thrice need a multiple of 8
        if not takes_size(net, local):
            local = size
        return dino_views(size, num_local=num_local, local_size=local)

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build the head, and the centre of what the teacher's says."""
        return {
            "projector": Prototypes(num_features, self.num_prototypes, norm=self.norm),
            "centre": Centre(self.num_prototypes, self.centre_momentum),
        }

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Match every crop with the teacher's large ones."""
        parts["centre"].note(torch.cat(list(teacher)))
        return dino(
            student,
            teacher,
            parts["centre"].mean,
            student_temperature=self.student_temperature,
            teacher_temperature=self.teacher_temperature,
        )

    def momentum(self, done: float) -> float:
        """Rise to 1 along a cosine."""
        return rising(self.teacher_momentum, done)
