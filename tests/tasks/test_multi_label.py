"""Any number of labels per input, end to end: the loss by hand, every verb, saved and loaded."""

import json
import logging
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import average_precision_score

import mealkit
from mealkit import ImageClassifier, ImageData, TextClassifier, TextData, Training
from mealkit.errors import ClassError, InvalidValueError, NoDataError
from mealkit.specs import DataSpec, ImageDataSpec, TextDataSpec
from mealkit.tasks import MultiLabelEvaluation, MultiLabelPredictions
from mealkit.tasks.multi_label import MeanAveragePrecision, average_precisions
from mealkit.tasks.thresholds import best_thresholds
from tests.conftest import COLOURS, draw_shape

SHAPES = tuple(COLOURS)
NET = "mealkit_tiny_text"


def draw(folder: Path, num: int, *, seed: int) -> pd.DataFrame:
    """Draw pictures of up to three shapes side by side; some have none."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    rows = []
    for number in range(num):
        shown = [name for name in SHAPES if rng.random() < 0.45]
        tile = draw_shape("circle", rng).crop((0, 0, 1, 1)).resize((96, 32))
        for place, name in enumerate(shown):
            tile.paste(draw_shape(name, rng).resize((32, 32)), (32 * place, 0))
        tile.save(folder / f"{number:02d}.png")
        own = {name: int(name in shown) for name in SHAPES}
        rows.append({"file": f"{number:02d}.png", **own, "all": "|".join(shown)})
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train/labels.csv and test/labels.csv: columns of 0 and 1, and all in one."""
    folder = tmp_path_factory.mktemp("several")
    for seed, (part, num) in enumerate({"train": 60, "test": 24}.items()):
        draw(folder / part, num, seed=seed).to_csv(folder / part / "labels.csv", index=False)
    return folder


@pytest.fixture
def data(tables: Path) -> ImageData:
    made = ImageData.from_csv(
        tables / "train/labels.csv", image="file", label=SHAPES, test=tables / "test/labels.csv"
    )
    made.batch_size = 16
    return made


def make(data: ImageData, **more: object) -> ImageClassifier:
    return ImageClassifier("mealkit_tiny", classes=data.classes, multi_label=True, **more)


@pytest.fixture(scope="module")
def tuned(tables: Path) -> ImageClassifier:
    """A task with a solved head; tests leave it as it is, or copy it."""
    task = ImageClassifier.from_csv(
        tables / "train/labels.csv",
        image="file",
        label=SHAPES,
        test=tables / "test/labels.csv",
        backbone="mealkit_tiny",
    )
    task.finetune(epochs=1, strategy="freeze", precision="32-true")
    return task


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, logger="mealkit")
    return lambda: caplog.text


# The sources.


def test_every_source_gives_the_same_labels(tables: Path, data: ImageData) -> None:
    frame = pd.read_csv(tables / "train/labels.csv", keep_default_na=False)
    root = tables / "train"
    lists = [text.split("|") if text else [] for text in frame["all"]]
    paths = [root / name for name in frame["file"]]
    others = [
        ImageData.from_csv(root / "labels.csv", image="file", label="all", label_delimiter="|"),
        ImageData.from_data_frame(frame, image="file", label=list(SHAPES), root=root),
        ImageData.from_data_frame(frame, image="file", label="all", label_delimiter="|", root=root),
        ImageData.from_data_frame(frame.assign(all=lists), image="file", label="all", root=root),
        ImageData.from_files(paths, lists),
        ImageData.from_dataset(
            [{"image": str(p), "label": one} for p, one in zip(paths, lists, strict=True)]
        ),
    ]
    for other in others:
        assert other.spec.multi_label
        assert other.classes == SHAPES
        assert torch.equal(other.train.targets, data.train.targets)
        assert torch.equal(other.val.targets, data.val.targets)
    assert data.train.targets.shape == (len(data.train), 3)
    assert int((data.train.targets.sum(1) == 0).sum()) > 0, "rows without labels stay"


