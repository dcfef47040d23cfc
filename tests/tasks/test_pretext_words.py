"""Texts through the same class: hidden words, and a hand-off to TextClassifier."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mealkit
from mealkit import SSLPretrainer, TextClassifier, TextData
from mealkit.errors import BackboneError, InvalidValueError, NoDataError
from mealkit.tasks import MLM


@pytest.fixture
def pre(tickets: list[tuple[str, str]]) -> SSLPretrainer:
    texts = [text for text, _ in tickets]
    return SSLPretrainer.from_texts(texts, backbone="mealkit_tiny_text")


def test_guessing_words_gets_better_and_moves_the_backbone(pre: SSLPretrainer) -> None:
    before = {n: p.clone() for n, p in pre.backbone.named_parameters()}
    assert pre.backbone.pretrained
    history = pre.pretrain(epochs=6, lr=2e-3)
    assert history.rows[-1]["train/loss"] < history.rows[0]["train/loss"] - 0.3
    assert {"embedding/spread", "embedding/rank"} <= set(history.rows[0])
    moved = [n for n, p in pre.backbone.named_parameters() if not torch.equal(p, before[n])]
    assert len(moved) > len(before) / 2


def test_the_hand_off_is_equal_bit_for_bit(
    pre: SSLPretrainer, tickets: list[tuple[str, str]], tmp_path: Path
) -> None:
    pre.pretrain(epochs=1)
    texts, labels = zip(*tickets, strict=True)
    values = pre.embed(list(texts)).values
    again = mealkit.load(pre.save(tmp_path / "pre"))
    assert np.array_equal(again.embed(list(texts)).values, values)
    for given in (pre, str(tmp_path / "pre"), pre.backbone):
        task = TextClassifier.from_lists(list(texts), list(labels), backbone=given)
        assert np.array_equal(task.embed(list(texts)).values, values)


def test_features_are_probed_and_evaluated(
    pre: SSLPretrainer, tickets: list[tuple[str, str]]
) -> None:
    texts, labels = zip(*tickets, strict=True)
    data = TextData.from_lists(list(texts), list(labels), split=0.5)
    history = pre.pretrain(epochs=1, probe=data)
    assert 0 <= history.rows[0]["untrained/knn"] <= 1
    assert history.rows[0]["probe/linear"] > 0.5
    found = pre.evaluate(data, protocol=["linear", "finetune"], epochs=1)
    assert {score.backbone for score in found.scores} == {"pretrained", "untrained"}


def test_tables_and_their_columns(kitchen: Path) -> None:
    pre = SSLPretrainer.from_texts("tickets.csv", text="message", backbone="mealkit_tiny_text")
    assert len(pre.data.train) == 48
    frame = pd.DataFrame({"message": ["one text of some words", None, "another one of four"]})
    pre = SSLPretrainer.from_texts(frame, text="message", backbone="mealkit_tiny_text")
    assert len(pre.pretrain(epochs=1)) == 1
    assert len(pre.embed(frame.dropna(), text="message")) == 2


def test_what_does_not_fit_is_an_error(pre: SSLPretrainer, photos: Path) -> None:
    with pytest.raises(NoDataError, match="Not one of the texts"):
        SSLPretrainer.from_texts(["", " "], backbone="mealkit_tiny_text")
    with pytest.raises(NoDataError, match=r"not one\. Give at least 7"):
        SSLPretrainer.from_texts(["two words"], backbone="mealkit_tiny_text").pretrain(epochs=1)
    with pytest.raises(InvalidValueError, match=r"share=1\.5"):
        MLM(share=1.5)
    with pytest.raises(BackboneError, match="for text was given where one for image is needed"):
        SSLPretrainer(pre, method="simclr")
    with pytest.raises(BackboneError, match="guesses words, and the backbone reads image"):
        SSLPretrainer(SSLPretrainer("mealkit_tiny").backbone, method="mlm")
    with pytest.raises(BackboneError, match="Its methods are: mlm"):
        SSLPretrainer(pre.backbone, method="byol")
    with pytest.raises(InvalidValueError, match="size=32: of pictures; these are texts"):
        SSLPretrainer("mealkit_tiny_text", method="mlm", size=32)
    with pytest.raises(InvalidValueError, match="image='path' names a column of pictures"):
        pre.embed(["a text"], image="path")
    with pytest.raises(InvalidValueError, match="text='path' names a column of texts"):
        SSLPretrainer("mealkit_tiny").embed(photos / "test", text="path")
    with pytest.raises(InvalidValueError, match="reads texts without labels, got UnlabelledImages"):
        pre.pretrain(SSLPretrainer.from_folder(photos, backbone="mealkit_tiny").data)
