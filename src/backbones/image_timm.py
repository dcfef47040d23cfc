"""Backbones from timm: by name, hub id or folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data.config import resolve_data_config
from timm.models import (
    PretrainedCfg,
    get_pretrained_cfg,
    group_parameters,
    load_model_config_from_hf,
    load_state_dict_from_hf,
)
from torch import Tensor, nn

from ..errors import BackboneError, WeightsError, unknown_name
from ..specs import ImageSpec
from .blocks import complete, partition
from .image_base import ImageBackbone, ImageSource, channels, wrong_size
from .registry import BackboneInfo
from .sources import Config, title
from .timm_build import construct, filled, pretrained_cfg
from .weights import Weights, misfit, read, unreachable

_HUB = ("hf-hub:", "hf_hub:")
_OURS = frozenset(  # decided by other arguments of `create`, or by what a backbone is
    (
        "cache_dir",
        "checkpoint_path",
        "features_only",
        "img_size",
        "in_chans",
        "num_classes",
        "out_indices",
        "pretrained",
        "pretrained_cfg",
        "pretrained_cfg_overlay",
        "pretrained_strict",
    )
)
_UNNEEDED = frozenset({"label_names", "label_descriptions", "file", "state_dict", "source"})


class TimmBackbone(ImageBackbone):
    """A net of timm, with timm's own blocks.

    `states` have as many features as the net's last stage, which for nets that widen after pooling
    (MobileNet v3) is fewer than `num_features`.
    """

    def forward(self, *tensors: Tensor) -> Tensor:
        """Turn pictures, (B, C, H, W), into features, (B, F)."""
        features: Tensor = self.net(*tensors)
        return features

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with the last stage's output, (B, F, h, w), or the tokens, (B, L, F)."""
        states = self.net.forward_features(*tensors)  # type: ignore[operator]
        if not isinstance(states, Tensor) or states.ndim not in (3, 4):
            got = tuple(states.shape) if isinstance(states, Tensor) else type(states).__name__
            raise BackboneError(
                f"{title(self.config)} has no unpooled features: its stages answer with {got}. Use "
                "another backbone where maps or tokens are needed."
            )
        if states.ndim == 4 and getattr(self.net, "output_fmt", "NCHW") == "NHWC":
            return states.permute(0, 3, 1, 2)
        return states

    def _groups(self) -> Sequence[Sequence[str]]:
        try:
            matcher = self.net.group_matcher(coarse=True)  # type: ignore[operator]
            groups = group_parameters(self.net, matcher)
        except (AttributeError, NotImplementedError, AssertionError):
            return partition(self.net)  # the net has no grouping of its own
        return complete([groups[index] for index in sorted(groups)], self.net)