def test_polars_lists_are_read(tables: Path) -> None:
    polars = pytest.importorskip("polars")
    frame = pd.read_csv(tables / "train/labels.csv", keep_default_na=False)
    lists = [text.split("|") if text else [] for text in frame["all"]]
    made = ImageData.from_data_frame(
        polars.DataFrame({"file": frame["file"].tolist(), "all": lists}),
        image="file",
        label="all",
        root=tables / "train",
    )
    assert made.classes == SHAPES


def test_counts_are_told(tables: Path, lines: Callable[[], str]) -> None:
    data = ImageData.from_csv(tables / "train/labels.csv", image="file", label=SHAPES)
    frame = pd.read_csv(tables / "train/labels.csv")
    counts = ", ".join(f"{name} {frame[name].sum()}" for name in SHAPES)
    none = int((frame[list(SHAPES)].sum(axis=1) == 0).sum())
    assert f"3 classes (multi-label): {counts}, none of them {none}" in lines()
    for part in (data.train, data.val):
        assert (part.targets.sum(0) > 0).all()


def test_a_text_without_a_delimiter_is_one_label(tables: Path) -> None:
    frame = pd.read_csv(tables / "train/labels.csv", keep_default_na=False)
    frame = frame.assign(all=["a, b" if text else "golden retriever" for text in frame["all"]])
    made = ImageData.from_data_frame(frame, image="file", label="all", root=tables / "train")
    assert made.classes == ("a, b", "golden retriever")
    assert not made.spec.multi_label


def test_a_delimiter_that_divides_nothing_is_refused(tables: Path) -> None:
    with pytest.raises(ClassError, match=r"label_delimiter=';' divides none of the 60 training"):
        ImageData.from_csv(
            tables / "train/labels.csv", image="file", label="all", label_delimiter=";"
        )


def test_missing_values_and_constant_columns_are_refused(tables: Path) -> None:
    frame = pd.read_csv(tables / "train/labels.csv", keep_default_na=False)
    wrong = {
        r"no value in column 'circle': row 3 \(03.png\)": frame.assign(
            circle=frame["circle"].astype(object).where(frame.index != 3)
        ),
        "No training input has the label 'circle'": frame.assign(circle=0),
        "All [0-9]+ training rows have the label 'circle'": frame.assign(circle=1),
        "Row 0 of column 'circle' holds 'x'": frame.assign(circle="x"),
    }
    for words, table in wrong.items():
        with pytest.raises(ValueError, match=words):
            ImageData.from_data_frame(
                table, image="file", label=list(SHAPES), root=tables / "train"
            )


def test_parts_of_different_forms_are_refused(tables: Path) -> None:
    paths = sorted(str(path) for path in (tables / "train").glob("*.png"))[:4]
    with pytest.raises(ClassError, match="training part has lists of labels, and the val part"):
        ImageData.from_files(paths, [["a"], ["b"], [], ["a", "b"]], val=(paths, ["a"] * 4))


# The spec.


def test_the_spec_survives_json_and_earlier_ones_are_read() -> None:
    spec = TextDataSpec(
        classes=("a", "b"), multi_label=True, label=("a", "b"), label_delimiter=None
    )
    assert DataSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    earlier = {"kind": "image", "classes": ["a", "b"], "in_chans": 3, "size": None}
    assert DataSpec.from_json(earlier) == ImageDataSpec(classes=("a", "b"))


def test_task_and_data_of_different_forms_are_refused(data: ImageData, photos: Path) -> None:
    one = ImageClassifier("mealkit_tiny", classes=data.classes)
    with pytest.raises(InvalidValueError, match=r"gives exactly one label.*multi_label=True"):
        one.finetune(data)
    single = ImageData.from_folders(photos / "train")
    with pytest.raises(InvalidValueError, match=r"gives any number of labels.*multi_label=False"):
        make(data).finetune(single)


# The loss.


