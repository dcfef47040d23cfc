"""The encoder of texts beside an image encoder: its embeddings, and what is refused."""

from __future__ import annotations

import shutil

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModel, AutoTokenizer

from mealkit.backbones.text_tower import text_tower
from mealkit.errors import BackboneError, InvalidValueError, WeightsError

TEXTS = ["a photo of a circle", "square", "a very dark drawing of the large triangle"]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_embeddings_are_those_of_transformers_at_length_one(both_folder, kind: str) -> None:
    folder = both_folder(kind)
    tower = text_tower(folder)
    net, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    # A SigLIP has only seen texts that were filled up to its last place.
    filled = {"siglip": {"padding": "max_length", "max_length": 20}, "clip": {"padding": True}}
    batch = tokenizer(TEXTS, **filled[kind], return_tensors="pt")
    with torch.no_grad():
        output = net.get_text_features(**batch)
    expected = functional.normalize(getattr(output, "pooler_output", output), dim=1)
    torch.testing.assert_close(tower.embed(TEXTS), expected)
    assert tower.scale == pytest.approx(net.logit_scale.exp().item())
    assert tower.bias == (-10 if kind == "siglip" else 0)


def test_many_texts_are_embedded_in_parts(both_folder, monkeypatch) -> None:
    tower = text_tower(both_folder("clip"))
    at_once = tower.embed(TEXTS)
    monkeypatch.setattr("mealkit.backbones.text_tower._ROWS", 2)
    torch.testing.assert_close(tower.embed(TEXTS), at_once)


def test_a_text_that_is_too_long_is_named(both_folder) -> None:
    long = "a photo of a circle " * 4
    with pytest.raises(InvalidValueError, match=r"'a photo .* has 22 tokens.* places for 20"):
        text_tower(both_folder("clip")).embed(["square", long])


@pytest.mark.parametrize("backbone", ["resnet18", nn.Linear(2, 2)])
def test_what_has_no_texts_is_refused(backbone) -> None:
    with pytest.raises(BackboneError, match=r"has no encoder of texts.*Expected a CLIP or a Sig"):
        text_tower(backbone)


def test_an_image_encoder_alone_is_refused(both_folder, tmp_path) -> None:
    AutoModel.from_pretrained(both_folder("clip")).vision_model.save_pretrained(tmp_path)
    with pytest.raises(BackboneError, match=r"has no encoder of texts \(clip_vision_model\)"):
        text_tower(tmp_path)


def test_a_folder_without_a_tokenizer_says_what_to_save(both_folder, tmp_path) -> None:
    folder = shutil.copytree(both_folder("siglip"), tmp_path / "net")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BackboneError, match=r"tokenizer in .* could not be read.*sentencepiece"):
        text_tower(folder)


def test_unreachable_weights_are_an_error() -> None:
    with pytest.raises(WeightsError, match=r"'someone/clip' .* could not be reached"):
        text_tower("someone/clip")
