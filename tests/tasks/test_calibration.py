"""Calibration: what a temperature does, and that it travels with the task."""

import json
import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

import mealkit
from mealkit import ImageClassifier, ImageData
from mealkit.data import ImageSamples
from mealkit.errors import InvalidValueError, NoDataError
from mealkit.specs import Batch
from mealkit.tasks import Predictions
from mealkit.tasks.calibration import Conformal, compare, fit_temperature

Make = Callable[..., ImageClassifier]


def drawn(num: int, *, seed: int = 0, num_classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw logits, and classes by their very probabilities: the temperature is 1."""
    generator = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(num, num_classes, generator=generator)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]


@pytest.fixture
def unsure(make_task: Make, photos: Path) -> ImageClassifier:
    """A task that is often wrong: its validation and test parts have labels by chance."""
    paths = sorted((photos / "train").glob("*/*"))
    labels = [path.parent.name for path in paths]
    others = sorted((photos / "val").glob("*/*"))
    shuffled = [others[place].parent.name for place in (3, 9, 1, 0, 7, 2, 11, 4, 8, 5, 6, 10)]
    data = ImageData.from_files(paths, labels, val=(others, shuffled), test=(others, shuffled))
    data.batch_size = 12
    task = make_task()
    task.finetune(data, epochs=1, strategy="freeze")
    task.data = data
    return task


# The temperature.


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_true_temperature_is_found(temperature: float) -> None:
    logits, targets = drawn(20_000)
    assert fit_temperature(temperature * logits, targets) == pytest.approx(temperature, rel=0.05)


def test_no_other_temperature_has_a_lower_loss() -> None:
    logits, targets = drawn(300, seed=1)
    best = fit_temperature(4 * logits, targets)
    least = compare(4 * logits, targets, best).loss
    for other in np.geomspace(0.2, 20, 50):
        assert compare(4 * logits, targets, float(other)).loss >= least - 1e-6
    assert compare(4 * logits, targets, best * 1.1).loss > least


def test_an_over_confident_task_gets_honest() -> None:
    logits, targets = drawn(2_000)
    result = compare(3 * logits, targets, fit_temperature(3 * logits, targets))
    assert result.ece_before > 0.2
    assert result.ece < 0.03
    assert result.loss < result.loss_before - 0.3
    assert result.num_inputs == 2_000


def test_where_all_are_right_the_temperature_stays(caplog: pytest.LogCaptureFixture) -> None:
    logits, targets = torch.eye(4), torch.arange(4)
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        assert fit_temperature(logits, targets) == 1.0
    assert "All 4 validation inputs are right, so no temperature is best" in caplog.text


def test_a_task_that_diverged_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="not finite"):
        fit_temperature(torch.tensor([[math.nan, 1.0]]), torch.tensor([0]))


# In a task.


def test_calibration_changes_probabilities_and_no_label(unsure: ImageClassifier) -> None:
    val = unsure.data.val
    paths = list(val.ids)
    before, before_val = unsure.predict(paths), unsure.evaluate().metrics
    result = unsure.calibrate()
    after, after_val = unsure.predict(paths), unsure.evaluate().metrics
    assert unsure.temperature == result.temperature > 1
    assert after.labels == before.labels
    logs = np.log(before.probabilities) / result.temperature
    expected = np.exp(logs) / np.exp(logs).sum(1, keepdims=True)
    assert np.allclose(after.probabilities, expected, atol=1e-5)
    # The test part is a copy of the validation part here.
    assert result.loss_before == pytest.approx(before_val["loss"], abs=1e-4)
    assert result.loss == pytest.approx(after_val["loss"], abs=1e-4)
    assert result.ece_before == pytest.approx(before_val["ece"], abs=1e-4)
    assert result.ece == pytest.approx(after_val["ece"], abs=1e-4)
    assert result.loss < result.loss_before
    assert result.num_inputs == 12


def test_calibrating_twice_is_calibrating_once(unsure: ImageClassifier) -> None:
    assert unsure.calibrate() == unsure.calibrate()


def test_only_the_validation_part_is_read(
    unsure: ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    fetch = ImageSamples.__getitems__

    def spy(samples: ImageSamples, rows: Sequence[int]) -> Batch:
        read.append(samples)
        return fetch(samples, rows)

    monkeypatch.setattr(ImageSamples, "__getitems__", spy)
    unsure.calibrate()
    assert set(read) == {unsure.data.val}


def test_a_saved_task_keeps_its_calibration(unsure: ImageClassifier, tmp_path: Path) -> None:
    unsure.calibrate()
    folder = unsure.save(tmp_path / "saved")
    loaded = mealkit.load(folder, backbone=type(unsure.backbone.net)())
    assert loaded.temperature == unsure.temperature
    assert loaded._conformal == unsure._conformal
    paths = list(unsure.data.val.ids)
    assert np.allclose(
        loaded.predict(paths).probabilities, unsure.predict(paths).probabilities, atol=1e-6
    )


def test_a_task_saved_before_there_was_calibration_has_none(
    unsure: ImageClassifier, tmp_path: Path
) -> None:
    folder = unsure.save(tmp_path / "old")
    saved = json.loads((folder / "task.json").read_text())
    del saved["settings"]["temperature"], saved["settings"]["conformal"]
    (folder / "task.json").write_text(json.dumps(saved))
    loaded = mealkit.load(folder, backbone=type(unsure.backbone.net)())
    assert loaded.temperature == 1.0
    assert loaded._conformal is None


@pytest.mark.parametrize("by_trainer", [False, True])
def test_training_takes_calibration_back_and_says_so(
    unsure: ImageClassifier,
    bare_trainer: Callable[[int], pl.Trainer],
    by_trainer: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    unsure.calibrate()
    with caplog.at_level(logging.INFO, logger="mealkit"):
        if by_trainer:
            bare_trainer(1).fit(unsure, datamodule=unsure.data)
        else:
            unsure.finetune(epochs=1)
        assert unsure.temperature == 1.0
        assert unsure._conformal is None
        assert caplog.text.count("is 1 again") == 1
        unsure.finetune(epochs=1)
    assert caplog.text.count("is 1 again") == 1


def test_without_a_validation_part_nothing_is_calibrated(
    unsure: ImageClassifier, photos: Path
) -> None:
    with pytest.raises(NoDataError, match=r"no validation part.*val=, or leave split="):
        unsure.calibrate(ImageData.from_folders(photos / "train", split=0))
    unsure.data = None
    with pytest.raises(NoDataError, match=r"task.calibrate\(data\)"):
        unsure.calibrate()
    assert unsure.temperature == 1.0


# Conformal scores.


def test_the_quantile_of_the_scores_by_hand() -> None:
    probabilities = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [0.5, 0.5]])
    conformal = Conformal.of(probabilities, torch.tensor([0, 1, 1, 0]))
    assert conformal.scores == pytest.approx([0.1, 0.3, 0.5, 0.6])
    assert conformal.highest_score(0.2) == pytest.approx(0.1)  # rank 1 of 5
    assert conformal.highest_score(0.21) == pytest.approx(0.3)
    assert conformal.highest_score(0.6) == pytest.approx(0.5)
    assert conformal.highest_score(0.8) == pytest.approx(0.6)
    with pytest.raises(InvalidValueError, match=r"4 validation inputs can promise at most 0.8\."):
        conformal.highest_score(0.81)
    for wrong in (0.0, 1.0, 90):
        with pytest.raises(InvalidValueError, match=r"expected a share in \(0, 1\)"):
            conformal.highest_score(wrong)


def test_many_scores_are_thinned_and_never_promise_too_much() -> None:
    logits, targets = drawn(5_555)
    probabilities = logits.softmax(1)
    every = np.sort(1 - probabilities.numpy()[np.arange(5_555), targets])
    conformal = Conformal.of(probabilities, targets)
    assert len(conformal.scores) == 1_000
    for coverage in np.linspace(0.001, 0.999, 97):
        rank = math.ceil(5_556 * coverage)
        got = conformal.highest_score(float(coverage))
        assert every[rank - 1] <= got <= every[min(rank + 5, 5_554)]


def test_sets_cover_as_often_as_they_say() -> None:
    """On new draws the true class is in the set within four standard errors of what was asked."""
    names, num = ("a", "b", "c", "d", "e"), 20_000
    for seed, coverage in enumerate((0.6, 0.8, 0.9, 0.95)):
        known, new = drawn(5_000, seed=seed), drawn(num, seed=seed + 100)
        # Over-confident, so that a set made of the probabilities alone would be too small.
        conformal = Conformal.of((3 * known[0]).softmax(1), known[1])
        probabilities = (3 * new[0]).softmax(1).numpy()
        score = conformal.highest_score(coverage)
        rows = Predictions(tuple(map(str, range(num))), names, probabilities, set_score=score)
        targets = new[1].tolist()
        held = [names[target] in row.labels_set for row, target in zip(rows, targets, strict=True)]
        error = math.sqrt(coverage * (1 - coverage) * (1 / num + 1 / 5_000))
        assert abs(np.mean(held) - coverage) < 4 * error + 0.001, coverage
        assert np.mean([len(row.labels_set) for row in rows]) < 4, "more than a set of everything"


def test_a_calibrated_task_answers_with_sets(unsure: ImageClassifier, tmp_path: Path) -> None:
    paths = list(unsure.data.val.ids)
    with pytest.raises(InvalidValueError, match=r"not calibrated.*task.calibrate\(\) first"):
        unsure.predict(paths, coverage=0.9)
    unsure.calibrate()
    answers = unsure.predict(paths).probabilities
    scores = np.sort(1 - answers[np.arange(12), unsure.data.val.targets])
    assert unsure._conformal.scores == pytest.approx(scores.tolist(), abs=1e-5)
    rows = unsure.predict(paths, coverage=0.75)
    targets = [unsure.classes[target] for target in unsure.data.val.targets]
    held = [target in row.labels_set for row, target in zip(rows, targets, strict=True)]
    assert np.mean(held) >= 0.75
    assert [row.labels_set[0] for row in rows] == rows.labels
    sizes = [len(row.labels_set) for row in rows]
    wider = [len(row.labels_set) for row in unsure.predict(paths, coverage=0.92)]
    assert sum(wider) > sum(sizes)
    with pytest.raises(InvalidValueError, match=r"12 validation inputs can promise at most 0.9231"):
        unsure.predict(paths, coverage=0.95)
    loaded = mealkit.load(unsure.save(tmp_path / "x"), backbone=type(unsure.backbone.net)())
    assert isinstance(loaded, ImageClassifier)
    again = loaded.predict(paths, coverage=0.75)
    assert [row.labels_set for row in again] == [row.labels_set for row in rows]


def test_a_task_abstains_where_it_is_told_to(unsure: ImageClassifier) -> None:
    paths = list(unsure.data.val.ids)
    plain = unsure.predict(paths)
    limit = float(np.median(plain.probabilities.max(1)))
    rows = unsure.predict(paths, abstain=limit)
    sure = plain.probabilities.max(1) >= limit
    expected = [
        label if is_sure else None for label, is_sure in zip(plain.labels, sure, strict=True)
    ]
    assert rows.labels == expected
    assert 0 < sum(row.abstained for row in rows) < 12
    for wrong in (0.0, 1.5, 80):
        with pytest.raises(InvalidValueError, match=r"expected a probability in \(0, 1\]"):
            unsure.predict(paths, abstain=wrong)
