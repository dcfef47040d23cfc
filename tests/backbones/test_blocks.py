"""How nets without a grouping of their own are cut."""

from __future__ import annotations

import pytest
from torch import nn

from mealkit import backbones
from mealkit.backbones.blocks import make_blocks, partition


@pytest.mark.parametrize(
    ("name", "num_blocks", "last"),
    [
        ("resnet18", 4, "layer4"),
        ("mobilenet_v3_small", 13, "features.12"),
        ("vgg11", 9, "classifier"),
        ("densenet121", 7, "features.denseblock4"),
        ("googlenet", 12, "inception5b"),
    ],
)
def test_known_nets_are_cut_where_their_authors_would(name, num_blocks, last):
    net = backbones.create(f"torchvision/{name}", pretrained=False)
    assert len(net.blocks) == num_blocks
    assert net.blocks[-1].name == last


def test_a_flat_net_is_cut_at_every_kernel():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)
    )
    assert partition(net) == [
        ["0.weight", "0.bias", "1.weight", "1.bias"],
        ["3.weight", "3.bias", "4.weight", "4.bias"],
    ]


def test_a_shared_parameter_stands_in_one_group():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    assert partition(net) == [["0.weight", "0.bias"], ["1.bias"]]


def test_a_net_without_parameters_has_no_blocks():
    assert partition(nn.ReLU()) == []


def test_dropout_between_blocks_belongs_to_the_one_before():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
            self.between = nn.Dropout(0.5)
            self.body = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1))

    net = Net()
    first, second = make_blocks(net, partition(net), prefix="net.")
    assert net.between in first.modules
    assert net.body[1] in second.modules
    assert first.parameters == ("net.stem.0.weight", "net.stem.0.bias")
    assert net not in (*first.modules, *second.modules)
