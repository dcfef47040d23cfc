"""The main job, as a user does it, on drawn pictures and a tiny net."""

import copy
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import nn

import mealkit
from mealkit import ImageClassifier, ImageData, Training
from mealkit.backbones import create
from mealkit.errors import (
    ClassError,
    InvalidValueError,
    NoDataError,
    RunError,
    UnreadableError,
)
from mealkit.specs import ImageDataSpec, ImageSpec
from mealkit.tasks import Lora
from mealkit.tasks.classifier import Classifier
from mealkit.tasks.training import resolve_precision

Make = Callable[..., ImageClassifier]
PLAIN = ImageSpec(size=(16, 16))  # what the small net wants
BareTrainer = Callable[[int], pl.Trainer]


@pytest.fixture
def tuned(make_task: Make) -> ImageClassifier:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze")
    return task


# Training.


def test_eight_pictures_are_learnt_by_heart(photos: Path) -> None:
    some = sorted((photos / "train").glob("*/*"))[::5][:8]
    labels = [path.parent.name for path in some]
    task = ImageClassifier.from_files(
        some, labels, backbone="mealkit_tiny", pretrained=False, split=0
    )
    task.data.augment = "none"
    task.finetune(epochs=50, lr=3e-3, training=Training(label_smoothing=0.0))
    assert task.predict(some).labels == labels


def test_default_finetuning_is_right_on_easy_pictures(make_task: Make, photos: Path) -> None:
    task = make_task()
    history = task.finetune(epochs=6, lr=5e-3)
    assert len(history) == 6
    assert task.evaluate(photos / "test").metrics["accuracy"] >= 0.75


@pytest.mark.parametrize("strategy", sorted(mealkit.tasks.STRATEGIES))
def test_every_strategy_trains(make_task: Make, strategy: str) -> None:
    task = make_task()
    history = task.finetune(epochs=3, strategy=strategy, lr=2e-3)
    assert [row["epoch"] for row in history.rows] == [0, 1, 2]
    assert all(np.isfinite(row["train/loss"]) for row in history.rows)
    assert history.rows[-1]["val/loss"] < np.log(3), "better than guessing three classes"


def test_the_task_holds_the_weights_of_the_best_epoch(make_task: Make) -> None:
    task = make_task(pretrained=False)
    history = task.finetune(epochs=6, lr=0.02)  # too fast, so that epochs differ
    accuracies = [row["val/accuracy"] for row in history.rows]
    assert history.best["val/accuracy"] == max(accuracies)
    again = task.evaluate(_val_only(task.data))
    assert again.metrics["accuracy"] == pytest.approx(history.best["val/accuracy"])
    assert again.metrics["loss"] == pytest.approx(history.best["val/loss"], abs=1e-4)


def _val_only(data: ImageData) -> ImageData:
    part = copy.copy(data)
    part.test = None
    return part


