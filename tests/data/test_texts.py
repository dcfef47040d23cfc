"""TextData: every source gives the same texts, what is wrong is named, parts do not leak."""

import json
import sys
from pathlib import Path

import pandas as pd
import pytest
from torch.utils.data import Dataset

from mealkit import TextData
from mealkit.errors import (
    ClassError,
    DataError,
    InvalidValueError,
    MissingPackageError,
    NoDataError,
    UnreadableError,
)

TEXTS = [f"please {verb} my {thing}" for verb in ("send", "stop", "find") for thing in "abcdefgh"]
LABELS = ["delivery"] * 8 + ["billing"] * 8 + ["login"] * 8


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame({"message": TEXTS, "team": LABELS, "second": TEXTS[::-1]})


def contents(data: TextData) -> set[tuple[object, str]]:
    parts = [part for part in (data.train, data.val, data.test) if part is not None]
    return {
        (text, data.classes[target])
        for part in parts
        for text, target in zip(part.texts, part.targets.tolist(), strict=True)
    }


def write(frame: pd.DataFrame, folder: Path, ending: str) -> Path:
    path = folder / f"tickets{ending}"
    if ending in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if ending == ".tsv" else ",")
    elif ending == ".json":
        path.write_text(json.dumps(frame.to_dict("records")))
    elif ending == ".jsonl":
        path.write_text("\n".join(map(json.dumps, frame.to_dict("records"))))
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("ending", "read"),
    [
        (".csv", TextData.from_csv),
        (".tsv", TextData.from_csv),
        (".json", TextData.from_json),
        (".jsonl", TextData.from_json),
        (".parquet", TextData.from_parquet),
    ],
)
def test_every_file_gives_the_same_texts(frame, tmp_path: Path, ending: str, read) -> None:
    path = write(frame, tmp_path, ending)
    data = read(path, text="message", label="team")
    assert data.classes == ("billing", "delivery", "login")
    assert contents(data) == set(zip(TEXTS, LABELS, strict=True))
    assert data.spec.text == ("message",)
    assert data.spec.label == "team"
    again = TextData.from_data_frame(frame, text="message", label="team")
    assert set(again.val.texts) == set(data.val.texts)


def test_folders_of_text_files(tmp_path: Path) -> None:
    for number, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True)):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{number}.txt").write_text(text)
    (tmp_path / "login" / "broken.txt").write_bytes(b"caf\xe9")
    (tmp_path / "login" / "empty.txt").write_text("")
    data = TextData.from_folders(tmp_path)
    assert contents(data) == set(zip(TEXTS, LABELS, strict=True))
    problems = {Path(entry.input).name: entry.problem for entry in data.report.entries}
    assert problems["broken.txt"] == "not text in UTF-8 (unexpected end of data at byte 3)"
    assert problems["empty.txt"] == "empty (0 bytes)"


def test_a_dataset_of_somebody_else() -> None:
    class Pairs(Dataset):
        def __len__(self) -> int:
            return len(TEXTS)

        def __getitem__(self, index: int) -> tuple[str, str]:
            return TEXTS[index], LABELS[index]

    assert contents(TextData.from_dataset(Pairs())) == set(zip(TEXTS, LABELS, strict=True))


def test_pairs_come_from_two_columns(frame) -> None:
    data = TextData.from_data_frame(frame, text=("message", "second"), label="team", split=0)
    assert data.train.texts[0] == (TEXTS[0], TEXTS[-1])
    assert data.spec.pairs
    listed = TextData.from_lists(list(zip(TEXTS, TEXTS[::-1], strict=True)), LABELS, split=0)
    assert listed.train.texts[0] == data.train.texts[0]
    assert listed.spec.pairs


def test_missing_and_empty_texts_are_reported_by_row_and_not_trained_on(frame) -> None:
    frame.loc[3, "message"] = None
    frame.loc[5, "message"] = "  "
    data = TextData.from_data_frame(frame, text="message", label="team")
    assert [tuple(entry) for entry in data.report.entries] == [
        ("row 3", "no text"),
        ("row 5", "an empty text"),
    ]
    assert len(data.train) + len(data.val) == 22
    with pytest.raises(UnreadableError, match="2 of 24 texts cannot be read: row 3: no text"):
        TextData.from_data_frame(frame, text="message", label="team", on_error="raise")


