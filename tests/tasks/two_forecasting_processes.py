"""What test_forecaster_processes.py runs on two processes, by torchrun."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import distributed

from mealkit import Forecaster, SeriesData
from mealkit.data import series
from mealkit.errors import InvalidValueError
from mealkit.tasks import choosing

series.EPOCH_STEPS = 10
TINY = {"width": 8, "num_blocks": 1, "depth": 1}
choosing.CANDIDATES["fast"] = (
    choosing.Candidate("ridge", "ridge"),
    choosing.Candidate("resmlp", "resmlp", TINY),
)


def make(backbone: str | None, *, batch_size: int | None) -> Forecaster:
    rng = np.random.default_rng(0)
    wave = 4 * np.sin(np.arange(151) * 2 * np.pi / 12)
    values = {name: 50 + wave + rng.normal(size=151) for name in "ab"}
    values["c"] = values["a"][:90] + 3
    data = SeriesData.from_arrays(values, horizon=6, season=12, test=12)
    data.batch_size = batch_size
    return Forecaster.from_data(data, backbone=backbone)


def trainer(epochs: int = 1, strategy: str = "ddp") -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", devices=2, strategy=strategy, max_epochs=epochs, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        gradient_clip_val=1.0,
    )  # fmt: skip


def findings(task: Forecaster) -> dict[str, object]:
    return {
        "weights": {name: value.clone() for name, value in task.net.state_dict().items()},
        "quantiles": torch.from_numpy(task.predict().quantiles),
        "scores": dict(task.evaluate(step=1).metrics),
        "model": task.model,
    }


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    found: dict[str, object] = {}
    alone = make("nlinear", batch_size=32)
    alone.finetune(epochs=3, refit=False)
    shared = make("nlinear", batch_size=16)
    shared.finetune(trainer=trainer(3))
    found["nlinear"] = {"alone": findings(alone), "both": findings(shared)}
    # Behind a Trainer of several processes, what needs none is fitted by each alone.
    for name, backbone in (("ridge", "ridge"), ("chosen", None), ("naive", "seasonal-naive")):
        each = make(backbone, batch_size=None)
        each.finetune()
        found[name] = findings(each)
    try:
        make(None, batch_size=None).finetune(trainer=trainer())
    except InvalidValueError as error:
        found["refused"] = str(error)
    torch.save(found, folder / f"found{distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