def by_hand(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    right = torch.sigmoid(logits)
    return -(targets * right.log() + (1 - targets) * (1 - right).log())


@pytest.fixture
def batch(data: ImageData) -> tuple[ImageClassifier, dict[str, torch.Tensor]]:
    task = make(data)
    torch.nn.init.normal_(task.head[1].weight, std=0.1)
    task.eval()
    target = torch.tensor([[1, 0, 1], [0, 0, 0], [0, 1, 1]], dtype=torch.uint8)
    features = torch.randn(3, task.backbone.num_features)
    return task, {"features": features, "index": torch.arange(3), "target": target}


def test_each_class_counts_by_itself(batch) -> None:
    task, rows = batch
    task.plan_training()  # which smoothes no target of several labels
    losses = by_hand(task(rows), rows["target"].float())
    for training in (True, False):
        step = task.objective.step(task, rows, training=training)
        assert step.loss.item() == pytest.approx(losses.mean().item(), rel=1e-5)
    weight = torch.tensor([[4.0, 1, 1], [1, 0.5, 1], [1, 1, 2]])
    step = task.objective.step(task, {**rows, "weight": weight}, training=True)
    assert step.loss.item() == pytest.approx((weight * losses).mean().item(), rel=1e-5)
    plain = task.objective.step(task, {**rows, "weight": weight}, training=False).loss
    assert plain.item() == pytest.approx(losses.mean().item(), rel=1e-5)


def test_smoothing_and_mixing_share_the_targets(batch) -> None:
    task, rows = batch
    task.plan_training(training=Training(label_smoothing=0.3))
    partner, share = torch.tensor([2, 0, 1]), torch.tensor([0.25, 0.5, 0.9])
    weight = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    smooth = rows["target"].float() * 0.7 + 0.1
    logits = task(rows)
    own, other = (
        weight * by_hand(logits, smooth),
        weight[partner] * by_hand(logits, smooth[partner]),
    )
    expected = (share[:, None] * own + (1 - share[:, None]) * other).mean()
    mixed = {**rows, "weight": weight, "partner": partner, "share": share}
    loss = task.objective.step(task, mixed, training=True).loss
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_average_precision_is_that_of_scikit_learn_whatever_a_batch_holds() -> None:
    generator = torch.Generator().manual_seed(0)
    probabilities = torch.rand(50, 3, generator=generator)
    targets = (torch.rand(50, 3, generator=generator) < 0.3).to(torch.uint8)
    targets[:, 2] = 0
    metric = MeanAveragePrecision(3)
    for start in range(0, 50, 10):
        metric.update(probabilities[start : start + 10], targets[start : start + 10])
    expected = average_precision_score(targets[:, :2].numpy(), probabilities[:, :2].numpy())
    assert float(metric.compute()) == pytest.approx(expected, abs=1e-5)
    by_class = average_precisions(probabilities, targets)
    assert by_class.isnan().tolist() == [False, False, True]
    assert float(metric.compute()) == pytest.approx(float(by_class[:2].mean()))
    metric.reset()
    metric.update(probabilities, torch.zeros_like(targets))
    assert float(metric.compute()) == 0


# Training.


def test_a_solved_head_finds_the_labels(tuned: ImageClassifier, tables: Path) -> None:
    evaluation = tuned.evaluate()
    assert isinstance(evaluation, MultiLabelEvaluation)
    assert evaluation.metrics["map"] > 0.85
    assert evaluation.metrics["macro_f1"] > 0.6
    predictions = tuned.predict(tables / "test")
    assert isinstance(predictions, MultiLabelPredictions)
    assert np.allclose(predictions.probabilities, evaluation.probabilities, atol=1e-5)
    assert {type(labels) for labels in predictions.labels} == {tuple}


@pytest.mark.parametrize("strategy", ["full", "freeze_unfreeze"])
def test_every_strategy_learns(data: ImageData, strategy: str) -> None:
    task = make(data)
    data.augment = "none"
    history = task.finetune(data, epochs=3, strategy=strategy, lr=2e-3)
    scores = history.to_frame()["val/map"]
    assert history.best["val/map"] == scores.max()
    assert scores.max() > 0.7
    assert task.thresholds != (0.5,) * 3


def test_thresholds_are_those_of_the_validation_part(
    data: ImageData, lines: Callable[[], str]
) -> None:
    task = make(data)
    assert task.thresholds == (0.5, 0.5, 0.5)
    task.finetune(data, epochs=1, strategy="freeze", precision="32-true")
    val = task.predict(_paths(data))
    expected = best_thresholds(val.probabilities, data.val.targets.numpy())
    assert task.thresholds == pytest.approx(expected, abs=1e-3)
    assert "Tuned the thresholds of 3 classes" in lines()


def _paths(data: ImageData) -> list[str]:
    return [data.val._images[row] for row in range(len(data.val))]


def test_without_validation_thresholds_are_one_half(tables: Path, lines: Callable[[], str]) -> None:
    data = ImageData.from_csv(tables / "train/labels.csv", image="file", label=SHAPES, split=0)
    task = make(data)
    task.finetune(data, epochs=1, strategy="freeze")
    assert task.thresholds == (0.5, 0.5, 0.5)
    assert "No validation part: labels are given from a probability of 0.5 on" in lines()


def test_a_plain_trainer_tunes_thresholds_too(data: ImageData, bare_trainer) -> None:
    task = make(data).plan_training(strategy="freeze")
    bare_trainer(1).fit(task, datamodule=data)
    assert task._thresholds is not None


def test_balance_gives_a_rare_class_more(data: ImageData, lines: Callable[[], str]) -> None:
    def mean_probability(balance: object) -> float:
        task = make(data)
        data.balance = balance
        task.finetune(data, epochs=1, strategy="freeze", precision="32-true")
        return float(task.predict(_paths(data)).probabilities[:, 2].mean())

    plain, more = mean_probability(None), mean_probability({"triangle": 20})
    assert more > plain + 0.05
    assert mean_probability("weights") != pytest.approx(plain, abs=1e-4)
    assert "classes balanced by weights" in lines()
    data.balance = "sampler"
    with pytest.raises(InvalidValueError, match="drawn with all its labels"):
        make(data).finetune(data, epochs=1, strategy="freeze")


def test_mixing_average_and_rate_search_run_together(data: ImageData) -> None:
    data.mix, data.augment, data.balance = "both", "none", "weights"
    task = make(data)
    history = task.finetune(
        data, epochs=2, strategy="full", lr="auto", training=Training(ema=0.9, patience=5)
    )
    assert len(history) == 2
    assert np.isfinite(history.to_frame()["train/loss"]).all()
    assert task._thresholds is not None


def test_a_stopped_run_keeps_its_best_weights_and_thresholds(data: ImageData) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                raise KeyboardInterrupt

    task = make(data)
    with pytest.raises(KeyboardInterrupt):
        task.finetune(data, epochs=3, strategy="freeze", callbacks=[Stop()])
    assert task._thresholds is not None
    assert not task.head_is_fresh


def test_a_run_goes_on_to_the_same_weights_and_thresholds(data: ImageData, tmp_path: Path) -> None:
    class Stop(pl.Callback):
        def on_train_epoch_start(self, trainer, pl_module) -> None:
            if trainer.current_epoch == 1:
                raise RuntimeError("stopped")

    settings = {"epochs": 2, "strategy": "full", "precision": "32-true"}
    whole, again = make(data), make(data)
    whole.finetune(data, **settings, run=tmp_path / "whole")
    with pytest.raises(RuntimeError, match="stopped"):
        again.finetune(data, **settings, run=tmp_path / "run", callbacks=[Stop()])
    again = make(data)
    again.finetune(data, **settings, run=tmp_path / "run", resume=True)
    assert again.thresholds == whole.thresholds
    own, other = again.state_dict(), whole.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    finished = make(data)
    finished.finetune(data, **settings, run=tmp_path / "run", resume=True)
    assert finished.thresholds == whole.thresholds


# Saving.


def test_a_saved_task_keeps_thresholds_and_answers(
    tuned: ImageClassifier, tables: Path, tmp_path: Path
) -> None:
    loaded = mealkit.load(tuned.save(tmp_path / "saved"))
    assert loaded.multi_label
    assert loaded.thresholds == tuned.thresholds
    assert loaded.monitor == "val/map"
    first, second = (task.predict(tables / "test") for task in (tuned, loaded))
    assert np.allclose(first.probabilities, second.probabilities, atol=1e-6)
    assert first.labels == second.labels


# The other verbs.


def test_calibration_moves_probabilities_and_thresholds_together(data: ImageData) -> None:
    task = make(data)
    task.finetune(data, epochs=1, strategy="freeze", precision="32-true")
    task.head[1].weight.data *= 4  # over-confident
    before = task.predict(_paths(data)).probabilities
    result = task.calibrate(data)
    after = task.predict(_paths(data))
    assert result.temperature > 1
    assert result.loss < result.loss_before
    inside = (before > 1e-3) & (before < 1 - 1e-3)
    assert inside.any()
    logits = np.log(before[inside] / (1 - before[inside])) / result.temperature
    assert np.allclose(after.probabilities[inside], 1 / (1 + np.exp(-logits)), atol=1e-4)
    assert task.thresholds == best_thresholds(after.probabilities, data.val.targets.numpy())
    again = make(data)
    again.take_settings(json.loads(json.dumps(task.settings())))
    assert (again.temperature, again.thresholds) == (task.temperature, task.thresholds)
    task.finetune(data, epochs=1, strategy="freeze")
    assert task.temperature == 1


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"abstain": 0.8}, "none is an answer already"),
        ({"coverage": 0.9}, "holds the one true label"),
    ],
)
def test_what_asks_for_the_one_label_is_refused(
    tuned: ImageClassifier, tables: Path, asked: dict[str, float], words: str
) -> None:
    with pytest.raises(InvalidValueError, match=words):
        tuned.predict(tables / "test", **asked)


