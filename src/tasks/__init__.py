"""Tasks: a backbone with a head for one job, and everything that trains and asks it."""

from __future__ import annotations

from .calibration import Calibration
from .contrastive import Contrastive
from .cross_validation import CrossValidation
from .explain import Explanation
from .forecast_results import ForecastEvaluation, Forecasts
from .forecaster import Forecaster
from .image_classifier import ImageClassifier
from .objectives import Objective, Step, Supervised
from .processes import gather_predictions
from .results import Embeddings, Evaluation, History, Prediction, Predictions
from .saved import load
from .semi_supervised import FixMatch, FreeMatch, MeanTeacher, SemiSupervised
from .strategies import STRATEGIES, FreezeUnfreeze, Gradual, LayerDecay, Lora, Strategy
from .task import Task
from .text_classifier import TextClassifier
from .training import Training

TASKS: dict[str, type[Task]] = {
    "Forecaster": Forecaster,
    "ImageClassifier": ImageClassifier,
    "TextClassifier": TextClassifier,
}
"""The tasks that a saved folder can name."""

__all__ = [
    "STRATEGIES",
    "TASKS",
    "Calibration",
    "Contrastive",
    "CrossValidation",
    "Embeddings",
    "Evaluation",
    "Explanation",
    "FixMatch",
    "ForecastEvaluation",
    "Forecaster",
    "Forecasts",
    "FreeMatch",
    "FreezeUnfreeze",
    "Gradual",
    "History",
    "ImageClassifier",
    "LayerDecay",
    "Lora",
    "MeanTeacher",
    "Objective",
    "Prediction",
    "Predictions",
    "SemiSupervised",
    "Step",
    "Strategy",
    "Supervised",
    "Task",
    "TextClassifier",
    "Training",
    "gather_predictions",
    "load",
]