def test_the_same_seed_gives_the_same_weights(make_task: Make) -> None:
    tasks = [make_task(), make_task()]
    for task in tasks:
        torch.rand(3)  # whatever the global generator did meanwhile changes nothing
        task.finetune(epochs=2, strategy="full")
    for first, second in zip(tasks[0].parameters(), tasks[1].parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_second_finetune_goes_on_from_the_current_weights(make_task: Make) -> None:
    task = make_task()
    task.finetune(epochs=4, strategy="full", lr=5e-3)
    first = task.evaluate().metrics["loss"]
    history = task.finetune(epochs=1, strategy="full", lr=1e-6)
    assert history.rows[0]["val/loss"] < np.log(3)
    assert task.evaluate().metrics["loss"] == pytest.approx(first, abs=0.05)


def test_a_net_trained_from_nothing_counts_as_pretrained_afterwards(make_task: Make) -> None:
    task = make_task(pretrained=False)
    assert task.plan_training().plan.strategy(0, 5, 0, 3) == 1.0  # full
    task.finetune(epochs=1)
    assert task.backbone.pretrained
    assert ImageClassifier(task, classes=["x", "y"]).backbone.pretrained
    assert task.plan_training().plan.strategy(0, 5, 0, 3) == 0.0  # freeze_unfreeze


def test_without_validation_the_last_weights_stay(photos: Path, make_task: Make) -> None:
    task = make_task()
    data = ImageData.from_folders(photos / "train", split=0)
    history = task.finetune(data, epochs=2)
    assert history.best_epoch is None
    assert "val/loss" not in history.rows[0]


def test_logger_and_callbacks_of_the_user_are_added(make_task: Make, tmp_path: Path) -> None:
    seen = []

    class Count(pl.Callback):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            seen.append(trainer.current_epoch)

    logger = pl.loggers.CSVLogger(tmp_path, name="logs", version=0)
    make_task().finetune(epochs=2, logger=logger, callbacks=[Count()])
    assert seen == [0, 1]
    rows = pd.read_csv(tmp_path / "logs/version_0/metrics.csv")
    assert {"train/loss", "val/accuracy"} <= set(rows.columns)


def test_a_trainer_of_the_user_replaces_ours_and_keeps_its_callbacks(
    make_task: Make, bare_trainer: BareTrainer
) -> None:
    trainer = bare_trainer(2)
    history = make_task().finetune(trainer=trainer)
    assert len(history) == 2
    names = [type(callback).__name__ for callback in trainer.callbacks]
    assert "Recorder" not in names


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"epochs": 3}, "epochs="),
        ({"precision": "32-true"}, "precision="),
        ({"training": Training(accumulate=2)}, "accumulate="),
        ({"training": Training(clip_norm=None)}, "clip_norm="),
    ],
)
def test_a_trainer_beside_what_it_decides_is_refused(make_task: Make, more, name) -> None:
    trainer = pl.Trainer(max_epochs=1, logger=False, enable_checkpointing=False)
    with pytest.raises(InvalidValueError, match=f"{name} beside trainer="):
        make_task().finetune(trainer=trainer, **more)


def test_lightning_resumes_from_its_own_checkpoint(
    make_task: Make, bare_trainer: BareTrainer, tmp_path: Path
) -> None:
    def fit(task: ImageClassifier, epochs: int, **more: object) -> None:
        trainer = bare_trainer(epochs)
        trainer.fit(task, datamodule=task.data, weights_only=True, **more)
        trainer.save_checkpoint(tmp_path / f"{epochs}.ckpt")

    first = make_task().plan_training(strategy="full", lr=1e-3)
    fit(first, 1)
    second = make_task(seed=5).plan_training(strategy="full", lr=1e-3)
    fit(second, 2, ckpt_path=tmp_path / "1.ckpt")
    assert torch.load(tmp_path / "2.ckpt", weights_only=True)["epoch"] == 2


