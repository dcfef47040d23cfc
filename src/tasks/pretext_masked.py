"""MAE: rebuild the hidden patches of a picture with a vision transformer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..backbones import Backbone
from ..data.chance import chances
from ..data.views import VIEWS, draw_views
from ..errors import BackboneError, InvalidValueError, check_count, check_number
from .joint import joint_batch
from .objectives import Step
from .pretext import METHODS, Method, Pretext, image_spec, register_method, seed_of
from .pretext_losses import masked_patches
from .training import Training

if TYPE_CHECKING:
    from ..specs import Batch
    from .task import Task

_FIRST_DRAW = 100_000  # draws of views are below


@register_method("mae")
@dataclass(frozen=True, kw_only=True)
class MAE(Method):
    """Rebuild hidden patches of a picture, with a vision transformer of timm (arXiv:2111.06377).

    The backbone sees the other patches only, so a step is cheap. Its features are for fine-tuning:
    nearest neighbours and linear heads do poorly on them, in the paper, too. Nothing teaches the
    class token: build the backbone with ``options={"global_pool": "avg"}``, so that its features
    are the mean of its patches. On CIFAR-10, a linear head on that rose from 37.6 % to 42.0 % in an
    epoch, and on the token fell from 34.7 % to 33.8 %.

    Args:
        share: Of the patches that are hidden.
        depth: Layers of the decoder, which is thrown away. The paper has 8; fine-tuning needs one
            (table 1a), and small nets have less to spare for it.
        width: Of the decoder, a multiple of 16; None for half of that of the backbone.
    """

    neighbors_tell: ClassVar[bool] = False
    lowest_spread: ClassVar[float] = 0.01
    lowest_rank: ClassVar[float] = 1.0
    lr: ClassVar[float] = 1e-3
    batch_size: ClassVar[int] = 64  # nothing is told from the batch, and steps count for more
    training: ClassVar[Training] = Training(weight_decay=0.05, warmup=0.1)
    remedy: ClassVar[str] = "a lower lr=, or a longer warm-up"

    share: float = 0.75
    depth: int = 2
    width: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("share", self.share, "(0, 1)", what="a share of patches")
        check_count("depth", self.depth)
        if self.width is not None:
            check_count("width", self.width, least=16)
            if self.width % 16:
                raise InvalidValueError(f"width={self.width}: expected a multiple of 16.")

    def objective(self, net: Backbone) -> Pretext:
        """Build the decoder for a vision transformer.

        Raises:
            BackboneError: The net is none, or has fewer than 4 patches.
        """
        return MaskedPictures(self, net)


class MaskedPictures(Pretext):
    """Encode the visible patches of a picture, and rebuild the others from them.

    Args:
        method: How much is hidden, and how large the decoder is.
        net: The backbone.

    Raises:
        BackboneError: It is no vision transformer of timm, or has too few patches.
    """

    method: MAE

    def __init__(self, method: MAE, net: Backbone) -> None:
        super().__init__(method)
        size = image_spec(net).size
        body = _transformer(net)
        self.views = VIEWS["mae"](min(size))
        self.num_patches = int(body.patch_embed.num_patches)
        self.num_kept = max(1, round(self.num_patches * (1 - method.share)))
        self.patch = tuple(int(side) for side in body.patch_embed.patch_size)
        if self.num_patches < 4 or self.num_kept == self.num_patches:
            raise BackboneError(
                f"{net.config.get('name')!r} cuts pictures of {size[0]}x{size[1]} pixels into "
                f"{self.num_patches} patches, too few to hide {method.share:.0%} of. Build it with "
                "smaller ones: mealkit.backbones.create(name, ..., options={'patch_size': 4})."
            )
        features = body.embed_dim
        width = max(16, features // 32 * 16) if method.width is None else method.width
        num_values = self.patch[0] * self.patch[1] * image_spec(net).in_chans
        self.enter = nn.Linear(features, width)
        self.unknown = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.places = nn.Parameter(torch.randn(1, self.num_patches, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width,
            nhead=width // 16,
            dim_feedforward=4 * width,
            dropout=0.0,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.decoder = nn.TransformerEncoder(layer, method.depth, enable_nested_tensor=False)
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, num_values))
        self.passes = 3 * self.num_kept / self.num_patches

    def step(self, task: Task, batch: Batch, *, training: bool) -> Step:
        """Hide patches by chance, encode the rest, and compare what is rebuilt."""
        index, seed, epoch = batch["index"], seed_of(task), task.current_epoch
        (view,) = draw_views(batch["image"], self.views, seed=seed, epoch=epoch, index=index)
        (images,) = task.preprocess(view)
        draws = chances(seed, epoch, index, first=_FIRST_DRAW, num=self.num_patches)
        kept = draws.argsort(1)[:, : self.num_kept]
        net = _transformer(task.backbone)
        with _quick_attention(index.device):
            with _seeing(net, kept):
                tokens: Tensor = net.forward_features(images)
            guess = self._rebuild(tokens, kept, net.num_prefix_tokens)
        hidden = torch.ones_like(draws, dtype=torch.bool).scatter(1, kept, value=False)
        with torch.autocast(index.device.type, enabled=False):
            loss = masked_patches(guess.float(), self.patches_of(images.float()), hidden)
        self.embedding = joint_batch(tokens[:, net.num_prefix_tokens :].mean(1).detach().float())
        return Step(loss, None)

    def patches_of(self, images: Tensor) -> Tensor:
        """Cut pictures (B, C, H, W) into flat patches, (B, L, P), row by row."""
        height, width = self.patch
        rows = images.unfold(2, height, height).unfold(3, width, width)  # (B, C, h, w, P1, P2)
        return rows.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)

    def _rebuild(self, tokens: Tensor, kept: Tensor, num_prefix: int) -> Tensor:
        seen = self.enter(tokens).float()  # as the learnt tokens that it is put among
        places = kept[:, :, None].expand(-1, -1, seen.shape[2])
        unknown = self.unknown.expand(len(seen), self.num_patches, -1)
        every = unknown.scatter(1, places, seen[:, num_prefix:]) + self.places
        decoded = self.decoder(torch.cat([seen[:, :num_prefix], every], dim=1))
        guess: Tensor = self.leave(decoded[:, num_prefix:])
        return guess


def _quick_attention(device: torch.device) -> AbstractContextManager[None]:
    """Compute attention by plain products where bf16 on a CPU would make the fused one slow.

    Its backward pass took 57 % of a step there, of torch 2.14 on a CPU with AVX-512 BF16.
    """
    if device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        context: AbstractContextManager[None] = sdpa_kernel(SDPBackend.MATH)
        return context
    return nullcontext()


class _Visible(nn.Module):
    """Keep the first tokens, which are no patches, and of the patches those that are seen."""

    def __init__(self, kept: Tensor, num_prefix: int) -> None:
        super().__init__()
        self._kept, self._num_prefix = kept, num_prefix

    def forward(self, tokens: Tensor) -> Tensor:
        first, patches = tokens[:, : self._num_prefix], tokens[:, self._num_prefix :]
        places = self._kept[:, :, None].expand(-1, -1, patches.shape[2])
        return torch.cat([first, patches.gather(1, places)], dim=1)


@contextmanager
def _seeing(net: VisionTransformer, kept: Tensor) -> Iterator[None]:
    """Let a net see some patches only, where timm has a place for dropping some by chance."""
    own = net.patch_drop
    visible = _Visible(kept, net.num_prefix_tokens)
    net.patch_drop = visible  # type: ignore[assignment]  # timm types what usually stands there
    try:
        yield
    finally:
        net.patch_drop = own


def _transformer(net: Backbone) -> VisionTransformer:
    body = getattr(net, "net", None)
    if not isinstance(body, VisionTransformer):
        others = ", ".join(
            name for name, method in METHODS.items() if method.kind == "image" and name != "mae"
        )
        raise BackboneError(
            "mae hides patches of a vision transformer of timm, such as vit_small_patch16_224, and "
            f"{net.config.get('name') or net.config.get('module')!r} is none. Methods that take "
            f"it: {others}."
        )
    return body
