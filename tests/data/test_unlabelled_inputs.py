"""What unlabelled= takes: every source, what is left out and reported, what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mealkit import ImageData, TextData
from mealkit.data import Stream, TextSamples, UnlabelledImages
from mealkit.data.inputs import samples_from
from mealkit.data.unlabelled_inputs import (
    check_unlabelled,
    unlabelled_pictures,
    unlabelled_texts,
)
from mealkit.errors import DataError, InvalidValueError, NoDataError, UnreadableError
from mealkit.specs import TextDataSpec

SPEC = TextDataSpec(text=("message",))
PAIRS = TextDataSpec(text=("first", "second"))


@pytest.fixture
def labelled(photos: Path) -> ImageData:
    return ImageData.from_folders(photos / "train", val=photos / "val", test=photos / "test")


@pytest.fixture
def tickets_data() -> TextData:
    return TextData.from_lists(
        ["pay me", "open up"], ["x", "y"], val=(["pay her"], ["x"]), test=(["open it"], ["y"])
    )


# Pictures.


def test_pictures_come_from_folders_stacks_and_data(photos: Path, labelled: ImageData):
    folder = unlabelled_pictures(str(photos / "train"))
    assert len(folder) == 36
    assert len(unlabelled_pictures(np.zeros((5, 8, 8), np.uint8))) == 5  # grey, and not one picture
    assert unlabelled_pictures(labelled) is labelled.train
    data = UnlabelledImages.from_folder(photos / "train")
    assert unlabelled_pictures(data) is data.train
    assert unlabelled_pictures(folder) is folder


def test_an_absent_folder_is_named_with_what_was_expected(tmp_path: Path):
    for source in ("absent", tmp_path / "absent"):
        with pytest.raises(NoDataError, match=r"no such file or folder \(looked in") as told:
            unlabelled_pictures(source)
        assert f"unlabelled={str(source)!r}" in str(told.value)
        assert str(Path.cwd()) in str(told.value)
        assert "Expected a folder of pictures" in str(told.value)
        assert "Check the path" in str(told.value)


def test_one_file_is_no_folder(photos: Path, tmp_path: Path):
    (tmp_path / "list.csv").write_text("path\na.jpg\n")
    for source in (tmp_path / "list.csv", next((photos / "train").glob("*/*"))):
        with pytest.raises(InvalidValueError, match=r"is one file.*pass the data frame.*\[path\]"):
            unlabelled_pictures(source)


def test_data_without_a_training_part_or_of_another_kind_are_refused(
    labelled: ImageData, tickets_data: TextData
):
    with pytest.raises(InvalidValueError, match="kind 'text'; expected kind 'image'"):
        unlabelled_pictures(tickets_data)
    with pytest.raises(InvalidValueError, match="kind 'image'; expected kind 'text'"):
        unlabelled_texts(labelled, SPEC)
    labelled.train = None
    with pytest.raises(NoDataError, match="no training part"):
        unlabelled_pictures(labelled)


def test_a_stream_is_refused(photos: Path):
    pixels = np.zeros((8, 8, 3), np.uint8)

    class Endless(torch.utils.data.IterableDataset):
        def __iter__(self):
            yield from [(pixels, "a"), (pixels, "b")] * 3

    data = ImageData.from_dataset(Stream(Endless(), length=6), classes=["a", "b"], split=0)
    with pytest.raises(InvalidValueError, match="unlabelled= is a stream"):
        unlabelled_pictures(data)


def test_unreadable_pictures_are_left_out_and_reported(labelled, photos, tmp_path, caplog):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    good = sorted((photos / "train" / "circle").iterdir())
    with caplog.at_level(logging.WARNING, "mealkit"):
        samples = check_unlabelled(samples_from([bad, *good]).samples, labelled)
    assert len(samples) == len(good)
    assert "Left out 1 of 13 unlabelled pictures" in caplog.text
    assert str(bad) in [entry.input for entry in labelled.report.entries]
    with pytest.raises(UnreadableError, match="None of the 2 unlabelled pictures can be read"):
        check_unlabelled(samples_from([bad, bad]).samples, labelled)


def test_pictures_that_are_scored_are_reported(labelled, photos, caplog):
    scored = samples_from(photos / "test").samples
    with caplog.at_level(logging.WARNING, "mealkit"):
        assert len(check_unlabelled(scored, labelled)) == 12
    assert "12 of the unlabelled pictures are in the validation or test part" in caplog.text
    reasons = [entry.problem for entry in labelled.report.entries]
    assert sum("an exact copy, unlabelled, of" in reason for reason in reasons) == 12


# Texts.


def test_texts_come_from_lists_tables_folders_and_data(tmp_path: Path, tickets_data: TextData):
    given = ["pay me", "let me in"]
    frame = pd.DataFrame({"message": given, "team": ["x", "y"]})
    frame.to_csv(tmp_path / "more.csv", index=False)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "a.txt").write_text("pay me")
    (tmp_path / "deep" / "er" / "b.txt").write_text("let me in")
    for source in (given, iter(given), frame, str(tmp_path / "more.csv"), tmp_path / "deep"):
        samples = unlabelled_texts(source, SPEC)
        assert list(samples.texts) == given
        assert samples.targets is None
    assert unlabelled_texts(tickets_data, SPEC) is tickets_data.train
    samples = TextSamples(given, ids=given)
    assert unlabelled_texts(samples, SPEC) is samples
    pairs = unlabelled_texts([("a", "b"), ["c", "d"]], PAIRS)
    assert list(pairs.texts) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([("pay me", "billing")], "tuple at position 0.*Expected one text, without its label"),
        (["pay me", 3], "int at position 1: '3'"),
        ({"message": ["pay me"]}, "unlabelled= is dict. Expected a list of texts"),
        (7, "unlabelled= is int"),
        (pd.DataFrame({"body": ["pay me"]}), "no column 'message'.*The columns are: 'body'.*list"),
    ],
)
def test_what_holds_no_texts_is_refused(source: object, says: str):
    with pytest.raises(DataError, match=says):
        unlabelled_texts(source, SPEC)


def test_single_texts_beside_pairs_are_refused():
    with pytest.raises(DataError, match=r"str at position 0: 'pay me'\. Expected a pair of texts"):
        unlabelled_texts(["pay me"], PAIRS)


def test_absent_files_and_other_files_are_refused(tmp_path: Path):
    with pytest.raises(NoDataError, match=r"'absent.csv': there is no such.*a list of texts"):
        unlabelled_texts("absent.csv", SPEC)
    (tmp_path / "notes.docx").write_text("pay me")
    with pytest.raises(DataError, match=r"is no table: its ending is none of .csv"):
        unlabelled_texts(tmp_path / "notes.docx", SPEC)
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoDataError, match=r"is an empty folder\. Expected a list of texts"):
        unlabelled_texts(tmp_path / "empty", SPEC)


def test_missing_texts_are_left_out_and_reported(tickets_data: TextData, caplog):
    samples = unlabelled_texts(["pay me now", None, "", float("nan"), "let me in"], SPEC)
    with caplog.at_level(logging.WARNING, "mealkit"):
        kept = check_unlabelled(samples, tickets_data)
    assert list(kept.ids) == ["unlabelled row 0", "unlabelled row 4"]
    assert "Left out 3 of 5 unlabelled texts" in caplog.text
    entries = [tuple(entry) for entry in tickets_data.report.entries]
    assert ("unlabelled row 1", "no text") in entries
    assert ("unlabelled row 2", "an empty text") in entries
    with pytest.raises(UnreadableError, match="None of the 2 unlabelled texts can be read"):
        check_unlabelled(unlabelled_texts([None, " "], SPEC), tickets_data)
    with pytest.raises(NoDataError, match="unlabelled= holds no texts: it is empty"):
        check_unlabelled(unlabelled_texts([], SPEC), tickets_data)


def test_texts_that_are_scored_are_reported(tickets_data: TextData, caplog):
    samples = unlabelled_texts(["pay her", "open it", "pay me", "another"], SPEC)
    with caplog.at_level(logging.WARNING, "mealkit"):
        assert len(check_unlabelled(samples, tickets_data)) == 4
    assert "2 of the unlabelled texts are in the validation or test part" in caplog.text
    problems = [entry.problem for entry in tickets_data.report.entries]
    assert sum("an exact copy, unlabelled, of row 0 in the" in one for one in problems) == 2