# Settings that cannot be meant.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "epochs=0: expected at least 1"),
        ({"lr": -1.0}, "lr=-1.0: expected a positive"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        ({"strategy": "frezee"}, "Did you mean 'freeze'"),
        ({"precision": "fp8"}, "no precision 'fp8'"),
        ({"epochs": 2.5}, "epochs=2.5: expected a whole number"),
        ({"epochs": True}, "epochs=True: expected a whole number"),
        ({"batch_size": "2"}, "batch_size='2': expected a number or 'auto'"),
        ({"batch_size": 2.0}, "batch_size=2.0: expected a whole number"),
        ({"lr": [1e-3]}, r"lr=\[0.001\]: expected a positive number"),
        ({"strategy": Lora}, r"a class: call it, Lora\(\)"),
        ({"strategy": 3}, "strategy=3: expected a name"),
        ({"training": {"patience": 2}}, r"expected mealkit.tasks.Training"),
        ({"trainer": "gpu"}, r"trainer= is a builtins.str: expected a pytorch_lightning.Trainer"),
        ({"data": "photos"}, "data='photos': expected a data module of mealkit"),
        ({"strategy": lambda: 1.0}, "cannot be called with"),
        ({"strategy": lambda *_: "all"}, "in epoch 0='all': expected a number"),
        ({"strategy": lambda *_: float("nan")}, "in epoch 0=nan: expected a number"),
        ({"callbacks": pl.Callback()}, "expected a list of callbacks"),
        ({"callbacks": [5]}, r"callbacks=\[5\]: expected a list of callbacks"),
        ({"logger": True}, "logger=True: expected a logger of pytorch_lightning"),
        ({"run": 5}, "run=5: expected the path of a folder"),
        ({"run": "runs/a", "resume": "yes"}, "resume='yes': expected True or False"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(make_task: Make, settings, words) -> None:
    with pytest.raises(InvalidValueError, match=words):
        make_task().finetune(**settings)


def test_training_names_values_of_another_kind() -> None:
    with pytest.raises(InvalidValueError, match=r"warmup='0.1': expected a number; seed=1.5"):
        Training(warmup="0.1", seed=1.5)
    with pytest.raises(InvalidValueError, match="patience=True: expected a whole number"):
        Training(patience=True)
    assert Training(ema=None, seed=np.int64(3)).seed == 3


def test_a_search_may_hand_on_the_numbers_of_numpy(make_task: Make, tmp_path: Path) -> None:
    plain, given = make_task(), make_task()
    plain.finetune(epochs=2, batch_size=8, lr=2**-9, training=Training(accumulate=2, ema=0.5))
    settings = Training(
        accumulate=np.int64(2), ema=np.float32(0.5), time_limit_seconds=np.float32(900)
    )
    given.data.balance = None
    asked = {"epochs": np.int64(2), "batch_size": np.int64(8), "lr": np.float32(2**-9)}
    given.finetune(**asked, training=settings, run=tmp_path / "run")
    for name, value in given.state_dict().items():
        assert torch.equal(value, plain.state_dict()[name]), name
    given.data.balance = {"circle": np.float32(2)}
    history = given.finetune(**asked, training=settings, run=tmp_path / "balanced")
    again = given.finetune(**asked, training=settings, run=tmp_path / "balanced", resume=True)
    assert again == history
    assert len(given.predict(given.data.val.ids, batch_size=np.int64(5))) == len(given.data.val)
    task = ImageClassifier(
        "mealkit_tiny", classes=["a", "b"], size=np.int64(40), dropout=np.float32(0.25)
    )
    task.save(tmp_path / "saved")
    assert mealkit.load(tmp_path / "saved").input_spec.size == (40, 40)


def test_a_seed_that_no_generator_takes_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"seed=9223372036854775808: expected at least"):
        Training(seed=2**63)


def test_pictures_that_are_lost_in_training_are_said(
    make_task: Make, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    broken = task.data.train.ids[3]
    Path(broken).write_text("no picture any more")
    task.finetune(epochs=1, strategy="full")
    assert "1 problems with inputs came up in training" in caplog.text
    assert broken in caplog.text
    caplog.clear()
    task.finetune(epochs=1, strategy="full")  # which loses the same one again
    assert "came up in training" not in caplog.text


def test_training_lists_every_problem_at_once() -> None:
    with pytest.raises(InvalidValueError, match=r"weight_decay=-1.*warmup=2.*accumulate=0"):
        Training(weight_decay=-1, warmup=2, accumulate=0)


@pytest.mark.parametrize(
    ("knob", "value", "words"),
    [
        ("num_workers", -1, "num_workers=-1: expected at least 0"),
        ("num_workers", "2", "num_workers='2': expected a whole number"),
        ("batch_size", 1.5, "batch_size=1.5: expected a whole number"),
        ("augment", lambda images: images, "cannot be called as augment"),
        ("augment", "strong", "no augmentation 'strong'"),
        ("mix", "mixcut", "no way to mix 'mixcut'|mixcut"),
    ],
)
def test_knobs_of_data_that_cannot_be_meant_are_refused(
    make_task: Make, knob, value, words
) -> None:
    task = make_task()
    setattr(task.data, knob, value)
    with pytest.raises(InvalidValueError, match=words):
        task.finetune(epochs=1, strategy="full")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"abstain": "0.5"}, r"abstain='0.5': expected a probability in \(0, 1\]"),
        ({"abstain": True}, "abstain=True: expected a probability"),
        ({"coverage": "0.9"}, r"coverage='0.9': expected a share in \(0, 1\)"),
        ({"coverage": 1.0}, "coverage=1.0: expected a share"),
        ({"tta": "yes"}, "tta='yes': expected True or False"),
        ({"tta": True, "coverage": 0.9}, "coverage= beside tta=True"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
    ],
)
def test_answers_that_cannot_be_meant_are_refused(make_task: Make, photos, asked, words) -> None:
    task = make_task()
    task.finetune(epochs=1)
    task.calibrate()
    with pytest.raises(InvalidValueError, match=words):
        task.predict(photos / "test", **asked)


