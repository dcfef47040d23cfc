"""Methods that compare two views of a picture, without a teacher of its own weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from ..errors import check_count, check_number
from .pretext import PREDICTOR_RATE, Parts, ViewMethod, mlp, register_method
from .pretext_losses import barlow_twins, negative_cosine, nt_xent, vicreg


@register_method("simclr")
@dataclass(frozen=True, kw_only=True)
class SimCLR(ViewMethod):
    """Tell the other view of a picture from all others of the batch (arXiv:2002.05709).

    Args:
        temperature: Divides similarities; 0.2 of the measured run, the paper's 0.1 to 0.5.
        width: Length of what is compared.
    """

    views: ClassVar[str] = "simclr"
    few_rows: ClassVar[int] = 64
    remedy: ClassVar[str] = "larger batches, a lower lr=, or a temperature of 0.2 to 0.5"

    temperature: float = 0.2
    width: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("width", self.width)

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build the projector of two layers."""
        return {"projector": mlp(num_features, num_features, self.width)}

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare the two views with the whole batch."""
        first, second = student
        return nt_xent(first, second, temperature=self.temperature)


@register_method("simsiam")
@dataclass(frozen=True, kw_only=True)
class SimSiam(ViewMethod):
    """Predict one view from the other, whose side does not move (arXiv:2011.10566).

    The paper's widths for a ResNet-50 are its 2,048 features and a quarter of them.
    """

    views: ClassVar[str] = "moco"
    lr: ClassVar[float] = 5e-4
    batch_size: ClassVar[int] = 64  # nothing is told from the batch, and steps count for more
    times: ClassVar[Mapping[str, float]] = PREDICTOR_RATE
    few_rows: ClassVar[int] = 32
    remedy: ClassVar[str] = "a lower lr=, method='byol', or method='vicreg', which cannot collapse"

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build a projector of three layers and a predictor with a bottleneck."""
        width = num_features
        return {
            "projector": mlp(num_features, width, width, width, last_norm=True),
            "predictor": mlp(width, max(1, width // 4), width),
        }

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Predict each view from the other."""
        first, second = student
        ahead = negative_cosine(parts["predictor"](first), second)
        return (ahead + negative_cosine(parts["predictor"](second), first)) / 2


@register_method("barlow_twins")
@dataclass(frozen=True, kw_only=True)
class BarlowTwins(ViewMethod):
    """Make dimensions of two views agree, and differ from each other (arXiv:2103.03230).

    Args:
        off_diagonal: Weight of correlations between different dimensions. None for the paper's
            5e-3, and for more where the embeddings have fewer than 2,048 dimensions: there are
            fewer such correlations for each dimension.
        widening: Width of the projector over the number of features: 8,192 over 2,048 in the paper.
    """

    views: ClassVar[str] = "byol"
    few_rows: ClassVar[int] = 64
    remedy: ClassVar[str] = "larger batches, a lower lr=, or a lower off_diagonal"

    off_diagonal: float | None = None
    widening: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("widening", self.widening)
        if self.off_diagonal is not None:
            check_number("off_diagonal", self.off_diagonal, "[0, inf)")

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build the projector of three layers."""
        width = self.widening * num_features
        return {"projector": mlp(num_features, width, width, width)}

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Compare the dimensions of the two views."""
        first, second = student
        usual = 5e-3 * max(1.0, 2048 / first.shape[1])
        weight = usual if self.off_diagonal is None else self.off_diagonal
        return barlow_twins(first, second, off_diagonal=weight)


@register_method("vicreg")
@dataclass(frozen=True, kw_only=True)
class VICReg(ViewMethod):
    """Keep two views alike, and dimensions spread and independent (arXiv:2105.04906).

    Args:
        invariance: Weight of the distance of the views.
        variance: Weight of the spread.
        covariance: Weight of the independence of dimensions.
        widening: Width of the projector over the number of features: 8,192 over 2,048 in the paper.
    """

    views: ClassVar[str] = "byol"
    few_rows: ClassVar[int] = 64
    remedy: ClassVar[str] = "a higher variance= of VICReg, or a lower lr="

    invariance: float = 25.0
    variance: float = 25.0
    covariance: float = 1.0
    widening: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("widening", self.widening)
        for name in ("invariance", "variance", "covariance"):
            check_number(name, getattr(self, name), "[0, inf)")

    def parts(self, num_features: int) -> dict[str, nn.Module]:
        """Build the projector of three layers."""
        width = self.widening * num_features
        return {"projector": mlp(num_features, width, width, width)}

    def loss(self, parts: Parts, student: Sequence[Tensor], teacher: Sequence[Tensor]) -> Tensor:
        """Weigh the three terms."""
        first, second = student
        return vicreg(
            first,
            second,
            invariance=self.invariance,
            variance=self.variance,
            covariance=self.covariance,
        )
