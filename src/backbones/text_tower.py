"""The encoder of texts that an image encoder was trained with: that of a CLIP or a SigLIP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import AutoTokenizer

from ..errors import BackboneError, InvalidValueError
from .hub import TOKENIZER_FILES, fetch_all, is_hub_id
from .transformers_net import config_of, json_of, quiet, read_net

_KINDS: dict[str, bool | str] = {"clip": True, "siglip": "max_length"}
"""Nets of pictures and texts, and how texts were filled up in their training."""

_ROWS = 256  # texts computed at a time
_FILES = ("config.json", *TOKENIZER_FILES)
_PREFIX = "transformers/"
_EXPECTED = (
    "Expected a CLIP or a SigLIP of transformers: a hub id ('openai/clip-vit-base-patch32') or a "
    "folder with its config.json, tokenizer and model.safetensors"
)


@dataclass(frozen=True)
class TextTower:
    """An encoder of texts, and how its embeddings and those of pictures are compared.

    The logit of a picture and a text is ``scale`` times the cosine of their embeddings, plus
    ``bias``.

    Args:
        net: Of pictures and texts, of transformers.
        tokenizer: Of transformers.
        padding: How its texts are filled up.
        scale: Factor of the cosine.
        bias: What is added, 0 for nets that know none.
    """

    net: Any  # Any: PreTrainedModel subclass
    tokenizer: Any  # Any: tokenizer of transformers
    padding: bool | str
    scale: float
    bias: float

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Answer with the embeddings of texts in the space that is shared with pictures.

        Returns:
            Of length 1 each, (N, F).

        Raises:
            InvalidValueError: A text has more tokens than the net has places for.
        """
        parts = [self._embed(texts[at : at + _ROWS]) for at in range(0, len(texts), _ROWS)]
        return torch.cat(parts)

    def _embed(self, texts: Sequence[str]) -> Tensor:
        places = int(self.net.config.text_config.max_position_embeddings)
        lengths = [len(ids) for ids in self.tokenizer(list(texts), verbose=False)["input_ids"]]
        if max(lengths) > places:
            longest = texts[lengths.index(max(lengths))]
            raise InvalidValueError(
                f"{longest[:60]!r} has {max(lengths)} tokens, and the net has places for {places}. "
                "Shorten it."
            )
        batch = self.tokenizer(
            list(texts),
            padding=self.padding,
            max_length=places,
            truncation=True,
            return_tensors="pt",
        )
        with torch.no_grad():
            output = self.net.get_text_features(**batch)
        # transformers 4 answers with the tensor itself.
        embeddings: Tensor = output if isinstance(output, Tensor) else output.pooler_output
        return functional.normalize(embeddings.float(), dim=1)


def text_tower(backbone: object) -> TextTower:
    """Read the encoder of texts that belongs to an image encoder.

    Args:
        backbone: A hub id or a folder of transformers.

    Raises:
        BackboneError: There is none, or its tokenizer cannot be read.
        WeightsError: Weights cannot be reached, or do not fit.
    """
    folder = _folder_of(backbone)
    values = json_of(folder / "config.json")
    kind = values.get("model_type")
    if kind not in _KINDS:
        raise BackboneError(f"{str(backbone)!r} has no encoder of texts ({kind}). {_EXPECTED}.")
    model_config = config_of({"model_config": values, "name": str(backbone)})
    net: Any = read_net(folder, model_config, lambda name: False)[0]  # Any: as in TextTower
    scale, bias = (getattr(net, name, None) for name in ("logit_scale", "logit_bias"))
    return TextTower(
        net=net.eval(),
        tokenizer=_tokenizer(folder),
        padding=_KINDS[kind],
        scale=1.0 if scale is None else scale.detach().exp().item(),
        bias=0.0 if bias is None else bias.detach().item(),
    )


def _folder_of(backbone: object) -> Path:
    if not isinstance(backbone, str | Path):
        raise BackboneError(f"A {type(backbone).__name__} has no encoder of texts. {_EXPECTED}.")
    folder = Path(backbone).expanduser()
    if (folder / "task.json").is_file():
        raise BackboneError(
            f"{str(folder)!r} is a saved task, which no encoder of texts is kept in. Use it with "
            f"mealkit.load, or name the net it was made from. {_EXPECTED}."
        )
    if folder.is_dir():
        return folder
    name = str(backbone).removeprefix(_PREFIX)
    if not is_hub_id(name):
        raise BackboneError(f"{str(backbone)!r} has no encoder of texts. {_EXPECTED}.")
    return fetch_all(name, _FILES)


def _tokenizer(folder: Path) -> Any:  # Any: tokenizer of transformers
    try:
        with quiet():
            return AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # transformers and its converters raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise BackboneError(
            f"The tokenizer in {str(folder)!r} could not be read ({type(error).__name__}: "
            f"{reason}). Save it beside the net: tokenizer.save_pretrained(folder). Those of the "
            "first SigLIP need: pip install sentencepiece protobuf"
        ) from error