@pytest.mark.parametrize(
    ("built", "words"),
    [
        ({"multi_label": "yes"}, "multi_label='yes': expected True or False"),
        ({"pretrained": "maybe"}, "pretrained='maybe': expected True or False"),
        ({"in_chans": "3"}, "in_chans='3': expected a whole number"),
        ({"size": 1.5}, "size=1.5: expected a number of pixels"),
        ({"size": (32, 0)}, r"size=\(32, 0\): expected a number of pixels"),
        ({"size": (1, 2, 3)}, "expected a number of pixels"),
        ({"dropout": "x"}, r"dropout='x': expected a share in \[0, 1\)"),
    ],
)
def test_tasks_that_cannot_be_meant_are_refused(built, words) -> None:
    with pytest.raises(InvalidValueError, match=words):
        ImageClassifier("mealkit_tiny", classes=["a", "b"], **built)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (["a"], "at least two"),
        (["a", "a"], "got twice: a"),
        ("ab", "expected several names"),
        (None, "classes=None: expected several names"),
        (["a", None], "None is no name"),
        (["", "b"], "'' is no name"),
        ({"a", "b"}, "classes is a set: expected a list, whose order"),
        ({"a": 0, "b": 1}, "classes is a dict: expected a list"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(classes, words) -> None:
    with pytest.raises(ClassError, match=words):
        ImageClassifier("mealkit_tiny", classes=classes, pretrained=False)


def test_arguments_beside_a_finished_backbone_are_refused() -> None:
    backbone = create("mealkit_tiny", pretrained=False)
    with pytest.raises(InvalidValueError, match="size= beside a backbone that is already built"):
        ImageClassifier(backbone, classes=["a", "b"], size=64)


def test_data_with_other_classes_are_refused(make_task: Make, shapes: Path) -> None:
    (shapes / "circle").rename(shapes / "oval")
    with pytest.raises(InvalidValueError, match="oval"):
        make_task().finetune(ImageData.from_folders(shapes))


def test_finetuning_without_data_says_what_to_do() -> None:
    task = ImageClassifier("mealkit_tiny", classes=["a", "b"], pretrained=False)
    with pytest.raises(NoDataError, match=r"task.finetune\(data\)"):
        task.finetune()
    with pytest.raises(NoDataError, match=r"task.evaluate\("):
        task.evaluate()


# Sources.


def test_every_source_makes_a_task(photos: Path, tmp_path: Path) -> None:
    paths = sorted((photos / "train").glob("*/*"))
    labels = [path.parent.name for path in paths]
    frame = pd.DataFrame({"path": map(str, paths), "kind": labels})
    frame.to_csv(tmp_path / "all.csv", index=False)
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in paths]
    rows = list(zip(arrays, labels, strict=True))
    net = {"backbone": "mealkit_tiny", "pretrained": False}
    tasks = [
        ImageClassifier.from_folders(photos / "train", **net),
        ImageClassifier.from_files(paths, labels, **net),
        ImageClassifier.from_csv(tmp_path / "all.csv", image="path", label="kind", **net),
        ImageClassifier.from_data_frame(frame, image="path", label="kind", **net),
        ImageClassifier.from_arrays(arrays, labels, **net),
        ImageClassifier.from_dataset(rows, **net),
    ]
    for task in tasks:
        assert task.classes == ("circle", "square", "triangle")
        assert len(task.data.train) + len(task.data.val) == 36


def test_arrays_of_four_channels_make_a_net_of_four_channels() -> None:
    images = np.random.default_rng(0).integers(0, 255, (12, 32, 32, 4), dtype=np.uint8)
    task = ImageClassifier.from_arrays(
        images, [0, 1] * 6, backbone="mealkit_tiny", pretrained=False
    )
    assert task.input_spec.in_chans == 4
    task.finetune(epochs=1)
    assert task.predict(images).probabilities.shape == (12, 2)


def test_arrays_of_other_channels_than_the_net_are_refused_before_the_first_batch() -> None:
    images = np.zeros((12, 16, 16, 4), dtype=np.uint8)
    data = ImageData.from_arrays(images, [0, 1] * 6, on_error="raise")
    task = ImageClassifier("mealkit_tiny", classes=data.classes, pretrained=False)
    with pytest.raises(InvalidValueError, match="arrays have 4 channels and the net takes 3"):
        task.finetune(data)


