"""SSLPretrainer: from pictures without labels to a backbone that other tasks take as it is."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import pytorch_lightning as pl
import timm
import torch
import torchvision
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

import mealkit
from mealkit import ImageClassifier, ImageData, SSLPretrainer, Training
from mealkit.backbones import create
from mealkit.data import UnlabelledImages
from mealkit.errors import (
    BackboneError,
    DataError,
    InvalidValueError,
    NoDataError,
    RunError,
    SavedTaskError,
    UnknownNameError,
    WeightsError,
)
from mealkit.specs import ImageDataSpec
from mealkit.tasks import BYOL, METHODS, MoCo, SimCLR, checkpoint

SMALL = {"mealkit_resnet8": {"width": 4}}
CONV_METHODS = ("barlow_twins", "byol", "dino", "moco", "simclr", "simsiam", "vicreg")


def small_net(size: int = 16) -> nn.Module:
    return create("mealkit_resnet8", ImageDataSpec(size=size), options={"width": 4})


def pictures(num: int = 24, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (num, side, side, 3), dtype=np.uint8)


def make(method: str = "simclr", *, seed: int = 0, num: int = 24) -> SSLPretrainer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return SSLPretrainer.from_arrays(pictures(num), backbone=small_net(), method=method)


def state(task: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


# Sources.


def test_every_source_makes_a_pretrainer(kitchen: Path) -> None:
    files = sorted(Path("unlabelled").glob("*.jpg"))
    frame = pd.DataFrame({"path": [file.name for file in files]})
    arrays = [np.asarray(Image.open(file)) for file in files]
    dataset = torchvision.datasets.ImageFolder("photos/train")
    common = {"backbone": small_net(32)}
    made = {
        "folder": SSLPretrainer.from_folder("photos", **common),
        "files": SSLPretrainer.from_files(files, **common),
        "frame": SSLPretrainer.from_data_frame(frame, image="path", root="unlabelled", **common),
        "arrays": SSLPretrainer.from_arrays(arrays, **common),
        "dataset": SSLPretrainer.from_dataset(dataset, **common),
    }
    counts = {name: len(pre.data.train) for name, pre in made.items()}
    assert counts == {"folder": 60, "files": 12, "frame": 12, "arrays": 12, "dataset": 36}
    pre = made["frame"]
    assert list(pre.data.train.ids) == [file.name for file in files]
    assert len(pre.pretrain(epochs=1)) == 1


def test_what_cannot_be_read_is_left_out_and_reported(kitchen: Path) -> None:
    Path("unlabelled/00.jpg").write_bytes(b"no picture")
    pre = SSLPretrainer.from_folder("unlabelled", backbone="mealkit_tiny")
    assert len(pre.data.train) == 11
    assert "00.jpg" in str(pre.data.report)
    with pytest.raises(DataError, match=r"1 of 12 pictures cannot be read.*00\.jpg"):
        SSLPretrainer.from_folder("unlabelled", on_error="raise")
    Path("empty").mkdir()
    with pytest.raises(NoDataError, match="no pictures in it"):
        SSLPretrainer.from_folder("empty")
    with pytest.raises(NoDataError, match=r"The folder nowhere does not exist"):
        SSLPretrainer.from_folder("nowhere")
    with pytest.raises(InvalidValueError, match="on_error='stop'"):
        SSLPretrainer.from_folder("unlabelled", on_error="stop")
    with pytest.raises(DataError, match="There is no column 'file'"):
        SSLPretrainer.from_data_frame(pd.DataFrame({"path": ["a.jpg"]}), image="file")
    with pytest.raises(DataError, match="expected a list of paths"):
        SSLPretrainer.from_files("unlabelled")
    with pytest.raises(DataError, match="cannot be counted"):
        SSLPretrainer.from_dataset(iter([]))


# Nets for small pictures.


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_small_pictures_end_as_a_map_and_not_as_a_dot(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="mealkit"):
        pre = SSLPretrainer.from_arrays(pictures(side=32), backbone=name)
    assert pre.input_spec.size == (32, 32)
    assert pre.backbone.states(torch.zeros(1, 3, 32, 32)).shape == (1, 512, 4, 4)
    said = [line for line in caplog.messages if "are small" in line]
    assert len(said) == 1
    assert "without max-pool" in said[0]
    assert all(view.blur == 0 for view in pre.objective.views)


def test_a_vision_transformer_gets_smaller_patches() -> None:
    pre = SSLPretrainer.from_arrays(pictures(side=32), backbone="vit_tiny_patch16_224")
    assert pre.backbone.states(torch.zeros(1, 3, 32, 32)).shape == (1, 65, 192)


def test_photos_keep_the_size_and_stem_of_the_net() -> None:
    large = np.zeros((2, 80, 100, 3), dtype=np.uint8)
    pre = SSLPretrainer.from_arrays(large, backbone="resnet18")
    assert pre.input_spec.size == (224, 224)
    assert pre.backbone.net.conv1.kernel_size == (7, 7)
    assert not pre.backbone.pretrained  # a name alone never brings weights


def test_a_small_stem_needs_a_net_that_has_one() -> None:
    with pytest.raises(BackboneError, match="choose a resnet"):
        create("vit_tiny_patch16_224", pretrained=False, options={"stem": "small"})
    with pytest.raises(BackboneError, match="stem='tiny'"):
        create("resnet18", pretrained=False, options={"stem": "tiny"})


# Training.


@pytest.mark.parametrize("method", CONV_METHODS)
def test_every_method_moves_the_backbone_and_tells_of_its_embeddings(method: str) -> None:
    pre = make(method)
    before = state(pre.backbone)
    history = pre.pretrain(epochs=2, batch_size=12)
    assert len(history) == 2
    moved = [n for n, v in pre.backbone.named_parameters() if not torch.equal(v, before[n])]
    assert len(moved) == len(list(pre.backbone.named_parameters()))
    for row in history.rows:
        assert np.isfinite(row["train/loss"])
        assert 1 <= row["embedding/rank"] <= 24
        assert row["embedding/spread"] >= 0
    assert pre.backbone.pretrained


@pytest.mark.filterwarnings("ignore:Total length")
def test_a_plain_trainer_trains_alike(bare_trainer: Callable[[int], pl.Trainer]) -> None:
    ours, plain = make("byol"), make("byol")
    ours.precision = "32-true"
    ours.pretrain(epochs=2, batch_size=12)
    plain.data.batch_size = 12
    torch.manual_seed(plain.plan.training.seed)
    plain.precision = "32-true"
    trainer = bare_trainer(2)
    trainer.gradient_clip_val = 1.0
    trainer.fit(plain, datamodule=plain.data)
    assert same(state(plain), state(ours))


def test_teacher_queue_and_centre_follow() -> None:
    pre = SSLPretrainer.from_arrays(
        pictures(), backbone=small_net(), method=MoCo(queue_size=30, teacher_momentum=0.5)
    )
    before = state(pre.objective)
    weight = next(pre.backbone.parameters()).detach().clone()
    pre.pretrain(epochs=1, batch_size=24)  # one step
    after = state(pre.objective)
    assert after["parts.queue.place"] == 24
    assert torch.equal(after["parts.queue.keys"][24:], before["parts.queue.keys"][24:])
    assert torch.allclose(after["parts.queue.keys"].norm(dim=1), torch.ones(30), atol=1e-5)
    taught = next(pre.objective.teacher["backbone"].parameters())
    halfway = weight.lerp(next(pre.backbone.parameters()), 0.5)
    assert torch.equal(taught, halfway)
    assert not taught.requires_grad
    dino = make("dino")
    dino.pretrain(epochs=1, batch_size=24)
    assert dino.objective.parts["centre"].mean.abs().max() > 0


def test_settings_of_a_method_and_names() -> None:
    pre = SSLPretrainer("mealkit_tiny", method=SimCLR(temperature=0.5))
    assert pre.method.temperature == 0.5
    assert set(SSLPretrainer.methods()) == set(METHODS)
    with pytest.raises(UnknownNameError, match="Did you mean 'simclr'"):
        SSLPretrainer("mealkit_tiny", method="simcrl")
    with pytest.raises(InvalidValueError, match="method=3"):
        SSLPretrainer("mealkit_tiny", method=3)


def test_every_method_names_its_paper_and_a_remedy() -> None:
    own = {n: m for n, m in METHODS.items() if m.__module__.startswith("mealkit.")}
    assert len(own) >= 9
    for name, method in own.items():
        assert "arXiv:" in method.__doc__.partition("\n")[0], name
        assert method.remedy, name


def test_arguments_that_cannot_be_meant() -> None:
    pre = make()
    with pytest.raises(InvalidValueError, match=r"backbone=pre\)\.finetune"):
        pre.finetune(epochs=1)
    with pytest.raises(InvalidValueError, match=r"pre\.embed"):
        pre.predict(pictures())
    with pytest.raises(InvalidValueError, match="'freeze'"):
        pre.plan_training(strategy="freeze")
    with pytest.raises(InvalidValueError, match="lr='auto'"):
        pre.pretrain(epochs=1, lr="auto")
    for settings, says in (
        ({"batch_size": 0}, "batch_size=0: expected at least 1"),
        ({"resume": "yes"}, "resume='yes': expected True or False"),
        ({"training": {"seed": 1}}, r"training=\{'seed': 1\}: expected mealkit\.tasks\.Training"),
        ({"training": Training(label_smoothing=0.1)}, "no labels to smooth in pretraining"),
        ({"data": "unlabelled/"}, r"data='unlabelled/': expected a data module of mealkit"),
    ):
        with pytest.raises(InvalidValueError, match=says):
            pre.pretrain(**{"epochs": 1, **settings})
    with pytest.raises(InvalidValueError, match="path=5: expected the path of a file"):
        pre.export(5)
    with pytest.raises(InvalidValueError, match="folder=5: expected the path of a folder"):
        pre.save(5)
    with pytest.raises(InvalidValueError, match="probe_every=2 without probe="):
        pre.pretrain(epochs=1, probe_every=2)
    with pytest.raises(UnknownNameError, match="reaction to a collapse 'ignore'"):
        pre.pretrain(epochs=1, on_collapse="ignore")
    with pytest.raises(NoDataError, match="no data to train on"):
        SSLPretrainer(small_net()).pretrain(epochs=1)
    trainer = pl.Trainer(max_epochs=1, logger=False)
    with pytest.raises(InvalidValueError, match="epochs= beside trainer="):
        pre.pretrain(epochs=1, trainer=trainer)
    with pytest.raises(InvalidValueError, match="have 4 channels and the net takes 3"):
        pre.pretrain(UnlabelledImages.from_arrays(np.zeros((4, 16, 16, 4), np.uint8)), epochs=1)


def test_labelled_data_are_refused(photos: Path) -> None:
    data = ImageData.from_folders(photos / "train")
    with pytest.raises(InvalidValueError, match="reads pictures without labels, got ImageData"):
        make().pretrain(data, epochs=1)


def test_batches_too_small_for_a_method_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    make().pretrain(epochs=1, batch_size=12)
    assert "Batches of 12 rows: simclr compares within a batch" in caplog.text
    caplog.clear()
    make("moco").pretrain(epochs=1, batch_size=12)
    assert "compares within a batch" not in caplog.text


# Resuming.


class Stop(pl.Callback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == self.step:
            raise RuntimeError("stopped")


@pytest.mark.parametrize("method", ["simclr", "moco", "byol", "dino"])
def test_a_stopped_run_ends_where_the_whole_one_did(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))
    settings = {"epochs": 2, "batch_size": 8}
    whole = make(method)
    expected = whole.pretrain(**settings, run=tmp_path / "whole")
    again = make(method)
    with pytest.raises(RuntimeError, match="stopped"):
        again.pretrain(**settings, run=tmp_path / "run", callbacks=[Stop(4)])
    again = make(method, seed=1)  # other random weights: the first ones are on disk
    history = again.pretrain(**settings, run=tmp_path / "run", resume=True)
    assert same(state(again), state(whole))  # teacher, queue and centre are among them
    rows = [{n: v for n, v in row.items() if n != "seconds"} for row in history.rows]
    assert rows == [{n: v for n, v in row.items() if n != "seconds"} for row in expected.rows]
    third = make(method, seed=2)
    third.pretrain(**settings, run=tmp_path / "run", resume=True)  # finished: taken over
    assert same(state(third), state(whole))
    other = make("byol" if method == "simclr" else "simclr")
    with pytest.raises(RunError, match=r"settings\.method"):
        other.pretrain(**settings, run=tmp_path / "run", resume=True)


# Keeping and handing over.


@pytest.fixture
def trained() -> SSLPretrainer:
    pre = make("byol")
    pre.pretrain(epochs=1, batch_size=12)
    return pre


def test_a_saved_pretrainer_goes_on_where_it_was(trained: SSLPretrainer, tmp_path: Path) -> None:
    trained.save(tmp_path / "pre")
    assert {path.name for path in (tmp_path / "pre").iterdir()} == {
        "task.json",
        "model.safetensors",
    }
    again = mealkit.load(tmp_path / "pre")
    assert isinstance(again, SSLPretrainer)
    assert again.method == trained.method
    assert same(state(again), state(trained))
    values = trained.embed(pictures()).values
    assert np.array_equal(again.embed(pictures()).values, values)
    data = UnlabelledImages.from_arrays(pictures())
    ours, theirs = trained.pretrain(epochs=1), again.pretrain(data, epochs=1)
    assert theirs.rows[0]["train/loss"] == ours.rows[0]["train/loss"]
    assert same(state(again), state(trained))


def test_a_method_that_nobody_registered_cannot_be_loaded(
    trained: SSLPretrainer, tmp_path: Path
) -> None:
    folder = trained.save(tmp_path / "pre")
    saved = json.loads((folder / "task.json").read_text())
    saved["settings"]["method"]["name"] = "mine"
    (folder / "task.json").write_text(json.dumps(saved))
    with pytest.raises(UnknownNameError, match="There is no method 'mine'"):
        mealkit.load(folder)


@pytest.mark.parametrize("form", ["pretrainer", "folder", "module"])
def test_the_hand_off_is_equal_bit_for_bit(
    form: str, trained: SSLPretrainer, photos: Path, tmp_path: Path
) -> None:
    given = {
        "pretrainer": trained,
        "folder": str(trained.save(tmp_path / "pre")),
        "module": trained.backbone,
    }[form]
    before = trained.embed(photos / "test").values
    task = ImageClassifier.from_folders(photos / "train", backbone=given)
    assert np.array_equal(task.embed(photos / "test").values, before)
    assert task.backbone.pretrained
    assert task.freezes_batch_norm
    task.finetune(epochs=1)
    assert np.array_equal(trained.embed(photos / "test").values, before)  # solved on its features


def test_tensors_that_do_not_fit_are_errors_that_name_them(
    trained: SSLPretrainer, tmp_path: Path
) -> None:
    folder = trained.save(tmp_path / "pre")
    tensors = load_file(folder / "model.safetensors")
    first = "backbone.net.0.0.weight"
    lost = {name: value for name, value in tensors.items() if name != first}
    save_file(lost, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=f"1 missing .*{first.removeprefix('backbone.net.')}"):
        ImageClassifier(str(folder), classes=["a", "b"])
    with pytest.raises(SavedTaskError, match=f"missing .'{first}'"):
        mealkit.load(folder)
    wrong = {**tensors, first: torch.zeros(7)}
    save_file(wrong, folder / "model.safetensors")
    with pytest.raises(WeightsError, match="1 misshapen"):
        ImageClassifier(str(folder), classes=["a", "b"])
    more = {**tensors, "backbone.net.extra": torch.zeros(1)}
    save_file(more, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"1 unexpected .*extra"):
        ImageClassifier(str(folder), classes=["a", "b"])


@pytest.mark.parametrize("name", ["resnet18", "torchvision/resnet18"])
def test_exported_weights_load_into_the_library_they_come_from(name: str, tmp_path: Path) -> None:
    pre = SSLPretrainer.from_arrays(pictures(side=80), backbone=name, size=32)
    file = pre.export(tmp_path / "backbone.safetensors")
    if name.startswith("torchvision"):
        net = torchvision.models.resnet18()
        net.fc = nn.Identity()
    else:
        net = timm.create_model("resnet18", num_classes=0)
    net.load_state_dict(load_file(file))
    images = pictures(4, 32)
    floats = pre.preprocess(torch.from_numpy(images).permute(0, 3, 1, 2))[0]
    pre.eval()
    assert torch.allclose(net.eval()(floats), pre.backbone(floats), atol=1e-5)


def test_an_exported_small_stem_says_how_it_loads(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pre = SSLPretrainer.from_arrays(pictures(side=32), backbone="resnet18")
    with caplog.at_level(logging.INFO, logger="mealkit"):
        file = pre.export(tmp_path / "backbone.safetensors")
    assert "net.maxpool = nn.Identity()" in caplog.text
    net = timm.create_model("resnet18", num_classes=0)
    net.conv1 = nn.Conv2d(3, net.conv1.out_channels, 3, padding=1, bias=False)
    net.maxpool = nn.Identity()
    net.load_state_dict(load_file(file))
    with pytest.raises(InvalidValueError, match=r"ends in \.safetensors"):
        pre.export(tmp_path / "backbone.pt")


def test_a_small_stem_survives_saving_and_other_channels(tmp_path: Path) -> None:
    pre = SSLPretrainer.from_arrays(pictures(4, 32), backbone="resnet18")
    folder = pre.save(tmp_path / "pre")
    assert mealkit.load(folder).backbone.net.conv1.kernel_size == (3, 3)
    grey = ImageClassifier(str(folder), classes=["a", "b"], in_chans=1)
    assert grey.backbone.net.conv1.weight.shape == (64, 1, 3, 3)
    summed = pre.backbone.net.conv1.weight.sum(1, keepdim=True)
    assert torch.allclose(grey.backbone.net.conv1.weight, summed, atol=1e-6)


def test_pretraining_goes_on_from_a_trained_net() -> None:
    net = small_net()
    kept = copy.deepcopy(net.state_dict())
    pre = SSLPretrainer(net, method=BYOL(width=8))
    assert same(state(pre.backbone), kept)
    assert SSLPretrainer("mealkit_tiny", pretrained=True).backbone.pretrained


def test_training_settings_of_your_own_replace_those_of_the_method() -> None:
    pre = make()
    assert pre.plan.training == pre.method.training
    pre.pretrain(epochs=1, training=Training(accumulate=2, warmup=0.0), batch_size=8)
    assert pre.plan.training.accumulate == 2
