"""Tasks: a backbone with a head for one job, and everything that trains and asks it."""

from __future__ import annotations

from .image_classifier import ImageClassifier
from .objectives import Objective, Step, Supervised
from .processes import gather_predictions
from .results import Embeddings, Evaluation, History, Prediction, Predictions
from .saved import load
from .strategies import STRATEGIES, FreezeUnfreeze, Gradual, LayerDecay, Strategy
from .task import Task
from .training import Training

TASKS: dict[str, type[Task]] = {"ImageClassifier": ImageClassifier}
"""The tasks that a saved folder can name."""

__all__ = [
    "STRATEGIES",
    "TASKS",
    "Embeddings",
    "Evaluation",
    "FreezeUnfreeze",
    "Gradual",
    "History",
    "ImageClassifier",
    "LayerDecay",
    "Objective",
    "Prediction",
    "Predictions",
    "Step",
    "Strategy",
    "Supervised",
    "Task",
    "Training",
    "gather_predictions",
    "load",
]
