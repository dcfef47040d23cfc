"""Whole runs with unlabelled inputs: the stage ahead, the guard behind, resuming, errors."""

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch

from mealkit import ImageClassifier, TextClassifier, TextData
from mealkit.errors import (
    BackboneError,
    DataError,
    InvalidValueError,
    NoDataError,
    RunError,
    UnknownNameError,
    UnreadableError,
)
from mealkit.tasks import FixMatch, FreeMatch, MeanTeacher
from mealkit.tasks.objectives import Supervised
from mealkit.tasks.semi_supervised import METHODS
from mealkit.tasks.semi_supervised_run import Guard

Make = Callable[..., ImageClassifier]
Tickets = list[tuple[str, str]]
NET = "mealkit_tiny_text"


@pytest.fixture
def pictures(shapes: Path) -> Path:
    """36 further pictures of the same classes, whose folders are not looked at."""
    return shapes


@pytest.fixture
def make_sorter(tickets: Tickets) -> Callable[[], TextClassifier]:
    """Tasks with 12 labelled tickets, 6 more of which choose."""

    def make() -> TextClassifier:
        texts, labels = (list(part) for part in zip(*tickets[:18], strict=True))
        val = (texts[12:], labels[12:])
        return TextClassifier.from_lists(texts[:12], labels[:12], val=val, backbone=NET)

    return make


@pytest.fixture
def others(tickets: Tickets) -> list[str]:
    """30 further tickets, without their labels."""
    return [text for text, _ in tickets[18:]]


class Stop(Exception):
    """The run is killed."""


