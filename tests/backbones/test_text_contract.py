"""What every backbone for texts promises, over one of each sort, built without network."""

from __future__ import annotations

import json

import pytest
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoTokenizer

from mealkit import backbones
from mealkit.errors import BackboneError
from mealkit.specs import InputSpec, TextDataSpec

ENCODERS = ["bert", "distilbert", "roberta", "deberta-v2", "modernbert"]
DECODERS = ["gpt2", "llama", "qwen2"]
NAMES = [*ENCODERS, *DECODERS, "module", "mealkit_tiny_text"]
TEXTS = ["Boil the potatoes.", "Don't open the oven: the soufflé won't rise, and then?"]
TRICKY = [
    *TEXTS,
    "",
    "  two  spaces\tand a tab\n",
    "Crème Brûlée — 180°, 漢字 and 🍲!",
    "[MASK] <s> </s> [SEP] <|endoftext|>",
    "pot\u200bato \u00a0 e\u0301",
    "unbelievably" * 20,
]


class Net(nn.Module):
    """What a user would bring."""

    def __init__(self, num_tokens: int) -> None:
        super().__init__()
        self.words = nn.Embedding(num_tokens, 12)
        self.layers = nn.Sequential(
            nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Dropout(0.1)),
            nn.Sequential(nn.Linear(12, 12), nn.GELU(), nn.Dropout(0.1)),
        )

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.layers(self.words(ids))


@pytest.fixture(scope="session")
def built(text_folder):
    made = {
        name: backbones.create(text_folder(name), TextDataSpec()).eval()
        for name in (*ENCODERS, *DECODERS)
    }
    tokenizer = Tokenizer.from_str(made["bert"].input_spec.tokenizer)
    made["module"] = backbones.create(
        Net(tokenizer.get_vocab_size()),
        TextDataSpec(),
        preprocessing={"tokenizer": tokenizer, "pad_id": 0, "max_length": 32},
    ).eval()
    made["mealkit_tiny_text"] = backbones.create("mealkit_tiny_text", TextDataSpec()).eval()
    return made


@pytest.fixture(params=NAMES)
def backbone(request, built):
    return built[request.param]


def tokens(backbone: backbones.Backbone, texts: list[str], *, more: int = 0) -> list[torch.Tensor]:
    """Make a batch as the data will: tokens of the spec's tokenizer, filled up on the right."""
    spec = backbone.input_spec
    coded = Tokenizer.from_str(spec.tokenizer).encode_batch(texts)
    length = max(len(code.ids) for code in coded) + more
    rows = {
        "input_ids": [code.ids + [spec.pad_id] * (length - len(code.ids)) for code in coded],
        "attention_mask": [[1] * len(code.ids) + [0] * (length - len(code.ids)) for code in coded],
        "token_type_ids": [code.type_ids + [0] * (length - len(code.ids)) for code in coded],
    }
    return [torch.tensor(rows[name]) for name in backbone.inputs]


def test_features_have_the_promised_length_and_depend_on_the_text(backbone):
    with torch.no_grad():
        features = backbone(*tokens(backbone, TEXTS))
    assert features.shape == (2, backbone.num_features)
    assert torch.isfinite(features).all()
    assert not torch.allclose(features[0], features[1])


def test_states_are_those_of_all_tokens(backbone):
    batch = tokens(backbone, TEXTS)
    with torch.no_grad():
        states = backbone.states(*batch)
    assert states.shape == (*batch[0].shape, backbone.num_features)


def test_features_do_not_depend_on_padding(backbone):
    """Alone, beside a longer text, and with padding beyond the reach of local attention."""
    with torch.no_grad():
        alone = torch.cat([backbone(*tokens(backbone, [text])) for text in TEXTS])
        together = backbone(*tokens(backbone, TEXTS))
        filled = backbone(*tokens(backbone, TEXTS, more=20))
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    torch.testing.assert_close(filled, alone, atol=1e-5, rtol=0)


def test_a_text_without_tokens_has_finite_features(backbone):
    batch = [torch.zeros(2, 3, dtype=torch.long) for _ in backbone.inputs]
    batch[1][1] = 1
    with torch.no_grad():
        features = backbone(*batch)
        alone = backbone(*(tensor[1:] for tensor in batch))
    assert torch.isfinite(features).all()
    torch.testing.assert_close(features[1:], alone, atol=1e-5, rtol=0)