def test_mirror_images_are_averaged(tuned: ImageClassifier, tables: Path) -> None:
    plain, both = (tuned.predict(tables / "test", tta=tta) for tta in (False, True))
    assert isinstance(both, MultiLabelPredictions)
    assert both.thresholds == tuned.thresholds
    assert not np.allclose(plain.probabilities, both.probabilities, atol=1e-4)


def test_folders_of_classes_are_not_scored(tuned: ImageClassifier, photos: Path) -> None:
    with pytest.raises(InvalidValueError, match="says one label of each picture"):
        tuned.evaluate(photos / "test")


def test_tables_are_scored_in_every_form(tuned: ImageClassifier, tables: Path) -> None:
    path, expected = tables / "test/labels.csv", dict(tuned.evaluate().metrics)
    forms = [{"label": list(SHAPES)}, {"label": "all", "label_delimiter": "|"}]
    for form in forms:
        assert dict(tuned.evaluate(path, image="file", **form).metrics) == pytest.approx(expected)
    frame = pd.read_csv(path, keep_default_na=False)
    frame["file"] = [str(tables / "test" / name) for name in frame["file"]]
    scores = tuned.evaluate(frame, image="file", label=list(SHAPES)).metrics
    assert dict(scores) == pytest.approx(expected)
    with pytest.raises(InvalidValueError, match="no table was given"):
        tuned.evaluate(label=list(SHAPES))


