"""Tiny text nets as folders in transformers' form, with tokenizers trained on a few recipes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    DebertaV2Config,
    DistilBertConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    RobertaConfig,
)

from mealkit.backbones import Backbone

CORPUS = [
    "Chop the onions and fry them in butter until they are golden.",
    "Boil the potatoes for twenty minutes, then mash them with warm milk.",
    "Don't open the oven: the soufflé won't rise, and the crème brûlée will burn!",
    "Serve 2 portions at 180 degrees; naïve cooks forget the salt.",
] * 4
NUM_LAYERS = 3
NUM_POSITIONS = 64


def wordpiece() -> PreTrainedTokenizerFast:
    """Lower-cased word pieces in BERT's form, with types for pairs."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), special, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=128,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{short}_token": name for short, name in names.items()},
    )


def byte_pairs(*, marked: bool) -> PreTrainedTokenizerFast:
    """Pairs of bytes: marked as RoBERTa does, with padding as token 1, or bare as GPT-2."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>"] if marked else ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    if not marked:
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>")
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", pad_token="<pad>", eos_token="</s>"
    )


def config_of(kind: str, vocab_size: int) -> PretrainedConfig:
    small = {
        "vocab_size": vocab_size,
        "hidden_size": 16,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": NUM_POSITIONS,
    }
    first = {"bos_token_id": 0, "eos_token_id": 0}
    if kind == "bert":
        return BertConfig(**small)
    if kind == "distilbert":
        return DistilBertConfig(
            vocab_size=vocab_size,
            dim=16,
            n_layers=NUM_LAYERS,
            n_heads=2,
            hidden_dim=32,
            max_position_embeddings=NUM_POSITIONS,
        )
    if kind == "roberta":  # its first two places are never used
        small["max_position_embeddings"] = NUM_POSITIONS + 2
        return RobertaConfig(**small, type_vocab_size=1)
    if kind == "deberta-v2":
        third = {"position_buckets": 8, "norm_rel_ebd": "layer_norm", "share_att_key": True}
        return DebertaV2Config(
            **small,
            **third,  # what version 3 added
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            position_biased_input=False,
            type_vocab_size=0,
        )
    if kind == "modernbert":
        ids = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
        return ModernBertConfig(**small, local_attention=8, **ids)
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=vocab_size,
            n_embd=16,
            n_layer=NUM_LAYERS,
            n_head=2,
            n_positions=NUM_POSITIONS,
            **first,
        )
    return {"llama": LlamaConfig, "qwen2": Qwen2Config}[kind](
        **small, **first, num_key_value_heads=1
    )


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    if kind in ("gpt2", "llama", "qwen2"):
        return byte_pairs(marked=False)
    return byte_pairs(marked=True) if kind == "roberta" else wordpiece()


IDS = torch.tensor([[5, 9, 6, 0, 0], [7, 8, 5, 6, 9]])
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@pytest.fixture(scope="session")
def token_batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids, mask and types of two texts, of three and of five tokens."""
    return IDS, MASK, torch.zeros_like(IDS)


@pytest.fixture(scope="session")
def answer(token_batch) -> Callable[[Backbone], torch.Tensor]:
    """Ask a backbone for the features of the token batch."""

    def answer(net: Backbone) -> torch.Tensor:
        with torch.no_grad():
            return net.eval()(*token_batch[: len(net.inputs)])

    return answer


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Answer with a folder of a random net of a kind, as its `save_pretrained` writes it."""
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_net(tmp_path_factory.mktemp("nets") / kind, kind)
        return made[kind]

    return folder


@pytest.fixture
def bert(text_folder, tmp_path: Path) -> Path:
    """A folder of a random BERT that a test may spoil."""
    return Path(shutil.copytree(text_folder("bert"), tmp_path / "bert"))


@pytest.fixture
def bert_tokenizer(text_folder) -> PreTrainedTokenizerFast:
    """The tokenizer of that BERT."""
    tokenizer: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(text_folder("bert"))
    return tokenizer


@pytest.fixture
def sentence_folder(bert: Path) -> Callable[..., Path]:
    """Add what sentence-transformers writes beside that BERT."""

    def write(pooling: dict[str, object], *more: str) -> Path:
        kinds = ["Transformer", "Pooling", *more]
        modules = [
            {"path": f"{at}_{kind}" if at else "", "type": f"sentence_transformers.models.{kind}"}
            for at, kind in enumerate(kinds)
        ]
        (bert / "modules.json").write_text(json.dumps(modules))
        (bert / "1_Pooling").mkdir()
        (bert / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (bert / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
        return bert

    return write


def write_net(folder: Path, kind: str) -> Path:
    tokenizer = tokenizer_of(kind)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModel.from_config(config_of(kind, len(tokenizer))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
