"""What every trained net for series shares: windows made alike, options, the loss of a step."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import BackboneError, InvalidValueError, unknown_name
from ..specs import COVARIATES, CovariateKind, SeriesDataSpec, SeriesSpec
from .base import Block
from .blocks import make_blocks, partition
from .series_base import ENTRIES, SeriesBackbone, roll_out
from .sources import NET, title

Options = Mapping[str, Any]  # Any: plain JSON values, of the types of the defaults

LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": lambda forecast, target: (forecast - target).abs(),
    "mse": lambda forecast, target: (forecast - target).square(),
    "huber": lambda forecast, target: functional.huber_loss(forecast, target, reduction="none"),
}
"""Of one step each; ``huber`` is squared up to one unit and absolute beyond."""

CENTERS = ("none", "last", "mean")
SPREADS = ("none", "deviation", "level")
WINDOW = {"center": "last", "spread": "deviation", "loss": "mae"}
"""Options that every net has: what is taken off each window, what it is divided by, the loss."""

MOST_UNITS = 20.0
"""Targets further off than this many units are learnt as if they were this far: after a quiet
window, a jump would outweigh all other windows."""

_LEAST = 1e-4  # units of a series' own spread below which a window's spread says nothing


class WindowNet(nn.Module):
    """A net from windows to forecasts, both in units of the window.

    Subclasses take the shape of a window and options of their own by name, with defaults, and
    answer with forecasts (B, horizon_steps) of windows (B, context_steps). Their last layer starts
    at zero, so that an untrained net repeats what its windows are relative to.

    Args:
        shape: Of a window.
    """

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset()
    """What `forward` takes behind the window: covariates by kind, as `ENTRIES` says, where there
    are any. Either all kinds or none."""

    lr: ClassVar[float] = 1e-3
    """Peak learning rate of AdamW where `finetune` is given none."""

    defaults: ClassVar[Mapping[str, object]] = {}
    """Options by name, with their default values; those of `WINDOW` where they differ."""

    splits: ClassVar[bool] = False
    """Whether `parts` says what a forecast is made of."""

    has_distribution: ClassVar[bool] = False
    """Whether `surprise` is its loss and `draw` draws from it."""

    def parts(self, past: Tensor) -> dict[str, Tensor]:
        """Say what a forecast is the sum of, (B, horizon_steps) each, by name."""
        raise NotImplementedError

    def surprise(self, past: Tensor, target: Tensor) -> Tensor:
        """Answer with the negative log-likelihood of each step, (B, horizon_steps)."""
        raise NotImplementedError

    def draw(self, past: Tensor, *, horizon: int, generator: torch.Generator) -> Tensor:
        """Draw one path for each window from the distribution of its future, (B, horizon)."""
        raise NotImplementedError


@dataclass(frozen=True)
class WindowShape:
    """What a net is built for.

    Args:
        context: Steps that it sees, L.
        horizon: Steps that it forecasts, H.
        season: Steps of the season, 1 where there is none.
        static: Static covariates, S.
        past: Covariates of the past alone, P.
        future: Covariates that are known ahead, D.
    """

    context: int
    horizon: int
    season: int
    static: int = 0
    past: int = 0
    future: int = 0


class SeriesNet(SeriesBackbone):
    """A net that is trained step by step, between a window's own units and those of its series.

    A window is taken relative to its last value or its mean and divided by its standard deviation
    or its mean absolute level, and the forecast is put back (RevIN without its affine part, Kim et
    al. 2022, https://openreview.net/forum?id=cGDAkQo1C0p; the last value as in NLinear). The loss
    is in the same units, so that every window counts alike. A window that never changes goes on.

    Args:
        net: From (B, L) to (B, horizon_steps), in units of the window.
        input_spec: How much of a series it sees.
        config: Plain values from which it is made again; with all ``options``.
        pretrained: Whether it has been trained.
    """

    trained: ClassVar[bool] = True

    def __init__(
        self,
        net: nn.Module,
        *,
        input_spec: SeriesSpec,
        config: Mapping[str, Any],  # Any: plain JSON values
        pretrained: bool = False,
    ) -> None:
        super().__init__(input_spec=input_spec, config=config)
        self.net = net
        self.pretrained = pretrained
        options = config["options"]
        self.center, self.spread = str(options["center"]), str(options["spread"])
        self.loss_name = str(options["loss"])
        if self.spread == "level":
            self.inputs = ("past", "level", *self.inputs[1:])

    @property
    def splits(self) -> bool:  # type: ignore[override]  # of a net, not of the class
        """Whether `parts` says what its forecasts are made of."""
        return isinstance(self.net, WindowNet) and self.net.splits

    @property
    def default_lr(self) -> float:
        """Peak learning rate where nobody gives one."""
        return self.net.lr if isinstance(self.net, WindowNet) else WindowNet.lr

    def forecast(self, *tensors: Tensor, horizon: int) -> Tensor:
        """Forecast, (B, horizon); further than it was built for by going on from itself."""
        if horizon > self.horizon_steps:
            return roll_out(self, tensors, horizon)
        center, units = self.units(*tensors)
        answer: Tensor = self.net(scaled(tensors[0], center, units), *self._known(tensors))
        return _back(answer, center, units)[:, :horizon]

    def parts(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Take a forecast apart as the net does; what windows are relative to is in the first.

        Raises:
            BackboneError: The net's forecasts have no parts.
        """
        if not (isinstance(self.net, WindowNet) and self.net.splits):
            raise BackboneError(f"The forecasts of {self.name!r} have no parts: use 'nbeats'.")
        center, units = self.units(*tensors)
        parts = self.net.parts(scaled(tensors[0], center, units))
        answer = {name: units * part for name, part in parts.items()}
        first = next(iter(answer))
        return {**answer, first: answer[first] + center}

    def draw(self, *tensors: Tensor, count: int, horizon: int, seed: int = 0) -> Tensor:
        """Draw paths of the future from the net's own distribution, (count, B, horizon).

        They are not calibrated, unlike the intervals of `Forecaster.predict`.

        Raises:
            BackboneError: The net has no distribution.
        """
        if not (isinstance(self.net, WindowNet) and self.net.has_distribution):
            raise BackboneError(f"{self.name!r} has no distribution to draw from: use 'deepar'.")
        center, units = self.units(*tensors)
        past = scaled(tensors[0], center, units)
        generator = torch.Generator(past.device).manual_seed(seed)
        with torch.no_grad():
            drawn = [
                self.net.draw(past, horizon=horizon, generator=generator) for _ in range(count)
            ]
        return torch.stack([_back(path, center, units) for path in drawn])

    def _known(self, tensors: Sequence[Tensor]) -> tuple[dict[CovariateKind, Tensor], ...]:
        """Answer with what the net takes behind a window: covariates, where there are any."""
        kinds = self.input_spec.covariates
        if not kinds:
            return () if isinstance(self.net, WindowNet) or not self.covariates else ({},)
        entries = self.named(tensors)
        known = {kind: entries[ENTRIES[kind]] for kind in kinds}
        if "future" in known:
            steps = self.input_spec.context_steps + self.horizon_steps
            known["future"] = known["future"][:, :steps]
        return (known,)

    def units(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Answer with what windows are relative to and divided by, (B, 1) each.

        Units of 0 say that a window never changes.
        """
        level = tensors[1] if self.spread == "level" else None
        return window_units(tensors[0], center=self.center, spread=self.spread, level=level)

    def losses(self, *tensors: Tensor, target: Tensor) -> Tensor:
        """Answer with the loss of each step of windows, (B, horizon_steps).

        Args:
            tensors: The batch entries of `inputs`.
            target: What followed, in the scale of ``past``.
        """
        center, units = self.units(*tensors)
        past = scaled(tensors[0], center, units)
        wanted = scaled(target, center, units).clamp(-MOST_UNITS, MOST_UNITS)
        # What follows a window without units is in none, and says nothing about the others.
        counts = units > 0
        if isinstance(self.net, WindowNet) and self.net.has_distribution:
            return torch.where(counts, self.net.surprise(past, wanted), 0.0)
        forecast = self.net(past, *self._known(tensors))
        return torch.where(counts, LOSSES[self.loss_name](forecast, wanted), 0.0)

    @property
    def blocks(self) -> list[Block]:
        """The parts of the net from the input side on, but the last: that one trains as a head."""
        groups = partition(self.net)
        return make_blocks(self.net, groups, prefix=NET)[:-1] if groups else []


class CovariateNet(SeriesNet):
    """A trained net that uses covariates of all kinds."""

    covariates: ClassVar[frozenset[CovariateKind]] = frozenset(COVARIATES)


def options_of(build: type[WindowNet], given: Mapping[str, object] | None, name: str) -> Options:
    """Complete options by the defaults of a net, and check them.

    Raises:
        UnknownNameError: The net has no such option, or the option no such value.
        InvalidValueError: A value is of another type, or cannot be meant.
    """
    known: dict[str, Any] = {**WINDOW, **build.defaults}  # Any: plain values
    choices = {"center": CENTERS, "spread": SPREADS, "loss": tuple(LOSSES)}
    if build.has_distribution:
        del known["loss"], choices["loss"]
    for option, value in (given or {}).items():
        if option not in known:
            raise unknown_name(f"option of {name!r}", option, known)
        if option in choices and value not in choices[option]:
            raise unknown_name(option, str(value), choices[option])
        known[option] = _checked(option, value, known[option])
    return {**known, "loss": known.get("loss", "likelihood")}


def build_net(
    build: type[WindowNet], *, spec: SeriesSpec, config: Mapping[str, Any], pretrained: bool = False
) -> SeriesNet:
    """Build a net of this library from its config, with random weights."""
    own = {name: value for name, value in config["options"].items() if name not in WINDOW}
    own = {n: tuple(value) if isinstance(value, list) else value for n, value in own.items()}
    shape = WindowShape(
        spec.context_steps,
        spec.horizon_steps,
        int(config["season"]),
        static=len(spec.static),
        past=len(spec.past),
        future=len(spec.future),
    )
    kind = CovariateNet if build.covariates else SeriesNet
    return kind(build(shape, **own), input_spec=spec, config=config, pretrained=pretrained)


def wrap_module(
    module: nn.Module, *, spec: SeriesSpec, config: Mapping[str, Any], pretrained: bool
) -> SeriesNet:
    """Make a backbone of a user's module, and try it on windows.

    A module that `takes_covariates` is given them as a dict by kind, as `WindowNet.forward` is:
    ``static`` (B, S), ``past`` (B, L, P) and ``future`` (B, L + horizon, D), those that there are.

    Raises:
        BackboneError: It cannot be run on windows, or does not answer with forecasts.
    """
    kind = CovariateNet if takes_covariates(module) else SeriesNet
    made = kind(module, input_spec=spec, config=config, pretrained=pretrained)
    windows = torch.zeros(2, spec.context_steps)
    length = spec.context_steps + spec.horizon_steps
    shapes: dict[CovariateKind, tuple[int, ...]] = {
        "static": (2, len(spec.static)),
        "past": (2, spec.context_steps, len(spec.past)),
        "future": (2, length, len(spec.future)),
    }
    known = {kind: torch.zeros(shapes[kind]) for kind in spec.covariates}
    wanted = (2, spec.horizon_steps)
    name = title(config)
    modes = [(one, one.training) for one in module.modules()]
    module.eval()
    try:
        device = next((p.device for p in module.parameters()), None)
        with torch.no_grad():
            answer = module(windows.to(device), *_beside(module, known, device))
    except Exception as error:  # nets raise whatever their operations raise
        reason = " ".join(str(error).split())[:200]
        raise BackboneError(
            f"{name} cannot be run on windows of shape {tuple(windows.shape)} "
            f"({type(error).__name__}: {reason}). Expected a module that takes windows (B, L), and "
            "covariates if its forward has an argument of this name, and answers with forecasts "
            "(B, horizon); say with context= how many steps it sees."
        ) from error
    finally:
        for one, mode in modes:
            one.training = mode
    if not isinstance(answer, Tensor) or tuple(answer.shape) != wanted:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise BackboneError(
            f"{name} answers windows of shape {tuple(windows.shape)} with {got}. Expected one "
            f"tensor of forecasts, (B, horizon) = {wanted}."
        )
    return made


def takes_covariates(module: nn.Module) -> bool:
    """Whether the second argument of a module's forward is called ``covariates``."""
    return list(inspect.signature(module.forward).parameters)[1:2] == ["covariates"]


def _beside(
    module: nn.Module, known: Mapping[CovariateKind, Tensor], device: torch.device | None
) -> tuple[dict[CovariateKind, Tensor], ...]:
    if not takes_covariates(module):
        return ()
    return ({kind: values.to(device) for kind, values in known.items()},)


def check_fits(spec: SeriesSpec, data: SeriesDataSpec, name: str) -> None:
    """Refuse a net that was built for another horizon.

    Raises:
        BackboneError: It was.
    """
    if spec.horizon_steps != data.horizon_steps:
        raise BackboneError(
            f"{name} forecasts {spec.horizon_steps} steps, and {data.horizon_steps} are asked for. "
            f"Use horizon={spec.horizon_steps}, or name the backbone to train a new one."
        )


def window_units(
    past: Tensor, *, center: str, spread: str, level: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Answer with what windows (B, L) are relative to and divided by, (B, 1) each.

    Args:
        past: The windows.
        center: One of `CENTERS`.
        spread: One of `SPREADS`.
        level: What zero stands for, (B,), where the spread is measured from there.

    Returns:
        Units of 0 say that a window never changes.
    """
    moves = past.amax(1, keepdim=True) > past.amin(1, keepdim=True)
    last = past[:, -1:]
    middle = {
        "none": torch.zeros_like(last),
        "last": last,
        "mean": past.mean(1, keepdim=True),
    }[center]
    if level is not None:
        absolute = past + level[:, None].to(past.dtype)
        units = absolute.abs().mean(1, keepdim=True).clamp(min=_LEAST)
    elif spread == "none":
        units = torch.ones_like(last)
    else:
        units = past.std(1, keepdim=True, correction=0).clamp(min=_LEAST)
    return torch.where(moves, middle, last), torch.where(moves, units, 0.0)


def scaled(values: Tensor, center: Tensor, units: Tensor) -> Tensor:
    """Put values into units of their windows; those without any have none."""
    return (values - center) / torch.where(units > 0, units, 1.0)


def _back(values: Tensor, center: Tensor, units: Tensor) -> Tensor:
    return center + units * values


def _checked(name: str, value: object, default: object) -> object:
    if isinstance(default, tuple):
        kind = type(default[0])
        several = tuple(value) if isinstance(value, (tuple, list)) else ()
        if several and all(type(one) is kind for one in several):
            return several
        raise InvalidValueError(f"{name}={value!r}: expected several of {kind.__name__}.")
    if isinstance(default, float) and type(value) is int:
        value = float(value)
    if type(value) is not type(default):
        raise InvalidValueError(f"{name}={value!r}: expected {type(default).__name__}.")
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        raise InvalidValueError(f"{name}={value}: expected at least 1.")
    if isinstance(value, float) and not 0 <= value < 1:
        raise InvalidValueError(f"{name}={value}: expected a share in [0, 1).")
    return value