def test_columns_are_those_trained_on_unless_others_are_named(
    tuned: ImageClassifier, tables: Path, tmp_path: Path
) -> None:
    expected = dict(tuned.evaluate().metrics)
    for task in (tuned, mealkit.load(tuned.save(tmp_path / "saved"))):
        assert dict(task.evaluate(tables / "test/labels.csv").metrics) == pytest.approx(expected)
    cut = ImageClassifier.from_csv(
        tables / "train/labels.csv",
        image="file",
        label="all",
        label_delimiter="|",
        backbone="mealkit_tiny",
    )
    assert (cut.spec.image, cut.spec.label, cut.spec.label_delimiter) == ("file", "all", "|")
    assert len(cut.evaluate(tables / "test/labels.csv").ids) > 0
    parts = make(cut.data)
    assert parts.spec.image is None
    parts.finetune(cut.data, epochs=1, strategy="freeze")
    assert len(parts.evaluate(tables / "test/labels.csv").ids) > 0


def test_neighbours_vote_for_each_of_their_labels(tuned: ImageClassifier) -> None:
    evaluation = tuned.knn(k=5)
    assert isinstance(evaluation, MultiLabelEvaluation)
    assert evaluation.thresholds == (0.5, 0.5, 0.5)
    assert evaluation.metrics["map"] > 0.7
    bank = tuned._banks.get(tuned, tuned.data.train, batch_size=32)
    nearest = bank.vote(bank.features[:4], 1, num_classes=3)
    assert torch.allclose(nearest, bank.targets[:4].float()), "each is nearest to itself"


