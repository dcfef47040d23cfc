"""mealkit's side of the benchmark of windows: batches of them, drawn and not trained on.

Settings: table (CSV with a column ``date``), horizon, context, batch_size, batches and rounds.
"""

from __future__ import annotations

import json
import logging
import statistics
import sys
import time

import torch

from mealkit import Forecaster

settings = json.loads(sys.argv[1])
logging.getLogger("mealkit").setLevel(logging.ERROR)
torch.set_num_threads(1)
task = Forecaster.from_csv(
    settings["table"],
    horizon=settings["horizon"],
    season=24,
    val=0,
    backbone="nlinear",
    context=settings["context"],
)
data = task.data
data.prepare(task.input_spec)
data.draws = True
rates = []
for number in range(settings["rounds"] + 1):
    loader = data.loader(data.train, batch_size=settings["batch_size"], shuffle=True)
    loader.sampler.set_epoch(number)
    count, before = 0, time.process_time()
    for place, batch in enumerate(loader, start=1):
        count += len(batch["past"])
        if place == settings["batches"]:
            break
    if number:  # the first round warms up
        rates.append(count / (time.process_time() - before))
shapes = [list(batch[name].shape[1:]) for name in ("past", "target")]
print(json.dumps({"windows_per_second": statistics.median(rates), "shapes": shapes}))
