"""Cross-validation: what is held out was not trained on, and the task stays as it is."""

import copy
import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from mealkit import ImageClassifier, ImageData, Training
from mealkit.errors import InvalidValueError, NoDataError, UnknownNameError
from mealkit.tasks import CrossValidation, Evaluation
from mealkit.tasks.cross_validation import fresh_copy, make_folds, t_quantile

Make = Callable[..., ImageClassifier]


def group(path: str) -> str:
    """Two pictures of each class to a group: circle/circle07.png -> circle3."""
    stem = Path(path).stem
    return f"{stem[:-2]}{int(stem[-2:]) // 2}"


def scores(*accuracies: float) -> CrossValidation:
    def fold(accuracy: float) -> Evaluation:
        metrics = {"accuracy": accuracy, "loss": 10 * accuracy}
        return Evaluation(metrics, ("a", "b"), ("x",), np.array([0]), np.array([[1.0, 0.0]]))

    return CrossValidation(tuple(map(fold, accuracies)))


def test_no_row_is_validated_twice_and_groups_stay_together(photos: Path, make_task: Make) -> None:
    data = ImageData.from_folders(photos / "train", split=0, group=group)
    result = make_task().cross_validate(data, k=3, epochs=1, strategy="freeze")
    ids = [id for fold in result.folds for id in fold.ids]
    assert sorted(ids) == sorted(data.train.ids), "each once"
    folds_of: dict[str, set[int]] = {}
    for number, fold in enumerate(result.folds):
        assert len(fold) == 12
        assert np.bincount(fold.targets).tolist() == [4, 4, 4]
        for id in fold.ids:
            folds_of.setdefault(group(id), set()).add(number)
    assert len(folds_of) == 18
    assert all(len(folds) == 1 for folds in folds_of.values())


def test_what_is_held_out_is_not_trained_on(data: ImageData) -> None:
    for rest, held in make_folds(data, 4):
        assert not set(rest.train.ids) & set(held.ids)
        assert len(rest.train) + len(held) == 36
        assert rest.val is data.val
        assert rest is not data


def test_copies_of_a_picture_stay_together(photos: Path) -> None:
    for path in sorted((photos / "train").glob("*/*")):
        path.with_name(f"copy_of_{path.name}").write_bytes(path.read_bytes())
    data = ImageData.from_folders(photos / "train", split=0)
    for rest, held in make_folds(data, 5):
        names = {Path(id).name.removeprefix("copy_of_") for id in held.ids}
        assert len(held) == 2 * len(names)
        assert not names & {Path(id).name.removeprefix("copy_of_") for id in rest.train.ids}


def test_the_task_stays_as_it_is(make_task: Make) -> None:
    task = make_task()
    before = copy.deepcopy(task.state_dict())
    batches = task.data.batch_size
    torch.manual_seed(3)
    result = task.cross_validate(k=2, epochs=2, lr=5e-3)
    after_random = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(after_random, torch.rand(1))
    after = task.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert len(task.data.train) == 36
    assert task.data.batch_size == batches
    assert task.head_is_fresh
    assert result.metrics["loss"] < math.log(3), "the copies did train"


def test_a_fold_is_what_training_without_it_gives(make_task: Make) -> None:
    task = make_task()
    settings = {"epochs": 2, "lr": 5e-3, "batch_size": 6, "training": Training(seed=4)}
    result = task.cross_validate(k=3, strategy="full", **settings)
    rest, held = list(make_folds(task.data, 3))[1]
    by_hand = make_task()
    by_hand.finetune(rest, strategy="full", **settings)
    expected = by_hand.predict(list(held.ids)).probabilities
    assert result.folds[1].ids == tuple(held.ids)
    assert np.allclose(result.folds[1].probabilities, expected, atol=1e-6)


def test_a_trained_task_is_warned_about(make_task: Make, caplog: pytest.LogCaptureFixture) -> None:
    task = make_task()
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        task.cross_validate(k=2, epochs=1, strategy="freeze")
        assert "trained before" not in caplog.text
        task.finetune(epochs=1, strategy="freeze")
        task.calibrate()
        temperature = task.temperature
        task.cross_validate(k=2, epochs=1, strategy="freeze")
    assert "If that was on these data, every fold has been seen" in caplog.text
    assert task.temperature == temperature


