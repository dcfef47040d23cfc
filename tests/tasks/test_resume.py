"""A run that was stopped goes on to the weights it would have come to, bit for bit."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from mealkit import ImageClassifier, ImageData, Training
from mealkit.errors import InvalidValueError, RunError
from mealkit.tasks import checkpoint

Make = Callable[..., ImageClassifier]
State = dict[str, torch.Tensor]


class Stop(pl.Callback):
    """Ends a run after a number of optimiser steps, as an error or as a user would."""

    def __init__(self, step: int, error: type[BaseException] = RuntimeError) -> None:
        self.step, self.error = step, error

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise self.error("stopped")


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint after every step."""
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))


def weights(task: ImageClassifier) -> State:
    return {name: value.clone() for name, value in task.state_dict().items()}


def equal(one: State, other: State) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


def rows_of(history) -> list[dict[str, float]]:
    return [{n: v for n, v in row.items() if n != "seconds"} for row in history.rows]


# 36 pictures in batches of 12 are 3 steps an epoch; the first epoch of freeze_unfreeze is frozen.
@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize(
    ("strategy", "augment", "step"),
    [
        ("full", "light", 4),
        ("full", None, 3),
        ("freeze_unfreeze", None, 1),  # in the frozen epoch, on cached features
        ("freeze_unfreeze", None, 5),
        ("freeze_unfreeze", "light", 1),  # in the frozen epoch, without a cache
        ("freeze", None, 4),
        ("gradual", None, 7),
    ],
)
def test_a_stopped_run_ends_where_the_whole_one_did(
    make_task: Make, tmp_path: Path, strategy: str, augment: str | None, step: int, error
) -> None:
    def make() -> ImageClassifier:
        task = make_task()
        task.data.augment = augment
        return task

    whole = make()
    expected = whole.finetune(epochs=3, strategy=strategy, run=tmp_path / "whole")
    again = make()
    with pytest.raises(error):
        again.finetune(
            epochs=3, strategy=strategy, run=tmp_path / "run", callbacks=[Stop(step, error)]
        )
    if error is RuntimeError:  # in another process; Ctrl-C goes on in the one it stopped
        again = make()
    history = again.finetune(epochs=3, strategy=strategy, run=tmp_path / "run", resume=True)
    assert equal(weights(again), weights(whole))
    assert rows_of(history) == rows_of(expected)
    assert history.best_epoch == expected.best_epoch


@pytest.mark.usefixtures("often")
def test_batch_statistics_accumulation_and_clipping_go_on(make_task: Make, tmp_path: Path) -> None:
    settings = Training(accumulate=2, batch_norm="moving", seed=3)
    whole, again = make_task(pretrained=False), make_task(pretrained=False)
    whole.finetune(epochs=3, training=settings, batch_size=6)
    with pytest.raises(RuntimeError):
        again.finetune(
            epochs=3, training=settings, batch_size=6, run=tmp_path / "run", callbacks=[Stop(5)]
        )
    again = make_task(pretrained=False, seed=1)  # other random weights: the first ones are on disk
    again.finetune(epochs=3, training=settings, batch_size=6, run=tmp_path / "run", resume=True)
    assert equal(weights(again), weights(whole))


