"""How good learnt features are: on some labels, over several draws, beside untrained ones."""

from __future__ import annotations

import copy
import logging
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..backbones import Backbone, rebuild
from ..data.module import Data
from ..data.samples import Samples, Subset
from ..errors import (
    InvalidValueError,
    NoDataError,
    check_count,
    check_seed,
    shown,
    unknown_name,
)
from .classification import compute_features
from .probing import probe_features, single_labels
from .training import Training

if TYPE_CHECKING:
    from .classifier import Classifier

_log = logging.getLogger("mealkit")

PROTOCOLS = ("knn", "linear", "finetune")

_T95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_Z95 = 1.959964
Make = Callable[[Backbone, Sequence[str]], "Classifier"]


@dataclass(frozen=True)
class PretrainScore:
    """One accuracy.

    Args:
        protocol: ``"knn"``, ``"linear"`` or ``"finetune"``.
        backbone: ``"pretrained"``, or ``"untrained"`` for the same net with random weights.
        fraction: Of the labelled training inputs.
        num_labels: How many these are.
        seed: Of the draw of labels, and of the random weights.
        accuracy: On inputs that nothing was learnt from, in [0, 1].
    """

    protocol: str
    backbone: str
    fraction: float
    num_labels: int
    seed: int
    accuracy: float


@dataclass(frozen=True, repr=False)
class PretrainEvaluation:
    """Accuracies of a pretrained backbone and of an untrained one on the same draws of labels.

    Args:
        scores: One per protocol, backbone, fraction and seed.
        num_scored: How many inputs each accuracy is of.
    """

    scores: tuple[PretrainScore, ...]
    num_scored: int

    def to_frame(self) -> pd.DataFrame:
        """Answer with one row per score."""
        return pd.DataFrame([asdict(score) for score in self.scores])

    def summary(self) -> pd.DataFrame:
        """Answer with one row per protocol, backbone and fraction.

        Columns: ``accuracy`` (the mean over draws of labels), ``sd``, ``low`` and ``high``. Over
        several draws these hold the mean of further draws at 95 % (Student's t); with one draw, the
        accuracy on further inputs (Wilson 1927).
        """
        rows = []
        groups = self.to_frame().groupby(["protocol", "backbone", "fraction"], sort=False)
        for key, group in groups:
            values = [float(value) for value in group["accuracy"]]
            low, high = interval(values, self.num_scored)
            rows.append(
                {
                    **dict(zip(("protocol", "backbone", "fraction"), key, strict=True)),
                    "num_labels": int(group["num_labels"].iloc[0]),
                    "accuracy": statistics.fmean(values),
                    "sd": statistics.stdev(values) if len(values) > 1 else math.nan,
                    "low": low,
                    "high": high,
                }
            )
        return pd.DataFrame(rows)

    def gains(self) -> pd.DataFrame:
        """Answer with pretrained minus untrained, paired by draw: mean, sd and 95 % interval."""
        wide = self.to_frame().pivot_table(
            index=["protocol", "fraction", "seed"], columns="backbone", values="accuracy"
        )
        if not {"pretrained", "untrained"} <= set(wide.columns):
            raise InvalidValueError("There is no untrained net to compare with; see the log.")
        paired = (wide["pretrained"] - wide["untrained"]).rename("gain").reset_index()
        rows = []
        for key, group in paired.groupby(["protocol", "fraction"], sort=False):
            values = [float(value) for value in group["gain"]]
            half = _half(values) if len(values) > 1 else math.nan
            mean = statistics.fmean(values)
            rows.append(
                {
                    **dict(zip(("protocol", "fraction"), key, strict=True)),
                    "gain": mean,
                    "sd": statistics.stdev(values) if len(values) > 1 else math.nan,
                    "low": mean - half,
                    "high": mean + half,
                }
            )
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        table = self.summary().to_string(index=False, float_format=lambda value: f"{value:.3f}")
        return f"Accuracy on {self.num_scored:,} inputs\n{table}"

    def _repr_html_(self) -> str:
        return str(self.summary().round(4).to_html(index=False))


def interval(values: Sequence[float], num_scored: int) -> tuple[float, float]:
    """Answer with both ends of the interval that `PretrainEvaluation.summary` describes."""
    mean = statistics.fmean(values)
    if len(values) > 1:
        half = _half(values)
        return mean - half, mean + half
    z = _Z95**2 / num_scored
    middle = mean + z / 2
    half = math.sqrt(z) * math.sqrt(mean * (1 - mean) + z / 4)
    return max(0.0, (middle - half) / (1 + z)), min(1.0, (middle + half) / (1 + z))


def _half(values: Sequence[float]) -> float:
    freedom = len(values) - 1
    # Of many degrees of freedom, Fisher's expansion is exact to three digits.
    beyond = _Z95 + 2.372 / freedom + 2.823 / freedom**2
    quantile = _T95[freedom - 1] if freedom <= len(_T95) else beyond
    return quantile * statistics.stdev(values) / math.sqrt(len(values))


