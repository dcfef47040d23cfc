"""Tasks: a backbone with a head for one job, and everything that trains and asks it."""

from __future__ import annotations

from .calibration import Calibration
from .contrastive import Contrastive
from .cross_validation import CrossValidation
from .decomposition import Decomposition
from .explain import Explanation
from .forecast_results import ForecastEvaluation, Forecasts
from .forecaster import Forecaster
from .image_classifier import ImageClassifier
from .leaderboard import Leaderboard
from .multi_label import MultiLabel
from .multi_label_results import (
    MultiLabelEvaluation,
    MultiLabelPrediction,
    MultiLabelPredictions,
)
from .objectives import Objective, Step, Supervised
from .pretext import METHODS, Method, register_method
from .pretext_masked import MAE
from .pretext_pairs import BarlowTwins, SimCLR, SimSiam, VICReg
from .pretext_patches import MaskedPatches
from .pretext_teachers import BYOL, DINO, MoCo
from .pretext_words import MLM
from .pretrain_evaluation import PretrainEvaluation, PretrainScore
from .pretrainer import SSLPretrainer
from .processes import gather_predictions
from .residuals import Anomalies, Residuals
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
    "SSLPretrainer": SSLPretrainer,
    "TextClassifier": TextClassifier,
}
"""The tasks that a saved folder can name."""

__all__ = [
    "BYOL",
    "DINO",
    "MAE",
    "METHODS",
    "MLM",
    "STRATEGIES",
    "TASKS",
    "Anomalies",
    "BarlowTwins",
    "Calibration",
    "Contrastive",
    "CrossValidation",
    "Decomposition",
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
    "Leaderboard",
    "Lora",
    "MaskedPatches",
    "MeanTeacher",
    "Method",
    "MoCo",
    "MultiLabel",
    "MultiLabelEvaluation",
    "MultiLabelPrediction",
    "MultiLabelPredictions",
    "Objective",
    "Prediction",
    "Predictions",
    "PretrainEvaluation",
    "PretrainScore",
    "Residuals",
    "SSLPretrainer",
    "SemiSupervised",
    "SimCLR",
    "SimSiam",
    "Step",
    "Strategy",
    "Supervised",
    "Task",
    "TextClassifier",
    "Training",
    "VICReg",
    "gather_predictions",
    "load",
    "register_method",
]
