"""What methods share: views, momentum, projectors, teachers that see other batches."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from mealkit import SSLPretrainer
from mealkit.backbones import create
from mealkit.errors import InvalidValueError, UnknownNameError
from mealkit.specs import ImageDataSpec
from mealkit.tasks import DINO, METHODS, BarlowTwins, MoCo, SimCLR
from mealkit.tasks.pretext import _encode, method_from, mlp, rising, takes_size
from mealkit.tasks.pretext_teachers import Centre, Queue

VIT = {"depth": 1, "embed_dim": 32, "num_heads": 2, "patch_size": 8}


def test_momentum_rises_to_one_along_a_cosine() -> None:
    assert rising(0.9, 0.0) == pytest.approx(0.9)
    assert rising(0.9, 0.5) == pytest.approx(0.95)
    assert rising(0.9, 1.0) == pytest.approx(1.0)


class Rates(pl.Callback):
    """Note which parameters have which rate at the peak."""

    def __init__(self) -> None:
        self.names: dict[float, set[str]] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        names = {id(parameter): name for name, parameter in pl_module.named_parameters()}
        for group in trainer.optimizers[0].param_groups:
            named = {names[id(parameter)] for parameter in group["params"]}
            self.names.setdefault(group["initial_lr"], set()).update(named)


@pytest.mark.parametrize("method", ["byol", "simsiam", "simclr"])
def test_a_predictor_learns_faster_than_what_it_predicts(method: str) -> None:
    pictures = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8)
    net = create("mealkit_resnet8", options={"width": 4})
    pre = SSLPretrainer.from_arrays(pictures, backbone=net, method=method)
    rates = Rates()
    pre.pretrain(epochs=1, batch_size=32, lr=1e-3, callbacks=[rates])
    fast = {n for n, _ in pre.named_parameters() if n.startswith("objective.parts.predictor.")}
    assert bool(fast) == (method != "simclr")
    assert rates.names.pop(1e-2, set()) == fast
    assert list(rates.names) == [1e-3]


@pytest.mark.parametrize(("method", "num_steps"), [("simclr", 1), ("moco", 2), ("simsiam", 2)])
def test_a_method_has_batches_of_its_own(method: str, num_steps: int) -> None:
    pictures = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8)
    net = create("mealkit_resnet8", options={"width": 4})
    pre = SSLPretrainer.from_arrays(pictures, backbone=net, method=method)
    seen: list[int] = []
    count = pl.callbacks.LambdaCallback(
        on_train_end=lambda trainer, task: seen.append(trainer.global_step)
    )
    pre.pretrain(epochs=1, callbacks=[count])
    assert seen == [num_steps]


def test_narrow_embeddings_are_decorrelated_more_strongly() -> None:
    first, second = torch.randn(2, 16, 512, generator=torch.Generator().manual_seed(0))
    usual = BarlowTwins().loss({}, [first, second], [])
    assert usual == BarlowTwins(off_diagonal=0.02).loss({}, [first, second], [])
    wide = [torch.randn(8, 4096), torch.randn(8, 4096)]
    assert BarlowTwins().loss({}, wide, []) == BarlowTwins(off_diagonal=5e-3).loss({}, wide, [])


def test_a_projector_has_norms_between_its_layers() -> None:
    kinds = [type(layer) for layer in mlp(4, 8, 8, 2)]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == [*block, *block, nn.Linear]
    assert [type(layer) for layer in mlp(4, 8, 2, norm=False)] == [nn.Linear, nn.ReLU, nn.Linear]
    last = mlp(4, 8, 2, last_norm=True)[-1]
    assert isinstance(last, nn.BatchNorm1d)
    assert not last.affine


def test_settings_go_to_plain_values_and_back() -> None:
    for method in (
        SimCLR(temperature=0.3),
        MoCo(queue_size=8),
        *(one() for one in METHODS.values()),
    ):
        assert method_from(method.settings()) == method
    with pytest.raises(UnknownNameError, match="There is no method 'nothing'"):
        method_from({"name": "nothing"})


def test_local_crops_are_small_where_the_net_takes_them() -> None:
    convolves = create("mealkit_resnet8", options={"width": 4})
    assert takes_size(convolves, 16)
    sizes = [view.size for view in DINO(num_local=2).objective(convolves).views]
    assert sizes == [(32, 32), (32, 32), 16, 16]
    spec = ImageDataSpec(size=32)
    assert len(DINO().objective(convolves).views) == 2, "small pictures leave little to crop"
    fixed = create("vit_tiny_patch16_224", spec, pretrained=False, options=VIT)
    assert not takes_size(fixed, 16)
    sizes = [view.size for view in DINO(num_local=2).objective(fixed).views]
    assert sizes == [(32, 32)] * 4


def test_passes_count_students_three_times_and_crops_by_their_area() -> None:
    net = create("mealkit_resnet8", options={"width": 4})
    counts = {name: METHODS[name]().objective(net).passes for name in ("simclr", "moco", "byol")}
    assert counts == {"simclr": 6, "moco": 4, "byol": 8}
    small = (16 / 32) ** 2
    assert DINO(num_local=2).objective(net).passes == pytest.approx(3 * (2 + 2 * small) + 2)


def test_a_queue_forgets_the_oldest_and_waits_for_the_step() -> None:
    queue = Queue(5, 3)
    before = queue.keys.clone()
    rows = torch.randn(4, 3)
    queue.note(rows)
    assert torch.equal(queue.keys, before)  # the backward pass still needs it
    queue.advance()
    unit = rows / rows.norm(dim=1, keepdim=True)
    assert torch.allclose(queue.keys[:4], unit)
    assert torch.equal(queue.keys[4], before[4])
    queue.note(rows)
    queue.advance()
    assert torch.allclose(queue.keys[[4, 0, 1, 2]], unit)
    assert queue.place == 3
    queue.note(torch.randn(9, 3))  # more than it holds: the newest stay
    queue.advance()
    assert torch.allclose(queue.keys.norm(dim=1), torch.ones(5))


def test_a_centre_moves_by_its_momentum() -> None:
    centre = Centre(2, 0.9)
    centre.note(torch.tensor([[1.0, 3.0], [3.0, 5.0]]))
    centre.advance()
    assert torch.allclose(centre.mean, torch.tensor([0.2, 0.4]))
    centre.advance()  # nothing was noted
    assert torch.allclose(centre.mean, torch.tensor([0.2, 0.4]))


def test_keys_are_computed_in_other_batches_and_come_back_in_order() -> None:
    sizes = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            sizes.append(len(image))
            return self.layer(image)

    pre = SSLPretrainer(create(Net(), ImageDataSpec(size=16)), method="moco")
    sizes.clear()
    view = torch.rand(6, 3, 16, 16)
    (keys,) = pre.objective._teach(pre, [view])
    assert sizes == [3, 3]
    assert torch.allclose(keys, pre.backbone(*pre.preprocess(view)), atol=1e-6)


def test_batch_statistics_are_those_of_the_large_crops() -> None:
    def statistics(views: list[torch.Tensor]) -> list[torch.Tensor]:
        torch.manual_seed(0)
        net = create("mealkit_resnet8", options={"width": 4}).train()
        task = SimpleNamespace(preprocess=lambda pixels: (pixels,))
        assert len(_encode(task, net, views)) == len(views)
        return [v for n, v in net.state_dict().items() if "running_" in n]

    large = [torch.rand(8, 3, 32, 32), torch.rand(8, 3, 32, 32)]
    small = [5 + torch.rand(8, 3, 16, 16)]
    alone, both = statistics(large), statistics(large + small)
    assert all(torch.equal(one, other) for one, other in zip(alone, both, strict=True))
    assert not torch.equal(statistics(small)[0], alone[0])


@pytest.mark.parametrize("temperature", [0, -1.0, "x", float("inf")])
def test_a_temperature_is_a_positive_number(temperature) -> None:
    with pytest.raises(InvalidValueError, match=r"temperature=.*: expected a positive number"):
        SimCLR(temperature=temperature)


@pytest.mark.parametrize(
    ("name", "setting", "wrong", "says"),
    [
        ("simclr", "width", 0, "at least 1"),
        ("barlow_twins", "widening", 2.0, "a whole number"),
        ("barlow_twins", "off_diagonal", -1, r"a number in \[0, inf\)"),
        ("vicreg", "widening", -1, "at least 1"),
        ("vicreg", "invariance", "a", r"a number in \[0, inf\)"),
        ("vicreg", "variance", float("nan"), r"a number in \[0, inf\)"),
        ("vicreg", "covariance", -1, r"a number in \[0, inf\)"),
        ("moco", "width", None, "a whole number"),
        ("moco", "queue_size", 0, "at least 1"),
        ("moco", "teacher_momentum", 1.0, r"a number in \[0, 1\)"),
        ("byol", "width", "wide", "a whole number"),
        ("byol", "teacher_momentum", -1, r"a number in \[0, 1\)"),
        ("dino", "num_local", -1, "at least 0"),
        ("dino", "num_prototypes", 1, "at least 2"),
        ("dino", "norm", "yes", "True or False"),
        ("dino", "teacher_momentum", 2.0, r"a number in \[0, 1\)"),
        ("dino", "centre_momentum", None, r"a number in \[0, 1\)"),
        ("mae", "share", "a", r"a share of patches in \(0, 1\)"),
        ("mae", "depth", 2.5, "a whole number"),
        ("mae", "width", "a", "a whole number"),
        ("mlm", "share", None, r"a share of tokens in \(0, 1\)"),
        ("masked_patches", "share", 0, r"a share of patches in \(0, 1\)"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(name, setting, wrong, says) -> None:
    with pytest.raises(InvalidValueError, match=rf"^{setting}={wrong!r}: expected {says}"):
        METHODS[name](**{setting: wrong})


def test_every_setting_is_checked() -> None:
    for name, method in METHODS.items():
        for field in fields(method):
            with pytest.raises(InvalidValueError, match=field.name):
                METHODS[name](**{field.name: object()})