@dataclass(frozen=True)
class Asked:
    """What `SSLPretrainer.evaluate` was asked for.

    Args:
        protocol: Which of `PROTOCOLS`.
        fractions: Shares of the labelled training inputs.
        seeds: One draw of labels each.
        epochs: Of fine-tuning.
        batch_size: Inputs computed at a time.

    Raises:
        InvalidValueError: A value that cannot be meant.
    """

    protocol: tuple[str, ...]
    fractions: tuple[float, ...]
    seeds: tuple[int, ...]
    epochs: int
    batch_size: int

    def __post_init__(self) -> None:
        for name in self.protocol:
            if name not in PROTOCOLS:
                raise unknown_name("protocol", name, PROTOCOLS)
        if not self.fractions or not all(map(_is_share, self.fractions)):
            raise InvalidValueError(
                f"label_fractions={list(self.fractions)}: expected shares in (0, 1]."
            )
        if not self.protocol or not self.seeds:
            raise InvalidValueError("protocol= and seeds= must not be empty.")
        for seed in self.seeds:
            check_seed(seed, name="seeds")
        check_count("epochs", self.epochs)
        check_count("batch_size", self.batch_size)


def several(name: str, values: Any) -> tuple[Any, ...]:  # Any: whatever was given for them
    """Answer with several values of an argument; what each may be is looked at by `Asked`.

    Raises:
        InvalidValueError: It is one value, or none at all.
    """
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise InvalidValueError(f"{name}={shown(values)}: expected a list.")
    return tuple(values)


def _is_share(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return 0 < float(value) <= 1


def evaluate_backbone(net: Backbone, data: Data, asked: Asked, make: Make) -> PretrainEvaluation:
    """Score a backbone, and an untrained net of its make, on the same draws of labels.

    Args:
        net: The backbone; it stays as it is.
        data: The training part is drawn from; the test part is scored, else the validation part.
        asked: What is scored.
        make: Builds a classifier on a backbone, for classes.

    Raises:
        NoDataError: There is nothing to learn from or to score.
    """
    held = data.test if data.test is not None else data.val
    if data.train is None or held is None:
        raise NoDataError(
            "Expected labelled data of two parts, one to learn from and one to score. Give test= "
            "or val=, or leave split= above 0."
        )
    scores: list[PretrainScore] = []
    for seed in asked.seeds:
        nets = {"pretrained": net, "untrained": untrained_like(net, seed=seed)}
        for name, one in nets.items():
            if one is not None:
                scores += _scores(name, one, data, held, asked, make, seed)
    return PretrainEvaluation(tuple(scores), len(held))


def _scores(
    name: str, net: Backbone, data: Data, held: Samples, asked: Asked, make: Make, seed: int
) -> list[PretrainScore]:
    if data.train is None:
        return []
    frozen = [one for one in asked.protocol if one != "finetune"]
    train, test = [
        _features(make(copy.deepcopy(net), data.classes), part, asked.batch_size)
        if frozen
        else None
        for part in (data.train, held)
    ]
    scores = []
    for fraction in asked.fractions:
        rows = draw_labels(single_labels(data.train), fraction, seed=seed)
        found: dict[str, float] = {}
        if train is not None and test is not None:
            some = _readable(*(value[rows] for value in train))
            found |= probe_features(some, _readable(*test), num_classes=len(data.classes))
        if "finetune" in asked.protocol:
            part = data.with_train(Subset(data.train, rows))
            found["finetune"] = _finetuned(make, net, part, held, asked, seed)
        scores += [
            PretrainScore(one, name, fraction, len(rows), seed, found[one])
            for one in asked.protocol
        ]
    return scores


def _features(task: Classifier, part: Samples, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Answer with features, classes, and which inputs could be read."""
    features, read = compute_features(task, part, batch_size=batch_size)
    return features, single_labels(part), read


def _readable(features: Tensor, targets: Tensor, read: Tensor) -> tuple[Tensor, Tensor]:
    return features[read], targets[read]


def _finetuned(
    make: Make, net: Backbone, data: Data, held: Samples, asked: Asked, seed: int
) -> float:
    """Fine-tune a copy on some labels, for a number of epochs that is not chosen by any score."""
    data.val = None
    task = make(copy.deepcopy(net), data.classes)
    task.finetune(data, epochs=asked.epochs, training=Training(seed=seed))
    scored = task._evaluate(held, asked.batch_size)
    return float(scored.metrics["accuracy"])


def draw_labels(targets: Tensor, fraction: float, *, seed: int) -> list[int]:
    """Draw a share of each class, at least one input, in their order."""
    generator = torch.Generator().manual_seed(seed)
    rows: list[int] = []
    for target in sorted(set(targets.tolist())):
        own = (targets == target).nonzero()[:, 0]
        count = max(1, round(fraction * len(own)))
        rows += own[torch.randperm(len(own), generator=generator)[:count]].tolist()
    return sorted(rows)


def untrained_like(net: Backbone, *, seed: int) -> Backbone | None:
    """Build the same net with random weights; None, and a warning, where nobody knows how."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if net.config.get("source") != "module":
            return rebuild(net.config, net.input_spec, pretrained=False)
        fresh = copy.deepcopy(net)
        fresh.pretrained = False
        if _reset(fresh):
            return fresh
    _log.warning(
        "The backbone is a module of yours with parameters that no reset_parameters() makes fresh, "
        "so there is no untrained net to compare it with."
    )
    return None


def _reset(net: nn.Module) -> bool:
    """Draw all parameters anew; answer with whether that was possible."""
    done: set[int] = set()
    for module in net.modules():
        reset: Callable[[], object] | None = getattr(module, "reset_parameters", None)
        if reset is not None:
            reset()
            done |= {id(parameter) for parameter in module.parameters(recurse=False)}
    return all(id(parameter) in done for parameter in net.parameters())