def test_neighbours_have_tuples_of_labels(tuned: ImageClassifier, tables: Path) -> None:
    frame = tuned.neighbors(str(tables / "test/00.png"), k=3)
    assert {type(label) for label in frame["label"]} == {tuple}
    own = tuned.neighbors(_paths(tuned.data)[:1], k=1)
    assert list(own["rank"]) == [1]


def test_cross_validation_scores_every_fold(data: ImageData) -> None:
    result = make(data).cross_validate(data, k=3, epochs=1, strategy="freeze")
    assert len(result.folds) == 3
    assert sum(len(fold) for fold in result.folds) == len(data.train)
    assert result.metrics["map"] > 0.7
    low, high = result.interval("map")
    assert 0 <= low < result.metrics["map"] < high <= 1


def test_pictures_are_titled_by_all_labels(tuned: ImageClassifier, tables: Path) -> None:
    pytest.importorskip("matplotlib")
    shown = [axes.get_title() for axes in tuned.show_batch(9).axes]
    possible = {
        ", ".join(name for name, one in zip(SHAPES, row, strict=True) if one) or "no label"
        for row in tuned.data.train.targets.tolist()
    }
    assert set(shown) <= possible
    titles = [axes.get_title() for axes in tuned.show_predictions(tables / "test", n=4).axes]
    labels = tuned.predict(sorted((tables / "test").glob("*.png"))[:4]).labels
    assert titles == [", ".join(one) or "no label" for one in labels]


# Texts.

SENTENCES = {
    "billing": "the invoice is wrong",
    "delivery": "my parcel never arrived",
    "login": "I cannot sign in",
}


@pytest.fixture
def complaints() -> pd.DataFrame:
    """Texts of up to three complaints; some have none."""
    rng = random.Random(0)
    rows = []
    for number in range(80):
        teams = [team for team in SENTENCES if rng.random() < 0.4]
        said = [SENTENCES[team] for team in teams]
        rng.shuffle(said)
        text = f"hello, this is customer {number}: {' and '.join(said)}"
        rows.append({"text": text, "second": f"order {number}", "teams": teams})
    frame = pd.DataFrame(rows)
    for team in SENTENCES:
        frame[team] = [int(team in teams) for teams in frame["teams"]]
    return frame.assign(joined=["; ".join(teams) for teams in frame["teams"]])


def write(frame: pd.DataFrame, folder: Path, ending: str) -> Path:
    path = folder / f"complaints{ending}"
    if ending == ".csv":
        frame.to_csv(path, index=False)
    elif ending == ".json":
        path.write_text(json.dumps(frame.to_dict("records")))
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("ending", "read"),
    [
        (".csv", TextData.from_csv),
        (".json", TextData.from_json),
        (".parquet", TextData.from_parquet),
    ],
)
def test_tables_of_texts_have_several_labels_in_every_form(
    complaints: pd.DataFrame, tmp_path: Path, ending: str, read
) -> None:
    path = write(complaints, tmp_path, ending)
    columns = read(path, text="text", label=list(SENTENCES))
    cut = read(path, text="text", label="joined", label_delimiter=";")
    forms = [columns, cut]
    if ending != ".csv":
        forms.append(read(path, text="text", label="teams"))
    for data in forms:
        assert data.classes == tuple(SENTENCES)
        assert data.spec.multi_label
        assert torch.equal(data.train.targets, columns.train.targets)
    assert columns.spec.label == tuple(SENTENCES)
    assert (cut.spec.label, cut.spec.label_delimiter) == ("joined", ";")


