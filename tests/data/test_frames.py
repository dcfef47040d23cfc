from __future__ import annotations

import logging
import sys
import types
from pathlib import Path

import pandas
import pytest

from mealkit.data.frames import column, frame_kind, like, read_csv
from mealkit.errors import DataError


class FakePolarsFrame:
    """As much of a polars DataFrame as is used."""

    def __init__(self, columns):
        self._columns = dict(columns)

    @property
    def columns(self):
        return list(self._columns)

    def __getitem__(self, name):
        return self._columns[name]


@pytest.fixture
def polars(monkeypatch):
    module = types.ModuleType("polars")
    module.DataFrame = FakePolarsFrame
    monkeypatch.setitem(sys.modules, "polars", module)
    return module


def test_kinds_are_told_apart(polars):
    assert frame_kind(pandas.DataFrame()) == "pandas"
    assert frame_kind(polars.DataFrame({})) == "polars"
    assert frame_kind([1]) is None


def test_columns_are_read_from_both(polars):
    assert column(pandas.DataFrame({"a": [1, 2]}), "a") == [1, 2]
    assert column(polars.DataFrame({"a": [1, 2]}), "a") == [1, 2]
    assert column(pandas.DataFrame([[1, 2]], columns=[0, 1]), "1") == [2]


def test_missing_columns_are_answered_with_the_real_ones():
    frame = pandas.DataFrame({"path": [], "label": []})
    with pytest.raises(
        DataError, match=r"no column 'lable'. Did you mean 'label'\?.*'path', 'label'"
    ):
        column(frame, "lable")
    with pytest.raises(DataError, match="no columns"):
        column(pandas.DataFrame(), "a")


def test_a_column_that_is_there_twice_is_refused():
    with pytest.raises(DataError, match="2 columns called 'a'"):
        column(pandas.DataFrame([[1, 2]], columns=["a", "a"]), "a")


def test_what_is_no_frame_is_refused():
    with pytest.raises(DataError, match="got dict"):
        column({"a": [1]}, "a")


def test_answers_come_in_kind(polars):
    assert like("pandas", {"a": [1]}).equals(pandas.DataFrame({"a": [1]}))
    answer = like("polars", {"a": [1]})
    assert isinstance(answer, FakePolarsFrame)
    assert answer["a"] == [1]


@pytest.mark.parametrize(
    ("lines", "warned"),
    [
        # a quotation mark that stands for inches opens a text, and the next one closes it
        (
            [
                "pay me,billing",
                '"4 disk,login',
                "open up,login",
                'a 5" disk",billing',
                "let me in,login",
            ],
            True,
        ),
        # the broken row comes first, and its line is the end of a row
        (['"pay me,billing', '"open up",login', "let me in,login", "refund me,billing"], True),
        (['"one, two\nthree, four",billing', "open up,login"], False),
        (['"asked:\nis it login, or not?",login', "open up,login"], False),
    ],
)
def test_a_text_with_rows_in_it_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lines: list[str], warned: bool
) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text("\n".join(["message,team", *lines]) + "\n")
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        read_csv(path)
    assert ("has a text with whole rows in it" in caplog.text) is warned


def test_what_is_no_file_of_a_table_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder: expected the path of a table"):
        read_csv(tmp_path)
    with pytest.raises(DataError) as caught:
        read_csv(pandas.DataFrame({"text": ["a"] * 100}))
    assert str(caught.value).count("\n") == 0
    assert "expected the path of a table" in str(caught.value)
