"""Backbones for texts from transformers: encoders and decoders, by hub id or from a folder."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import PreTrainedModel

from ..errors import BackboneError, InvalidValueError
from ..specs import TextSpec
from .hub import TOKENIZER_FILES, fetch_all, fetch_description, is_hub_id, where
from .registry import BackboneInfo
from .sources import Config, Source, title
from .text_base import TextBackbone
from .text_known import KNOWN, Known
from .text_pooling import modules_of
from .text_tokenizer import folder_tokenizer
from .transformers_net import config_of, construct, json_of, read_folder
from .weights import Weights, below, load

_MOST_TOKENS = 512  # for nets that could see thousands: cost grows with the square of the length
_DESCRIPTION = (
    "config.json",
    *TOKENIZER_FILES,
    "modules.json",
    "*_Pooling/config.json",
    "sentence_*_config.json",
)
# What was trained for words or classes and stands at the top of a net that has it.
_HEADS = frozenset(
    (
        "classifier",
        "cls",
        "decoder",
        "discriminator_predictions",
        "generator_lm_head",
        "generator_predictions",
        "head",
        "lm_head",
        "lm_loss",
        "lm_predictions",
        "logits_proj",
        "mask_predictions",
        "pooler",
        "pre_classifier",
        "predictions",
        "qa_outputs",
        "score",
        "sequence_summary",
        "sop_classifier",
        "vocab_layer_norm",
        "vocab_projector",
        "vocab_transform",
    )
)


class TransformersText(TextBackbone):
    """An encoder or a decoder of transformers."""

    def states(self, *tensors: Tensor) -> Tensor:
        """Answer with the last hidden state of all tokens, (B, L, F)."""
        output = self.net(**dict(zip(self.inputs, tensors, strict=True)))
        states: Tensor = output.last_hidden_state
        return states


class TransformersTextSource(Source[TextSpec, TextBackbone]):
    """Hub ids, and folders with a ``config.json`` that has a ``model_type``.

    Well-known ids are listed and described; the others work as well. Code from the hub is never
    run, and weights are read as safetensors only.
    """

    prefix = "transformers"

    def names(self) -> list[str]:
        """List the well-known ids."""
        return list(KNOWN)

    def near(self, name: str) -> Iterable[str]:
        """List the well-known ids, those without a slash in their short form."""
        return KNOWN if "/" in name else [full.rpartition("/")[2] for full in KNOWN]

    def has(self, name: str) -> bool:
        """Say whether the name is known, or has the form of a hub id: the hub is not asked."""
        return _full(name) in KNOWN or is_hub_id(name)

    def has_weights(self, name: str) -> bool:
        """Say yes: a hub id without weights would be an error."""
        return True

    def describe(self, name: str) -> BackboneInfo:
        """Tell from the table; of other ids, from their config on the hub or in its cache."""
        known = KNOWN.get(_full(name)) or self._count(name)
        return BackboneInfo(
            name=known.name,
            kind="text",
            source=self.prefix,
            num_parameters=known.num_parameters,
            num_features=known.num_features,
            input=TextSpec(
                tokenizer=known.tokenizer,
                pad_id=known.pad_id,
                max_length=known.max_length,
                type_ids=known.type_ids,
            ),
            licence=known.licence,
            weights=where(known.name),
        )

    def config(self, name: str) -> dict[str, Any]:  # Any: plain JSON values
        """Get config and tokenizer from the hub or its cache, so that neither is needed again."""
        name = _full(name)
        folder = fetch_description(name, _DESCRIPTION, what="config and tokenizer")
        return {**self.folder_config(folder), "name": name, "module": None}

    def fetch(self, config: Config) -> Weights:
        """Get weights from the hub or its cache."""
        return self.read(fetch_all(config["name"], _DESCRIPTION), config)

    def owns(self, folder: Path) -> bool:
        """Say whether the folder has transformers' form."""
        return "model_type" in json_of(folder / "config.json")

    def folder_config(self, folder: Path) -> dict[str, Any]:  # Any: plain JSON values
        """Record the net's config and how it pools; what goes into the spec is `tokenizer`."""
        sizes = [json_of(file) for file in sorted(folder.glob("sentence_*_config.json"))]
        tokenizer = folder_tokenizer(folder)
        lengths = [tokenizer["max_length"], *(size.get("max_seq_length") for size in sizes)]
        shortest = min((length for length in lengths if length), default=None)
        return {
            "source": self.prefix,
            "name": None,
            "module": f"transformers folder {folder.name}",
            "model_config": json_of(folder / "config.json"),
            "modules": modules_of(folder),
            "tokenizer": {**tokenizer, "max_length": shortest},
        }

    def read(self, folder: Path, config: Config) -> Weights:
        """Read through transformers, which gives old weights their present names."""
        return read_folder(folder, config_of({**config, "options": None}), _is_head)

    def own_spec(self, config: Config) -> TextSpec:
        """Answer with the folder's tokenizer, and with as many tokens as tokenizer and net take."""
        with torch.device("meta"):
            net = _construct(config)
        limits = (config["tokenizer"]["max_length"], num_positions(net), _MOST_TOKENS)
        return TextSpec(
            tokenizer=config["tokenizer"]["tokenizer"],
            pad_id=config["tokenizer"]["pad_id"],
            max_length=min(limit for limit in limits if limit),
            type_ids=_tells_texts_apart(net),
        )

    def build(
        self, config: Config, spec: TextSpec, weights: Weights | None, *, pretrained: bool
    ) -> TransformersText:
        """Build from the recorded config; a head among the weights is left out."""
        net = _construct(config)
        _check(net, spec, config)
        if weights is not None:
            load(net, weights.with_state(_body(weights.state, net)))
        return TransformersText(net, input_spec=spec, config=config, pretrained=pretrained)

    def _count(self, name: str) -> Known:
        config = self.config(name)
        spec = self.own_spec(config)
        with torch.device("meta"):
            net = _construct(config)
        return Known(
            name=name,
            num_parameters=sum(parameter.numel() for parameter in net.parameters()),
            num_features=int(net.config.hidden_size),
            licence=None,
            pad_id=spec.pad_id,
            max_length=spec.max_length,
            type_ids=spec.type_ids,
            tokenizer=spec.tokenizer,
        )


