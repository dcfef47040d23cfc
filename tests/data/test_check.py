from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from mealkit.data import check
from mealkit.data.check import examine, in_threads, same_content


@pytest.fixture
def photo(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, 300, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    assert path.stat().st_size > 3 * 16_384  # so that a glance reads three pieces
    return path


def test_a_glance_and_a_full_look_give_the_same_key(photo, tmp_path):
    small = tmp_path / "small.png"
    Image.new("RGB", (8, 8)).save(small)
    for path in (photo, small):
        key, reason = examine(path)
        assert reason is None
        assert key
        assert examine(path, fully=False) == (key, None)
        assert examine(path.read_bytes()) == (key, None)


def test_the_key_is_of_the_content_and_not_of_the_name(photo, tmp_path):
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(photo.read_bytes())
    other = tmp_path / "other.jpg"
    Image.new("RGB", (300, 200)).save(other)
    assert examine(copy) == examine(photo)
    assert examine(other)[0] != examine(photo)[0]
    assert same_content(photo, copy)
    assert not same_content(photo, other)


@pytest.mark.parametrize("fully", [True, False])
def test_truncation_is_found_by_both_looks(photo, fully):
    photo.write_bytes(photo.read_bytes()[:-1000])
    key, reason = examine(photo, fully=fully)
    assert key == ""
    assert "truncated" in reason


def test_a_trailer_behind_the_picture_is_no_truncation(photo):
    photo.write_bytes(photo.read_bytes() + b"trailer of some camera")
    assert examine(photo, fully=False)[1] is None


@pytest.mark.parametrize("fully", [True, False])
def test_what_cannot_be_read_has_a_reason(tmp_path, fully):
    (tmp_path / "text.jpg").write_text("hello" * 20_000)
    (tmp_path / "empty.jpg").touch()
    assert "not an image" in examine(tmp_path / "text.jpg", fully=fully)[1]
    assert examine(tmp_path / "empty.jpg", fully=fully)[1] == "empty (0 bytes)"
    assert examine(tmp_path / "absent.jpg", fully=fully)[1] == "no such file"
    assert "folder" in examine(tmp_path, fully=fully)[1]
    assert examine(ValueError("boom"))[1] == "the dataset failed (ValueError: boom)"
    assert "expected floats in [0, 1]" in examine(np.full((4, 4), 99.0))[1]


def test_pictures_and_arrays_have_keys_of_their_pixels():
    array = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    keys = {
        examine(source)[0]
        for source in (array, torch.from_numpy(array), array.transpose(2, 0, 1).copy())
    }
    assert len(keys) == 1
    assert examine(array.reshape(2, 8, 3))[0] not in keys
    assert examine(Image.fromarray(array)) == examine(Image.fromarray(array.copy()))
    assert same_content(Image.fromarray(array), Image.fromarray(array))


def test_threads_answer_in_order_and_are_no_more_than_cores(monkeypatch):
    assert in_threads(lambda number: number * 2, list(range(50))) == list(range(0, 100, 2))
    monkeypatch.setattr(check, "num_cores", lambda: 1)
    assert in_threads(str, [1, 2]) == ["1", "2"]
    assert in_threads(str, []) == []


class ThreadNames(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        import threading

        return len(set(in_threads(lambda _: threading.get_ident(), [0] * 8)))


def test_a_loaders_worker_process_uses_one_thread(monkeypatch):
    monkeypatch.setattr(check, "num_cores", lambda: 4)
    assert list(DataLoader(ThreadNames(), num_workers=1, batch_size=None)) == [1, 1, 1, 1]