def test_files_of_channels_that_no_file_has_are_refused_before_the_first_batch(
    shapes: Path,
) -> None:
    task = ImageClassifier.from_folders(
        shapes, backbone="mealkit_tiny", pretrained=False, in_chans=2
    )
    with pytest.raises(InvalidValueError, match="net takes 2 channels, and files are read with"):
        task.finetune(epochs=1)


def test_size_is_changed_for_net_and_data(photos: Path) -> None:
    task = ImageClassifier.from_folders(
        photos / "train", backbone="mealkit_tiny", pretrained=False, size=48
    )
    task.data.prepare(task.input_spec)
    assert task.data.train.__getitems__([0])["image"].shape == (1, 3, 48, 48)


# Predictions.


@pytest.fixture
def server(photos: Path) -> Iterator[str]:
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(photos))
    handler.log_message = lambda *args: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_every_form_of_a_picture_gets_the_same_answer(
    tuned: ImageClassifier, photos: Path, server: str
) -> None:
    path = sorted((photos / "test/square").glob("*"))[0]
    image = Image.open(path)
    array = np.asarray(image)
    forms = [
        path,
        str(path),
        path.read_bytes(),
        image,
        array,
        torch.from_numpy(array.copy()).permute(2, 0, 1),
        f"{server}/test/square/{path.name}",
    ]
    answers = [tuned.predict(form).probabilities[0] for form in forms]
    for answer in answers:
        assert np.allclose(answer, answers[0], atol=1e-5)
    together = tuned.predict(forms)
    assert np.allclose(together.probabilities, answers[0], atol=1e-5)


def test_rows_come_in_input_order_and_do_not_depend_on_the_batch(
    tuned: ImageClassifier, photos: Path
) -> None:
    paths = sorted((photos / "test").glob("*/*"))[::-1]
    one_by_one = np.concatenate([tuned.predict(path).probabilities for path in paths])
    batched = tuned.predict(paths, batch_size=5)
    assert batched.inputs == tuple(map(str, paths))
    assert np.allclose(batched.probabilities, one_by_one, atol=1e-5)
    assert np.allclose(batched.probabilities.sum(1), 1, atol=1e-5)


def test_a_folder_and_a_frame_are_predicted(tuned: ImageClassifier, photos: Path) -> None:
    folder = tuned.predict(photos / "test")
    assert len(folder) == 12
    frame = pd.DataFrame({"file": folder.inputs, "note": "x"})
    answer = tuned.predict(frame, image="file").to_frame()
    assert list(answer.columns) == ["input", "label", "probability", *tuned.classes]
    assert answer["label"].tolist() == folder.labels


def test_one_unreadable_picture_raises_and_among_others_is_an_error_row(
    tuned: ImageClassifier, photos: Path, tmp_path: Path
) -> None:
    good = next((photos / "test/circle").iterdir())
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(good.read_bytes()[:200])
    for single in (broken, tmp_path / "absent.jpg"):
        with pytest.raises(UnreadableError, match=single.name):
            tuned.predict(single)
    rows = tuned.predict([broken, good, tmp_path / "absent.jpg"])
    assert [row.label is None for row in rows] == [True, False, True]
    assert [row.error is None for row in rows] == [False, True, False]
    assert "error" in rows.to_frame().columns
    nothing = tuned.predict([broken, broken])
    assert nothing.labels == [None, None]


def test_views_are_averaged(tuned: ImageClassifier, photos: Path) -> None:
    paths = sorted((photos / "test").glob("*/*"))
    tuned.data.prepare(tuned.input_spec)
    batch = tuned.data.test.__getitems__(range(12))
    flipped = {**batch, "image": batch["image"].flip(3)}
    tuned.precision = "32-true"
    with torch.no_grad():
        plain, mirror = (tuned.predict_step(one, 0)["probabilities"] for one in (batch, flipped))
    assert not torch.allclose(plain, mirror, atol=1e-4), "else the test could not fail"
    answer = tuned.predict(paths, tta=True, batch_size=5).probabilities
    assert np.allclose(answer, (plain + mirror).numpy() / 2, atol=1e-5)
    assert np.array_equal(answer, tuned.predict(paths, tta=True, batch_size=5).probabilities)


def test_a_mirror_image_gets_the_same_answer_with_tta(tuned: ImageClassifier, photos: Path) -> None:
    tuned.precision = "32-true"
    image = np.asarray(Image.open(next((photos / "test/triangle").iterdir())).resize((16, 16)))
    both = tuned.predict([image, image[:, ::-1].copy()], tta=True).probabilities
    assert np.allclose(both[0], both[1], atol=1e-5)


