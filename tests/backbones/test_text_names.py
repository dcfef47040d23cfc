"""Backbones for texts by name, from the hub, from the user and from tasks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from transformers import CanineTokenizer

from mealkit import backbones
from mealkit.backbones.registry import REGISTERED
from mealkit.errors import BackboneError, InvalidValueError, UnknownNameError, WeightsError
from mealkit.specs import ImageDataSpec, TextDataSpec, TextSpec

TEXT = TextDataSpec()
IDS = torch.tensor([[5, 9, 6, 0, 0], [7, 8, 5, 6, 9]])  # those of the fixture `token_batch`
MASK = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


@pytest.fixture
def table():
    before = dict(REGISTERED["text"])
    yield REGISTERED["text"]
    REGISTERED["text"].clear()
    REGISTERED["text"].update(before)


class Net(nn.Module):
    """Answers with the states of tokens or, pooled, with features."""

    def __init__(self, *, pooled: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(400, 6)
        self.pooled = pooled

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        states = self.words(ids)
        return (states * mask.unsqueeze(2)).sum(1) if self.pooled else states


def cached(folder: Path, name: str) -> None:
    """Put a folder where a download of the hub would."""
    place = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    shutil.copytree(folder, place / "snapshots" / "abc123")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc123")


# The hub


def test_unreachable_weights_are_an_error_and_never_random():
    for name in ("distilbert-base-uncased", "transformers/someone/net", "someone/net"):
        with pytest.raises(WeightsError, match=r"hub id .* could not be reached") as caught:
            backbones.create(name, TEXT)
        assert name.rpartition("/")[2] in str(caught.value)


def test_a_hub_id_comes_from_the_cache_without_network(bert, sentence_folder, answer):
    cached(sentence_folder({"pooling_mode_mean_tokens": True}, "Normalize"), "cooks/bert")
    expected = answer(backbones.create(bert, TEXT))
    for name in ("cooks/bert", "transformers/cooks/bert"):
        net = backbones.create(name, TEXT)
        assert (net.config["name"], net.pretrained) == ("cooks/bert", True)
        assert torch.equal(answer(net), expected)
    backbones.rebuild(json.loads(json.dumps(net.config)), net.input_spec, pretrained=True)
    info = backbones.describe("cooks/bert", kind="text")
    assert info.num_parameters == sum(parameter.numel() for parameter in net.parameters())
    assert (info.num_features, info.input, info.licence) == (16, net.input_spec, None)


def test_a_cache_without_weights_serves_random_ones_only(bert):
    (bert / "model.safetensors").unlink()
    (bert / "pytorch_model.bin").write_bytes(b"never read")
    cached(bert, "cooks/empty")
    with pytest.raises(
        WeightsError, match=r"'cooks/empty' .*no model\.safetensors.*pretrained=False"
    ):
        backbones.create("cooks/empty", TEXT)
    assert not backbones.create("cooks/empty", TEXT, pretrained=False).pretrained


def test_the_hub_is_asked_for_safetensors_and_nothing_that_runs(text_folder, monkeypatch):
    asked = []

    def download(name, *, allow_patterns):
        asked.append((name, allow_patterns))
        return str(text_folder("distilbert"))

    monkeypatch.setattr("mealkit.backbones.hub.snapshot_download", download)
    net = backbones.create("distilbert-base-uncased", TEXT)
    assert net.config["name"] == "distilbert/distilbert-base-uncased"
    assert [name for name, _ in asked] == ["distilbert/distilbert-base-uncased"] * 2
    assert "model.safetensors" not in asked[0][1]
    assert "model.safetensors" in asked[1][1]
    assert not [p for _, patterns in asked for p in patterns if p.endswith((".py", ".bin", "*"))]


def test_a_folder_goes_before_a_hub_id(bert, monkeypatch):
    monkeypatch.chdir(bert.parent.parent)
    name = f"{bert.parent.name}/bert"
    assert backbones.create(name, TEXT).config["name"] is None
    monkeypatch.chdir(bert.parent)
    bert.rename("distilbert-base-uncased")
    assert backbones.create("distilbert-base-uncased", TEXT).config["name"] is None


# Names


def test_find_and_describe_know_encoders_without_asking_the_hub():
    found = backbones.find("*minilm-l6*", kind="text") + backbones.find("*MiniLM-L6*", kind="text")
    assert found == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert backbones.find("distilbert-base*", kind="text", pretrained=True) == [
        "distilbert/distilbert-base-cased",
        "distilbert/distilbert-base-uncased",
    ]
    info = backbones.describe("distilbert-base-uncased")
    assert (info.name, info.kind) == ("distilbert/distilbert-base-uncased", "text")
    assert (info.num_parameters, info.num_features) == (66_362_880, 768)
    assert (info.input.max_length, info.licence) == (512, "apache-2.0")
    assert "max_length=512" in str(info)


def test_a_misspelt_name_gets_the_nearest():
    with pytest.raises(UnknownNameError, match=r"mean 'distilbert-base-uncased'"):
        backbones.create("distilbert-base-uncaesd", TEXT)
    with pytest.raises(UnknownNameError, match=r"There is no folder and no backbone '\./nowhere'"):
        backbones.create("./nowhere", TEXT)
    with pytest.raises(UnknownNameError, match="'torchvision/resnet18'"):
        backbones.describe("torchvision/resnet81")


def test_a_registered_net_is_found_created_and_rebuilt(table, bert_tokenizer, tmp_path, answer):
    source = Net()
    save_file({"words.weight": source.words.weight.half()}, tmp_path / "soup.safetensors")
    inner = bert_tokenizer.backend_tokenizer.to_str()
    spec = TextSpec(tokenizer=inner, pad_id=0, max_length=32)

    @backbones.register("soup.v1", input=spec, weights=tmp_path / "soup.safetensors", licence="MIT")
    def soup(pooled: bool = False) -> nn.Module:
        return Net(pooled=pooled)

    assert backbones.find("soup*", kind="text") == ["soup", "soup.v1"]
    net = backbones.create("soup", TEXT)
    assert torch.equal(net.net.words.weight, source.words.weight.half().float())
    torch.testing.assert_close(answer(net)[0], net.net.words.weight[IDS[0, :3]].mean(0))
    info = backbones.describe("soup")
    assert (info.num_parameters, info.num_features, info.licence) == (2400, 6, "MIT")
    last = backbones.create("soup", TEXT, options={"pooling": "last"})
    assert torch.equal(answer(last), net.net.words.weight[torch.tensor([6, 9])])
    again = backbones.rebuild(last.config, last.input_spec, pretrained=True)
    again.load_state_dict(last.state_dict())
    assert torch.equal(answer(again), answer(last))
    with pytest.raises(BackboneError, match=r"pooling='cls' would change nothing"):
        backbones.create("soup", TEXT, options={"pooled": True, "pooling": "cls"})


# Modules


@pytest.mark.parametrize("form", ["object", "inner object", "text", "path"])
def test_a_module_takes_its_tokenizer_in_any_form(bert, bert_tokenizer, form):
    inner = bert_tokenizer.backend_tokenizer
    forms = {
        "object": bert_tokenizer,
        "inner object": inner,
        "text": inner.to_str(),
        "path": bert / "tokenizer.json",
    }
    more = {} if form == "object" else {"pad_id": 3, "max_length": 48}
    net = backbones.create(Net(), TEXT, preprocessing={"tokenizer": forms[form], **more})
    spec = net.input_spec
    assert (spec.pad_id, spec.max_length) == ((3, 48) if more else (0, 128))
    code = Tokenizer.from_str(spec.tokenizer).encode("Boil it")
    assert code.ids == bert_tokenizer("Boil it")["input_ids"]
    assert (net.num_features, net.pretrained) == (6, False)


def test_a_module_without_a_tokenizer_says_how_to_give_one(bert_tokenizer):
    with pytest.raises(InvalidValueError, match=r"'tokenizer' is not known.*preprocessing={'toke"):
        backbones.create(Net(), TEXT)
    inner = {"tokenizer": bert_tokenizer.backend_tokenizer}
    with pytest.raises(InvalidValueError, match=r"'pad_id' is not known"):
        backbones.create(Net(), TEXT, preprocessing=inner)
    with pytest.raises(InvalidValueError, match=r"'max_length' is not known"):
        backbones.create(Net(), TEXT, preprocessing={**inner, "pad_id": 0})
    for wrong in ("no/such/file.json", '{"model": 3}'):
        with pytest.raises(InvalidValueError, match="There is no tokenizer in"):
            backbones.create(Net(), TEXT, preprocessing={"tokenizer": wrong})
    with pytest.raises(InvalidValueError, match=r"tokenizer='3' is a int"):
        backbones.create(Net(), TEXT, preprocessing={"tokenizer": 3})


def test_a_tokenizer_written_in_python_is_refused():
    given = {"tokenizer": CanineTokenizer()}
    with pytest.raises(BackboneError, match="CanineTokenizer is a tokenizer written in Python"):
        backbones.create(Net(), TEXT, preprocessing=given)


def test_a_module_may_pool_by_itself(bert_tokenizer, answer):
    net = backbones.create(Net(pooled=True), TEXT, preprocessing={"tokenizer": bert_tokenizer})
    torch.testing.assert_close(answer(net)[0], net.net.words.weight[IDS[0, :3]].sum(0))
    with pytest.raises(BackboneError, match=r"no unpooled features: it answers with \(2, 6\)"):
        net.states(IDS, MASK)
    with pytest.raises(InvalidValueError, match="already built"):
        backbones.create(Net(), TEXT, options={"pooling": "cls"})


def test_a_module_that_takes_or_answers_something_else_is_refused(bert_tokenizer):
    given = {"tokenizer": bert_tokenizer}
    with pytest.raises(BackboneError, match=r"cannot be run on input_ids, attention_mask of shape"):
        backbones.create(nn.Embedding(400, 6), TEXT, preprocessing=given)

    class Flat(Net):
        def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            return super().forward(ids, mask).flatten()

    with pytest.raises(BackboneError, match=r"answers with \(24,\)\. Expected one tensor"):
        backbones.create(Flat(), TEXT, preprocessing=given)


def test_a_module_that_tells_texts_apart_gets_their_types(bert_tokenizer):
    class Typed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(400, 6)

        def forward(self, ids, mask, types):
            return self.words(ids) + types.unsqueeze(2)

    given = {"tokenizer": bert_tokenizer, "type_ids": True}
    net = backbones.create(Typed(), TEXT, preprocessing=given)
    assert net.inputs == ("input_ids", "attention_mask", "token_type_ids")
    types = torch.zeros_like(IDS)
    zero, one = net(IDS, MASK, types), net(IDS, MASK, types + 1)
    torch.testing.assert_close(one, zero + 1)


# Saved tasks, tasks, and backbones of another kind


@pytest.fixture
def task_folder(bert, tmp_path):
    """What a saved task looks like to a backbone."""
    net = backbones.create(bert, TEXT, options={"pooling": "cls"}, preprocessing={"max_length": 16})
    folder = tmp_path / "task"
    folder.mkdir()
    state = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
    save_file({**state, "head.weight": torch.zeros(2, 16)}, folder / "model.safetensors")
    for file, content in net.input_spec.files().items():
        (folder / file).write_text(content, encoding="utf-8")
    entry = {"config": net.config, "input": net.input_spec.to_json(), "pretrained": True}
    (folder / "task.json").write_text(json.dumps({"format": 1, "backbone": entry}))
    return folder, net


def test_a_saved_task_is_a_backbone(task_folder, answer):
    folder, net = task_folder
    again = backbones.create(folder, TEXT)
    assert (again.pretrained, again.input_spec) == (True, net.input_spec)
    assert torch.equal(answer(again), answer(net))
    mean = backbones.create(folder, TEXT, options={"pooling": "mean"})
    assert mean.config["pooling"] == "mean"
    assert not torch.allclose(answer(mean), answer(net))


def test_the_weights_of_a_saved_task_go_into_another(task_folder, text_folder, answer):
    folder, net = task_folder
    torch.manual_seed(5)
    again = backbones.create(text_folder("bert"), TEXT, weights=folder, options={"pooling": "cls"})
    assert torch.equal(answer(again), answer(net))


def test_a_task_is_a_backbone_and_is_copied(task_folder, answer):
    _, net = task_folder
    task = SimpleNamespace(backbone=net)
    for copy in (
        backbones.create(task, TEXT),
        backbones.create(task, TEXT, preprocessing={"long": "chunk"}),
    ):
        assert copy.net is not net.net
        assert copy.pretrained
        assert torch.equal(answer(copy), answer(net))
    assert copy.input_spec == net.input_spec.replace({"long": "chunk"})
    assert backbones.create(net, TextDataSpec(text=("first", "second"))) is net


def test_a_backbone_of_another_kind_is_refused(task_folder):
    folder, net = task_folder
    image = backbones.create("mealkit_tiny", pretrained=False)
    for what in (folder, net, SimpleNamespace(backbone=net)):
        with pytest.raises(BackboneError, match="for text was given where one for image is"):
            backbones.create(what, ImageDataSpec())
    with pytest.raises(BackboneError, match="for image was given where one for text is"):
        backbones.create(SimpleNamespace(backbone=image), TEXT)
