"""Probes: an honest curve of the features, that costs little and teaches the backbone nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mealkit import ImageData, SSLPretrainer
from mealkit.backbones import create
from mealkit.errors import InvalidValueError, NoDataError
from mealkit.specs import ImageDataSpec
from mealkit.tasks import checkpoint
from mealkit.tasks.probing import probe_features, some_rows


def labelled(num: int = 60) -> ImageData:
    rng = np.random.default_rng(1)
    labels = rng.integers(3, size=num)
    images = rng.integers(0, 120, (num, 16, 16, 3), dtype=np.uint8)
    images[np.arange(num), :, :, labels] += 100
    return ImageData.from_arrays(images, labels, split=0.5)


class Counting(torch.nn.Module):
    """A net that counts the pictures it sees with and without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.net = create("mealkit_resnet8", options={"width": 4})
        self.with_gradient = self.without = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            self.with_gradient += len(image)
        else:
            self.without += len(image)
        return self.net(image)


def make(num: int = 48, net: torch.nn.Module | None = None) -> SSLPretrainer:
    images = np.random.default_rng(0).integers(0, 256, (num, 16, 16, 3), dtype=np.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = create(net or Counting(), ImageDataSpec(size=16))
        pre = SSLPretrainer.from_arrays(images, backbone=net, method="simclr")
    pre.precision = "32-true"
    return pre


def test_the_curve_begins_with_the_untrained_backbone_and_ends_with_the_last() -> None:
    pre = make()
    history = pre.pretrain(epochs=5, batch_size=24, probe=labelled(), probe_every=2)
    assert {"untrained/knn", "untrained/linear"} <= set(history.rows[0])
    probed = [row["epoch"] for row in history.rows if "probe/knn" in row]
    assert probed == [1, 3, 4]
    assert [row["epoch"] for row in history.rows if "probe/linear" in row] == probed
    last = history.rows[-1]
    assert last["probe/knn"] == pre.evaluate(labelled()).to_frame()["accuracy"][0]


class Stop(pl.Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 1:
            raise RuntimeError("stopped")


def test_a_run_that_was_stopped_in_its_first_epoch_keeps_the_first_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))
    settings = {"epochs": 2, "batch_size": 24, "probe_every": 1}
    expected = make().pretrain(**settings, probe=labelled())
    with pytest.raises(RuntimeError, match="stopped"):
        make().pretrain(**settings, probe=labelled(), run=tmp_path / "run", callbacks=[Stop()])
    history = make().pretrain(**settings, probe=labelled(), run=tmp_path / "run", resume=True)
    for row, other in zip(history.rows, expected.rows, strict=True):
        assert {n: v for n, v in row.items() if n != "seconds"} == {
            n: v for n, v in other.items() if n != "seconds"
        }


def test_probes_change_nothing_of_what_is_learnt() -> None:
    alone, probed = make(), make()
    alone.pretrain(epochs=2, batch_size=24)
    probed.pretrain(epochs=2, batch_size=24, probe=labelled(), probe_every=1)
    for (name, one), other in zip(
        alone.state_dict().items(), probed.state_dict().values(), strict=True
    ):
        assert torch.equal(one, other), name


def test_probes_send_no_gradient_and_cost_five_percent() -> None:
    net = Counting()
    pre = make(120, net)
    counted = pre.backbone.net
    start = counted.without  # building tries the net on a black picture
    data = labelled(60)
    pre.pretrain(epochs=4, batch_size=40, probe=data)
    probed = counted.without - start
    assert probed == 60 * 2  # before the first step and after the last epoch
    assert counted.with_gradient == 2 * 120 * 4  # two views, and not one of a labelled picture
    assert probed <= 0.05 * 3 * counted.with_gradient


def test_a_folder_of_labelled_pictures_is_a_probe(photos: Path) -> None:
    pre = make()
    history = pre.pretrain(epochs=1, batch_size=24, probe=photos / "train")
    assert 0 <= history.rows[0]["probe/knn"] <= 1
    assert 0 <= history.rows[0]["probe/linear"] <= 1


def test_what_cannot_be_probed_on_is_an_error() -> None:
    pre = make()
    with pytest.raises(InvalidValueError, match="probe_every=0"):
        pre.pretrain(epochs=1, probe=labelled(), probe_every=0)
    for every in ("1", 1.5, True):
        with pytest.raises(InvalidValueError, match=rf"probe_every={every!r}: expected a whole"):
            pre.pretrain(epochs=1, probe=labelled(), probe_every=every)
    several = labelled()
    several.train._targets = torch.ones(len(several.train), 3)
    with pytest.raises(InvalidValueError, match="with one label each, and these have several"):
        pre.pretrain(epochs=1, probe=several)
    data = labelled()
    data.val = None
    with pytest.raises(NoDataError, match="have one part only"):
        pre.pretrain(epochs=1, probe=data)


def test_features_that_tell_classes_apart_score_high_and_others_low() -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.arange(90) % 3
    centres = torch.eye(3, 8)[targets]
    good = centres + 0.05 * torch.randn(90, 8, generator=generator)
    bad = torch.randn(90, 8, generator=generator)
    first, rest = slice(0, 60), slice(60, 90)
    for features, low, high in ((good, 1.0, 1.0), (bad, 0.0, 0.7)):
        found = probe_features(
            (features[first], targets[first]), (features[rest], targets[rest]), num_classes=3
        )
        assert set(found) == {"knn", "linear"}
        assert all(low <= value <= high for value in found.values())


def test_rows_are_drawn_in_equal_shares() -> None:
    targets = torch.tensor([0] * 100 + [1] * 10 + [2] * 3)
    rows = some_rows(targets, 9, seed=0)
    assert torch.bincount(targets[rows]).tolist() == [3, 3, 3]
    assert rows == sorted(set(rows))
    assert some_rows(targets, 9, seed=0) == rows != some_rows(targets, 9, seed=1)
    assert torch.bincount(targets[some_rows(targets, 30, seed=0)]).tolist() == [17, 10, 3]
    assert some_rows(targets, 200, seed=0) == list(range(113))
