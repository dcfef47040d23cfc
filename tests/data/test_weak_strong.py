from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer

from mealkit import ImageData, ImageSpec, TextData
from mealkit.data import TextSamples
from mealkit.data.beside import Beside
from mealkit.data.inputs import samples_from
from mealkit.data.weak_strong import PictureViews, TextViews
from mealkit.data.with_unlabelled import WithUnlabelled
from mealkit.errors import BackboneError, InvalidValueError
from mealkit.specs import TextSpec

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
MASK = 9  # behind the words of `words`


@pytest.fixture
def labelled(photos: Path) -> ImageData:
    return ImageData.from_folders(photos / "train", val=photos / "val")


@pytest.fixture
def masked(words: TextSpec) -> TextSpec:
    """The words of one letter, and marks that are known as such."""
    tokenizer = Tokenizer.from_str(words.tokenizer)
    tokenizer.add_special_tokens(SPECIAL)
    assert tokenizer.token_to_id("[MASK]") == MASK
    return words.replace({"tokenizer": tokenizer.to_str()})


@pytest.fixture
def texts() -> TextData:
    return TextData.from_lists(["a b", "c d e", "a", "b"], ["x", "y"] * 2, split=0)


def fetch(texts: TextData, others: list[str], spec: TextSpec, draws: list[int]) -> dict:
    beside = Beside(texts.train, TextSamples(others, ids=others))
    beside.prepare(spec)
    nested: Any = beside.__getitems__([0, *draws])["unlabelled"]  # Any: a batch within a batch
    return nested


def test_without_augmentation_the_weak_view_is_the_picture(labelled: ImageData):
    labelled.augment = "none"
    images = torch.randint(0, 256, (20, 3, 16, 16), dtype=torch.uint8)
    index = torch.arange(20)
    batch = {"image": images, "index": index, "draw": index}
    weak, strong = PictureViews(labelled)(batch, seed=0, epoch=0)
    assert torch.equal(weak["image"], images)
    assert not torch.equal(strong["image"], images)


def test_floats_beside_bytes_are_put_on_one_scale(labelled: ImageData):
    floats = samples_from(torch.rand(10, 3, 16, 16)).samples
    pair = WithUnlabelled(
        labelled, floats, views=PictureViews(labelled), ratio=2, method="fixmatch"
    )
    pair.prepare(ImageSpec(size=(16, 16)))
    batch = pair.augment_batch(pair.train.__getitems__([0, 1, 36, 37]), epoch=0)
    assert batch["image"].dtype == batch["unlabelled"]["strong"]["image"].dtype == torch.float32
    assert batch["image"].max() <= 1


def test_the_strong_view_hides_a_share_of_the_words_and_no_mark(texts, masked: TextSpec):
    others = ["a b c d e a b c d"] * 400 + ["e"]
    inner = fetch(texts, others, masked, list(range(4, 405)))
    weak, strong = TextViews(texts, masked)(inner, seed=0, epoch=0)
    assert torch.equal(weak["input_ids"], inner["input_ids"])
    ids, given = strong["input_ids"], inner["input_ids"]
    hidden = ids != given
    assert (ids[hidden] == MASK).all()
    words = (given >= 4) & (given <= 8)
    assert not (hidden & ~words).any()
    # 3,601 words at 0.15: four standard errors are 0.024
    assert hidden.sum() / words.sum() == pytest.approx(0.15, abs=0.024)
    assert hidden[:, 1:10].float().mean(0).std() < 0.04  # at all places alike
    assert (hidden[:400].sum(1).float().std() - (9 * 0.15 * 0.85) ** 0.5).abs() < 0.15


def test_what_is_hidden_depends_on_seed_epoch_and_draw_alone(texts, masked: TextSpec):
    others = ["a b c d e a b c d", "e d c b a"]
    views = TextViews(texts, masked)
    total = 4 + len(others)
    draws = [4 + turn * total for turn in range(50)]
    together = views(fetch(texts, others, masked, draws), seed=0, epoch=0)[1]["input_ids"]
    assert len({tuple(row) for row in together.tolist()}) > 10  # another way each time
    again = views(fetch(texts, others, masked, draws), seed=0, epoch=0)[1]["input_ids"]
    assert torch.equal(together, again)
    alone = views(fetch(texts, others, masked, draws[7:8]), seed=0, epoch=0)[1]["input_ids"]
    assert torch.equal(together[7:8], alone)
    for other in ({"seed": 1, "epoch": 0}, {"seed": 0, "epoch": 1}):
        changed = views(fetch(texts, others, masked, draws), **other)[1]["input_ids"]
        assert not torch.equal(together, changed)


def test_windows_of_one_text_are_hidden_in_ways_of_their_own(texts, masked: TextSpec):
    spec = masked.replace({"max_length": 12, "long": "chunk"})
    texts.hidden_share = 0.5
    inner = fetch(texts, ["a " * 60, "b"], spec, [4, 5])
    count = int((inner["piece_of"] == 0).sum())
    assert count > 3
    strong = TextViews(texts, spec)(inner, seed=0, epoch=0)[1]
    assert torch.equal(strong["piece_of"], inner["piece_of"])
    patterns = {tuple(row) for row in (strong["input_ids"][: count - 1] == MASK).tolist()}
    assert len(patterns) == count - 1


def test_texts_are_padded_to_the_longest_of_either_kind(texts, masked: TextSpec):
    views = TextViews(texts, masked)
    short = {
        name: torch.ones(2, 3, dtype=torch.int64)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    }
    long = {name: torch.ones(1, 5, dtype=torch.int64) for name in short}
    first, second = views.alike({**short, "target": torch.zeros(2)}, long)
    for name in short:
        assert first[name].tolist() == [[1, 1, 1, 0, 0]] * 2
        assert torch.equal(second[name], long[name])
    assert len(first["target"]) == 2
    other, padded = views.alike(long, short)
    assert torch.equal(other["input_ids"], long["input_ids"])
    assert padded["input_ids"].shape == (2, 5)


def test_texts_as_they_are_do_not_touch_the_data(texts, masked: TextSpec):
    texts.batch_size = 7
    plain = TextViews(texts, masked).plain()
    assert plain is not texts
    assert plain.batch_size == 7
    assert plain.train is texts.train


def test_a_tokenizer_without_a_mask_is_refused(texts, words: TextSpec):
    with pytest.raises(BackboneError, match=r"no token for hidden words.*bert-base-uncased"):
        TextViews(texts, words)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_a_share_that_cannot_be_meant_is_refused(texts, masked: TextSpec, share: float):
    texts.hidden_share = share
    with pytest.raises(InvalidValueError, match=rf"hidden_share={share}: expected a number in"):
        TextViews(texts, masked)


def test_batches_of_tokens_are_refused(texts, masked: TextSpec):
    texts.batch_tokens = 512
    with pytest.raises(InvalidValueError, match="batch_tokens=512 beside unlabelled="):
        TextViews(texts, masked)
