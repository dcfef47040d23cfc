"""LoRA: what trains, what is left, and that merging changes no answer."""

import copy

import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from transformers import ViTConfig, ViTModel

from mealkit import ImageClassifier, Training, load
from mealkit.backbones import create
from mealkit.errors import InvalidValueError, MissingPackageError
from mealkit.specs import ImageDataSpec
from mealkit.tasks import Lora
from mealkit.tasks.lora import add_adapters, merge_adapters

pytest.importorskip("peft")


class Attention(nn.Module):
    """Torch's own attention between two linear layers; features (B, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, 8, 8, stride=8)
        self.first = nn.Linear(8, 8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.last = nn.Linear(8, 8)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        tokens = self.first(self.cut(image).flatten(2).transpose(1, 2)).relu()
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.last(tokens).mean(1)


def make(data) -> ImageClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        backbone = create(Attention(), ImageDataSpec(size=16))
    backbone.pretrained = True
    task = ImageClassifier(backbone, classes=data.classes)
    task.data = data
    return task


class Look(pl.Callback):
    """Notes the answers at the end of training, before the merge, and what was trained."""

    def __init__(self, batch) -> None:
        self.batch = batch

    def on_train_start(self, trainer, pl_module) -> None:
        self.names = {n for n, _ in pl_module.backbone.named_parameters()}

    def on_fit_end(self, trainer, pl_module) -> None:
        pl_module.eval()
        with torch.no_grad():
            self.answers = pl_module(self.batch)
        self.base = {
            name.replace(".base_layer", ""): value.detach().clone()
            for name, value in pl_module.backbone.named_parameters()
            if "lora" not in name
        }


def test_weights_move_by_the_merge_alone_and_merging_changes_no_answer(data) -> None:
    task = make(data)
    before = copy.deepcopy(dict(task.backbone.named_parameters()))
    batch = {"image": torch.randint(0, 256, (6, 3, 16, 16), dtype=torch.uint8)}
    look = Look(batch)
    task.finetune(epochs=3, strategy="lora", lr=1e-2, callbacks=[look])
    after = dict(task.backbone.named_parameters())
    assert set(after) == set(before) == set(look.base)
    assert any("lora" in name for name in look.names)
    for name, value in look.base.items():
        rounding = 1e-6 if "attention" in name else 0.0  # peft adds and takes off in each forward
        assert (value - before[name]).abs().max() <= rounding, name
    moved = {name for name in before if not torch.equal(after[name], before[name])}
    assert moved == {
        f"net.{name}"
        for name in (
            "first.weight",
            "last.weight",
            "attention.in_proj_weight",
            "attention.out_proj.weight",
        )
    }
    with torch.no_grad():
        assert (task(batch) - look.answers).abs().max() < 1e-5
    assert all(value.requires_grad for value in task.parameters())
    assert task.head[1].weight.abs().sum() > 0


@pytest.mark.parametrize(
    "name", ["timm/vit_tiny_patch16_224", "torchvision/mobilenet_v3_small", "clip", "siglip"]
)
def test_a_saved_task_is_plain_and_has_the_head(data, tmp_path, both_folder, name: str) -> None:
    backbone = both_folder(name) if "/" not in name else name
    task = ImageClassifier(backbone, classes=data.classes, pretrained=False, size=32)
    names = set(task.state_dict())
    task.finetune(data, epochs=1, strategy=Lora(rank=2), lr=1e-3)
    task.save(tmp_path / "task")
    paths = list(data.test.ids)
    expected = task.predict(paths).probabilities
    loaded = load(tmp_path / "task")
    assert set(loaded.state_dict()) == names
    assert loaded.head[1].weight.any()
    assert torch.equal(loaded.head[1].weight, task.head[1].weight)
    assert abs(loaded.predict(paths).probabilities - expected).max() < 1e-6


@pytest.mark.parametrize(
    "name",
    [
        "timm/vit_tiny_patch16_224",
        "timm/convnext_atto",
        "vit",
        "clip",
        "siglip",
        pytest.param("torchvision/vit_b_16", marks=pytest.mark.slow),
        "torchvision/mobilenet_v3_small",
    ],
)
def test_merged_answers_equal_adapted_ones(name: str, tmp_path, both_folder) -> None:
    size = 224 if name == "torchvision/vit_b_16" else 32
    if name in ("clip", "siglip"):
        net = create(both_folder(name), options={"features": "shared"}).eval()
    elif name == "vit":
        config = ViTConfig(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            image_size=32,
        )
        ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
        net = create(tmp_path, ImageDataSpec(size=size)).eval()
    else:
        net = create(name, ImageDataSpec(size=size), pretrained=False).eval()
    for key, value in net.named_parameters():
        if key.endswith("gamma"):
            nn.init.ones_(value)  # a ConvNeXt begins with blocks that do next to nothing
    image = torch.rand(2, 3, size, size)
    with torch.no_grad():
        plain = net(image)
        assert add_adapters(net, Lora(rank=4)) > 0
        assert torch.allclose(net(image), plain, atol=1e-5), "adapters start at zero"
        for key, value in net.named_parameters():
            if "lora_B" in key:
                nn.init.normal_(value, std=0.02)
        adapted = net(image)
        merge_adapters(net)
        merged = net(image)
    scale = adapted.abs().max()  # features of an untrained MobileNet are tiny
    assert (adapted - plain).abs().max() > 1e-3 * scale
    assert (merged - adapted).abs().max() < 1e-5 * scale
    assert not any("lora" in key for key in net.state_dict())


def test_a_failure_leaves_a_plain_net(data) -> None:
    class Fail(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            raise RuntimeError("the disk is on fire")

    task = make(data)
    before = set(task.backbone.state_dict())
    with pytest.raises(RuntimeError, match="on fire"):
        task.finetune(epochs=2, strategy="lora", callbacks=[Fail()])
    assert set(task.backbone.state_dict()) == before
    assert all(value.requires_grad for value in task.parameters())


def test_a_plain_trainer_has_adapters_and_best_weights(data, bare_trainer) -> None:
    task = make(data).plan_training(strategy="lora", lr=1e-2)
    before = copy.deepcopy(task.backbone.state_dict())
    bare_trainer(2).fit(task, datamodule=data)
    after = task.backbone.state_dict()
    assert set(after) == set(before)
    assert not torch.equal(after["net.first.weight"], before["net.first.weight"])
    assert torch.equal(after["net.cut.weight"], before["net.cut.weight"])


def test_a_net_without_linear_layers_is_refused(data) -> None:
    backbone = create(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), ImageDataSpec(size=16))
    task = ImageClassifier(backbone, classes=data.classes)
    with pytest.raises(InvalidValueError, match="adapts linear layers, and this backbone has none"):
        task.finetune(data, epochs=1, strategy="lora")


def test_a_missing_peft_says_what_to_install(data, monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'mealkit\[peft\]'"):
        make(data).finetune(epochs=1, strategy="lora")


def test_a_rank_above_that_of_every_layer_is_refused(make_task) -> None:
    task = make_task()
    with pytest.raises(InvalidValueError, match=r"rank=13: no layer .* larger than 12 both ways"):
        task.finetune(epochs=2, strategy=Lora(rank=13))


@pytest.mark.parametrize("values", [{"rank": 0}, {"scale": 0.0}, {"scale": "2"}])
def test_settings_that_cannot_be_meant_are_refused(values) -> None:
    with pytest.raises(InvalidValueError, match=f"{next(iter(values))}="):
        Lora(**values)


def test_it_goes_together_with_the_other_settings(data, caplog) -> None:
    task = make(data)
    data.mix, data.balance, data.augment, data.batch_size = "both", "weights", None, None
    before = copy.deepcopy(task.backbone.state_dict())
    history = task.finetune(
        epochs=3,
        strategy="lora",
        lr="auto",
        batch_size="auto",
        training=Training(ema=0.9, patience=5, time_limit_seconds=500),
    )
    assert len(history) == 3
    after = task.backbone.state_dict()
    assert set(after) == set(before)
    assert torch.equal(after["net.cut.weight"], before["net.cut.weight"])
    assert all(value.isfinite().all() for value in after.values())
    assert all(value.requires_grad for value in task.parameters())
