"""Features in a file: the same as in memory, found again, and never those of something else."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mealkit import ImageClassifier, TextClassifier
from mealkit.errors import RunError
from mealkit.tasks import feature_cache
from mealkit.tasks.feature_cache import cache_folder, feature_key

Make = Callable[..., ImageClassifier]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep features of any size in files; the folder they are in."""
    monkeypatch.setenv("MEALKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(feature_cache, "IN_MEMORY_BYTES", 0)
    return tmp_path / "cache" / "features"


def frozen(make_task: Make, **more) -> ImageClassifier:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze", **more)
    return task


def test_the_folder_is_chosen_or_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEALKIT_CACHE", "~/kept")
    assert cache_folder() == Path.home() / "kept"
    monkeypatch.delenv("MEALKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/mealkit")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "mealkit"


def test_few_features_stay_in_memory(
    make_task: Make, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "IN_MEMORY_BYTES", 36 * 12 * 4)  # the larger of both parts
    frozen(make_task)
    assert not kept.exists()
    monkeypatch.setattr(feature_cache, "IN_MEMORY_BYTES", 36 * 12 * 4 - 1)
    frozen(make_task)
    assert [np.load(file).shape for file in kept.iterdir()] == [(36, 12)]


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_head_on_a_file_is_bit_for_bit_the_one_on_memory(
    make_task: Make, kept: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    mapped = frozen(make_task, precision=precision)
    again = frozen(make_task, precision=precision)
    assert len(list(kept.iterdir())) == 2  # train and validation
    monkeypatch.setattr(feature_cache, "IN_MEMORY_BYTES", 1 << 30)
    memory = frozen(make_task, precision=precision)
    for task in (mapped, again):
        assert torch.equal(task.head[1].weight, memory.head[1].weight)
        assert torch.equal(task.head[1].bias, memory.head[1].bias)


def test_the_next_run_computes_one_batch_to_see_that_nothing_changed(
    make_task: Make, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = frozen(make_task)
    assert first.backbone.net.num_forwards >= 36 + 12
    second = make_task()
    second.backbone.net.num_forwards = 0
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="mealkit"):
        second.finetune(epochs=2, strategy="freeze")
    assert second.backbone.net.num_forwards == 32 + 12  # the first batch of either part
    assert sum("Read features of" in text for text in caplog.messages) == 2
    assert "Ran the frozen backbone" not in caplog.text
    assert not list(kept.glob("*.new"))


def test_a_file_of_other_code_is_computed_anew(
    make_task: Make, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = frozen(make_task)
    for file in kept.iterdir():  # as if the forward of the net had been another one
        np.save(file, np.load(file) * 3 + 1)
    again = frozen(make_task)
    assert "computed anew" in caplog.text
    assert torch.equal(again.head[1].weight, expected.head[1].weight)
    caplog.clear()
    frozen(make_task)
    assert "computed anew" not in caplog.text, "the wrong files were replaced"


def test_a_damaged_file_is_replaced(make_task: Make, kept: Path) -> None:
    expected = frozen(make_task)
    for file in kept.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    again = frozen(make_task)
    assert torch.equal(again.head[1].weight, expected.head[1].weight)
    assert {np.load(file).shape for file in kept.iterdir()} == {(36, 12), (12, 12)}


def test_the_folder_may_be_deleted_while_features_are_in_use(make_task: Make, kept: Path) -> None:
    class Delete(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            shutil.rmtree(kept, ignore_errors=True)

    task = make_task()
    task.finetune(epochs=2, strategy="freeze", callbacks=[Delete()])
    assert not kept.exists()
    assert torch.equal(task.head[1].weight, frozen(make_task).head[1].weight)


def test_features_of_which_some_are_missing_are_not_kept(make_task: Make, kept: Path) -> None:
    task = make_task()
    Path(task.data.train.ids[3]).write_text("no picture any more")
    task.finetune(epochs=1, strategy="freeze")
    assert [np.load(file).shape for file in kept.iterdir()] == [(12, 12)]  # validation alone
    assert len(task.data.report) == 1


def test_features_of_inputs_that_nobody_can_tell_apart_are_not_kept(
    make_task: Make, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = make_task()
    monkeypatch.setattr(type(task.data.train), "identity", lambda self: None)
    task.finetune(epochs=1, strategy="freeze")
    assert list(kept.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_an_error(
    make_task: Make, tmp_path: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("MEALKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(RunError, match=r"36 inputs take 0\.0 GiB and cannot be .*MEALKIT_CACHE"):
        frozen(make_task)


def test_what_a_killed_run_left_is_removed_after_a_while(make_task: Make, kept: Path) -> None:
    kept.mkdir(parents=True)
    for name, days in (("old.new", 8), ("young.new", 6)):
        (kept / name).write_bytes(b"half")
        then = time.time() - days * 24 * 3600
        os.utime(kept / name, (then, then))
    frozen(make_task)
    assert [file.name for file in kept.glob("*.new")] == ["young.new"]


def keys(make_task: Make, change: Callable[[ImageClassifier], None]) -> tuple[str, str]:
    task = make_task()
    task.data.prepare(task.input_spec)

    def key() -> str | None:
        loader = task.data.train_dataloader()
        return feature_key(task, loader, views=task.data.views, precision=task.precision)

    before = key()
    assert before == key()
    change(task)
    task.data.prepare(task.input_spec)
    after = key()
    assert before is not None
    assert after is not None
    return before, after


def touch(task: ImageClassifier) -> None:
    path = Path(task.data.train.ids[0])
    path.write_bytes(path.read_bytes() + b"\0")


def swap_spec(task: ImageClassifier) -> None:
    task.backbone.input_spec = task.input_spec.replace({"crop_pct": 0.5})


def give_views(task: ImageClassifier) -> None:
    task.data.augment, task.data.n_views = "light", 2


@pytest.mark.parametrize(
    "change",
    [
        lambda task: task.backbone.net.stem[0].bias.data.add_(1e-3),
        lambda task: task.backbone.net.stem[1].running_mean.add_(1e-3),
        lambda task: task.backbone.net.stem.__setitem__(2, torch.nn.Tanh()),
        lambda task: setattr(task, "precision", "bf16-mixed"),
        touch,
        swap_spec,
        give_views,
    ],
)
def test_whatever_decides_features_is_in_their_key(
    make_task: Make, change: Callable[[ImageClassifier], None]
) -> None:
    before, after = keys(make_task, change)
    assert before != after


def test_what_does_not_decide_features_is_not_in_their_key(make_task: Make) -> None:
    before, after = keys(make_task, lambda task: task.head[1].weight.data.add_(1))
    assert before == after


def test_views_of_a_function_have_no_key(make_task: Make) -> None:
    task = make_task()
    task.data.augment, task.data.n_views = (lambda images, *, seed, epoch, index: images), 2
    task.data.prepare(task.input_spec)
    loader = task.data.train_dataloader()
    assert feature_key(task, loader, views=task.data.views, precision="32-true") is None


def test_texts_find_their_features_again(
    tickets, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    texts, labels = zip(*tickets, strict=True)
    heads = []
    for _ in range(2):
        task = TextClassifier.from_lists(list(texts), list(labels), backbone="mealkit_tiny_text")
        with caplog.at_level(logging.INFO, logger="mealkit"):
            task.finetune(epochs=1, strategy="freeze")
        heads.append(task.head[1].weight)
    assert torch.equal(*heads)
    assert sum("Read features of" in text for text in caplog.messages) == 2
