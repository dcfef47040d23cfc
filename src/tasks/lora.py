"""LoRA: small adapters beside the linear layers are trained in the place of their weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch import Tensor, nn

from ..errors import InvalidValueError, require
from .strategies import Lora

if TYPE_CHECKING:
    from .task import Task

_log = logging.getLogger("mealkit")


class Adapters(pl.Callback):
    """Put adapters into a backbone for the time of a run, and merge them into its weights.

    They come in ``setup``, ahead of the optimiser and of DDP, and are merged when everything that
    saves and restores weights has ended, so that what is left is the plain net.

    Args:
        task: Whose backbone is adapted.
        strategy: Rank and scale.
    """

    def __init__(self, task: Task, strategy: Lora) -> None:
        self._task = task
        self._strategy = strategy
        self._opened: set[str] = set()  # names: peft makes some parameters anew
        self._exact: dict[str, Tensor] = {}
        self._is_checked = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Put the adapters in; the weights themselves are fixed from then on."""
        if stage != "fit":
            return
        net = self._task.backbone
        self._opened = {name for name, value in net.named_parameters() if value.requires_grad}
        with isolate_rng():
            torch.manual_seed(self._task.plan.training.seed)
            num_layers = add_adapters(net, self._strategy)
        num_values = sum(value.numel() for value in net.parameters() if value.requires_grad)
        if trainer.is_global_zero:
            _log.info(f"LoRA: {num_values:,} values beside {num_layers} layers of the backbone.")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy the weights of attention: peft adds adapters to them and takes them off again.

        It does so in every forward pass, and every time the weights are rounded a little.
        """
        self._exact = {
            name: value.detach().clone()
            for path, module in self._task.backbone.named_modules()
            if isinstance(module, nn.MultiheadAttention)
            for name, value in module.named_parameters(prefix=path)
            if "lora" not in name
        }

    def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say once which layers do not use their adapters: some nets read the weights directly."""
        trained = [(n, v) for n, v in self._task.backbone.named_parameters() if v.requires_grad]
        if self._is_checked or not trained:
            return
        self._is_checked = True
        unused = [name for name, value in trained if value.grad is None]
        if unused and trainer.is_global_zero:
            _log.warning(
                "LoRA: %d of %d matrices change nothing, because the net passes their layers by "
                "(%s, ...).",
                len(unused),
                len(trained),
                unused[0],
            )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Merge the adapters, and open what was open before."""
        if not self._opened:
            return
        with torch.no_grad():
            for name, value in self._task.backbone.named_parameters():
                if name in self._exact:
                    value.copy_(self._exact[name])
        self._exact = {}
        merge_adapters(self._task.backbone)
        for name, value in self._task.backbone.named_parameters():
            value.requires_grad_(name in self._opened)
        self._opened = set()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave a plain net behind after a failure, too."""
        self.on_fit_end(trainer, pl_module)


def add_adapters(net: nn.Module, strategy: Lora) -> int:
    """Put an adapter beside every linear and attention layer, and fix all other weights.

    Returns:
        How many layers have one.

    Raises:
        MissingPackageError: peft is absent.
        InvalidValueError: The net has no linear layers.
    """
    peft = require("peft", extra="peft", purpose="strategy='lora'")
    names = _adaptable(net)
    if not names:
        raise InvalidValueError(
            "strategy='lora' adapts linear layers, and this backbone has none. Take a transformer "
            "or a ConvNeXt, or another strategy."
        )
    widest = max(_widths(net, names), default=0)
    if strategy.rank > widest:
        raise InvalidValueError(
            f"rank={strategy.rank}: no layer of this backbone is larger than {widest} both ways, so"
            " expected at most that; the adapters would be larger than what they adapt."
        )
    config = peft.LoraConfig(
        r=strategy.rank, lora_alpha=strategy.scale * strategy.rank, target_modules=names
    )
    peft.inject_adapter_in_model(config, net)
    return len(names)


def _adaptable(net: nn.Module) -> list[str]:
    """Name the layers that take an adapter; attention has its own linear layers inside."""
    named = dict(net.named_modules())
    attention = [n for n, module in named.items() if isinstance(module, nn.MultiheadAttention)]
    inside = tuple(f"{name}." for name in attention)
    linear = [
        name for name, module in named.items() if _is_linear(module) and not name.startswith(inside)
    ]
    return [*attention, *linear]


def _widths(net: nn.Module, names: Sequence[str]) -> Iterator[int]:
    """Answer with the shorter side of the matrix of every layer that takes an adapter."""
    for name in names:
        layer = net.get_submodule(name)
        if isinstance(layer, nn.MultiheadAttention):
            yield layer.embed_dim
        elif isinstance(layer, nn.Conv2d):
            yield min(layer.in_channels, layer.out_channels)
        elif isinstance(layer, nn.Linear):
            yield min(layer.in_features, layer.out_features)


def merge_adapters(net: nn.Module) -> None:
    """Add what the adapters learnt to the weights beside them, and take the adapters out."""
    tuners: Any = require("peft.tuners.tuners_utils", extra="peft", purpose="strategy='lora'")
    # Outer ones first: attention takes the adapters inside it out by itself.
    for name in [n for n, m in net.named_modules() if isinstance(m, tuners.BaseTunerLayer)]:
        parent, _, child = name.rpartition(".")
        try:
            layer: Any = net.get_submodule(name)  # Any: peft has no types for them
        except AttributeError:
            continue
        if hasattr(layer, "unload_and_optionally_merge_module"):
            plain = layer.unload_and_optionally_merge_module(
                merge=True, safe_merge=False, adapter_names=None
            )
        else:
            layer.merge()
            plain = layer.get_base_layer()
        setattr(net.get_submodule(parent), child, plain)
    vars(net).pop("peft_config", None)  # it would warn of the adapters of an earlier run


def _is_linear(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        return module.kernel_size == (1, 1) and module.groups == 1
    return isinstance(module, nn.Linear)
