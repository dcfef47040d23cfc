"""Pictures without labels: checked, counted and measured before the first batch."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from mealkit.data import UnlabelledImages
from mealkit.errors import DataError, InvalidValueError, NoDataError, UnreadableError
from mealkit.specs import ImageSpec


def test_batches_have_no_target(shapes: Path) -> None:
    data = UnlabelledImages.from_folder(shapes)
    data.batch_size = 10
    data.prepare(ImageSpec(size=(24, 24)))
    batches = list(data.train_dataloader())
    assert [len(batch["index"]) for batch in batches] == [10, 10, 10, 6]
    assert all("target" not in batch for batch in batches)
    assert batches[0]["image"].shape == (10, 3, 24, 24)
    assert sorted(int(i) for batch in batches for i in batch["index"]) == list(range(36))
    assert data.val_dataloader() == []
    assert not data.caches


def test_the_side_is_the_median_of_the_shorter_ones() -> None:
    sizes = [(20, 50), (60, 30), (40, 40)]
    arrays = [np.zeros((*size, 3), np.uint8) for size in sizes]
    assert UnlabelledImages.from_arrays(arrays).side == 30
    pictures = [Image.new("RGB", size) for size in sizes]
    assert UnlabelledImages.from_arrays(pictures).side == 30
    files = []
    for picture in pictures:
        file = io.BytesIO()
        picture.save(file, format="png")
        files.append({"image": file.getvalue()})
    assert UnlabelledImages.from_dataset(Rows(files)).side == 30
    stack = torch.zeros(5, 3, 17, 19, dtype=torch.uint8)
    assert UnlabelledImages.from_arrays(stack).side == 17


class Rows(Dataset):
    def __init__(self, items: list) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int):
        return self.items[index]


def test_channels_are_those_of_arrays_and_three_of_files(shapes: Path) -> None:
    assert UnlabelledImages.from_folder(shapes).spec.in_chans == 3
    assert UnlabelledImages.from_arrays(np.zeros((4, 9, 9, 4), np.uint8)).spec.in_chans == 4
    assert UnlabelledImages.from_arrays(np.zeros((4, 9, 9), np.uint8)).spec.in_chans == 3


def test_labels_of_a_dataset_are_not_looked_at() -> None:
    class Bad(Rows):
        @property
        def targets(self):
            raise AssertionError("labels were asked for")

    data = UnlabelledImages.from_dataset(Bad([(Image.new("RGB", (8, 8)), "x")] * 3))
    assert len(data.train) == 3
    assert data.train.targets is None


def test_all_broken_is_an_error_and_some_are_reported(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(UnreadableError, match="2 of 2 pictures cannot be read"):
        UnlabelledImages.from_folder(tmp_path)
    Image.new("RGB", (8, 8)).save(tmp_path / "c.png")
    (tmp_path / "notes.txt").write_text("passed over")
    data = UnlabelledImages.from_folder(tmp_path)
    assert [Path(name).name for name in data.train.ids] == ["c.png"]
    assert len(data.report) == 2


def test_sources_that_hold_nothing_or_something_else(tmp_path: Path) -> None:
    with pytest.raises(NoDataError, match="the source is empty"):
        UnlabelledImages.from_files([])
    for paths in ("photos", None, 5):
        with pytest.raises(DataError, match=r"expected a list of paths; for a folder use"):
            UnlabelledImages.from_files(paths)
    for folder in (None, 5, ["a.jpg"]):
        with pytest.raises(InvalidValueError, match="expected the path of a folder with pictures"):
            UnlabelledImages.from_folder(folder)
    with pytest.raises(InvalidValueError, match="root=5: expected the path of a folder"):
        UnlabelledImages.from_data_frame(pd.DataFrame({"path": ["a.jpg"]}), image="path", root=5)
    with pytest.raises(InvalidValueError, match="seed='a': expected a whole number"):
        UnlabelledImages.from_arrays(np.zeros((2, 8, 8, 3), np.uint8), seed="a")
    (tmp_path / "file").write_text("")
    with pytest.raises(NoDataError, match="is a file"):
        UnlabelledImages.from_folder(tmp_path / "file")
    with pytest.raises(DataError, match="have no 'picture'"):
        UnlabelledImages.from_dataset(Rows([{"image": 1}]), image="picture")