def num_positions(net: PreTrainedModel) -> int | None:
    """Answer with the most tokens that a net can tell the places of, None where nothing limits it.

    RoBERTa and its like leave the first places unused, up to that of their padding.
    """
    stated = getattr(net.config, "max_position_embeddings", None)
    limits = [stated] if stated and stated > 0 else []
    limits += [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in net.named_modules()
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding)
    ]
    return min(limits, default=None)


def _construct(config: Config) -> PreTrainedModel:
    model_config = config_of(config)
    if getattr(model_config, "is_encoder_decoder", False):
        raise BackboneError(
            f"{title(config)} is an encoder with a decoder ({model_config.model_type}). Expected "
            "one of the two alone: BERT and its like, or a language model as GPT-2."
        )
    model_config.use_cache = False  # it would keep what only writing on needs
    return construct(model_config, config, "text model")


def _tells_texts_apart(net: PreTrainedModel) -> bool:
    takes = inspect.signature(net.forward).parameters
    return "token_type_ids" in takes and (getattr(net.config, "type_vocab_size", 0) or 0) > 1


def _check(net: PreTrainedModel, spec: TextSpec, config: Config) -> None:
    """Refuse what would end in an index error at the first long or rare text."""
    limit = num_positions(net)
    if limit is not None and spec.max_length > limit:
        raise InvalidValueError(
            f"max_length={spec.max_length} is more than the {limit} tokens that {title(config)} "
            f"has places for. Give at most {limit}; preprocessing={{'long': 'chunk'}} reads longer "
            "texts in windows."
        )
    num_known = int(net.get_input_embeddings().num_embeddings)  # type: ignore[arg-type]
    num_tokens = Tokenizer.from_str(spec.tokenizer).get_vocab_size(with_added_tokens=False)
    if num_tokens > num_known:
        raise BackboneError(
            f"The tokenizer knows {num_tokens} tokens and {title(config)} only {num_known}. Give "
            "the tokenizer that the net was trained with."
        )
    if not 0 <= spec.pad_id < num_known:
        raise InvalidValueError(
            f"pad_id={spec.pad_id} is none of the {num_known} tokens of {title(config)}. Padding "
            "is masked, so that any will do: preprocessing={'pad_id': 0}."
        )


def _body(state: Mapping[str, Tensor], net: PreTrainedModel) -> dict[str, Tensor]:
    """Take the net's own tensors out of those of the same net with a head."""
    prefix = f"{net.base_model_prefix}."
    inner = below(state, prefix)
    body = inner if inner and not hasattr(net, prefix[:-1]) else state
    return {name: tensor for name, tensor in body.items() if not _is_head(name)}


def _is_head(name: str) -> bool:
    parts = name.split(".")
    return parts[0] in _HEADS or (len(parts) > 1 and parts[1] == "pooler")


def _full(name: str) -> str:
    """Answer with the id of a well-known net that was named without its owner."""
    return next((full for full in KNOWN if full.rpartition("/")[2] == name), name)
