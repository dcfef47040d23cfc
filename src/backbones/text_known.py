"""Well-known encoders of the Hugging Face hub: what can be said of them without asking it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """An encoder, its parameters counted without pooler and heads.

    Args:
        name: Its id on the hub.
        num_parameters: Number of trained values.
        num_features: Length F of a feature vector.
        max_length: Most tokens that it is used with here.
        pad_id: The token that fills up shorter texts.
        type_ids: Whether it tells the texts of a pair apart by ``token_type_ids``.
        licence: Of the weights, as their model card states it.
        tokenizer: The tokenizer as JSON, empty where the hub would have to be asked for it.
    """

    name: str
    num_parameters: int
    num_features: int
    max_length: int
    pad_id: int
    type_ids: bool
    licence: str | None
    tokenizer: str = ""


_APACHE, _MIT = "apache-2.0", "mit"
_ROWS = (
    Known("google-bert/bert-base-uncased", 108_891_648, 768, 512, 0, True, _APACHE),
    Known("google-bert/bert-base-cased", 107_719_680, 768, 512, 0, True, _APACHE),
    Known("google-bert/bert-base-multilingual-cased", 177_262_848, 768, 512, 0, True, _APACHE),
    Known("google-bert/bert-large-uncased", 334_092_288, 1024, 512, 0, True, _APACHE),
    Known("distilbert/distilbert-base-uncased", 66_362_880, 768, 512, 0, False, _APACHE),
    Known("distilbert/distilbert-base-cased", 65_190_912, 768, 512, 0, False, _APACHE),
    Known("distilbert/distilroberta-base", 81_527_808, 768, 512, 1, False, _APACHE),
    Known("FacebookAI/roberta-base", 124_055_040, 768, 512, 1, False, _MIT),
    Known("FacebookAI/roberta-large", 354_310_144, 1024, 512, 1, False, _MIT),
    Known("FacebookAI/xlm-roberta-base", 277_453_056, 768, 512, 1, False, _MIT),
    Known("FacebookAI/xlm-roberta-large", 558_840_832, 1024, 512, 1, False, _MIT),
    Known("answerdotai/ModernBERT-base", 149_014_272, 768, 512, 50283, False, _APACHE),
    Known("answerdotai/ModernBERT-large", 394_781_696, 1024, 512, 50283, False, _APACHE),
    Known("sentence-transformers/all-MiniLM-L6-v2", 22_565_376, 384, 256, 0, True, _APACHE),
    Known("sentence-transformers/all-MiniLM-L12-v2", 33_212_160, 384, 128, 0, True, _APACHE),
    Known("sentence-transformers/all-mpnet-base-v2", 108_895_872, 768, 384, 1, False, _APACHE),
    Known("intfloat/e5-small-v2", 33_212_160, 384, 512, 0, True, _MIT),
    Known("intfloat/e5-base-v2", 108_891_648, 768, 512, 0, True, _MIT),
    Known("intfloat/e5-large-v2", 334_092_288, 1024, 512, 0, True, _MIT),
    Known("intfloat/multilingual-e5-base", 277_453_056, 768, 512, 1, False, _MIT),
    Known("BAAI/bge-small-en-v1.5", 33_212_160, 384, 512, 0, True, _MIT),
    Known("BAAI/bge-base-en-v1.5", 108_891_648, 768, 512, 0, True, _MIT),
    Known("BAAI/bge-large-en-v1.5", 334_092_288, 1024, 512, 0, True, _MIT),
)
KNOWN: Mapping[str, Known] = {row.name: row for row in _ROWS}
