"""neuralforecast's side of the benchmark of nets for series; settings as in mealkit_forecast.py.

Steps, windows of a step, context, horizon and seed are given; everything else is its default.
Answers with the mean absolute error of each window, in their order.
"""

from __future__ import annotations

import json
import logging
import sys
import time
import warnings

import pandas as pd
import torch
from neuralforecast import NeuralForecast, models

settings = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
torch.set_num_threads(1)
horizon, windows = settings["horizon"], settings["windows"]
wide = pd.read_csv(settings["table"], parse_dates=["date"])
long = wide.melt(id_vars="date", var_name="unique_id", value_name="y")
long = long.rename(columns={"date": "ds"}).sort_values(["unique_id", "ds"], ignore_index=True)
stamps = wide["date"].to_numpy()
cutoffs = [len(stamps) - (windows - number) * horizon for number in range(windows)]
model = getattr(models, {"dlinear": "DLinear", "nhits": "NHITS"}[settings["model"]])(
    h=horizon,
    input_size=settings["context"],
    max_steps=settings["steps"],
    windows_batch_size=settings["batch_size"],
    random_seed=settings["seed"],
    logger=False,
    enable_progress_bar=False,
    enable_model_summary=False,
    enable_checkpointing=False,
)
forecaster = NeuralForecast(models=[model], freq="h")
before = time.process_time()
forecaster.fit(long[long["ds"] < stamps[cutoffs[0]]])
fitted = time.process_time()
errors = []
for cutoff in cutoffs:
    known = long[long["ds"] < stamps[cutoff]]
    answer = forecaster.predict(df=known).reset_index()
    joined = answer.merge(long, on=["unique_id", "ds"])
    if len(joined) != horizon * long["unique_id"].nunique():
        raise RuntimeError(f"Window {cutoff} has {len(joined)} forecasts.")
    errors.append(float((joined["y"] - joined[type(model).__name__]).abs().mean()))
print(
    json.dumps(
        {
            "fit_seconds": fitted - before,
            "forecast_seconds": time.process_time() - fitted,
            "maes": errors,
        }
    )
)
