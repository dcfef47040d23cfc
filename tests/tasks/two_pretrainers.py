"""What test_pretrain_processes.py runs on two processes, by torchrun; findings are tensors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from torch import distributed, nn

from mealkit import SSLPretrainer
from mealkit.backbones import create
from mealkit.data import unlabelled_series
from mealkit.specs import ImageDataSpec, SeriesDataSpec
from mealkit.tasks import DINO, MAE, MoCo
from mealkit.tasks.joint import joint_batch

NUM_ROWS = 12
VIT = {"patch_size": 4, "embed_dim": 32, "depth": 1, "num_heads": 2}
METHODS = {
    "simclr": "simclr",
    "simsiam": "simsiam",
    "barlow_twins": "barlow_twins",
    "vicreg": "vicreg",
    "moco": MoCo(queue_size=16),
    "byol": "byol",
    "dino": DINO(num_prototypes=32),
    "mae": MAE(depth=1),
    "masked_patches": "masked_patches",
}
PATCHTST = {  # without what differs by process: batch norm and dropout
    "d_model": 16, "num_attention_heads": 2, "ffn_dim": 32, "num_hidden_layers": 1,
    "patch_length": 4, "norm_type": "layernorm", "ff_dropout": 0.0, "positional_dropout": 0.0,
}  # fmt: skip


class Net(nn.Module):
    """Convolutions without norms; features (B, 12)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.Tanh())
        self.middle = nn.Sequential(nn.Conv2d(8, 12, 2), nn.Tanh())
        self.last = nn.Conv2d(12, 12, 1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.last(self.middle(self.stem(image))).mean((2, 3))


class Keep(pl.Callback):
    """Keep the loss and the gradients of the first step."""

    def __init__(self) -> None:
        self.loss = torch.zeros(())
        self.grads: dict[str, torch.Tensor] = {}

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if not self.grads:
            named = pl_module.named_parameters()
            self.grads = {n: p.grad.clone() for n, p in named if p.grad is not None}

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        if trainer.global_step == 1:
            self.loss = outputs["loss"].detach().clone()


def make_for_series(batch_size: int) -> SSLPretrainer:
    """Make a pretrainer for series with a gap, so that windows count by other numbers of values."""
    rng = np.random.default_rng(0)
    waves = {name: rng.normal(size=90).cumsum() for name in ("a", "b")}
    waves["a"][40:43] = np.nan
    torch.manual_seed(0)
    spec = SeriesDataSpec(horizon_steps=0)
    steps = {"context_steps": 24}
    net = create("patchtst", spec, preprocessing=steps, options=PATCHTST)
    unlabelled_series.EPOCH_STEPS = 2
    pre = SSLPretrainer.from_arrays(waves, backbone=net)
    pre.data.batch_size = batch_size
    return pre


def make(method: str, batch_size: int) -> SSLPretrainer:
    if method == "masked_patches":
        return make_for_series(batch_size)
    rng = np.random.default_rng(0)
    # A colour each: of pictures that are alike, losses that divide by a spread would round away.
    images = rng.integers(0, 200, (2 * NUM_ROWS, 1, 1, 3), dtype=np.uint8)
    images = images + rng.integers(0, 56, (2 * NUM_ROWS, 16, 16, 3), dtype=np.uint8)
    torch.manual_seed(0)
    spec = ImageDataSpec(size=16)
    net = create(Net(), spec)
    if method == "mae":
        net = create("vit_tiny_patch16_224", spec, pretrained=False, options=VIT)
    pre = SSLPretrainer.from_arrays(images, backbone=net, method=METHODS[method])
    pre.precision = "32-true"
    pre.data.batch_size = batch_size
    return pre


def train(method: str, *, devices: int) -> dict[str, object]:
    keep = Keep()
    pre = make(method, NUM_ROWS // devices)
    trainer = pl.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto",
        max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[keep],
    )  # fmt: skip
    history = pre.pretrain(trainer=trainer)
    return {
        "loss": keep.loss,
        "grads": keep.grads,
        "weights": dict(pre.state_dict()),
        "rows": [{n: v for n, v in row.items() if n != "seconds"} for row in history.rows],
    }


def uneven() -> dict[str, torch.Tensor]:
    """Gather other numbers of rows from both processes, and send a gradient back."""
    rank = distributed.get_rank()
    own = torch.arange(2.0 + rank, requires_grad=True)
    joint = joint_batch(own)
    (joint * torch.arange(1.0, 6.0)).sum().backward()
    assert own.grad is not None
    return {"joint": joint.detach(), "grad": own.grad}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    alone = {method: train(method, devices=1) for method in METHODS}
    both = {method: train(method, devices=2) for method in METHODS}
    found = {"alone": alone, "both": both, "uneven": uneven()}
    torch.save(found, folder / f"found{distributed.get_rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
