"""What may be called a backbone for texts, and what is refused with which words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer, T5Config

from mealkit import backbones
from mealkit.backbones.text_pooling import POOLINGS
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError, WeightsError
from mealkit.specs import TextDataSpec

TEXT = TextDataSpec()
IDS = torch.tensor([[5, 9, 6, 0, 0], [7, 8, 5, 6, 9]])  # those of the fixture `token_batch`
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def reference(folder: Path) -> torch.Tensor:
    net = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        return net(input_ids=IDS, attention_mask=MASK).last_hidden_state


# Folders


def test_a_folder_is_a_backbone_with_its_own_weights(bert, answer):
    net = backbones.create(str(bert), TEXT)
    state = AutoModel.from_pretrained(bert).state_dict()
    own = net.net.state_dict()
    assert own.keys() == {name for name in state if not name.startswith("pooler.")}
    assert all(torch.equal(value, state[name]) for name, value in own.items())
    assert (net.pretrained, net.num_features) == (True, 16)
    torch.testing.assert_close(answer(net)[1], reference(bert)[1].mean(0))


def test_random_weights_are_only_for_who_asks(bert):
    torch.manual_seed(1)
    net = backbones.create(bert, TEXT, pretrained=False)
    assert not net.pretrained
    trained = backbones.create(bert, TEXT)
    assert not torch.equal(
        net.net.embeddings.word_embeddings.weight, trained.net.embeddings.word_embeddings.weight
    )


def test_the_folder_is_not_needed_again(bert, sentence_folder, answer):
    net = backbones.create(sentence_folder({"pooling_mode_cls_token": True}), TEXT)
    config = json.loads(json.dumps(net.config))
    shutil.rmtree(bert)
    again = backbones.rebuild(config, net.input_spec, pretrained=True)
    again.load_state_dict(net.state_dict())
    assert torch.equal(answer(again), answer(net))
    assert str(bert) not in json.dumps(config)
    assert "tokenizer" not in config  # it is in the spec, and saved once


def test_half_precision_becomes_single(bert):
    halves = {name: t.half() for name, t in load_file(bert / "model.safetensors").items()}
    save_file(halves, bert / "model.safetensors", metadata={"format": "pt"})
    net = backbones.create(bert, TEXT)
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}
    name = "embeddings.word_embeddings.weight"
    assert torch.equal(net.net.state_dict()[name], halves[name].float())


@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("bert", "BertForPreTraining"),
        ("bert", "BertForTokenClassification"),
        ("distilbert", "DistilBertForMaskedLM"),
        ("distilbert", "DistilBertForSequenceClassification"),
        ("roberta", "RobertaForMaskedLM"),
        ("roberta", "RobertaForQuestionAnswering"),
        ("deberta-v2", "DebertaV2ForMaskedLM"),
        ("deberta-v2", "DebertaV2ForSequenceClassification"),
        ("modernbert", "ModernBertForMaskedLM"),
        ("modernbert", "ModernBertForSequenceClassification"),
        ("gpt2", "GPT2LMHeadModel"),
        ("llama", "LlamaForCausalLM"),
        ("qwen2", "Qwen2ForSequenceClassification"),
    ],
)
def test_heads_are_left_out(text_folder, tmp_path, kind, head, answer):
    """Of the net's own folder, and of a file of weights for it."""
    own = text_folder(kind)
    folder = Path(shutil.copytree(own, tmp_path / "net"))
    model = getattr(transformers, head)
    config = transformers.AutoConfig.from_pretrained(own)
    if config.pad_token_id is None:  # a decoder's classifier looks for it
        config.pad_token_id = 0
    torch.manual_seed(3)
    model(config).save_pretrained(folder)
    net = backbones.create(folder, TEXT)
    other = backbones.create(own, TEXT, weights=folder / "model.safetensors")
    assert torch.equal(answer(net), answer(other))
    states = reference(folder)
    pooled = states[0, 2] if kind in ("gpt2", "llama", "qwen2") else states[0, :3].mean(0)
    torch.testing.assert_close(answer(net)[0], pooled)
    assert not torch.allclose(answer(net), answer(backbones.create(own, TEXT)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda state: state.pop("encoder.layer.0.output.dense.weight"),
            r"1 missing \(encoder\.layer\.0\.output\.dense\.weight\)",
        ),
        (lambda state: state.update(spice=torch.ones(1)), r"1 unexpected \(spice\)"),
        (
            lambda state: state.update({"embeddings.LayerNorm.weight": torch.ones(5)}),
            r"1 misshapen \(embeddings\.LayerNorm\.weight",
        ),
    ],
)
@pytest.mark.parametrize("given", [False, True], ids=["folder", "file"])
def test_tensors_that_do_not_fit_are_named(bert, text_folder, change, said, given):
    state = load_file(bert / "model.safetensors")
    change(state)
    save_file(state, bert / "model.safetensors", metadata={"format": "pt"})
    weights = bert / "model.safetensors" if given else None
    with pytest.raises(WeightsError, match=said):
        backbones.create(text_folder("bert") if given else bert, TEXT, weights=weights)


