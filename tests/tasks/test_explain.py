"""Explanations of texts: the values add up, and point at the word that decides."""

import numpy as np
import pandas as pd
import pytest
import torch

from mealkit import TextClassifier
from mealkit.data.text_tokens import make_tokenizer
from mealkit.errors import InvalidValueError, UnknownNameError, UnreadableError
from mealkit.tasks import Explanation

NET = "mealkit_tiny_text"


@pytest.fixture(scope="module")
def task() -> TextClassifier:
    things = ("box", "door", "card", "lamp", "book", "chair")
    texts = [f"please {verb} the {thing}" for verb in ("open", "refund") for thing in things]
    task = TextClassifier.from_lists(texts, ["login"] * 6 + ["billing"] * 6, split=0, backbone=NET)
    task.finetune(epochs=8, strategy="full", lr=1e-3, precision="32-true")
    return task


def test_values_add_up_to_what_the_logit_gained(task: TextClassifier) -> None:
    answer = task.explain("please refund the table")
    assert answer.label == "billing"
    assert answer.values.sum() == pytest.approx(answer.gap, rel=0.02)
    assert answer.error < 0.02
    rough = task.explain("please refund the table", steps=2)
    assert rough.error > answer.error


def test_the_gap_is_that_between_the_text_and_padding(task: TextClassifier) -> None:
    text = "please refund the table"
    encoding = make_tokenizer(task.input_spec).encode(text)
    ids = torch.tensor([encoding.ids])
    marks = torch.tensor([encoding.special_tokens_mask]).bool()
    padded = torch.where(marks, ids, task.input_spec.pad_id)
    both = {"input_ids": torch.cat([ids, padded]), "index": torch.arange(2)}
    with torch.no_grad():
        logits = task.eval()({**both, "attention_mask": torch.ones_like(both["input_ids"])})
    for position, label in enumerate(task.classes):
        gap = float(logits[0, position] - logits[1, position])
        assert task.explain(text, label=label).gap == pytest.approx(gap, abs=1e-4)


@pytest.mark.parametrize(("word", "label"), [("refund", "billing"), ("open", "login")])
def test_the_word_that_decides_has_the_highest_value(
    task: TextClassifier, word: str, label: str
) -> None:
    frame = task.explain(f"please {word} the card", label=label).to_frame()
    by_word = frame.assign(piece=frame.piece.str.strip()).groupby("piece").value.sum()
    pieces = [piece for piece in by_word.index if piece in word or word in piece]
    assert by_word.idxmax() in pieces


def test_pieces_together_are_the_text(task: TextClassifier) -> None:
    text = "Please refund the  Table!"
    assert "".join(task.explain(text).pieces) == text


def test_windows_of_a_long_text_are_joined() -> None:
    task = TextClassifier(NET, classes=["a", "b"], max_length=12, long="chunk")
    with torch.no_grad():
        task.head[1].weight.normal_(generator=torch.Generator().manual_seed(0))
    text = "one two three four five six seven eight nine ten eleven twelve thirteen"
    answer = task.explain(text)
    assert "".join(answer.pieces) == text
    assert answer.values.sum() == pytest.approx(answer.gap, rel=0.02, abs=1e-3)


def test_it_is_shown_as_coloured_text() -> None:
    answer = Explanation(("a <b>", " c"), np.array([1.0, -0.5]), "yes", 0.5)
    assert str(answer) == "yes: a <b> c"
    page = answer._repr_html_()
    assert "a &lt;b&gt;</span>" in page
    assert 'title="+1.000"' in page
    assert "rgb(77, 77, 255)" in page
    assert "rgb(255, 166, 166)" in page
    assert isinstance(answer.to_frame(), pd.DataFrame)


def test_what_cannot_be_explained_is_refused(task: TextClassifier) -> None:
    with pytest.raises(UnreadableError, match="an empty text"):
        task.explain(" ")
    with pytest.raises(UnknownNameError, match="no class 'sales'"):
        task.explain("refund me", label="sales")
    with pytest.raises(InvalidValueError, match="steps=1"):
        task.explain("refund me", steps=1)
    with pytest.raises(InvalidValueError, match="steps='3': expected a whole number"):
        task.explain("refund me", steps="3")