class TimmSource(ImageSource):
    """Every net of timm."""

    prefix = "timm"

    def names(self) -> list[str]:
        """List architectures and architectures with the tag of their weights."""
        return [*dict.fromkeys([*timm.list_models(), *timm.list_models(include_tags=True)])]

    def near(self, name: str) -> Iterable[str]:
        """List the tags of a known architecture, else all names of the same form."""
        arch, _, tag = name.partition(".")
        if tag and timm.is_model(arch):
            return timm.list_models(arch + ".*", include_tags=True)
        return timm.list_models()

    def has(self, name: str) -> bool:
        """Say whether timm has the net, tag included. A hub id counts, unasked."""
        if name.startswith(_HUB):
            return True
        if not timm.is_model(name):
            return False
        try:
            get_pretrained_cfg(_current(name))
        except RuntimeError:  # the architecture exists and the tag does not
            return False
        return True

    def has_weights(self, name: str) -> bool:
        """Say whether timm knows where weights are."""
        return name.startswith(_HUB) or bool(timm.is_model_pretrained(_current(name)))

    def config(self, name: str) -> dict[str, Any]:  # Any: plain JSON values
        """Record the name with its tag; of a hub id, all that its own config says."""
        if name.startswith(_HUB):
            return _hub_config(name)
        name = _current(name)
        cfg = get_pretrained_cfg(name)
        tag = f".{cfg.tag}" if cfg is not None and cfg.tag else ""
        return {"source": self.prefix, "name": name.partition(".")[0] + tag}

    def owns(self, folder: Path) -> bool:
        """Say whether the folder has timm's form."""
        return "architecture" in _json_of(folder)

    def folder_config(self, folder: Path) -> dict[str, Any]:  # Any: plain JSON values
        """Record all that the folder's config says, so that the folder is not needed again."""
        return _recorded(_json_of(folder), str(folder / "config.json"))

    def read(self, folder: Path, config: Config) -> Weights:
        """Read the folder's weights."""
        weights = read(folder)
        return Weights(
            weights.state, weights.origin, in_chans=pretrained_cfg(config)["input_size"][0]
        )

    def own_spec(self, config: Config) -> ImageSpec:
        """Answer with what timm's own evaluation transform does."""
        cfg = pretrained_cfg(config)
        data = resolve_data_config(pretrained_cfg=cfg)  # type: ignore[no-untyped-call]
        in_chans, *size = data["input_size"]
        return ImageSpec(
            size=(size[0], size[1]),
            mean=channels(data["mean"], in_chans),
            std=channels(data["std"], in_chans),
            interpolation=data["interpolation"],
            crop_pct=min(1.0, data["crop_pct"]),  # 1.15 once: timm pads there
            crop_mode=data["crop_mode"],
        )

    def describe(self, name: str) -> BackboneInfo:
        """Build the net without memory for its weights and count."""
        config = self.config(name)
        spec = self.own_spec(config)
        with torch.device("meta"):
            net = construct(config, spec, {})
        cfg = pretrained_cfg(config)
        return BackboneInfo(
            name=config["name"],
            kind="image",
            source=self.prefix,
            num_parameters=sum(parameter.numel() for parameter in net.parameters()),
            num_features=_num_features(net),
            input=spec,
            licence=cfg.get("license"),
            weights=_where(cfg) or None,
        )

    def fetch(self, config: Config) -> Weights:
        """Get weights from the hub's cache, the hub, or the address that timm knows."""
        cfg = pretrained_cfg(config)
        name, hub_id, url = config["name"], cfg.get("hf_hub_id"), cfg.get("url")
        try:
            if hub_id:
                file = cfg.get("hf_hub_filename")
                state = load_state_dict_from_hf(hub_id, *([file] if file else []))
            else:
                state = torch.hub.load_state_dict_from_url(
                    str(url), map_location="cpu", progress=False, weights_only=True
                )
        except Exception as error:  # the hub's client raises a dozen kinds
            raise unreachable(name, _where(cfg), error) from error
        return Weights(state, _where(cfg), in_chans=cfg["input_size"][0])

    def build(
        self, config: Config, spec: ImageSpec, weights: Weights | None, *, pretrained: bool
    ) -> TimmBackbone:
        """Build through timm, so that it adapts channels and position embeddings itself."""
        _reject(config.get("options") or {})
        try:
            net = filled(config, spec, weights) if weights else construct(config, spec, {})
        except (BackboneError, WeightsError):
            raise
        except Exception as error:  # timm's nets raise whatever their constructors raise
            raise self._explained(config, spec, weights, error) from error
        named = {name for name, _ in net.named_parameters()}
        decay = getattr(net, "no_weight_decay", set)  # lists names of the net's relatives, too
        return TimmBackbone(
            net,
            input_spec=spec,
            num_features=_num_features(net),
            config=config,
            pretrained=pretrained,
            no_weight_decay=named.intersection(decay()),
        )

    def _explained(
        self, config: Config, spec: ImageSpec, weights: Weights | None, error: Exception
    ) -> Exception:
        """Tell a wrong option from a wrong size and from weights that timm could not convert."""
        options = config.get("options") or {}
        own = self.own_spec(config)
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        named = unknown[1] if unknown and unknown[1] in options else None
        if named or (options and spec.size == own.size and not weights):
            what = f"{named!r}" if named else f"{dict(options)}"
            return BackboneError(
                f"timm's {config['name']!r} does not take the option {what}: {error}. Its options "
                "are the arguments of the model's class in timm."
            )
        if weights is not None:
            try:
                with torch.random.fork_rng(devices=[]):
                    construct(config, spec, {})
            except Exception as fault:  # then the weights are not to blame
                return self._explained(config, spec, None, fault)
            return misfit(weights.origin, error)
        return wrong_size(config, own, spec, error)


def _num_features(net: nn.Module) -> int:
    """Answer with what `forward` ends in; nets that widen after pooling have a name for it."""
    return int(getattr(net, "head_hidden_size", None) or net.num_features)  # type: ignore[arg-type]


def _where(cfg: Mapping[str, Any]) -> str:  # Any: timm's own values
    if cfg.get("hf_hub_id"):
        return f"Hugging Face hub id {cfg['hf_hub_id']}"
    return str(cfg.get("url") or "")


@cache  # timm copies its table on every call
def _renamed() -> dict[str, str | None]:
    return dict(timm.models.get_deprecated_models())


def _current(name: str) -> str:
    """Answer with today's name for one that timm has renamed; timm itself would warn."""
    return _renamed().get(name) or name


def _hub_config(name: str) -> dict[str, Any]:  # Any: plain JSON values
    hub_id = name.partition(":")[2]
    try:
        cfg, architecture, model_args = load_model_config_from_hf(hub_id)
    except Exception as error:  # the hub's client raises a dozen kinds
        raise unreachable(name, f"Hugging Face hub id {hub_id}", error) from error
    content = {"architecture": architecture, "model_args": model_args, "pretrained_cfg": cfg}
    return {**_recorded(content, name), "name": name}


def _json_of(folder: Path) -> dict[str, Any]:  # Any: what json.loads answers
    file = folder / "config.json"
    try:
        content = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError as error:
        raise BackboneError(f"{str(file)!r} is not valid JSON ({error}). Copy it again.") from None
    return content if isinstance(content, dict) else {}


def _recorded(content: Mapping[str, Any], where: str) -> dict[str, Any]:  # Any: plain JSON values
    """Keep of a timm config what builds and feeds the net; old ones have no inner level."""
    architecture = content["architecture"]
    if not timm.is_model(architecture):
        raise unknown_name(f"timm architecture (from {where})", architecture, timm.list_models())
    cfg = dict(content.get("pretrained_cfg") or content)
    if "num_classes" in content:
        cfg["num_classes"] = content["num_classes"]
    known = {field.name for field in fields(PretrainedCfg)} - _UNNEEDED
    return {
        "source": TimmSource.prefix,
        "name": architecture,
        "architecture": architecture,
        "model_args": dict(content.get("model_args") or {}),
        "pretrained_cfg": {key: value for key, value in cfg.items() if key in known},
    }


def _reject(options: Mapping[str, object]) -> None:
    taken = sorted(_OURS.intersection(options))
    if taken:
        raise BackboneError(
            f"options has {taken[0]!r}, which is not timm's to decide here: channels and size come "
            "from the data, weights from pretrained and weights, and a backbone has no classes."
        )
