"""From texts to tokens: windows of pairs. What is cut and padded, samples show."""

import logging

import pytest

from mealkit.data.text_samples import TextSamples
from mealkit.specs import TextSpec


def make(pairs: list[tuple[str, str]], spec: TextSpec) -> TextSamples:
    samples = TextSamples(pairs, ids=[f"row {row}" for row in range(len(pairs))])
    samples.prepare(spec)
    return samples


def test_windows_of_pairs_run_along_the_longer_text(
    words: TextSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = words.replace({"max_length": 9, "long": "chunk"})  # 3 of them are special
    with caplog.at_level(logging.INFO, logger="mealkit"):
        samples = make([("a b", "c d e a b c d e a b"), ("a b c d e a b c", "d"), ("a", "b")], spec)
    assert "was cut" not in caplog.text
    first = samples.__getitems__([0])["input_ids"].tolist()
    assert first[0] == [2, 4, 5, 3, 6, 7, 8, 4, 3]
    assert all(window[:4] == [2, 4, 5, 3] for window in first), "the shorter one is in each"
    second = samples.__getitems__([1])["input_ids"]
    assert second[:, 1].tolist() == [4, 8], "along the first text, one word of overlap"
    assert samples.__getitems__([2])["input_ids"].tolist() == [[2, 4, 3, 5, 3]]


def test_of_two_long_texts_the_shorter_is_cut_and_it_is_said(
    words: TextSpec, caplog: pytest.LogCaptureFixture
) -> None:
    spec = words.replace({"max_length": 9, "long": "chunk"})
    with caplog.at_level(logging.INFO, logger="mealkit"):
        samples = make([("a b c d e " * 4, "e d c b a " * 3)], spec)
    windows = samples.__getitems__([0])["input_ids"]
    assert len(windows) == 10, "20 words, three at a time, one of them seen before"
    assert windows.tolist()[0] == [2, 4, 5, 6, 3, 8, 7, 6, 3]
    assert "In 1 pairs both texts are long: the shorter one was cut to 3 tokens" in caplog.text
