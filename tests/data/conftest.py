"""A tokenizer that a test can count by hand: one token per word."""

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mealkit.specs import TextSpec

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"]


@pytest.fixture
def words() -> TextSpec:
    """Words of one letter, between [CLS] (2) and [SEP] (3); padded with 0; 12 tokens at most."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return TextSpec(tokenizer=tokenizer.to_str(), pad_id=0, max_length=12, type_ids=True)
