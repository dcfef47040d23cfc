"""Masked patches as a method: rebuild the hidden patches of windows of series."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from ..backbones import Backbone
from ..backbones.series_encoder import SeriesEncoder
from ..data.chance import chances
from ..errors import BackboneError, check_number
from ..specs import Kind
from .joint import joint_batch
from .objectives import Step
from .pretext import METHODS, Method, Pretext, register_method, seed_of
from .pretext_losses import rebuilt_patches
from .training import Training

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task


@register_method("masked_patches")
@dataclass(frozen=True, kw_only=True)
class MaskedPatches(Method):
    """Rebuild hidden patches of series (PatchTST, Nie et al. 2023, arXiv:2211.14730).

    Section 3.2: patches that do not overlap, 40 % of them zero to the net, the mean squared error
    on these alone, in units of each window. Net and head are those of transformers.

    Args:
        share: Of the patches that are hidden.
    """

    kind: ClassVar[Kind] = "series"
    lr: ClassVar[float] = 1e-3
    lowest_spread: ClassVar[float] = 0.01
    lowest_rank: ClassVar[float] = 1.0
    neighbors_tell: ClassVar[bool] = False
    training: ClassVar[Training] = Training(weight_decay=0.01, warmup=0.05)
    remedy: ClassVar[str] = "a lower lr=, or a longer warm-up"

    share: float = 0.4

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("share", self.share, "(0, 1)", what="a share of patches")

    def objective(self, net: Backbone) -> Pretext:
        """Build the head that rebuilds patches.

        Raises:
            BackboneError: The net is no encoder of series, or its patches cannot be hidden.
        """
        return HiddenPatches(self, net)


class HiddenPatches(Pretext):
    """Hide patches of windows, rebuild them, and keep what the net made of each window.

    Which are hidden is a pure function of (seed, step, index): a window that is drawn again hides
    others, and processes hide what one process would. As many are hidden of each window as
    transformers hides, in whose place zeros stand.

    Args:
        method: How much is hidden.
        net: The backbone.

    Raises:
        BackboneError: It is no encoder of series, its patches overlap, or there are too few.
    """

    method: MaskedPatches

    def __init__(self, method: MaskedPatches, net: Backbone) -> None:
        super().__init__(method)
        encoder = _encoder(net)
        name, count = net.config["name"], encoder.num_patches
        if encoder.stride_steps < encoder.patch_steps:
            raise BackboneError(
                f"The patches of {name!r} overlap ({encoder.patch_steps} steps, one every "
                f"{encoder.stride_steps}), so that neighbours show what is hidden. Build it with "
                f"options={{'patch_length': {encoder.patch_steps}, "
                f"'patch_stride': {encoder.patch_steps}}}."
            )
        self.num_kept = int(count * (1 - method.share))  # as transformers rounds
        if not 0 < self.num_kept < count:
            raise BackboneError(
                f"{name!r} cuts {encoder.input_spec.context_steps} steps into {count} patches, too "
                f"few to hide {method.share:.0%} of. Give a longer context=, or build it with "
                "shorter ones: mealkit.backbones.create(name, ..., options={'patch_length': 4})."
            )
        self.head = encoder.rebuilding_head()

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Hide patches by chance, rebuild them, and compare what was observed of them."""
        net, index = _encoder(task.backbone), batch["index"]
        draws = chances(seed_of(task), task.global_step, index, first=0, num=net.num_patches)
        hidden = draws.argsort(1).argsort(1) >= self.num_kept
        states, patches = net.encode(batch["past"], hidden)
        guess = self.head(states[:, None])[:, 0]
        observed = net.patches(batch["observed"].to(patches.dtype)) > 0
        loss = rebuilt_patches(guess, patches, observed & hidden[..., None])
        self.embedding = joint_batch(states.mean(1).detach())
        return Step(loss, None)


def _encoder(net: Backbone) -> SeriesEncoder:
    if not isinstance(net, SeriesEncoder):
        known = [name for name, one in METHODS.items() if one.kind == net.input_spec.kind]
        raise BackboneError(
            f"masked_patches rebuilds patches of series, and the backbone reads "
            f"{net.input_spec.kind}. Its methods are: {', '.join(known) or 'none yet'}."
        )
    return net
