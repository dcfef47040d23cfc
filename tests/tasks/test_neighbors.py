"""Nearest neighbours: by hand, by scikit-learn, and in a task."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

import mealkit
from mealkit import ImageClassifier
from mealkit.errors import InvalidValueError, NoDataError, UnreadableError
from mealkit.tasks.neighbors import Bank, fingerprint

Make = Callable[..., ImageClassifier]


@pytest.fixture
def tuned(make_task: Make) -> ImageClassifier:
    task = make_task()
    task.finetune(epochs=2, lr=5e-3)
    return task


def test_votes_by_hand() -> None:
    features = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.6, 0.8]])
    read = torch.tensor([True, True, True])
    bank = Bank.of(("right", "up", "between"), torch.tensor([0, 1, 1]), features, read)
    query = torch.tensor([[5.0, 0.0]])
    similarities, positions = bank.nearest(query, 2)
    assert similarities.tolist() == [pytest.approx([1.0, 0.6])]
    assert positions.tolist() == [[0, 2]]
    weights = np.exp(np.array([1.0, 0.6]) / 0.07)
    expected = [*(weights / weights.sum()), 0.0]
    assert bank.vote(query, 2, num_classes=3).tolist() == [pytest.approx(expected, abs=1e-6)]
    for k in (0, 4):
        with pytest.raises(InvalidValueError, match=f"k={k}: expected .* at most the 3 training"):
            bank.nearest(query, k)


def test_what_could_not_be_read_is_nobodys_neighbour() -> None:
    read = torch.tensor([False, True])
    bank = Bank.of(("gone", "there"), torch.tensor([0, 1]), torch.eye(2), read)
    assert bank.ids == ["there"]
    assert bank.vote(torch.tensor([[1.0, 0.0]]), 1, num_classes=2).tolist() == [[0.0, 1.0]]


def test_votes_agree_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(300, 6, generator=generator)
    targets = torch.randint(0, 4, (300,), generator=generator)
    queries = torch.randn(2_500, 6, generator=generator)  # more than fit into a chunk
    reference = KNeighborsClassifier(
        10, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)
    )
    expected = reference.fit(features, targets).predict_proba(queries)
    bank = Bank.of(tuple(map(str, range(300))), targets, features, targets >= 0)
    assert np.allclose(bank.vote(queries, 10, num_classes=4), expected, atol=1e-4)


def test_knn_scores_the_test_part_by_the_training_part(tuned: ImageClassifier) -> None:
    evaluation = tuned.knn(k=3)
    train, test = (tuned.embed(list(part.ids)) for part in (tuned.data.train, tuned.data.test))
    reference = KNeighborsClassifier(
        3, metric="cosine", weights=lambda distances: np.exp((1 - distances) / 0.07)
    )
    reference.fit(train.values, tuned.data.train.targets)
    right = reference.predict(test.values) == tuned.data.test.targets.numpy()
    assert evaluation.metrics["accuracy"] == pytest.approx(right.mean())
    assert np.allclose(evaluation.probabilities, reference.predict_proba(test.values), atol=1e-4)
    assert evaluation.ids == tuple(tuned.data.test.ids)
    tuned.data.test = None
    assert tuned.knn().ids == tuple(tuned.data.val.ids)


def test_the_training_part_is_embedded_once_per_weights(tuned: ImageClassifier) -> None:
    net, data = tuned.backbone.net, tuned.data
    num_test = len(data.test)

    def cost() -> int:
        before = int(net.num_forwards)
        tuned.knn()
        return int(net.num_forwards) - before

    assert cost() == len(data.train) + num_test
    assert cost() == num_test
    first = tuned._banks._bank
    tuned.finetune(epochs=1, strategy="full", lr=1e-3)
    assert cost() == len(data.train) + num_test
    assert not torch.equal(tuned._banks._bank.features, first.features)
    net.stem[0].weight.data.add_(0.1)
    assert cost() == len(data.train) + num_test
    tuned.finetune(epochs=1, strategy="freeze")
    assert cost() == num_test, "only the head was trained"


def test_a_fingerprint_sees_every_tensor(tuned: ImageClassifier) -> None:
    before = fingerprint(tuned.backbone)
    assert fingerprint(tuned.backbone) == before
    tuned.backbone.net.stem[1].num_batches_tracked.add_(1)
    assert fingerprint(tuned.backbone) != before


def test_a_training_picture_is_its_own_nearest_neighbour(tuned: ImageClassifier) -> None:
    train = tuned.data.train
    some = list(train.ids)[::5]
    frame = tuned.neighbors(some, k=3)
    assert list(frame.columns) == ["input", "rank", "neighbor", "label", "similarity"]
    assert len(frame) == 3 * len(some)
    nearest = frame[frame["rank"] == 1]
    assert nearest["input"].tolist() == nearest["neighbor"].tolist() == some
    assert nearest["similarity"].tolist() == pytest.approx([1.0] * len(some), abs=1e-5)
    assert nearest["label"].tolist() == [Path(path).parent.name for path in some]
    for _, rows in frame.groupby("input"):
        assert rows["similarity"].is_monotonic_decreasing


def test_neighbors_of_a_loaded_task_need_data(tuned: ImageClassifier, tmp_path: Path) -> None:
    loaded = mealkit.load(tuned.save(tmp_path / "x"), backbone=type(tuned.backbone.net)())
    paths = list(tuned.data.test.ids)
    with pytest.raises(NoDataError, match="Say what to look at: data="):
        loaded.neighbors(paths)
    ours, theirs = tuned.neighbors(paths), loaded.neighbors(paths, data=tuned.data)
    assert ours["neighbor"].tolist() == theirs["neighbor"].tolist()
    with pytest.raises(UnreadableError, match="no-such"):
        tuned.neighbors(["no-such.jpg", *paths])
    tuned.data.train = None
    with pytest.raises(NoDataError, match="no training part"):
        tuned.neighbors(paths)
