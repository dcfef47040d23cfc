"""What test_processes.py runs on two processes, by torchrun; it leaves its findings as tensors."""

from __future__ import annotations

import copy
import logging
import sys
import types
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import distributed, nn

from mealkit import ImageClassifier, ImageData
from mealkit.backbones import create
from mealkit.specs import ImageDataSpec
from mealkit.tasks import checkpoint, feature_cache
from mealkit.tasks.classification import predict_classes
from mealkit.tasks.processes import gather_predictions

NUM_TRAIN, NUM_VAL = 36, 13
"""On two processes, 7 validation rows each in batches of 6: the last batch of one is padding."""


class Net(nn.Module):
    """Three blocks, batch norm, no dropout; features (B, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.Tanh())
        self.middle = nn.Sequential(nn.Conv2d(8, 12, 3), nn.Tanh())
        self.last = nn.Conv2d(12, 12, 1)
        self.num_forwards = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.num_forwards += len(image)
        return self.last(self.middle(self.stem(image))).mean((2, 3))


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 4:
            raise RuntimeError("stopped")


class Shards:
    """A stream with shards of unequal size, as Hugging Face's datasets have it."""

    def __init__(self, sizes: tuple[int, ...], *, seed: int, number: int = 0) -> None:
        self.num_shards, self._sizes, self._seed, self._number = len(sizes), sizes, seed, number
        self.features = {"image": None, "label": types.SimpleNamespace(names=["0", "1", "2"])}
        splits = {"train": types.SimpleNamespace(num_examples=sum(sizes))}
        self.info = types.SimpleNamespace(
            splits=splits, builder_name="", config_name="", version="", dataset_size=0
        )
        self.split = "train"

    def shard(self, num_shards: int, index: int) -> Shards:
        return Shards(self._sizes, seed=self._seed, number=index)

    def __iter__(self):
        rng = np.random.default_rng([self._seed, self._number])
        for _ in range(self._sizes[self._number]):
            label = int(rng.integers(3))
            image = rng.integers(0, 240, (16, 16, 3), dtype=np.uint8)
            image[:, :, label] += 12
            yield {"image": image, "label": label}


class Seen(pl.Callback):
    """Notes which pictures each epoch trained on, and how many steps it took."""

    def __init__(self) -> None:
        self.index: list[list[int]] = [[] for _ in range(3)]

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        rows = [-1] if "padding" in batch else batch["index"].tolist()
        self.index[trainer.current_epoch] += rows


def make(batch_size: int, *, multi_label: bool = False) -> ImageClassifier:
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=NUM_TRAIN + NUM_VAL)
    images = rng.integers(0, 240, (NUM_TRAIN + NUM_VAL, 16, 16, 3), dtype=np.uint8)
    images[np.arange(len(images)), :, :, labels] += 12
    if multi_label:  # the brighter channel, a second one by chance, or nothing
        labels = [[own, (own + 1) % 3][: rng.integers(3)] for own in labels.tolist()]
    data = ImageData.from_arrays(
        images[:NUM_TRAIN], labels[:NUM_TRAIN], val=(images[NUM_TRAIN:], labels[NUM_TRAIN:])
    )
    data.batch_size, data.augment = batch_size, "none"
    torch.manual_seed(0)
    backbone = create(Net(), ImageDataSpec(size=16))
    backbone.pretrained = True
    task = ImageClassifier(backbone, classes=data.classes, multi_label=multi_label)
    task.data, task.precision = data, "32-true"
    return task


def trainer(strategy: str = "ddp", **more) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu", devices=2, strategy=strategy, max_epochs=3, gradient_clip_val=1.0,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, **more,
    )  # fmt: skip


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    checkpoint.EVERY_SECONDS, checkpoint.MOST_SHARE = 0.0, float("inf")
    found: dict[str, object] = {}
    alone = {}
    for strategy in ("freeze_unfreeze", "gradual", "freeze", "full"):
        task = make(12)
        history = task.finetune(epochs=3, strategy=strategy)
        alone[strategy] = (copy.deepcopy(task.state_dict()), history.rows)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("mealkit").addHandler(handler)
    for strategy, (weights, rows) in alone.items():
        task = make(6)
        history = task.finetune(trainer=trainer(), strategy=strategy, run=folder / strategy)
        found[strategy] = {
            "weights": dict(task.state_dict()),
            "alone": weights,
            "rows": history.rows,
            "rows_alone": rows,
            "forwards": task.backbone.net.num_forwards,
        }
    found["lines"] = lines.copy()

    feature_cache.IN_MEMORY_BYTES = 0
    for name in ("mapped", "found"):
        task = make(6)
        task.finetune(trainer=trainer(), strategy="freeze")
        found[name] = {
            "weights": dict(task.state_dict()),
            "forwards": task.backbone.net.num_forwards,
        }
    feature_cache.IN_MEMORY_BYTES = 1 << 30

    one, both = make(12, multi_label=True), make(6, multi_label=True)
    one.data.balance = both.data.balance = "weights"
    rows = one.finetune(epochs=3).rows
    found["several"] = {
        "rows": both.finetune(trainer=trainer()).rows,
        "rows_alone": rows,
        "weights": dict(both.state_dict()),
        "alone": dict(one.state_dict()),
        "thresholds": both.thresholds,
        "thresholds_alone": one.thresholds,
    }

    task = make(6)
    task.backbone.pretrained, task.data.val = False, None
    task.finetune(trainer=trainer())
    found["untrained"] = dict(task.state_dict())

    seen = Seen()
    streamed = make(6)
    streamed.data = ImageData.from_dataset(Shards((7, 3, 5), seed=0), val=Shards((4, 5), seed=1))
    streamed.data.batch_size = 2
    history = streamed.finetune(trainer=trainer(callbacks=[seen]), strategy="full")
    found["streamed"] = {
        "weights": dict(streamed.state_dict()),
        "seen": seen.index,
        "row": history.rows[streamed.best_epoch or 0],
        "alone": dict(streamed.evaluate().metrics),
    }

    one = make(6)
    try:
        one.finetune(trainer=trainer(callbacks=[Stop()]), strategy="gradual", run=folder / "run")
    except RuntimeError as error:
        found["stopped"] = str(error)
    one = make(6)
    history = one.finetune(trainer=trainer(), strategy="gradual", run=folder / "run", resume=True)
    found["resumed"] = {"weights": dict(one.state_dict()), "rows": history.rows}

    one.data.prepare(one.input_spec)
    parts = trainer().predict(one, dataloaders=one.data.loader(one.data.val))
    found["predicted"] = gather_predictions(parts)
    expected = predict_classes(one, one.data.val, batch_size=8).probabilities
    found["expected"] = torch.from_numpy(expected)
    (tested,) = trainer().validate(one, datamodule=one.data, verbose=False)
    found["validated"], found["scored"] = tested, dict(one.evaluate().metrics)
    torch.save(found, folder / f"found{distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