def test_a_folder_without_weights_says_so_unless_random_ones_are_asked_for(bert):
    (bert / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no weights in .*model\.safetensors"):
        backbones.create(bert, TEXT)
    assert not backbones.create(bert, TEXT, pretrained=False).pretrained


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(BackboneError, match=r"no folder of a backbone.*'model_type', a tokenizer"):
        backbones.create(tmp_path, TEXT)


def test_nets_of_two_halves_are_refused(text_folder, bert):
    small = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2}
    T5Config(**small, vocab_size=300).save_pretrained(bert)
    with pytest.raises(BackboneError, match=r"an encoder with a decoder \(t5\)"):
        backbones.create(bert, TEXT, pretrained=False)


def test_nothing_of_transformers_is_printed(bert, capsys):
    model = transformers.BertForMaskedLM(transformers.AutoConfig.from_pretrained(bert))
    model.save_pretrained(bert)
    capsys.readouterr()
    backbones.create(bert, TEXT)
    out = capsys.readouterr()
    assert (out.out, out.err) == ("", "")


# Tokenizers


def test_a_folder_without_a_tokenizer_says_what_to_save(bert):
    (bert / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match=r"no tokenizer in .*tokenizer\.save_pretrained"):
        backbones.create(bert, TEXT)


def test_a_damaged_tokenizer_is_named(bert):
    (bert / "tokenizer.json").write_text('{"version": "1.0"')
    with pytest.raises(BackboneError, match=r"tokenizer in .* could not be read"):
        backbones.create(bert, TEXT)


def test_a_tokenizer_that_knows_more_than_the_net_is_refused(bert):
    with pytest.raises(BackboneError, match=r"tokenizer knows \d+ tokens and .* only 20\."):
        backbones.create(bert, TEXT, pretrained=False, options={"vocab_size": 20})


def test_padding_that_the_net_does_not_know_is_refused(bert):
    with pytest.raises(InvalidValueError, match=r"pad_id=9999 is none of the \d+ tokens"):
        backbones.create(bert, TEXT, preprocessing={"pad_id": 9999})


def test_cutting_and_filling_up_are_taken_off(bert, bert_tokenizer):
    inner = Tokenizer.from_file(str(bert / "tokenizer.json"))
    inner.enable_truncation(4)
    inner.enable_padding(length=50)
    inner.save(str(bert / "tokenizer.json"))
    spec = backbones.create(bert, TEXT).input_spec
    text = "Boil the potatoes for twenty minutes."
    expected = bert_tokenizer(text)["input_ids"]
    assert 4 < len(expected) < 50
    assert Tokenizer.from_str(spec.tokenizer).encode(text).ids == expected