def test_tta_is_refused_where_it_means_nothing(tuned: ImageClassifier, photos: Path) -> None:
    tuned.calibrate()
    with pytest.raises(InvalidValueError, match="coverage= beside tta=True"):
        tuned.predict(photos / "test", tta=True, coverage=0.5)

    class Other(ImageClassifier):
        _views = Classifier._views

    other = Other(tuned, classes=tuned.classes)
    with pytest.raises(InvalidValueError, match="inputs of Other have no further views"):
        other.predict(photos / "test", tta=True)


def test_nothing_to_predict_is_an_error(tuned: ImageClassifier, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoDataError):
        tuned.predict(tmp_path / "empty")
    with pytest.raises(NoDataError):
        tuned.predict([])


def test_lightning_predicts_the_same(tuned: ImageClassifier, data: ImageData) -> None:
    data.prepare(tuned.input_spec)
    trainer = pl.Trainer(logger=False, enable_progress_bar=False, enable_checkpointing=False)
    outputs = trainer.predict(tuned, data.test_dataloader())
    tuned.precision = "32-true"  # the plain Trainer's own
    ours = tuned.predict(list(data.test.ids))
    theirs = torch.cat([output["probabilities"] for output in outputs]).numpy()
    order = torch.cat([output["index"] for output in outputs]).numpy()
    assert np.allclose(ours.probabilities[order], theirs, atol=1e-6)


# Evaluation and embeddings.


def test_evaluation_counts_by_hand(tuned: ImageClassifier, photos: Path) -> None:
    evaluation = tuned.evaluate(photos / "test")
    paths = sorted((photos / "test").glob("*/*"))
    predicted = tuned.predict(paths).labels
    right = [path.parent.name == label for path, label in zip(paths, predicted, strict=True)]
    assert evaluation.metrics["accuracy"] == pytest.approx(np.mean(right))
    matrix = evaluation.confusion_frame()
    for path, label in zip(paths, predicted, strict=True):
        matrix.loc[path.parent.name, label] -= 1
    assert (matrix == 0).all(axis=None)


def test_evaluation_accepts_a_part_of_the_classes(tuned: ImageClassifier, photos: Path) -> None:
    (photos / "test/circle").rename(photos / "circle")
    evaluation = tuned.evaluate(photos / "test")
    assert evaluation.confusion[0].sum() == 0
    assert np.isnan(evaluation.to_frame().loc["circle", "recall"])


def test_evaluation_refuses_an_unknown_class(tuned: ImageClassifier, photos: Path) -> None:
    (photos / "test/circle").rename(photos / "test/oval")
    with pytest.raises(ClassError, match="oval"):
        tuned.evaluate(photos / "test")


def test_evaluation_says_what_it_could_not_read(tuned: ImageClassifier, photos: Path) -> None:
    next((photos / "test/circle").iterdir()).write_text("no picture")
    evaluation = tuned.evaluate(photos / "test")
    assert evaluation.num_unreadable == 1
    assert evaluation.confusion.sum() == 11


def test_embeddings_are_what_the_head_sees(tuned: ImageClassifier, photos: Path) -> None:
    paths = sorted((photos / "test").glob("*/*"))
    embeddings = tuned.embed(paths)
    assert embeddings.values.shape == (12, tuned.backbone.num_features)
    assert embeddings.ids == tuple(map(str, paths))
    logits = embeddings.values @ tuned.head[1].weight.detach().numpy().T
    logits += tuned.head[1].bias.detach().numpy()
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    expected = shifted / shifted.sum(1, keepdims=True)
    assert np.allclose(expected, tuned.predict(paths).probabilities, atol=1e-4)


# Pictures.


def test_a_batch_is_shown_as_the_net_sees_it(make_task: Make) -> None:
    task = make_task()
    figure = task.show_batch(6)
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 6
    seen: dict[str, torch.Tensor] = {}
    task.preprocess.register_forward_hook(lambda module, args, out: seen.update(net=out[0]))
    data = copy.copy(task.data)
    data.batch_size = 6
    batch = next(iter(data.train_dataloader()))  # the first one that is trained on
    batch = data.augment_batch(batch, epoch=0)
    task.features(batch)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (PLAIN.mean, PLAIN.std))
    expected = (seen["net"] * std + mean).permute(0, 2, 3, 1).numpy()
    for axes, pixels, target in zip(shown, expected, batch["target"], strict=True):
        assert np.allclose(axes.images[0].get_array(), pixels, atol=1e-5)
        assert axes.get_title() == task.classes[target]
    assert np.allclose(expected * 255, batch["image"].permute(0, 2, 3, 1), atol=1e-3)


