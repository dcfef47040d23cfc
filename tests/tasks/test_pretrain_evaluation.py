"""Evaluation of features: paired draws of labels, untrained nets beside, honest intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mealkit import ImageClassifier, ImageData, SSLPretrainer
from mealkit.backbones import create
from mealkit.errors import InvalidValueError, NoDataError, UnknownNameError
from mealkit.specs import ImageDataSpec
from mealkit.tasks.pretrain_evaluation import draw_labels, interval, untrained_like


def labelled(num: int = 90) -> ImageData:
    rng = np.random.default_rng(1)
    labels = np.arange(num) % 3
    images = rng.integers(0, 120, (num, 16, 16, 3), dtype=np.uint8)
    images[np.arange(num), :, :, labels] += 100
    return ImageData.from_arrays(images, labels, split=0.5)


@pytest.fixture(scope="module")
def pre() -> SSLPretrainer:
    torch.manual_seed(0)
    net = create("mealkit_resnet8", ImageDataSpec(size=16), options={"width": 4})
    return SSLPretrainer(net)


def test_every_protocol_fraction_seed_and_backbone_has_a_row(pre: SSLPretrainer) -> None:
    found = pre.evaluate(
        labelled(),
        protocol=["knn", "linear", "finetune"],
        label_fractions=[0.2, 1.0],
        seeds=2,
        epochs=1,
    )
    frame = found.to_frame()
    assert len(frame) == 3 * 2 * 2 * 2
    assert set(frame["backbone"]) == {"pretrained", "untrained"}
    assert frame["accuracy"].between(0, 1).all()
    targets = labelled().train.targets
    few = len(draw_labels(targets, 0.2, seed=0))
    assert sorted(frame["num_labels"].unique()) == [few, len(targets)]
    summary = found.summary()
    assert len(summary) == 3 * 2 * 2
    one = summary.iloc[0]
    own = frame[(frame.protocol == one.protocol) & (frame.backbone == one.backbone)]
    own = own[own.fraction == one.fraction]["accuracy"]
    assert one.accuracy == pytest.approx(own.mean())
    gains = found.gains()
    assert len(gains) == 3 * 2
    wide = frame.pivot_table(index=["protocol", "fraction"], columns="backbone", values="accuracy")
    expected = (wide["pretrained"] - wide["untrained"]).to_dict()
    for row in gains.itertuples():
        assert row.gain == pytest.approx(expected[row.protocol, row.fraction])
        assert row.low <= row.gain <= row.high
    assert f"{found.num_scored}" in repr(found)


def test_the_backbone_stays_as_it_is_and_draws_are_repeatable(pre: SSLPretrainer) -> None:
    before = {name: value.clone() for name, value in pre.backbone.state_dict().items()}
    first = pre.evaluate(labelled(), protocol=["finetune"], epochs=1, seeds=[3])
    again = pre.evaluate(labelled(), protocol=["finetune"], epochs=1, seeds=[3])
    assert first.scores == again.scores
    after = pre.backbone.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert first.scores[0].seed == 3


def test_scored_inputs_are_not_learnt_from(
    pre: SSLPretrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, seen = labelled(), []
    original = ImageClassifier.finetune

    def spy(self, given, **settings):
        seen.append((set(given.train.ids), given.val))
        return original(self, given, **settings)

    monkeypatch.setattr(ImageClassifier, "finetune", spy)
    pre.evaluate(data, protocol=["finetune"], epochs=1)
    assert len(seen) == 2
    for ids, val in seen:
        assert ids <= set(data.train.ids)
        assert not ids & set(data.val.ids)
        assert val is None  # else the scored part would choose the epoch


def test_a_share_of_each_class_is_drawn() -> None:
    targets = torch.tensor([0] * 50 + [1] * 20 + [2] * 2)
    rows = draw_labels(targets, 0.1, seed=0)
    assert torch.bincount(targets[rows]).tolist() == [5, 2, 1]
    assert rows == draw_labels(targets, 0.1, seed=0)
    assert rows != draw_labels(targets, 0.1, seed=1)
    assert draw_labels(targets, 1.0, seed=0) == list(range(72))


def test_intervals_are_those_of_student_and_of_wilson() -> None:
    low, high = interval([0.5, 0.6, 0.7], 100)
    assert (low, high) == pytest.approx((0.6 - 0.2484, 0.6 + 0.2484), abs=1e-3)
    low, high = interval([0.8], 100)
    assert (low, high) == pytest.approx((0.7112, 0.8666), abs=1e-3)
    many = [0.5, 0.7] * 6  # 11 degrees of freedom: 2.201
    half = (interval(many, 10)[1] - interval(many, 10)[0]) / 2
    assert half / (np.std(many, ddof=1) / np.sqrt(12)) == pytest.approx(2.201, abs=5e-3)


def test_an_untrained_net_is_of_the_same_make_and_random() -> None:
    net = create("mealkit_tiny")
    fresh = untrained_like(net, seed=0)
    assert fresh.config == net.config
    assert not fresh.pretrained
    assert fresh.state_dict().keys() == net.state_dict().keys()
    first = "net.stem.0.weight"
    assert not torch.equal(fresh.state_dict()[first], net.state_dict()[first])
    assert torch.equal(untrained_like(net, seed=0).state_dict()[first], fresh.state_dict()[first])


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.mean((2, 3)) * self.scale


def test_a_module_is_made_fresh_or_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    net = create(module, ImageDataSpec(size=16))
    fresh = untrained_like(net, seed=0)
    assert not torch.equal(fresh.net[0].weight, module[0].weight)
    bare = create(Bare(), ImageDataSpec(size=16))
    assert untrained_like(bare, seed=0) is None
    assert "no untrained net to compare" in caplog.text
    found = SSLPretrainer(bare, method="moco").evaluate(labelled(), protocol=["knn"])
    assert {score.backbone for score in found.scores} == {"pretrained"}
    with pytest.raises(InvalidValueError, match="no untrained net"):
        found.gains()


def test_values_that_cannot_be_meant(pre: SSLPretrainer) -> None:
    with pytest.raises(UnknownNameError, match="There is no protocol 'probe'"):
        pre.evaluate(labelled(), protocol=["probe"])
    with pytest.raises(InvalidValueError, match=r"label_fractions=\[1\.5\]"):
        pre.evaluate(labelled(), label_fractions=[1.5])
    for settings, says in (
        ({"label_fractions": ["a"]}, r"label_fractions=\['a'\]: expected shares"),
        ({"label_fractions": 0.5}, r"label_fractions=0\.5: expected a list"),
        ({"protocol": 5}, "protocol=5: expected a list"),
        ({"seeds": "all"}, "seeds='all': expected a list"),
        ({"seeds": True}, "seeds=True: expected a list"),
        ({"seeds": [0.5]}, r"seeds=0\.5: expected a whole number"),
        ({"epochs": "2"}, "epochs='2': expected a whole number"),
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
    ):
        with pytest.raises(InvalidValueError, match=says):
            pre.evaluate(labelled(), **settings)
    with pytest.raises(InvalidValueError, match="must not be empty"):
        pre.evaluate(labelled(), seeds=[])
    data = labelled()
    data.val = None
    with pytest.raises(NoDataError, match="of two parts"):
        pre.evaluate(data)