def test_parts_are_stratified_and_stable_when_texts_are_added(frame) -> None:
    before = TextData.from_data_frame(frame, text="message", label="team")
    more = pd.concat([frame, frame.assign(message=frame.message + " now")])
    after = TextData.from_data_frame(more, text="message", label="team")
    assert {before.classes[target] for target in before.val.targets} == set(before.classes)
    old = set(TEXTS)
    moved = set(before.val.texts) ^ (set(after.val.texts) & old)
    assert len(moved) <= 2  # a class may give back the one text it had to give


def test_copies_between_parts_are_reported(frame) -> None:
    data = TextData.from_data_frame(frame, text="message", label="team", val=frame[:6])
    assert len(data.report) == 6
    assert "an exact copy, in the val part, of row 0 in the train part" in str(data.report)


def test_wrong_columns_and_labels_are_named(frame) -> None:
    with pytest.raises(DataError, match=r"no column 'mesage'\. Did you mean 'message'"):
        TextData.from_data_frame(frame, text="mesage", label="team")
    with pytest.raises(DataError, match="The columns are: 'message'"):
        TextData.from_data_frame(frame, text=("message", "x"), label="team")
    with pytest.raises(InvalidValueError, match="expected one column, or the two"):
        TextData.from_data_frame(frame, text=("message", "team", "second"), label="team")
    new = frame[:3].assign(team="sales")
    with pytest.raises(ClassError, match="'sales'"):
        TextData.from_data_frame(frame, text="message", label="team", val=new)
    frame.loc[4, "team"] = None
    with pytest.raises(DataError, match=r"have no label: row 4 \(counted from 0\)"):
        TextData.from_data_frame(frame, text="message", label="team")
    for column in (None, 0, (), ["message", 2]):
        with pytest.raises(InvalidValueError, match="expected one column, or the two"):
            TextData.from_data_frame(frame, text=column, label="team")
    with pytest.raises(InvalidValueError, match="both texts of a pair are the same"):
        TextData.from_data_frame(frame, text=("message", "message"), label="team")


def test_a_column_of_texts_is_no_column_of_labels(frame) -> None:
    for text, label in (
        ("team", "team"),
        (("message", "team"), "team"),
        ("message", ["message", "second"]),
    ):
        with pytest.raises(InvalidValueError, match=r"cannot be both.*Name the column of texts"):
            TextData.from_data_frame(frame, text=text, label=label)


@pytest.mark.parametrize("texts", ["one text", None, 5, b"bytes", {"a text": 1}])
def test_what_is_no_list_of_texts_is_refused(texts) -> None:
    with pytest.raises(DataError, match=rf"Got {type(texts).__name__} as texts; expected a list"):
        TextData.from_lists(texts, ["a"])


def test_parts_in_lists_are_pairs_of_texts_and_labels() -> None:
    texts, labels = [f"text {number}" for number in range(8)], ["a", "b"] * 4
    for part, got in ((texts, "list of 8"), ("a text", "str"), (5, "int")):
        with pytest.raises(DataError, match=rf"val= is {got}: expected a pair"):
            TextData.from_lists(texts, labels, val=part)
        with pytest.raises(DataError, match=rf"test= is {got}: expected a pair"):
            TextData.from_lists(texts, labels, test=part)
    with pytest.raises(DataError, match="group=5: expected one group per input"):
        TextData.from_lists(texts, labels, group=5)


