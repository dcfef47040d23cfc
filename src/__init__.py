"""Ready-to-cook deep-learning tasks: from a folder of photos to a fine-tuned model in four lines.

Importing this package is cheap: torch and the libraries on it are loaded when a name that needs
them is first used. What the library has to say goes to ``logging.getLogger("mealkit")`` and is
visible on stderr; ``logging.getLogger("mealkit").setLevel(logging.WARNING)`` silences it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from .log import attach

if TYPE_CHECKING:
    from . import backbones, data, errors, specs, tasks
    from .data import ImageData, SeriesData, TextData
    from .errors import MealkitError
    from .specs import ImageSpec, TextSpec
    from .tasks import (
        Embeddings,
        Evaluation,
        Forecaster,
        Forecasts,
        History,
        ImageClassifier,
        Predictions,
        SSLPretrainer,
        TextClassifier,
        Training,
        load,
    )

__version__ = "0.1.0"

__all__ = [
    "Embeddings",
    "Evaluation",
    "Forecaster",
    "Forecasts",
    "History",
    "ImageClassifier",
    "ImageData",
    "ImageSpec",
    "MealkitError",
    "Predictions",
    "SSLPretrainer",
    "SeriesData",
    "TextClassifier",
    "TextData",
    "TextSpec",
    "Training",
    "backbones",
    "data",
    "errors",
    "load",
    "specs",
    "tasks",
]

_HOMES = {
    "Embeddings": "tasks",
    "Evaluation": "tasks",
    "Forecaster": "tasks",
    "Forecasts": "tasks",
    "History": "tasks",
    "ImageClassifier": "tasks",
    "ImageData": "data",
    "ImageSpec": "specs",
    "MealkitError": "errors",
    "Predictions": "tasks",
    "SSLPretrainer": "tasks",
    "SeriesData": "data",
    "TextClassifier": "tasks",
    "TextData": "data",
    "TextSpec": "specs",
    "Training": "tasks",
    "load": "tasks",
}

if not TYPE_CHECKING:  # a type checker that saw this function would accept every misspelt name

    def __getattr__(name: str) -> object:
        """Load a public name when it is first used."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        home = import_module(f".{_HOMES.get(name, name)}", __name__)
        value = getattr(home, name) if name in _HOMES else home
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


attach()