class Killer(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 3:
            raise Stop


def test_a_stopped_run_ends_where_the_whole_one_did(
    make_task: Make, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mealkit.tasks.checkpoint.EVERY_SECONDS", 0.0)
    monkeypatch.setattr("mealkit.tasks.checkpoint.MOST_SHARE", float("inf"))
    import pytorch_lightning as pl

    class Killer(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == 8:
                raise Stop

    def settings(name: str) -> dict:
        method = FreeMatch(ratio=2)
        return {
            "unlabelled": pictures,
            "method": method,
            "epochs": 2,
            "batch_size": 6,
            "run": tmp_path / name,
        }

    whole = make_task(pretrained=False)
    expected = whole.finetune(**settings("whole"))
    with pytest.raises(Stop):
        make_task(pretrained=False).finetune(**settings("killed"), callbacks=[Killer()])
    again = make_task(pretrained=False, seed=5)  # whose weights come from the checkpoint
    resumed = again.finetune(**settings("killed"), resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    assert resumed.best_epoch == expected.best_epoch
    shares = [row["unlabelled/mask_rate"] for row in resumed.rows]
    assert shares == [row["unlabelled/mask_rate"] for row in expected.rows]
    other = {**settings("killed"), "method": FixMatch(ratio=2)}
    third = make_task(pretrained=False)
    with pytest.raises(RunError, match="fixmatch"):
        third.finetune(**other, resume=True)


@pytest.mark.parametrize("accuracy", [1.1, 0.0])
def test_the_guard_puts_labels_alone_back_where_they_are_better(
    make_task: Make, pictures: Path, monkeypatch, caplog, accuracy: float
):
    kept = {}

    class Scored(Guard):
        def keep(self, task, held) -> None:
            super().keep(task, held)
            self._accuracy = accuracy
            kept.update({name: value.clone() for name, value in self._weights.items()})

    monkeypatch.setattr("mealkit.tasks.semi_supervised_run.Guard", Scored)
    task = make_task(pretrained=False)
    with caplog.at_level(logging.INFO, "mealkit"):
        history = task.finetune(unlabelled=pictures, method="fixmatch", epochs=1, batch_size=6)
    state = task.state_dict()
    is_kept = all(torch.equal(state[name], value) for name, value in kept.items())
    if accuracy > 1:
        assert "Unlabelled inputs have not helped" in caplog.text
        assert is_kept
        assert history.best_epoch is None
    else:
        assert "With unlabelled inputs: validation accuracy" in caplog.text
        assert not is_kept
        assert history.best_epoch == 0


@pytest.mark.parametrize(
    ("solved", "trained", "both", "stays"),
    [(0.9, 0.5, 0.7, "solved"), (0.5, 0.8, 0.7, "trained"), (0.5, 0.6, 0.7, "both")],
)
def test_the_best_of_solved_head_labels_alone_and_both_stays(
    make_sorter, others, monkeypatch, caplog, solved, trained, both, stays
):
    found = iter([solved, trained])
    seen: dict[str, dict[str, torch.Tensor]] = {}

    def score(task, held, *, batch_size):
        seen["trained" if seen else "solved"] = {
            name: value.clone()
            for name, value in task.state_dict().items()
            if name.startswith(("backbone.", "head."))
        }
        return SimpleNamespace(metrics={"accuracy": next(found)})

    monkeypatch.setattr("mealkit.tasks.semi_supervised_run.evaluate_classes", score)
    monkeypatch.setattr(TextClassifier, "best_value", property(lambda task: both))
    task = make_sorter()
    before = {name: value.clone() for name, value in task.backbone.state_dict().items()}
    with caplog.at_level(logging.INFO, "mealkit"):
        task.finetune(unlabelled=others, method="fixmatch", epochs=1, batch_size=4)
    state = task.state_dict()
    kept = [
        name
        for name, weights in seen.items()
        if all(torch.equal(state[key], value) for key, value in weights.items())
    ]
    assert kept == ([] if stays == "both" else [stays])
    frozen = all(torch.equal(value, before[n]) for n, value in task.backbone.state_dict().items())
    assert frozen is (stays == "solved")
    assert ("is what the run must come up to" in caplog.text) is (solved > trained)


def test_the_stage_leaves_batch_statistics_of_an_untrained_net_moving(
    make_task: Make, pictures: Path, caplog
):
    task = make_task(pretrained=False)
    task.data.val = None
    with caplog.at_level(logging.INFO, "mealkit"):
        task.finetune(unlabelled=pictures, method="fixmatch", epochs=1, batch_size=6)
    tables = [record.message for record in caplog.records if "batch statistics" in record.message]
    assert len(tables) == 2
    assert all("batch statistics moving" in table for table in tables)
    assert "labels alone" in tables[0]
    assert "7 of 36 unlabelled beside each; fixmatch" in tables[1]
    assert "nothing will tell whether the unlabelled inputs have helped" in caplog.text
    assert task.backbone.pretrained


@pytest.mark.parametrize(
    ("settings", "error", "says"),
    [
        ({"unlabelled": "here"}, InvalidValueError, "unlabelled= without method="),
        ({"method": "fixmatch"}, InvalidValueError, "method='fixmatch' without unlabelled="),
        ({"unlabelled": "here", "method": "fixmach"}, UnknownNameError, "Did you mean 'fixmatch'"),
        ({"unlabelled": "here", "method": 3}, InvalidValueError, "method=3: expected a name"),
        ({"unlabelled": "empty", "method": "fixmatch"}, NoDataError, "no pictures in it"),
        (
            {"unlabelled": "here", "method": "fixmatch", "strategy": "freeze"},
            InvalidValueError,
            "the backbone never trains",
        ),
        (
            {"unlabelled": "here", "method": "fixmatch", "strategy": "lora"},
            InvalidValueError,
            "in one stage",
        ),
        (
            {"unlabelled": "here", "method": "fixmatch", "batch_size": "auto"},
            InvalidValueError,
            "batch_size='auto' beside unlabelled=",
        ),
        (
            {"unlabelled": "here", "method": "fixmatch", "epochs": "2"},
            InvalidValueError,
            "epochs='2': expected a whole number",
        ),
        (
            {"unlabelled": "here", "method": "fixmatch", "training": {"ema": 0.9}},
            InvalidValueError,
            r"training=\{'ema': 0\.9\}: expected mealkit\.tasks\.Training",
        ),
        (
            {"unlabelled": "here", "method": "fixmatch", "callbacks": None},
            InvalidValueError,
            "callbacks=None: expected a list",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_before_training(
    make_task: Make, pictures: Path, tmp_path: Path, settings, error, says
):
    (tmp_path / "empty").mkdir()
    task = make_task()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    places = {"here": pictures, "empty": tmp_path / "empty"}
    given = dict(settings)
    if "unlabelled" in given:
        given["unlabelled"] = places[given["unlabelled"]]
    with pytest.raises(error, match=says):
        task.finetune(**{"epochs": 2, **given})
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())
    assert isinstance(task.objective, Supervised)


def test_the_head_of_a_pretrained_net_is_solved_first(make_task: Make, pictures: Path, caplog):
    task = make_task()
    with caplog.at_level(logging.INFO, "mealkit"):
        task.finetune(
            unlabelled=pictures, method=FixMatch(ratio=2), strategy="full", epochs=1, batch_size=6
        )
    said = [record.message for record in caplog.records]
    tables = [line for line in said if line.startswith("Training by")]
    assert [table.partition(",")[0] for table in tables] == [
        "Training by freeze",
        "Training by full",
        "Training by full",
    ]
    assert sum("Solved the head" in line for line in said) == 1


def test_any_number_of_labels_has_no_most_probable_class(pictures: Path):
    images = np.zeros((8, 16, 16, 3), np.uint8)
    labels = [["a"], ["b"], ["a", "b"], []] * 2
    task = ImageClassifier.from_arrays(images, labels, backbone="mealkit_tiny", split=0)
    with pytest.raises(InvalidValueError, match="unlabelled= with any number of labels"):
        task.finetune(unlabelled=pictures, method="fixmatch", epochs=1, strategy="full")


# Texts.


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_learns_from_texts_and_says_its_shares(make_sorter, others, method: str):
    task = make_sorter()
    objective = task.objective
    before = {name: value.clone() for name, value in task.backbone.state_dict().items()}
    history = task.finetune(unlabelled=others, method=method, epochs=3, batch_size=4)
    for row in history.rows:
        assert 0 <= row["unlabelled/mask_rate"] <= 1
        assert math.isfinite(row["train/loss"])
    assert history.best["val/accuracy"] == 1
    assert task.objective is objective
    moved = [name for name, value in task.backbone.state_dict().items() if name in before]
    assert any(not torch.equal(before[name], task.backbone.state_dict()[name]) for name in moved)
    assert task.predict("my password stopped working in May").labels == ["login"]


def test_texts_are_seen_as_they_are_and_with_words_hidden(make_sorter, others):
    task = make_sorter()
    seen: list[list[int]] = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            weak, strong = (batch["unlabelled"][view] for view in ("weak", "strong"))
            width = weak["input_ids"].shape[1]
            hidden = strong["input_ids"][:, :width] != weak["input_ids"]
            assert batch["input_ids"].shape[1] == strong["input_ids"].shape[1]
            seen.append([int(hidden.sum()), int(weak["attention_mask"].sum()), len(weak["index"])])

    task.data.hidden_share = 0.4
    task.finetune(
        unlabelled=others, method=FixMatch(ratio=3), epochs=2, batch_size=4, callbacks=[Look()]
    )
    assert {count for *_, count in seen} == {12}
    hidden, tokens = (sum(counts) for counts in zip(*(row[:2] for row in seen), strict=True))
    # Two of a text's tokens, its marks, are never hidden.
    words = tokens - 2 * 12 * len(seen)
    assert hidden / words == pytest.approx(0.4, abs=0.08)


def test_tables_and_pairs_and_long_texts_train_too(tickets: Tickets, tmp_path: Path):
    frame = pd.DataFrame(tickets, columns=["message", "team"])
    frame[18:].to_csv(tmp_path / "more.csv", index=False)
    data = TextData.from_data_frame(frame[:18], text="message", label="team", split=0)
    task = TextClassifier(NET, classes=data.classes, max_length=8, long="chunk")
    history = task.finetune(
        data, unlabelled=str(tmp_path / "more.csv"), method=MeanTeacher(ratio=2), epochs=1
    )
    assert history.rows[0]["unlabelled/mask_rate"] == 1
    pairs = [(text, team) for text, team in tickets]
    labels = ["short" if len(text) < 30 else "long" for text, _ in tickets]
    other = TextClassifier.from_lists(pairs[:12], labels[:12], split=0, backbone=NET)
    rows = other.finetune(unlabelled=pairs[12:], method=FreeMatch(ratio=2), epochs=1).rows
    assert math.isfinite(rows[0]["train/loss"])


def test_few_texts_train_the_backbone_where_there_are_unlabelled_ones(make_sorter, others, caplog):
    with caplog.at_level(logging.INFO, "mealkit"):
        make_sorter().finetune(unlabelled=others, method=FixMatch(ratio=2), epochs=1)
    tables = [record.message for record in caplog.records if "Training by" in record.message]
    assert [table.partition(",")[0] for table in tables] == [
        "Training by freeze",
        "Training by full",
        "Training by full",
    ]
    assert "2 of 30 unlabelled beside each with 15% of tokens hidden; fixmatch" in tables[2]


def test_a_stopped_run_of_texts_ends_where_the_whole_one_did(
    make_sorter, others, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mealkit.tasks.checkpoint.EVERY_SECONDS", 0.0)
    monkeypatch.setattr("mealkit.tasks.checkpoint.MOST_SHARE", float("inf"))

    def settings(name: str) -> dict:
        method = FreeMatch(ratio=2)
        return {
            "unlabelled": others,
            "method": method,
            "epochs": 2,
            "batch_size": 4,
            "run": tmp_path / name,
        }

    whole = make_sorter()
    expected = whole.finetune(**settings("whole"))
    with pytest.raises(Stop):
        make_sorter().finetune(**settings("killed"), callbacks=[Killer()])
    again = make_sorter()
    resumed = again.finetune(**settings("killed"), resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    shares = [row["unlabelled/mask_rate"] for row in resumed.rows]
    assert shares == [row["unlabelled/mask_rate"] for row in expected.rows]
    third = make_sorter()
    third.data.hidden_share = 0.3
    with pytest.raises(RunError, match="30% of tokens hidden"):
        third.finetune(**settings("killed"), resume=True)


def test_the_guard_watches_over_texts(make_sorter, others, monkeypatch, caplog):
    kept = {}

    class Scored(Guard):
        def keep(self, task, held) -> None:
            super().keep(task, held)
            self._accuracy = 1.1
            kept.update({name: value.clone() for name, value in self._weights.items()})

    monkeypatch.setattr("mealkit.tasks.semi_supervised_run.Guard", Scored)
    task = make_sorter()
    with caplog.at_level(logging.INFO, "mealkit"):
        task.finetune(unlabelled=others, method="fixmatch", epochs=1, batch_size=4)
    assert "Unlabelled inputs have not helped" in caplog.text
    state = task.state_dict()
    assert all(torch.equal(state[name], value) for name, value in kept.items())


@pytest.mark.parametrize(
    ("unlabelled", "error", "says"),
    [
        ([], NoDataError, "unlabelled= holds no texts: it is empty"),
        ([None, ""], UnreadableError, "None of the 2 unlabelled texts can be read"),
        ([("pay me", "billing")], DataError, "tuple at position 0"),
        (["pay me", 3], DataError, "int at position 1"),
        ("absent.csv", NoDataError, "'absent.csv': there is no such file or folder"),
        (pd.DataFrame({"body": ["a"]}), DataError, "lacks a column that is trained on"),
        (np.zeros((4, 8, 8, 3)), DataError, "ndarray at position 0"),
    ],
)
def test_unlabelled_texts_that_are_none_are_refused_before_training(
    make_sorter, unlabelled, error, says
):
    task = make_sorter()
    before = {name: value.clone() for name, value in task.state_dict().items()}
    with pytest.raises(error, match=says):
        task.finetune(unlabelled=unlabelled, method="fixmatch", epochs=1)
    assert all(torch.equal(before[name], value) for name, value in task.state_dict().items())
    assert isinstance(task.objective, Supervised)


def test_an_encoder_without_a_mask_token_is_refused(make_sorter, others, monkeypatch):
    task = make_sorter()
    monkeypatch.setattr("mealkit.data.weak_strong.mask_token", lambda spec: None)
    with pytest.raises(BackboneError, match="no token for hidden words"):
        task.finetune(unlabelled=others, method="fixmatch", epochs=1)