def test_data_that_cannot_be_folded_say_why(
    make_task: Make, data: ImageData, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = make_task()
    for k, words in ((1, "at least 2"), (37, "at most the 36"), ("5", "a whole number")):
        with pytest.raises(InvalidValueError, match=f"k={k!r}: expected {words}"):
            task.cross_validate(k=k)
    with pytest.raises(InvalidValueError, match="data='photos': expected a data module"):
        task.cross_validate("photos")
    by_class = ImageData.from_folders(photos / "train", group=lambda path: path[:3], split=0)
    with pytest.raises(InvalidValueError, match="at most the 0 different inputs or groups"):
        task.cross_validate(by_class, k=2)
    data.keys = None
    with pytest.raises(InvalidValueError, match=r"data.keys is None.*Set data.keys"):
        task.cross_validate()
    task.data = None
    with pytest.raises(NoDataError, match=r"task.cross_validate\(data\)"):
        task.cross_validate()


def test_the_only_picture_of_a_class_is_trained_on_and_never_scored(
    photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in sorted((photos / "train/circle").iterdir())[1:]:
        path.unlink()
    data = ImageData.from_folders(photos / "train", split=0)
    with caplog.at_level(logging.WARNING, logger="mealkit"):
        folds = list(make_folds(data, 3))
    assert "1 inputs are the only ones of their class" in caplog.text
    for rest, held in folds:
        assert 0 in rest.train.targets
        assert 0 not in held.targets
    assert sum(len(held) for _, held in folds) == 24


def test_a_copy_has_the_weights_and_nothing_in_common(make_task: Make) -> None:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze")
    task.precision = "32-true"
    made = fresh_copy(task)
    paths = list(task.data.test.ids)
    assert np.array_equal(made.predict(paths).probabilities, task.predict(paths).probabilities)
    assert made.precision == "32-true"
    assert made.data is None
    pairs = zip(made.parameters(), task.parameters(), strict=True)
    assert all(ours is not theirs for ours, theirs in pairs)


# The result.


@pytest.mark.parametrize(
    ("degrees", "value"),  # scipy.stats.t.ppf(0.975, degrees)
    [
        (1, 12.706204736),
        (2, 4.302652730),
        (3, 3.182446305),
        (4, 2.776445105),
        (9, 2.262157163),
        (30, 2.042272456),
    ],
)
def test_quantiles_of_t_agree_with_scipy(degrees: int, value: float) -> None:
    assert t_quantile(degrees) == pytest.approx(value, abs=1e-8)


def test_mean_and_interval_by_hand() -> None:
    result = scores(0.7, 0.8, 0.9)
    assert result.metrics == pytest.approx({"accuracy": 0.8, "loss": 8.0})
    half = 4.302653 * 0.1 * math.sqrt(1 / 3 + 1 / 2)
    assert result.interval("loss") == pytest.approx((8 - 10 * half, 8 + 10 * half), rel=1e-6)
    assert result.interval() == pytest.approx((0.8 - half, 1.0), rel=1e-6)
    assert scores(0.5, 0.5).interval() == (0.5, 0.5)
    with pytest.raises(UnknownNameError, match="Did you mean 'accuracy'"):
        result.interval("acuracy")


def test_a_result_prints_and_shows_in_notebooks() -> None:
    result = scores(0.7, 0.8, 0.9)
    assert result.to_frame().index.tolist() == [1, 2, 3]
    assert result.to_frame()["accuracy"].tolist() == [0.7, 0.8, 0.9]
    assert result.to_frame()["inputs"].tolist() == [1, 1, 1]
    for words in (repr(result), result._repr_html_()):
        assert "Cross-validation in 3 folds: accuracy 0.8000 (0.407 to 1.000)" in words
    assert "<table" in result._repr_html_()