def test_texts_learn_predict_explain_and_are_scored(
    complaints: pd.DataFrame, tmp_path: Path
) -> None:
    train, test = complaints[:60], complaints[60:]
    test.to_csv(tmp_path / "test.csv", index=False)
    task = TextClassifier.from_data_frame(
        train, text="text", label="joined", label_delimiter=";", backbone=NET
    )
    task.finetune(epochs=2, lr=1e-3)
    loaded = mealkit.load(task.save(tmp_path / "saved"))
    assert loaded.thresholds == task.thresholds
    evaluation = loaded.evaluate(tmp_path / "test.csv")
    assert evaluation.metrics["map"] > 0.8
    by_columns = loaded.evaluate(test, label=list(SENTENCES))
    assert dict(by_columns.metrics) == pytest.approx(dict(evaluation.metrics))
    renamed = test.rename(columns={"joined": "others"})
    cut = loaded.evaluate(renamed, label="others", label_delimiter=";")
    assert dict(cut.metrics) == pytest.approx(dict(evaluation.metrics))
    by_lists = loaded.evaluate(test, label="teams")
    assert dict(by_lists.metrics) == pytest.approx(dict(evaluation.metrics))
    with pytest.raises(InvalidValueError, match="name it: label="):
        loaded.evaluate(test, label_delimiter=";")
    predictions = loaded.predict(["the invoice is wrong and I cannot sign in", ""])
    assert isinstance(predictions.labels[0], tuple)
    assert predictions.labels[1] is None
    answer = loaded.explain("the invoice is wrong")
    best = max(loaded.predict("the invoice is wrong")[0].probabilities.items(), key=lambda x: x[1])
    assert answer.label == best[0]
    assert loaded.explain("the invoice is wrong", label="login").label == "login"
    with pytest.raises(InvalidValueError, match="says one label of each text"):
        loaded.evaluate(tmp_path)


def test_lists_and_pairs_of_texts_have_several_labels(complaints: pd.DataFrame) -> None:
    pairs = list(zip(complaints["text"], complaints["second"], strict=True))
    data = TextData.from_lists(pairs, complaints["teams"].tolist())
    assert data.spec.multi_label
    assert data.spec.pairs
    task = TextClassifier(NET, classes=data.classes, multi_label=True)
    task.finetune(data, epochs=1, strategy="freeze")
    assert len(task.predict(pairs[:3])) == 3
    again = TextData.from_data_frame(complaints, text=("text", "second"), label="teams")
    assert torch.equal(again.train.targets, data.train.targets)


def test_few_labels_leave_the_backbone_frozen(
    complaints: pd.DataFrame, lines: Callable[[], str]
) -> None:
    data = TextData.from_lists(complaints["text"].tolist(), complaints["teams"].tolist())
    TextClassifier(NET, classes=data.classes, multi_label=True).finetune(data, epochs=1)
    typical = int(data.train.targets.sum(0).median())
    assert f"{typical} training texts per class are few" in lines()


def test_pairs_of_classes_make_no_contrast_where_there_are_several(
    complaints: pd.DataFrame,
) -> None:
    data = TextData.from_lists(complaints["text"].tolist(), complaints["teams"].tolist())
    task = TextClassifier(NET, classes=data.classes, multi_label=True)
    with pytest.raises(InvalidValueError, match=r"any number of labels. Use strategy='freeze'"):
        task.finetune(data, strategy="contrastive")


def test_calibration_needs_validation(complaints: pd.DataFrame) -> None:
    data = TextData.from_lists(complaints["text"].tolist(), complaints["teams"].tolist(), split=0)
    task = TextClassifier(NET, classes=data.classes, multi_label=True)
    with pytest.raises(NoDataError, match="no validation part"):
        task.calibrate(data)
