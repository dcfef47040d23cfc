"""Where streams come from."""

import io
import logging
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mealkit.data.shards import HuggingFaceShards, OneShard, TarShards, is_streaming, shards_of
from mealkit.errors import DataError, MissingPackageError, NoDataError, UnreadableError


def read(shards) -> list[str]:
    return [id for number in range(len(shards)) for id, _ in shards.open(number)]


def test_tar_files_are_read_by_pattern_as_often_as_one_likes(tars: Path) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    shards = TarShards([str(tars / "part-{0..3}.tar")])
    assert len(shards) == 4
    assert shards.length is None
    assert read(shards)[:6] == [f"part-{n // 5}.tar/{n:03d}" for n in range(6)]
    assert len(read(shards)) == 20
    _, item = next(shards.open(1))
    assert {"png", "cls", "txt"} <= set(item)
    assert item["cls"] == b"2"


def test_tar_files_that_changed_have_another_identity(tars: Path, write_tar) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    pattern = [str(tars / "part-{0..3}.tar")]
    before = TarShards(pattern).identity()
    assert TarShards(pattern).identity() == before
    write_tar(tars / "part-3.tar", {f"{n}.png": b"0" * 20_000 for n in range(3)})
    assert TarShards(pattern).identity() != before
    assert TarShards(pattern[:1] * 2).identity() != before


def test_absent_tar_files_are_named(tars: Path) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    with pytest.raises(NoDataError, match=r"2 of 6 tar files are absent, the first is .*part-4"):
        TarShards([str(tars / "part-{0..5}.tar")])
    with pytest.raises(NoDataError, match="no tar files"):
        TarShards([])


def test_a_tar_file_that_is_cut_off_is_named(tars: Path) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    file = tars / "part-2.tar"
    file.write_bytes(file.read_bytes()[:2_000])
    with pytest.raises(UnreadableError, match=r"part-2\.tar cannot be read to its end"):
        read(TarShards([str(file)]))


@pytest.mark.parametrize("num_bytes", [0, 100, 512, 600])  # header and pixels of the first file
def test_a_tar_file_that_is_cut_off_in_its_first_picture_is_named(
    tars: Path, num_bytes: int
) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    file = tars / "part-2.tar"
    file.write_bytes(file.read_bytes()[:num_bytes])
    with pytest.raises(UnreadableError, match=r"part-2\.tar cannot be read to its end"):
        read(TarShards([str(file)]))


def test_a_tar_file_that_is_cut_off_behind_a_picture_is_told(
    tars: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    file = tars / "part-2.tar"
    with tarfile.open(file) as archive:
        second = archive.getmembers()[3]  # the first picture has three files
    pattern = [str(tars / "part-{0..3}.tar")]
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        TarShards(pattern)
        assert not caplog.text
        file.write_bytes(file.read_bytes()[: second.offset])
        assert len(read(TarShards(pattern))) == 16, "it reads like a whole one of one picture"
    assert "1 of 4 tar files have no mark at their end" in caplog.text
    assert "part-2.tar" in caplog.text


def test_tar_files_need_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "webdataset", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mealkit\[webdataset\]'"):
        TarShards(["a.tar"])


def test_a_stream_of_hugging_face_is_read_shard_by_shard_and_left_encoded() -> None:
    datasets = pytest.importorskip("datasets", reason="needs the package datasets")
    pixels = np.full((8, 8, 3), 90, dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])}
    )
    rows = {
        "image": [{"bytes": file.getvalue(), "path": f"{n}.png"} for n in range(7)],
        "label": [n % 2 for n in range(7)],
    }
    stream = datasets.Dataset.from_dict(rows, features=features).to_iterable_dataset(num_shards=3)
    shards = shards_of(stream, image="image", label="label")
    assert isinstance(shards, HuggingFaceShards)
    assert len(shards) == 3
    assert shards.length is None
    assert shards.class_names == ("ant", "bee")
    sizes = enumerate((3, 2, 2))
    assert read(shards) == [f"shard {s}, item {i}" for s, size in sizes for i in range(size)]
    _, item = next(shards.open(2))
    assert item["image"]["bytes"] == file.getvalue()
    assert item["label"] == 1


def test_a_stream_knows_the_length_that_its_split_says(hub) -> None:
    shards = shards_of(hub(3), image="image", label="label")
    assert shards.length == 12
    assert shards.class_names == ("red", "green", "blue")
    other = hub(3)
    other.info.dataset_size = 10
    assert shards_of(other, image="image", label="label").identity() != shards.identity()


class Pairs:
    def __init__(self, items, length: int | None = None) -> None:
        self.items = items
        if length is not None:
            type(self).__len__ = lambda self: length

    def __iter__(self):
        return iter(self.items)


def test_anything_that_can_be_iterated_again_is_one_shard() -> None:
    shards = shards_of(Pairs([("a", 1), ("b", 2)]), image="image", label="label")
    assert isinstance(shards, OneShard)
    assert len(shards) == 1
    assert shards.length is None
    assert read(shards) == read(shards) == ["0", "1"]
    keyed = OneShard([{"__key__": "first"}, {"__key__": "second"}])
    assert read(keyed) == ["first", "second"]
    assert keyed.length == 2


def test_what_can_be_read_only_once_or_not_at_all_is_refused() -> None:
    with pytest.raises(DataError, match="list_iterator can be read only once"):
        shards_of(iter([1]), image="image", label="label")
    wrong: list[object] = [7, {"train": []}]
    for source in wrong:
        with pytest.raises(DataError, match=f"cannot be made of {type(source).__name__}"):
            shards_of(source, image="image", label="label")


def test_a_stream_is_what_has_no_positions() -> None:
    assert is_streaming(Pairs([]))
    assert not is_streaming([1, 2])
    assert not is_streaming("train.tar")
    assert not is_streaming({"train": []})
