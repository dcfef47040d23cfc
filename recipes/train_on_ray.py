"""Fine-tune on the workers of a Ray cluster (needs ``mealkit[ray]``).

    python recipes/train_on_ray.py --train /shared/photos/train --run /shared/run --workers 8

All machines must see the folders. Ray reports usage, unless RAY_USAGE_STATS_ENABLED=0 is set.
With ``--quick`` it trains on two workers of this machine, on handwritten digits, offline.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def main(
    *, train: str, run: str, backbone: str = "resnet18", epochs: int = 5, workers: int = 1,
    gpus: bool = True,
) -> None:  # fmt: skip
    """Train on every worker; the run folder has the saved task in the end."""

    def work() -> None:
        import pytorch_lightning as pl
        from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment, prepare_trainer

        from mealkit import ImageClassifier

        task = ImageClassifier.from_folders(train, backbone=backbone)
        trainer = pl.Trainer(
            devices="auto", accelerator="gpu" if gpus else "cpu", strategy=RayDDPStrategy(),
            plugins=[RayLightningEnvironment()], max_epochs=epochs, gradient_clip_val=1.0,
            logger=False, enable_checkpointing=False, enable_progress_bar=False,
        )  # fmt: skip
        task.finetune(trainer=prepare_trainer(trainer), run=run, resume=True)

    scaling = ScalingConfig(num_workers=workers, use_gpu=gpus)
    files = RunConfig(storage_path=f"{run}-ray")
    TorchTrainer(work, scaling_config=scaling, run_config=files).fit()
    print((Path(run) / "history.csv").read_text())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", default="/shared/train", help="one folder per class")
    parser.add_argument("--run", default="/shared/run", help="its folder; Ray's own is beside it")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1, help="each with one GPU")
    parser.add_argument("--quick", action="store_true", help="try it on digits, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from digits_demo import write_digits

        with tempfile.TemporaryDirectory() as folder:
            write_digits(Path(folder) / "digits", most=200)
            options |= {"train": f"{folder}/digits/train", "run": f"{folder}/run", "epochs": 2}
            main(**{**options, "backbone": "mealkit_tiny", "workers": 2, "gpus": False})
    else:
        main(**options)
