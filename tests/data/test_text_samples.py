"""Texts become tokens: once, padded to their batch, cut or in windows, and never silently."""

import logging

import pytest
import torch

from mealkit.data import TextSamples, text_samples
from mealkit.data.text_samples import examine_text
from mealkit.errors import InvalidValueError
from mealkit.specs import ImageSpec, TextSpec


def make(texts: list, spec: TextSpec, **more) -> TextSamples:
    samples = TextSamples(texts, ids=[f"row {row}" for row in range(len(texts))], **more)
    samples.prepare(spec)
    return samples


def test_a_batch_is_padded_to_its_longest_text(words: TextSpec) -> None:
    samples = make(["a b", "c", "a b c d e"], words, targets=torch.tensor([1, 0, 1]))
    batch = samples.__getitems__([1, 0])
    assert batch["input_ids"].tolist() == [[2, 6, 3, 0], [2, 4, 5, 3]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert batch["index"].tolist() == [1, 0]
    assert batch["target"].tolist() == [0, 1]
    assert "piece_of" not in batch
    assert samples.lengths.tolist() == [4, 3, 7]


def test_pairs_are_told_apart(words: TextSpec) -> None:
    batch = make([("a b", "c"), ("d", "e")], words).__getitems__([0, 1])
    assert batch["input_ids"].tolist() == [[2, 4, 5, 3, 6, 3], [2, 7, 3, 8, 3, 0]]
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0]]


def test_types_are_left_out_where_the_net_has_none(words: TextSpec) -> None:
    plain = words.replace({"type_ids": False})
    assert "token_type_ids" not in make(["a"], plain).__getitems__([0])


def test_long_texts_are_cut_and_it_is_said_how_much(
    words: TextSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = words.replace({"max_length": 8})
    with caplog.at_level(logging.INFO, logger="mealkit"):
        samples = make(["a b c d e a b c d e", "a", "b", "c"], spec)
    batch = samples.__getitems__([0])
    assert batch["input_ids"].tolist() == [[2, 4, 5, 6, 7, 8, 4, 3]]
    # 12 tokens, of which 8 are seen, beside 3 times 3
    assert caplog.messages == [
        "25.0 % of texts are longer than 8 tokens and were cut, which leaves out 19.0 % of all "
        "tokens. long='chunk' reads them whole."
    ]


def test_windows_hold_every_word_and_say_whose_they_are(
    words: TextSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = words.replace({"max_length": 8, "long": "chunk"})
    with caplog.at_level(logging.INFO, logger="mealkit"):
        samples = make(["a", "a b c d e a b c d e e e", "b"], spec)
    batch = samples.__getitems__([2, 1])
    assert batch["piece_of"].tolist() == [0, 1, 1, 1]
    windows = batch["input_ids"][1:].tolist()
    assert windows[0] == [2, 4, 5, 6, 7, 8, 4, 3]
    assert windows[1][1] == 4, "windows overlap by a quarter of the room, here one word"
    assert windows[-1][:4] == [2, 8, 8, 3]
    assert samples.lengths.tolist() == [3, 3 * 8, 3], "every window is padded to the longest"
    assert "are read in windows" in caplog.text


def test_pairs_too_long_lose_of_the_longer_text_first(words: TextSpec) -> None:
    spec = words.replace({"max_length": 8})
    batch = make([("a b c d e a b", "c")], spec).__getitems__([0])
    assert batch["input_ids"].tolist() == [[2, 4, 5, 6, 7, 3, 6, 3]]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (None, "no text"),
        (float("nan"), "no text"),
        ("", "an empty text"),
        (" \n", "an empty text"),
        (3, "not a text but int (3)"),
        (("a", ""), "an empty text"),
        ("a", None),
        (("a", "b"), None),
        (("a", "b", "c"), "3 texts where one or a pair is expected"),
        ("a \ud800", "no Unicode text (half a character at 2)"),
    ],
)
def test_what_is_no_text_is_said(text: object, problem: str | None) -> None:
    assert examine_text(text)[1] == problem


def test_what_is_no_text_leaves_the_batch(words: TextSpec) -> None:
    samples = make(["a", None, "b", ""], words)
    batch = samples.__getitems__([0, 1, 2, 3])
    assert batch["index"].tolist() == [0, 2]
    assert batch["failed"].tolist() == [1, 3]
    assert samples.why(3) == "an empty text"
    nothing = samples.__getitems__([1])
    assert nothing["input_ids"].shape == (0, 0)
    assert nothing["failed"].tolist() == [1]


def test_copies_are_recognised_and_others_told_apart() -> None:
    assert examine_text("a b") == examine_text("a b")
    assert examine_text("a b")[0] != examine_text("a  b")[0]
    assert examine_text(("a", "b"))[0] != examine_text("ab")[0]


def test_texts_are_tokenised_once_and_again_only_for_another_spec(
    words: TextSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    tokenise = text_samples.tokenise

    def counted(*given):
        calls.append(1)
        return tokenise(*given)

    monkeypatch.setattr(text_samples, "tokenise", counted)
    samples = make(["a b"], words)
    samples.prepare(TextSpec(**{**vars(words)}))
    assert len(calls) == 1
    samples.prepare(words.replace({"max_length": 9}))
    assert len(calls) == 2


def test_texts_need_to_know_their_tokenizer(words: TextSpec) -> None:
    samples = TextSamples(["a"], ids=["0"])
    assert samples.lengths is None
    with pytest.raises(InvalidValueError, match="not tokenised yet: call prepare"):
        samples.__getitems__([0])
    with pytest.raises(InvalidValueError, match="the backbone wants image"):
        samples.prepare(ImageSpec(size=(8, 8)))


def test_many_texts_are_those_of_one_by_one(words: TextSpec) -> None:
    letters = "abcde"
    texts = [" ".join(letters[(row + n) % 5] for n in range(row % 9 + 1)) for row in range(3000)]
    samples = make(texts, words)
    batch = samples.__getitems__([2999, 0, 1500])
    for place, row in enumerate([2999, 0, 1500]):
        alone = make([texts[row]], words).__getitems__([0])
        length = alone["input_ids"].shape[1]
        assert torch.equal(batch["input_ids"][place, :length], alone["input_ids"][0])
        assert int(batch["attention_mask"][place].sum()) == length
