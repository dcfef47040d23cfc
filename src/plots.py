"""Pictures of results, drawn with matplotlib (``mealkit[plots]``) and none of its global state."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .errors import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .tasks import Anomalies, Evaluation, Forecasts, History
    from .tasks.evaluation import Array


def _figure(width: float, height: float) -> Figure:
    # A Figure of its own, not pyplot: no window, no backend chosen, nothing to close.
    module = require("matplotlib.figure", extra="plots", purpose="plots")
    figure: Figure = module.Figure(figsize=(width, height), layout="constrained")
    return figure


def plot_confusion(evaluation: Evaluation) -> Figure:
    """Draw a confusion matrix: shares of each true class, with the counts written in."""
    names, counts = evaluation.classes, evaluation.confusion
    side = min(14.0, 3.0 + 0.45 * len(names))
    figure = _figure(side + 1, side)
    axes = figure.subplots()
    shares = evaluation.confusion_frame()
    shares = shares.div(shares.sum(axis=1).clip(lower=1), axis=0)
    picture = axes.imshow(shares.to_numpy(), cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(f"accuracy {evaluation.metrics['accuracy']:.3f}")
    if len(names) <= 30:  # more do not fit into their cells
        for row, column in ((r, c) for r in range(len(names)) for c in range(len(names))):
            count = int(counts[row, column])
            dark = shares.to_numpy()[row, column] > 0.5
            if count:
                color = "white" if dark else "black"
                axes.text(column, row, f"{count}", ha="center", va="center", color=color)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def plot_classes(evaluation: Evaluation) -> Figure:
    """Draw precision, recall and F1 of each class, with the number of inputs that have it."""
    frame = evaluation.to_frame()
    figure = _figure(min(14.0, 3.0 + 0.7 * len(frame)), 4)
    axes = figure.subplots()
    for place, name in enumerate(("precision", "recall", "f1")):
        left = [number + 0.27 * (place - 1) for number in range(len(frame))]
        axes.bar(left, frame[name].fillna(0.0), 0.25, label=name)
    names = [f"{name}\n{count}" for name, count in frame["support"].items()]
    axes.set_xticks(range(len(frame)), names)
    axes.set_ylim(0, 1)
    axes.set_title(f"macro F1 {evaluation.metrics['macro_f1']:.3f}")
    axes.legend(loc="lower right")
    return figure


def plot_reliability(evaluation: Evaluation) -> Figure:
    """Draw accuracy over confidence, bin by bin, above the number of inputs in each."""
    frame = evaluation.reliability_frame()
    figure = _figure(4.6, 5.4)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    width = float(frame["upper"].iloc[0])
    filled = frame[frame["count"] > 0]
    above.bar(filled["lower"], filled["accuracy"], width, align="edge", edgecolor="white")
    above.plot([0, 1], [0, 1], color="grey", linestyle=":", label="as sure as right")
    above.plot(filled["confidence"], filled["accuracy"], "o", color="black", markersize=3)
    above.set_ylabel("accuracy")
    above.set_ylim(0, 1)
    above.set_title(f"expected calibration error {evaluation.metrics['ece']:.3f}")
    above.legend(loc="upper left")
    below.bar(frame["lower"], frame["count"], width, align="edge", edgecolor="white")
    below.set_ylabel("inputs")
    several = evaluation.targets.ndim == 2  # then all classes count, and not the predicted one
    below.set_xlabel(
        "probability of a class" if several else "confidence: probability of the predicted class"
    )
    if several:
        above.set_ylabel("share that has the class")
        below.set_ylabel("decisions")
    below.set_xlim(0, 1)
    return figure


def plot_history(history: History) -> Figure:
    """Draw losses and metrics over the epochs, with the epoch whose weights were kept."""
    frame = history.to_frame()
    figure = _figure(9, 3.6)
    left, right = figure.subplots(1, 2)
    epochs = frame["epoch"] + 1
    for name in frame.columns:
        if "/" not in name:
            continue
        axes = left if name.endswith("/loss") else right
        axes.plot(epochs, frame[name], marker="o", markersize=3, label=name)
    for axes in (left, right):
        if history.best_epoch is not None:
            axes.axvline(history.best_epoch + 1, color="grey", linestyle=":", label="kept")
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if axes.lines:  # without validation there are no metrics, and matplotlib warns
            axes.legend()
    return figure


def plot_pictures(pictures: Sequence[Array | None], titles: Sequence[str]) -> Figure:
    """Draw pictures (H, W, 3) or (H, W) of values in [0, 1] in a grid; None leaves a gap."""
    num_columns = math.ceil(math.sqrt(len(pictures)))
    num_rows = math.ceil(len(pictures) / num_columns)
    figure = _figure(2 * num_columns, 2.2 * num_rows)
    grid = figure.subplots(num_rows, num_columns, squeeze=False).flatten()
    for axes in grid:
        axes.set_axis_off()
    for axes, picture, title in zip(grid, pictures, titles, strict=False):
        axes.set_title(title, fontsize=9)
        if picture is not None:
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1)
    return figure


def plot_forecasts(forecasts: Forecasts, names: list[str]) -> Figure:
    """Draw some series: their past, the forecast with its intervals, and the naive method."""
    figure = _figure(9, 2.4 * len(names) + 0.4)
    panels = figure.subplots(len(names), 1, squeeze=False)[:, 0]
    steps = forecasts.mean.shape[1]
    num_intervals = len(forecasts.probabilities) // 2
    for axes, name in zip(panels, names, strict=True):
        row = forecasts.series.index(name)
        times, values = forecasts.past_of(row, 4 * steps)
        ahead = list(forecasts.times_of(row))
        axes.plot(times, values, color="black", linewidth=1, label="past")
        for place in range(num_intervals):
            low, high = forecasts.probabilities[place], forecasts.probabilities[-1 - place]
            ends = forecasts.quantiles[row, :, place], forecasts.quantiles[row, :, -1 - place]
            label = f"{100 * (high - low):g} % interval"
            axes.fill_between(ahead, *ends, color="tab:blue", alpha=0.2, linewidth=0, label=label)
        axes.plot(ahead, forecasts.mean[row], color="tab:blue", label=forecasts.model[row])
        if forecasts.model[row] != "seasonal-naive":
            style = {"color": "tab:orange", "linestyle": ":", "linewidth": 1}
            axes.plot(ahead, forecasts.naive[row], **style, label="seasonal naive")
        axes.set_title(name)
    panels[0].legend(loc="upper left", fontsize="small")
    return figure


def plot_anomalies(anomalies: Anomalies, name: str) -> Figure:
    """Draw a series, the interval that was forecast for each value, and what lies outside."""
    frame = anomalies.to_frame()
    mine = [place for place, series in enumerate(anomalies.series) if series == name]
    columns = ("time", "value", "expected", "low", "high")
    times, values, expected, low, high = (
        [list(frame[column])[place] for place in mine] for column in columns
    )
    figure = _figure(9, 3.2)
    axes = figure.subplots()
    label = f"{anomalies.level:g} % interval"
    axes.fill_between(times, low, high, color="tab:blue", alpha=0.2, linewidth=0, label=label)
    axes.plot(times, expected, color="tab:blue", linewidth=1, label="expected")
    axes.plot(times, values, color="black", linewidth=1, label="value")
    outside = [place for place, row in enumerate(mine) if anomalies.flags[row]]
    axes.plot(
        [times[place] for place in outside],
        [values[place] for place in outside],
        "o",
        color="tab:red",
        markersize=4,
        label="outside",
    )
    axes.set_title(name)
    axes.legend(loc="upper left", fontsize="small")
    return figure
