"""mealkit's side of the benchmark of nets for series: fit, then score windows behind it.

Settings: table (CSV with a column ``date``, standardised), model, horizon, context, steps,
batch_size, windows (how many follow each other at the end of the table) and seed. Nothing
validates, as on the other side. Answers with the mean absolute error of each window, in order.
"""

from __future__ import annotations

import json
import logging
import sys
import time

import numpy as np
import torch

from mealkit import Forecaster
from mealkit.data.series import EPOCH_STEPS
from mealkit.tasks import Training

settings = json.loads(sys.argv[1])
logging.getLogger("mealkit").setLevel(logging.ERROR)
torch.set_num_threads(1)
held = settings["windows"] * settings["horizon"]
task = Forecaster.from_csv(
    settings["table"],
    horizon=settings["horizon"],
    season=24,
    val=0,
    test=held,
    seed=settings["seed"],
    backbone=settings["model"],
    context=settings["context"],
)
before = time.process_time()
task.finetune(
    epochs=settings["steps"] // EPOCH_STEPS,
    batch_size=settings["batch_size"],
    training=Training(seed=settings["seed"], weight_decay=0.01),
)
fitted = time.process_time()
answer = task.evaluate()
errors = np.abs(answer.actual - answer.forecasts.mean).mean(1)
cutoffs = np.array(answer.cutoffs)
print(
    json.dumps(
        {
            "fit_seconds": fitted - before,
            "forecast_seconds": time.process_time() - fitted,
            "maes": [float(errors[cutoffs == at].mean()) for at in np.unique(cutoffs)],
        }
    )
)