def test_blocks_have_each_parameter_once_from_input_to_output(backbone):
    blocks = backbone.blocks
    named = [name for block in blocks for name in block.parameters]
    assert sorted(named) == sorted(name for name, _ in backbone.named_parameters())
    assert len(blocks) == (3 if backbone.config["source"] == "transformers" else 2)
    for path, module in backbone.named_modules():
        if isinstance(module, nn.Embedding):
            assert f"{path}.weight" in blocks[0].parameters


def test_a_block_is_a_layer(built):
    """The layers' numbers in the names of the parameters, block by block."""
    for name in (*ENCODERS, *DECODERS):
        for index, block in enumerate(built[name].blocks):
            numbers = {part for path in block.parameters for part in path.split(".")[2:5]}
            assert {part for part in numbers if part.isdigit()} == {str(index)}, name


def test_each_mode_belongs_to_one_block(backbone):
    modules = [id(module) for block in backbone.blocks for module in block.modules]
    assert len(modules) == len(set(modules))
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Dropout):
            assert id(module) in modules, name


def test_the_gradient_of_features_reaches_every_block(backbone):
    backbone.zero_grad()
    (backbone(*tokens(backbone, TEXTS)) ** 3).sum().backward()
    named = dict(backbone.named_parameters())
    for block in backbone.blocks:
        gradients = [named[name].grad for name in block.parameters]
        assert any(g is not None and g.abs().sum() > 0 for g in gradients), block.name
    backbone.zero_grad()


def test_rebuilt_from_json_it_answers_the_same(backbone, tmp_path):
    config = json.loads(json.dumps(backbone.config))
    for file, content in backbone.input_spec.files().items():
        (tmp_path / file).write_text(content, encoding="utf-8")
    spec = InputSpec.from_json(json.loads(json.dumps(backbone.input_spec.to_json())), tmp_path)
    assert spec == backbone.input_spec
    if config["source"] == "module":
        with pytest.raises(BackboneError, match=r"Pass the module: mealkit\.load\(folder, backb"):
            backbones.rebuild(config, spec, pretrained=True)
        return
    again = backbones.rebuild(config, spec, pretrained=True).eval()
    again.load_state_dict(backbone.state_dict())
    assert (again.pretrained, again.num_features) == (True, backbone.num_features)
    assert again.inputs == backbone.inputs
    with torch.no_grad():
        batch = tokens(backbone, TEXTS)
        assert torch.equal(again(*batch), backbone(*batch))


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_tokens_are_those_of_transformers(built, text_folder, name):
    reference = AutoTokenizer.from_pretrained(text_folder(name))
    spec = built[name].input_spec
    tokenizer = Tokenizer.from_str(spec.tokenizer)
    assert (tokenizer.truncation, tokenizer.padding) == (None, None)
    for first, second in zip(TRICKY, TRICKY[1:] + TRICKY[:1], strict=True):
        assert tokenizer.encode(first).ids == reference(first)["input_ids"]
        # As a batch: of a single pair, transformers forgets a second text that is empty.
        pair, expected = tokenizer.encode(first, second), reference([first], [second])
        assert [pair.ids] == expected["input_ids"]
        if spec.type_ids:
            assert [pair.type_ids] == expected["token_type_ids"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bert", (0, 64, True)),
        ("distilbert", (0, 64, False)),
        ("roberta", (1, 64, False)),
        ("deberta-v2", (0, 64, False)),
        ("modernbert", (0, 64, False)),
        ("gpt2", (0, 64, False)),  # padding is the end of text, which is token 0
        ("module", (0, 32, False)),
    ],
)
def test_the_spec_says_padding_length_and_types(built, name, expected):
    spec = built[name].input_spec
    assert (spec.pad_id, spec.max_length, spec.type_ids) == expected
    assert built[name].inputs[2:] == (("token_type_ids",) if spec.type_ids else ())


@pytest.mark.parametrize("name", [*ENCODERS, *DECODERS])
def test_texts_of_the_greatest_length_fit_the_net(built, name):
    backbone = built[name]
    length = backbone.input_spec.max_length
    ids = torch.full((1, length), 7)
    batch = {"attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    with torch.no_grad():
        features = backbone(*(batch.get(entry, ids) for entry in backbone.inputs))
    assert torch.isfinite(features).all()
