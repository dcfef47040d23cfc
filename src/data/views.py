"""Views: several pictures made of one, for learning without labels, a batch at a time.

A view has torchvision's distributions (``RandomResizedCrop``, ``ColorJitter``, ...), computed on
the device that trains, for a whole batch at once. Every picture draws its own numbers, by chance
that is a pure function of (seed, epoch, index, view): the same in any batch and on any device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING

import torch

from ..errors import InvalidValueError
from .chance import between, chances
from .colours import ORDERS, blur, grey, jitter_, solarize, where_chosen_
from .crops import NUM_DRAWS, crop_boxes, resize_boxes
from .pixels import SMALL, to_floats

if TYPE_CHECKING:
    from torch import Tensor

_FIRST = 1000
"""The first draw of view 0: those of augmentations and mixing are below."""

_DRAWS_EACH = 64
"""Draws that are kept for a view; it takes fewer."""

_VALUES_AT_ONCE = 3 << 18
"""Values that are changed together on a CPU: more would leave its cache at every step."""


@dataclass(frozen=True, kw_only=True)
class View:
    """How a picture is changed by chance: crop, flip, tint, grey, blur, solarise, in that order.

    Of the names that torchvision has, values mean what they mean there: a brightness of 0.4 draws
    factors from 0.6 to 1.4, and a hue of 0.1 turns by up to a tenth of a circle either way. The
    four of them follow each other in an order of its own per picture. Pictures of one channel, or
    of more than three, have no saturation, hue or grey.

    Args:
        size: Height and width of the view in pixels, one number for both; None for the picture's.
        scale: Least and most of the area that the crop keeps; None for no crop.
        ratio: Least and most of its aspect, width over height.
        flip: Share of views that are mirrored left to right.
        jitter: Share of views whose colours are changed.
        brightness: By how much, at most.
        contrast: By how much, at most.
        saturation: By how much, at most.
        hue: By how much, at most, in [0, 0.5].
        grey: Share of views without colour.
        blur: Share of views that are blurred, by a kernel of a tenth of the view.
        blur_sigma: Least and most of the blur's standard deviation, in pixels.
        solarize: Share of views whose bright half is inverted.

    Raises:
        InvalidValueError: A value out of its range.

    Example:
        >>> import torch
        >>> view = View(size=24, scale=(0.2, 1.0), jitter=0.8, brightness=0.4, grey=0.2)
        >>> pictures = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
        >>> view(pictures, seed=0, epoch=0, index=torch.arange(4)).shape
        torch.Size([4, 3, 24, 24])
    """

    size: int | tuple[int, int] | None = None
    scale: tuple[float, float] | None = None
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    grey: float = 0.0
    blur: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grey", "blur", "solarize"):
            _check(name, getattr(self, name), low=0, high=1)
        for name in ("brightness", "contrast", "saturation"):
            _check(name, getattr(self, name), low=0, high=math.inf)
        _check("hue", self.hue, low=0, high=0.5)
        for name in ("scale", "ratio", "blur_sigma"):
            pair = getattr(self, name)
            if pair is not None and not _is_range(pair):
                raise InvalidValueError(f"{name}={pair}: expected two positive numbers, in order.")
        if self.scale is not None and self.scale[1] > 1:
            raise InvalidValueError(f"scale={self.scale}: a crop keeps at most all, 1.")
        if self._size is not None and min(self._size) < 1:
            raise InvalidValueError(f"size={self.size}: expected at least 1 pixel each way.")

    def __call__(
        self,
        images: Tensor | Sequence[Tensor],
        *,
        seed: int,
        epoch: int,
        index: Tensor,
        view: int = 0,
    ) -> Tensor:
        """Draw this view of a batch.

        Args:
            images: (B, C, H, W), uint8, or floats in [0, 1]; or pictures of several sizes,
                (C, H, W) each, which are computed size by size.
            seed: The seed of the data.
            epoch: Counted from 0.
            index: Positions of the pictures in the training part, (B,).
            view: Tells apart several views of one picture and epoch.

        Returns:
            Floats in [0, 1], (B, C, height, width): rounding to uint8 would cost time and colours.

        Raises:
            InvalidValueError: Pictures of several sizes, and a view without one.
        """
        if isinstance(images, torch.Tensor):
            return self._draw_batch(images, seed=seed, epoch=epoch, index=index, view=view)
        if self._size is None and len({image.shape for image in images}) > 1:
            raise InvalidValueError(
                "Pictures of several sizes were given, and a view of no size. Set View(size=...)."
            )
        same_size: dict[torch.Size, list[int]] = {}
        for place, image in enumerate(images):
            same_size.setdefault(image.shape, []).append(place)
        done: dict[int, Tensor] = {}
        for places in same_size.values():
            batch = torch.stack([images[place] for place in places])
            own = index[torch.tensor(places, device=index.device)]
            changed = self(batch, seed=seed, epoch=epoch, index=own, view=view)
            done.update(zip(places, changed, strict=True))
        return torch.stack([done[place] for place in range(len(images))])

    def _draw_batch(
        self, images: Tensor, *, seed: int, epoch: int, index: Tensor, view: int
    ) -> Tensor:
        num = NUM_DRAWS + len(_Draws.NAMES)
        draws = chances(seed, epoch, index, first=_FIRST + view * _DRAWS_EACH, num=num)
        at_once = len(images)
        if images.device.type == "cpu":
            at_once = max(1, _VALUES_AT_ONCE // max(1, images[0].numel())) if at_once else 1
        parts = zip(torch.split(images, at_once), torch.split(draws, at_once), strict=True)
        done = [
            self._draw(to_floats(some), _Draws(own[:, NUM_DRAWS:]), own[:, :NUM_DRAWS])
            for some, own in parts
        ]
        return done[0] if len(done) == 1 else torch.cat(done)

    def _draw(self, floats: Tensor, draws: _Draws, crop: Tensor) -> Tensor:
        floats = self._move(floats, crop, draws("flip") < self.flip)
        if self.jitter > 0:
            spans = [(max(0.0, 1 - most), 1 + most) for most in self._most] + [
                (-self.hue, self.hue)
            ]
            names = ("brightness", "contrast", "saturation", "hue")
            factors = [between(*span, draws(name)) for name, span in zip(names, spans, strict=True)]
            order = (draws("order") * len(ORDERS)).long()
            floats = jitter_(floats, torch.stack(factors, 1), order, draws("jitter") < self.jitter)
        if self.grey > 0:
            floats = where_chosen_(floats, draws("grey") < self.grey, lambda some, _: grey(some))
        if self.blur > 0:
            sigmas = between(*self.blur_sigma, draws("sigma"))
            kernel = blur_kernel(floats.shape[-2:])
            floats = where_chosen_(
                floats,
                draws("blur") < self.blur,
                lambda some, rows: blur(some, sigmas[rows], kernel=kernel),
            )
        if self.solarize > 0:
            floats = where_chosen_(
                floats,
                draws("solarize") < self.solarize,
                lambda some, rows: solarize(some, some.new_full((len(rows),), 128 / 255)),
            )
        return floats

    def _move(self, floats: Tensor, crop: Tensor, flip: Tensor) -> Tensor:
        height, width = floats.shape[-2:]
        size = self._size or (height, width)
        if self.scale is None and size == (height, width):
            return torch.where(flip[:, None, None, None], floats.flip(-1), floats)
        if self.scale is None:
            boxes = torch.tensor([[0, 0, height, width]], device=flip.device).expand(len(flip), 4)
        else:
            boxes = crop_boxes(crop, size=(height, width), scale=self.scale, ratio=self.ratio)
        return resize_boxes(floats, boxes, size, flip=flip)

    @property
    def _most(self) -> tuple[float, float, float]:
        return self.brightness, self.contrast, self.saturation

    @property
    def _size(self) -> tuple[int, int] | None:
        return (self.size, self.size) if isinstance(self.size, int) else self.size


class _Draws:
    """The random numbers of a batch, (B, numbers), by what they decide."""

    NAMES = (
        "flip",
        "jitter",
        "brightness",
        "contrast",
        "saturation",
        "hue",
        "order",
        "grey",
        "blur",
        "sigma",
        "solarize",
    )

    def __init__(self, draws: Tensor) -> None:
        self._draws = draws

    def __call__(self, name: str) -> Tensor:
        return self._draws[:, self.NAMES.index(name)]


def blur_kernel(size: Sequence[int]) -> int:
    """Answer with the width of the blur: a tenth of the view, odd (Chen et al. 2020, app. A)."""
    return max(3, int(min(size) * 0.1) // 2 * 2 + 1)


def _is_range(pair: object) -> bool:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    return all(isinstance(end, Real) for end in pair) and 0 < pair[0] <= pair[1]


def _check(name: str, value: float, *, low: float, high: float) -> None:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not (number and low <= value <= high):
        raise InvalidValueError(f"{name}={value!r}: expected a number from {low} to {high}.")


def draw_views(
    images: Tensor | Sequence[Tensor],
    views: Sequence[View],
    *,
    seed: int,
    epoch: int,
    index: Tensor,
) -> list[Tensor]:
    """Draw several views of a batch, numbered in their order.

    Args:
        images: As `View` takes them.
        views: Which; for the usual ones see `VIEWS`.
        seed: The seed of the data.
        epoch: Counted from 0.
        index: Positions of the pictures in the training part, (B,).

    Returns:
        Floats in [0, 1], (B, C, height, width) each.
    """
    if isinstance(images, torch.Tensor):
        images = to_floats(images)  # once for all of them
    return [
        view(images, seed=seed, epoch=epoch, index=index, view=number)
        for number, view in enumerate(views)
    ]


def simclr_views(size: int) -> tuple[View, ...]:
    """Two views, strongly tinted (Chen et al. 2020, arXiv:2002.05709, appendix A).

    Up to `SMALL` pixels, colours change half as much and nothing is blurred, as in the paper's
    appendix B.9 for CIFAR-10; and a crop keeps at least a fifth of the area: 8 % of a picture of 32
    pixels are 9 by 9.
    """
    strength = 0.5 if size <= SMALL else 1.0
    view = View(
        size=size,
        scale=(0.2 if size <= SMALL else 0.08, 1.0),
        jitter=0.8,
        brightness=0.8 * strength,
        contrast=0.8 * strength,
        saturation=0.8 * strength,
        hue=0.2 * strength,
        grey=0.2,
        blur=_unless_small(size, 0.5),
    )
    return view, view


def moco_views(size: int) -> tuple[View, ...]:
    """Two views of MoCo v2 (Chen et al. 2020, arXiv:2003.04297), which SimSiam has, too."""
    view = View(
        size=size,
        scale=(0.2, 1.0),
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        grey=0.2,
        blur=_unless_small(size, 0.5),
    )
    return view, view


def byol_views(size: int) -> tuple[View, ...]:
    """Two unlike views (Grill et al. 2020, arXiv:2006.07733, appendix B).

    One is always blurred, the other seldom, and solarised at times. MoCo v3, Barlow Twins and
    VICReg have the same ones. The least area is that of `simclr_views`.
    """
    low = 0.2 if size <= SMALL else 0.08
    return (
        _byol(size, scale=(low, 1.0), blur=_unless_small(size, 1.0)),
        _byol(size, scale=(low, 1.0), blur=_unless_small(size, 0.1), solarize=0.2),
    )


def dino_views(size: int, *, num_local: int = 8, local_size: int | None = None) -> tuple[View, ...]:
    """Two large and several small crops (Caron et al. 2021, arXiv:2104.14294, section 3.1).

    Args:
        size: Of the large crops, which keep 40 % of the area or more, and 20 % where there are no
            small ones.
        num_local: How many small crops there are.
        local_size: Of the small crops, which keep 5 to 40 % of the area; None for 3/7 of ``size``,
            as 96 of 224 pixels are. A net that cuts pictures into patches needs a multiple of their
            size.
    """
    local = max(1, round(size * 3 / 7)) if local_size is None else local_size
    large = (0.4 if num_local else 0.2, 1.0)
    return (
        _byol(size, scale=large, blur=_unless_small(size, 1.0)),
        _byol(size, scale=large, blur=_unless_small(size, 0.1), solarize=0.2),
        *[_byol(local, scale=(0.05, 0.4), blur=_unless_small(size, 0.5))] * num_local,
    )


def mae_views(size: int) -> tuple[View, ...]:
    """One view, cropped and flipped (He et al. 2021, arXiv:2111.06377, appendix A.1)."""
    return (View(size=size, scale=(0.2, 1.0)),)


VIEWS: dict[str, Callable[[int], tuple[View, ...]]] = {
    "simclr": simclr_views,
    "moco": moco_views,
    "byol": byol_views,
    "dino": dino_views,
    "mae": mae_views,
}
"""The views of known methods, for pictures of a size in pixels."""


def _byol(size: int, *, scale: tuple[float, float], blur: float, solarize: float = 0.0) -> View:
    return View(
        size=size,
        scale=scale,
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grey=0.2,
        blur=blur,
        solarize=solarize,
    )


def _unless_small(size: int, share: float) -> float:
    """Blur no view of a picture that has few pixels."""
    return 0.0 if size <= SMALL else share