def test_a_batch_shows_the_augmentation(make_task: Make) -> None:
    task = make_task()
    task.data.augment = lambda images, *, seed, epoch, index: torch.zeros_like(images)
    assert task.show_batch(2).axes[0].images[0].get_array().max() < 1e-6
    task.data.augment = "none"
    assert task.show_batch(2).axes[0].images[0].get_array().max() > 0.1
    assert len(task.show_batch(100).axes) == 36


def test_predictions_are_shown_with_their_pictures(tuned: ImageClassifier, photos: Path) -> None:
    paths = [*sorted((photos / "test").glob("*/*"))[::4], photos / "absent.jpg"]
    figure = tuned.show_predictions(paths)
    rows = tuned.predict(paths[:3])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [*(f"{row.label} {row.probability:.2f}" for row in rows), "not readable"]
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 1, 0]
    tuned.data.prepare(tuned.input_spec)
    first = tuned.data.test.__getitems__([0])["image"][0].permute(1, 2, 0)
    assert np.allclose(figure.axes[0].images[0].get_array() * 255, first, atol=1e-3)
    assert len(tuned.show_predictions(photos / "test", n=2).axes) == 2


def test_pictures_that_cannot_be_shown_say_why(tuned: ImageClassifier, photos: Path) -> None:
    for show in (tuned.show_batch, lambda n: tuned.show_predictions(photos / "test", n=n)):
        with pytest.raises(InvalidValueError, match="n=0: expected at least 1"):
            show(0)
        with pytest.raises(InvalidValueError, match="n='3': expected a whole number"):
            show("3")
    tuned.data = None
    with pytest.raises(NoDataError, match="Say what to look at: data="):
        tuned.show_batch()


# Backbones of every origin.


def test_a_task_is_a_backbone_for_another_task(tuned: ImageClassifier, photos: Path) -> None:
    other = ImageClassifier(tuned, classes=["x", "y"])
    assert other.backbone is not tuned.backbone
    paths = sorted((photos / "test").glob("*/*"))
    assert np.array_equal(other.embed(paths).values, tuned.embed(paths).values)


def test_a_module_of_the_user_is_a_backbone(photos: Path) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 6, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.conv(image).relu()

    backbone = create(Net(), ImageDataSpec(size=20))
    task = ImageClassifier.from_folders(photos / "train", backbone=backbone)
    assert task.backbone.num_features == 6
    task.finetune(epochs=1)
    assert len(task.predict(photos / "test")) == 12


# Run folders.


def test_a_run_leaves_settings_history_curves_and_the_task(make_task: Make, tmp_path: Path) -> None:
    task = make_task()
    history = task.finetune(epochs=2, run=tmp_path / "runs/one")
    folder = tmp_path / "runs/one"
    names = {path.name for path in folder.iterdir()}
    assert names == {"settings.json", "history.csv", "finished.json", "curves.png", "task"}
    pd.testing.assert_frame_equal(pd.read_csv(folder / "history.csv"), history.to_frame())
    settings = json.loads((folder / "settings.json").read_text())
    assert settings["epochs"] == 2
    assert settings["strategy"] == "freeze_unfreeze"
    assert settings["precision"] == resolve_precision("auto")
    assert settings["data"]["batch_size"] == 12
    assert settings["data"]["sees"] == "pictures, augmentation 'light'"
    assert settings["data"]["train"] == 36
    assert settings["versions"]["torch"] == torch.__version__.split("+")[0]
    loaded = mealkit.load(folder / "task", backbone=type(task.backbone.net)())
    assert loaded.classes == task.classes


def test_a_run_is_never_overwritten(make_task: Make, tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/notes.txt").write_text("keep me")
    task = make_task()
    before = copy.deepcopy(task.state_dict())
    with pytest.raises(RunError, match="not empty"):
        task.finetune(epochs=1, run=tmp_path / "old")
    assert (tmp_path / "old/notes.txt").read_text() == "keep me"
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