@pytest.mark.usefixtures("often")
def test_chance_outside_torch_goes_on_too(
    make_task: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noise(images, *, seed, epoch, index):
        return images + int(np.random.randint(8))

    histories = []
    for stop in (False, True):
        task, folder = make_task(), tmp_path / str(stop)
        task.data.augment = noise
        np.random.seed(5)
        if stop:
            with pytest.raises(RuntimeError):
                task.finetune(epochs=2, strategy="full", run=folder, callbacks=[Stop(4)])
            np.random.seed(6)
        histories.append(task.finetune(epochs=2, strategy="full", run=folder, resume=True))
    assert rows_of(histories[0]) == rows_of(histories[1])


def test_a_kill_after_the_last_step_is_no_finished_run(make_task: Make, tmp_path: Path) -> None:
    class Late(pl.Callback):
        def on_fit_end(self, trainer, pl_module) -> None:
            raise RuntimeError("stopped")

    whole, again = make_task(), make_task()
    expected = whole.finetune(epochs=2, strategy="full")
    with pytest.raises(RuntimeError):
        again.finetune(epochs=2, strategy="full", run=tmp_path / "run", callbacks=[Late()])
    (tmp_path / "run/last.new").write_bytes(b"half a checkpoint")
    again = make_task()
    history = again.finetune(epochs=2, strategy="full", run=tmp_path / "run", resume=True)
    assert equal(weights(again), weights(whole))
    assert rows_of(history) == rows_of(expected)
    assert not list((tmp_path / "run").glob("last.*"))


@pytest.mark.usefixtures("often")
def test_early_stopping_goes_on_counting(make_task: Make, tmp_path: Path) -> None:
    def stopping() -> pl.Callback:
        return pl.callbacks.EarlyStopping("val/loss", patience=2, min_delta=10.0)

    whole, again = make_task(), make_task()
    expected = whole.finetune(epochs=6, strategy="full", callbacks=[stopping()])
    assert len(expected) == 3
    with pytest.raises(RuntimeError):
        again.finetune(
            epochs=6, strategy="full", run=tmp_path / "run", callbacks=[stopping(), Stop(7)]
        )
    again = make_task()
    history = again.finetune(
        epochs=6, strategy="full", run=tmp_path / "run", resume=True, callbacks=[stopping()]
    )
    assert rows_of(history) == rows_of(expected)
    assert equal(weights(again), weights(whole))


def test_a_run_without_a_folder_yet_starts(make_task: Make, tmp_path: Path) -> None:
    whole, task = make_task(), make_task()
    whole.finetune(epochs=1, strategy="full")
    assert len(task.finetune(epochs=1, strategy="full", run=tmp_path / "run", resume=True)) == 1
    assert equal(weights(task), weights(whole))


def test_a_finished_run_is_not_repeated(make_task: Make, tmp_path: Path) -> None:
    task = make_task(pretrained=False)
    history = task.finetune(epochs=2, run=tmp_path / "run")
    assert not (tmp_path / "run/last.ckpt").exists()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = make_task(pretrained=False, seed=1)
    for _ in range(2):  # the second time, the net counts as trained and has other defaults
        answer = again.finetune(epochs=2, run=tmp_path / "run", resume=True)
    assert equal(weights(again), weights(task))
    assert again.backbone.pretrained
    assert answer == history
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_a_finished_run_on_a_table_is_not_repeated_by_the_same_task(
    photos: Path, tmp_path: Path
) -> None:
    paths = sorted((photos / "train").glob("*/*"))
    frame = pd.DataFrame({"path": map(str, paths), "kind": [path.parent.name for path in paths]})
    data = ImageData.from_data_frame(frame, image="path", label="kind")
    task = ImageClassifier("mealkit_tiny", classes=data.classes)
    history = task.finetune(data, epochs=1, run=tmp_path / "run", resume=True)
    assert task.spec.label == "kind", "it has learnt what the columns are called"
    assert task.finetune(data, epochs=1, run=tmp_path / "run", resume=True) == history


@pytest.mark.usefixtures("often")
def test_the_folder_tells_the_same_as_the_checkpoint(make_task: Make, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.raises(RuntimeError):
        make_task().finetune(epochs=3, strategy="full", run=folder, callbacks=[Stop(7)])
    assert len((folder / "history.csv").read_text().splitlines()) == 3  # a header and two epochs
    assert not list(folder.glob("*.new"))
    saved = torch.load(folder / "last.ckpt", weights_only=True)
    settings = json.loads((folder / "settings.json").read_text())
    assert saved["callbacks"]["Checkpoints"]["fingerprint"] == settings["fingerprint"]
    assert saved["global_step"] == 7
    history = make_task().finetune(epochs=3, strategy="full", run=folder, resume=True)
    assert len((folder / "history.csv").read_text().splitlines()) == 4
    assert [row["epoch"] for row in history.rows] == [0, 1, 2]
    assert json.loads((folder / "settings.json").read_text()) == settings


def change_labels(data: ImageData) -> None:
    data.train._targets[0] = (data.train._targets[0] + 1) % 3


def change_picture(data: ImageData) -> None:
    path = Path(data.train.ids[0])
    path.write_bytes(path.read_bytes() + b"\0")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(
    ("change", "settings", "named"),
    [
        (None, {"lr": 1e-3}, r"lr was None and is 0\.001; plan\.lr was"),
        (None, {"epochs": 4}, "epochs was 3 and is 4"),
        (None, {"strategy": "gradual"}, "strategy was 'full' and is 'gradual'"),
        (None, {"batch_size": 9}, "batch_size was 12 and is 9"),
        (None, {"training": Training(weight_decay=0.2)}, r"weight_decay was 0\.05 and is 0\.2"),
        (change_labels, {}, r"data\.train\.targets was '\w+' and is '\w+'"),
        (change_picture, {}, r"data\.train\.contents was"),
        (lambda data: setattr(data, "val", None), {}, r"data\.val"),
        (lambda data: setattr(data, "augment", "none"), {}, r"data\.sees was .*'light'.*'none'"),
    ],
)
def test_what_changed_is_refused_by_name(
    make_task: Make, tmp_path: Path, change, settings: dict[str, object], named: str
) -> None:
    task = make_task()
    with pytest.raises(RuntimeError, match="stopped"):
        task.finetune(epochs=3, strategy="full", run=tmp_path / "run", callbacks=[Stop(2)])
    task = make_task()
    if change is not None:
        change(task.data)
    before = weights(task)
    with pytest.raises(RunError, match=named):
        task.finetune(
            **{"epochs": 3, "strategy": "full", "run": tmp_path / "run", "resume": True, **settings}
        )
    assert equal(weights(task), before)


def test_data_may_lie_elsewhere_and_workers_may_differ(
    make_task: Make, tmp_path: Path, photos: Path
) -> None:
    task = make_task()
    with pytest.raises(RuntimeError):
        task.finetune(epochs=1, strategy="full", run=tmp_path / "run", callbacks=[Stop(1)])
    moved = photos.rename(tmp_path / "moved")
    task = make_task()
    data = ImageData.from_folders(moved / "train", val=moved / "val")
    data.batch_size, data.num_workers = 12, 1
    assert len(task.finetune(data, epochs=1, strategy="full", run=tmp_path / "run", resume=True))


def test_a_folder_of_something_else_is_no_run(make_task: Make, tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters/1.txt").write_text("x")
    with pytest.raises(RunError, match="holds no run that can be resumed"):
        make_task().finetune(epochs=1, run=tmp_path / "letters", resume=True)
    with pytest.raises(InvalidValueError, match=r"resume=True without run="):
        make_task().finetune(epochs=1, resume=True)


def test_a_callback_with_a_state_that_needs_pickle_is_named_at_the_start(
    make_task: Make, tmp_path: Path
) -> None:
    class Odd(pl.Callback):
        def state_dict(self):
            return {"path": Path("x")}

    with pytest.raises(RunError, match="the state of a callback"):
        make_task().finetune(epochs=1, run=tmp_path / "run", callbacks=[Odd()])


@pytest.mark.usefixtures("often")
def test_a_trainer_of_the_user_resumes_too(make_task: Make, tmp_path: Path) -> None:
    def trainer(*callbacks: pl.Callback) -> pl.Trainer:
        return pl.Trainer(
            max_epochs=3, logger=False, enable_progress_bar=False, enable_model_summary=False,
            enable_checkpointing=False, callbacks=list(callbacks),
        )  # fmt: skip

    whole, again = make_task(), make_task()
    whole.finetune(trainer=trainer())
    with pytest.raises(RuntimeError):
        again.finetune(trainer=trainer(Stop(5)), run=tmp_path / "run")
    again = make_task()
    again.finetune(trainer=trainer(), run=tmp_path / "run", resume=True)
    assert equal(weights(again), weights(whole))


@pytest.mark.parametrize("step", [1, 5])
def test_a_checkpoint_of_a_plain_trainer_in_mid_epoch_is_exact(
    make_task: Make, tmp_path: Path, bare_trainer: Callable[[int], pl.Trainer], step: int
) -> None:
    class Save(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            if trainer.global_step == step:
                trainer.save_checkpoint(tmp_path / "mid.ckpt", weights_only=False)

    whole, again = make_task(), make_task()
    trainer = bare_trainer(3)
    trainer.callbacks.append(Save())
    trainer.fit(whole, datamodule=whole.data)
    path = tmp_path / "mid.ckpt"
    bare_trainer(3).fit(again, datamodule=again.data, ckpt_path=path, weights_only=True)
    assert equal(weights(again), weights(whole))


def test_cheap_epochs_are_not_followed_by_a_checkpoint_each(
    make_task: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "MOST_SHARE", 1e-9)
    written: list[str] = []
    save = pl.Trainer.save_checkpoint

    def count(trainer: pl.Trainer, path: str, **more: bool) -> None:
        written.append(path)
        save(trainer, path, **more)

    monkeypatch.setattr(pl.Trainer, "save_checkpoint", count)
    make_task().finetune(epochs=5, strategy="freeze", run=tmp_path / "run")
    assert len(written) == 1


SCRIPT = """
import os, signal, sys, traceback
import pytorch_lightning as pl, torch
import mealkit
from mealkit.tasks import checkpoint

torch.set_num_threads(1)
checkpoint.EVERY_SECONDS, checkpoint.MOST_SHARE = 0.0, float("inf")
photos, strategy = sys.argv[1:3]


class Kill(pl.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def train(run, kill):
    task = mealkit.ImageClassifier.from_folders(
        photos + "/train", val=photos + "/val", backbone="mealkit_tiny"
    )
    task.head[0].p = 0.3
    task.finetune(
        epochs=3, strategy=strategy, batch_size=12, run=run, resume=True, callbacks=[Kill(kill)]
    )


for run, kill in (("whole", -1), ("run", int(sys.argv[3])), ("run", -1), ("run", -1)):
    pid = os.fork()  # a process of its own for each, without importing everything again
    if pid == 0:
        try:
            train(run, kill)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.path.exists(f"{run}/task"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "step"), [("freeze_unfreeze", 1), ("full", 4)])
def test_a_killed_process_is_continued_by_the_same_call(
    photos: Path, tmp_path: Path, strategy: str, step: int
) -> None:
    (tmp_path / "train.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "-u", "train.py", str(photos), strategy, str(step)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.stdout.splitlines() == [
        "0 True",
        f"{-signal.SIGKILL} False",
        "0 True",
        "0 True",
    ], done.stderr
    expected, found = (tmp_path / f"{run}/task/model.safetensors" for run in ("whole", "run"))
    assert found.read_bytes() == expected.read_bytes()
    assert done.stderr.count("is finished") == 1
