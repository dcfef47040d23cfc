"""Fine-tune on several devices or machines, and go on where a killed run stopped.

    python recipes/train_on_many_machines.py --train photos/train --devices 8
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \
        recipes/train_on_many_machines.py --train photos/train --devices 8 --nodes 2

With ``--quick`` it trains on two processes of this machine, on handwritten digits, offline.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pytorch_lightning as pl

from mealkit import History, ImageClassifier


def main(
    *,
    train: str,
    backbone: str = "resnet18",
    epochs: int = 5,
    devices: int = 1,
    nodes: int = 1,
    run: str = "runs/many",
) -> History:
    """Train on every device; the run folder has the saved task in the end."""
    task = ImageClassifier.from_folders(train, backbone=backbone)
    trainer = pl.Trainer(
        devices=devices, num_nodes=nodes, strategy="ddp", max_epochs=epochs, gradient_clip_val=1.0,
        logger=False, enable_checkpointing=False,  # the run folder has its own
    )  # fmt: skip
    history = task.finetune(trainer=trainer, run=run, resume=True)
    if trainer.is_global_zero:
        print(history)
    return history


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", default="photos/train", help="one folder per class")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--devices", type=int, default=1, help="of each machine")
    parser.add_argument("--nodes", type=int, default=1, help="machines")
    parser.add_argument("--run", default="runs/many", help="folder that all machines see")
    parser.add_argument("--quick", action="store_true", help="try it on digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        with tempfile.TemporaryDirectory() as folder:
            write_digits(Path(folder) / "digits", most=300)
            options |= {"train": f"{folder}/digits/train", "run": f"{folder}/run"}
            main(**{**options, "backbone": "mealkit_tiny", "epochs": 2, "devices": 2})
    else:
        main(**options)
