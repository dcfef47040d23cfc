"""Darts' side of the benchmark of windows; settings as in mealkit_windows.py.

The dataset, the collating and the loader are those that its torch models fit from.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
import warnings

import numpy as np
import pandas as pd
import torch
from darts import TimeSeries
from darts.utils.data.torch_datasets.training_dataset import SequentialTorchTrainingDataset
from darts.utils.data.torch_datasets.utils import _batch_collate_fn_train
from torch.utils.data import DataLoader

settings = json.loads(sys.argv[1])
warnings.simplefilter("ignore")
torch.set_num_threads(1)
torch.manual_seed(0)
frame = pd.read_csv(settings["table"], parse_dates=["date"], index_col="date")
series = [
    TimeSeries.from_times_and_values(frame.index, frame[name].to_numpy(np.float32))
    for name in frame.columns
]
dataset = SequentialTorchTrainingDataset(
    series,
    input_chunk_length=settings["context"],
    output_chunk_length=settings["horizon"],
)
loader = DataLoader(
    dataset,
    batch_size=settings["batch_size"],
    shuffle=True,
    drop_last=True,
    collate_fn=_batch_collate_fn_train,
)
rates = []
for number in range(settings["rounds"] + 1):
    count, before = 0, time.process_time()
    for place, batch in enumerate(loader, start=1):
        count += len(batch.past_target)
        if place == settings["batches"]:
            break
    if number:  # the first round warms up
        rates.append(count / (time.process_time() - before))
shapes = [list(batch.past_target.shape[1:-1]), list(batch.future_target.shape[1:-1])]
print(json.dumps({"windows_per_second": statistics.median(rates), "shapes": shapes}))