def test_messages_about_texts_speak_of_texts(tmp_path: Path, frame) -> None:
    (tmp_path / "loose.txt").write_text("a text")
    with pytest.raises(DataError, match=r"no class folders\. .* with its texts: mail/spam/1\.txt"):
        TextData.from_folders(tmp_path)
    with pytest.raises(NoDataError, match=r"no folder .* with its texts"):
        TextData.from_folders(tmp_path / "absent")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("a text")
    with pytest.raises(DataError, match="expected a function that turns a path"):
        TextData.from_folders(tmp_path, group=lambda: "without an argument")
    with pytest.raises(DataError, match=r"no 'text' but 'message', 'label'\. .* text= and label="):
        TextData.from_dataset([{"message": "a", "label": "b"}])
    with pytest.raises(DataError, match=r"expected a tuple \(text, label\)"):
        TextData.from_dataset(["a", "b"])
    with pytest.raises(DataError, match="Got DataFrame as a dataset; tables: from_data_frame"):
        TextData.from_dataset(frame)


def test_a_row_with_too_many_commas_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("message,team\nhello,a\nhello, you,b\n")
    with pytest.raises(DataError, match=r"Expected 2 fields in line 3, saw 3\. Mend that line"):
        TextData.from_csv(path, text="message", label="team")


def test_a_first_row_with_too_many_fields_does_not_shift_columns(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text("message,team\n" + "".join(f"hello {n},a{n},x{n}\n" for n in range(4)))
    with pytest.raises(DataError, match=r"first row has more fields than the header \(2\)"):
        TextData.from_csv(path, text="message", label="team")


def test_pairs_and_single_texts_do_not_mix() -> None:
    texts = ["a 0", ("a 1", "b 1"), ("a 2", "b 2"), ("a 3", "b 3"), ("a 4", "b 4"), ("a", "b", "c")]
    data = TextData.from_lists(texts, ["x", "x", "y", "x", "y", "y"], split=0)
    assert [tuple(entry) for entry in data.report.entries] == [
        ("row 0", "one text where a pair is expected"),
        ("row 5", "3 texts where one or a pair is expected"),
    ]


def test_two_columns_of_tuples_have_no_names() -> None:
    class Triples(Dataset):
        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> tuple[str, str, str]:
            return f"a{index}", f"b{index}", "xy"[index % 2]

    with pytest.raises(DataError, match="items of the dataset are tuples"):
        TextData.from_dataset(Triples(), text=("a", "b"))


def test_json_texts_may_hold_any_line_separator(tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    rows = [{"text": f"one\u2028two {n}", "label": "ab"[n % 2]} for n in range(4)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("\ufeff" + lines, encoding="utf-8")
    data = TextData.from_json(path, text="text", label="label", split=0)
    assert data.train.texts[0] == "one\u2028two 0"


def test_a_line_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.csv"
    path.write_bytes("message,team\nhello,a\ncafé,b\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"line 3 has the byte 0xe9\. Save it as UTF-8"):
        TextData.from_csv(path, text="message", label="team")


def test_a_line_of_json_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes('{"a": "x"}\n{"a": "café"}\n'.encode("latin-1"))
    with pytest.raises(DataError, match=r"line 2 has the byte 0xe9\. Save it as UTF-8"):
        TextData.from_json(path, text="a", label="b")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n{"a": ', r"Line 2 of .* is not JSON: Expecting value at character 7\."),
        ('{"a": ["x", "y"], "b": ["u", "v"]}', "is one object, with 'a', 'b'; expected an array"),
        ('{\n "rows": [{"a": "x", "b": "y"}],\n "count": 1\n}', "is one object, with 'rows'"),
        ('{"a": 1}\n[1]', r"Line 2 of .* is '\[1\]'; expected an object"),
        ("[1, 2]", "Item 0 of .* is 1; expected an object"),
        ("[1, ", "is not JSON"),
        ("[]", "has no rows"),
        ("", r"cannot be read: empty \(0 bytes\)"),
    ],
)
def test_broken_json_says_where(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        TextData.from_json(path, text="a", label="b")


def test_absent_files_and_packages_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for read in (TextData.from_csv, TextData.from_json):
        with pytest.raises(NoDataError, match="nothing"):
            read(tmp_path / "nothing.csv", text="a", label="b")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mealkit\[parquet\]'"):
        TextData.from_parquet(tmp_path / "x.parquet", text="a", label="b")