def test_length_is_the_least_of_tokenizer_net_and_512(bert):
    def length() -> int:
        return backbones.create(bert, TEXT, pretrained=False).input_spec.max_length

    assert length() == 64  # the net's places
    settings = json.loads((bert / "tokenizer_config.json").read_text())
    (bert / "tokenizer_config.json").write_text(json.dumps({**settings, "model_max_length": 40}))
    assert length() == 40
    (bert / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 24}))
    assert length() == 24
    (bert / "sentence_bert_config.json").unlink()
    (bert / "tokenizer_config.json").write_text(
        json.dumps({**settings, "model_max_length": 10**30})
    )
    config = json.loads((bert / "config.json").read_text())
    (bert / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    assert length() == 512


def test_preprocessing_can_be_overridden_as_far_as_the_net_reaches(bert):
    changed = {"max_length": 32, "long": "chunk"}
    spec = backbones.create(bert, TEXT, preprocessing=changed).input_spec
    assert (spec.max_length, spec.long, spec.pad_id) == (32, "chunk", 0)
    with pytest.raises(InvalidValueError, match=r"max_length=65 is more than the 64 tokens"):
        backbones.create(bert, TEXT, preprocessing={"max_length": 65})
    with pytest.raises(UnknownNameError, match="'max_length'"):
        backbones.create(bert, TEXT, preprocessing={"max_lenght": 32})


def test_places_that_roberta_never_uses_do_not_count(text_folder):
    with pytest.raises(InvalidValueError, match=r"max_length=65 is more than the 64 tokens"):
        backbones.create(text_folder("roberta"), TEXT, preprocessing={"max_length": 65})


# Pooling


def test_poolings_leave_padding_out():
    states = torch.arange(20.0).reshape(2, 5, 2)
    states[0, 3:] = float("nan")  # what some kinds of attention leave where nothing is looked at
    expected = {
        "cls": [[0, 1], [10, 11]],
        "mean": [[2, 3], [14, 15]],
        "last": [[4, 5], [18, 19]],
    }
    assert {name: pool(states, MASK).tolist() for name, pool in POOLINGS.items()} == expected


@pytest.mark.parametrize(("kind", "place"), [("bert", None), ("qwen2", 2)])
def test_encoders_are_averaged_and_decoders_read_to_the_end(text_folder, kind, place, answer):
    states = reference(text_folder(kind))[0]
    net = backbones.create(text_folder(kind), TEXT)
    assert net.config["pooling"] == ("mean" if place is None else "last")
    expected = states[:3].mean(0) if place is None else states[place]
    torch.testing.assert_close(answer(net)[0], expected)


def test_pooling_is_an_option_and_recorded(bert, answer):
    net = backbones.create(bert, TEXT, options={"pooling": "cls"})
    assert (net.config["pooling"], net.config["options"]) == ("cls", {})
    torch.testing.assert_close(answer(net), reference(bert)[:, 0])
    with pytest.raises(UnknownNameError, match=r"no pooling 'max'.*'mean'"):
        backbones.create(bert, TEXT, options={"pooling": "max"})


@pytest.mark.parametrize(
    ("flag", "mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode": "lasttoken"}, "last"),
    ],
)
def test_a_folder_of_sentence_transformers_pools_as_it_says(
    bert, flag, mode, sentence_folder, answer
):
    net = backbones.create(sentence_folder(flag, "Normalize"), TEXT)
    assert net.input_spec.max_length == 24
    expected = functional.normalize(POOLINGS[mode](reference(bert), MASK), dim=1)
    torch.testing.assert_close(answer(net), expected)
    plain = backbones.create(bert, TEXT, options={"pooling": mode})
    torch.testing.assert_close(functional.normalize(answer(plain), dim=1), expected)
    assert not torch.allclose(answer(plain), expected)


def test_pooling_that_is_not_known_says_which_are(sentence_folder):
    folder = sentence_folder({"pooling_mode_max_tokens": True})
    with pytest.raises(BackboneError, match=r"by pooling_mode_max_tokens.*cls, mean, last"):
        backbones.create(folder, TEXT)
    assert backbones.create(folder, TEXT, options={"pooling": "mean"}).config["pooling"] == "mean"


def test_further_layers_of_sentence_transformers_are_refused_not_dropped(sentence_folder):
    folder = sentence_folder({"pooling_mode_mean_tokens": True}, "Dense")
    with pytest.raises(BackboneError, match=r"not read here: Dense.*options={'pooling': 'mean'}"):
        backbones.create(folder, TEXT)


def test_options_are_values_of_transformers_config(bert):
    options = {"num_hidden_layers": 2, "hidden_dropout_prob": 0.0}
    net = backbones.create(bert, TEXT, pretrained=False, options=options)
    assert len(net.blocks) == 2
    assert net.config["options"] == options
    with pytest.raises(BackboneError, match=r"option 'spiciness'.*BertConfig"):
        backbones.create(bert, TEXT, pretrained=False, options={"spiciness": 3})


@pytest.mark.real
def test_the_shared_sentence_encoder_gives_its_own_embeddings(shared):
    folder = shared / "models" / "all-MiniLM-L6-v2"
    net = backbones.create(folder, TEXT).eval()
    spec = net.input_spec
    assert (net.num_features, spec.max_length, spec.pad_id, len(net.blocks)) == (384, 256, 0, 6)
    texts = ["I am still waiting on my card?", "The café's naïve soufflé rose — 漢字 🍲!", ""]
    theirs = AutoTokenizer.from_pretrained(folder)
    batch = theirs(texts, padding=True, return_tensors="pt")
    codes = Tokenizer.from_str(spec.tokenizer).encode_batch(texts)
    assert [code.ids for code in codes] == theirs(texts)["input_ids"]
    reference = AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        features = net(*(batch[name] for name in net.inputs))
        states = reference(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(2)
    expected = functional.normalize((states * mask).sum(1) / mask.sum(1), dim=1)
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=0)
