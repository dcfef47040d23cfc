"""Saved tasks come back as they were: in another process, without network, data or pickle."""

import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from torch import nn

import mealkit
from mealkit import ImageClassifier
from mealkit.backbones import create
from mealkit.errors import BackboneError, InvalidValueError, NoDataError, SavedTaskError
from mealkit.specs import ImageDataSpec

Make = Callable[..., ImageClassifier]
GOLDEN = Path(__file__).parent.parent / "golden"


@pytest.fixture
def tiny(photos: Path) -> ImageClassifier:
    task = ImageClassifier.from_folders(photos / "train", backbone="mealkit_tiny", pretrained=False)
    task.finetune(epochs=1, strategy="freeze")
    return task


def test_another_process_predicts_the_same(
    tiny: ImageClassifier, photos: Path, tmp_path: Path
) -> None:
    paths = sorted(map(str, (photos / "test").glob("*/*")))
    expected = tiny.predict(paths).probabilities
    tiny.save(tmp_path / "ants")
    moved = (tmp_path / "ants").rename(tmp_path / "moved")
    script = tmp_path / "predict.py"
    script.write_text(
        "import json, sys, builtins\n"
        "sys.modules['pickle_blocked'] = None\n"
        "import mealkit, torch\n"
        "torch.set_num_threads(1)\n"
        f"task = mealkit.load({str(moved)!r})\n"
        f"answer = task.predict({paths!r})\n"
        "print(json.dumps([answer.labels, answer.probabilities.tolist()]))\n"
    )
    answer = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    labels, probabilities = json.loads(answer.stdout)
    assert labels == tiny.predict(paths).labels
    assert np.abs(np.array(probabilities) - expected).max() < 1e-6


def test_a_saved_task_holds_json_and_tensors_only(tiny: ImageClassifier, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "ants")
    assert sorted(path.name for path in folder.iterdir()) == ["model.safetensors", "task.json"]
    saved = json.loads((folder / "task.json").read_text())
    assert saved["data"]["classes"] == ["circle", "square", "triangle"]
    assert saved["backbone"]["config"]["name"] == "mealkit_tiny.v1"
    assert set(load_file(folder / "model.safetensors")) == {
        name for name in tiny.state_dict() if name.startswith(("backbone.", "head."))
    }


def test_loading_never_unpickles(
    tiny: ImageClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save(tmp_path / "ants")

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    assert mealkit.load(tmp_path / "ants").classes == tiny.classes


def test_a_task_is_replaced_as_a_whole_and_other_folders_are_left_alone(
    tiny: ImageClassifier, tmp_path: Path
) -> None:
    tiny.save(tmp_path / "ants")
    tiny.save(tmp_path / "ants")
    assert mealkit.load(tmp_path / "ants").classes == tiny.classes
    (tmp_path / "photos-of-mine").mkdir()
    (tmp_path / "photos-of-mine/1.jpg").write_text("x")
    with pytest.raises(SavedTaskError, match=r"holds 1\.jpg"):
        tiny.save(tmp_path / "photos-of-mine")
    assert [path.name for path in (tmp_path / "photos-of-mine").iterdir()] == ["1.jpg"]
    leftovers = [path.name for path in tmp_path.iterdir() if path.name.startswith(".mealkit")]
    assert leftovers == []


@pytest.mark.parametrize("what", ["absent", "empty", "no tensors"])
def test_what_is_no_saved_task_is_refused(tiny: ImageClassifier, tmp_path: Path, what: str) -> None:
    folder = tmp_path / "ants"
    if what != "absent":
        tiny.save(folder)
        (folder / "model.safetensors").unlink()
    if what == "empty":
        (folder / "task.json").unlink()
    with pytest.raises(SavedTaskError, match="no saved task"):
        mealkit.load(folder)


def test_a_newer_format_is_refused_with_what_to_do(tiny: ImageClassifier, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "ants")
    saved = json.loads((folder / "task.json").read_text())
    saved |= {"format": 99, "mealkit": "9.0"}
    (folder / "task.json").write_text(json.dumps(saved))
    with pytest.raises(SavedTaskError, match=r"format 99 by mealkit 9.0.*pip install -U mealkit"):
        mealkit.load(folder)


def test_damage_is_named(tiny: ImageClassifier, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "ants")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SavedTaskError, match=r"model\.safetensors is damaged"):
        mealkit.load(folder)
    (folder / "model.safetensors").write_bytes(whole)


def change(saved: dict, name: str, value: object) -> None:
    """Put a value in the place of an entry, whose name has dots; "gone" for none."""
    *path, last = name.split(".")
    for part in path:
        saved = saved[part]
    if value == "gone":
        del saved[last]
    else:
        saved[last] = value


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("format", "gone", "its format is None and no number"),
        ("format", True, "its format is True and no number"),
        ("task", "gone", "it has no task"),
        ("task", "ImageClasifier", "There is no task 'ImageClasifier'. Did you mean 'ImageCl"),
        ("task", 3, r"its task is '3' \(int\) where str is expected"),
        ("backbone", [], r"its backbone is '\[\]' \(list\) where dict is expected"),
        ("backbone.input", "gone", r"it has no backbone\.input"),
        ("backbone.pretrained", None, r"its backbone\.pretrained is 'None'"),
        ("backbone.input.kind", "gone", "an entry 'kind' is missing"),
        ("backbone.input.size", "gone", "has another type than was saved|'size'"),
        ("backbone.input.colour", 3, "There is no setting of ImageSpec 'colour'"),
        ("backbone.config.name", "gone", "an entry 'name' is missing"),
        ("data.classes", 3, "classes=3: expected several names"),
        ("settings.dropout", "gone", "an entry 'dropout' is missing"),
        ("settings.dropout", "a lot", "dropout='a lot': expected a share"),
        ("settings.conformal", 5, "has another type than was saved"),
        ("precision", None, "its precision is 'None'"),
    ],
)
def test_a_damaged_description_is_named_with_what_to_do(
    tiny: ImageClassifier, tmp_path: Path, name: str, value: object, says: str
) -> None:
    folder = tiny.save(tmp_path / "ants")
    saved = json.loads((folder / "task.json").read_text())
    change(saved, name, value)
    (folder / "task.json").write_text(json.dumps(saved))
    with pytest.raises(SavedTaskError, match=says) as told:
        mealkit.load(folder)
    said = str(told.value)
    assert said.startswith(f"{folder / 'task.json'} is damaged: ")
    assert "Expected what task.save wrote: an object with format, task, data" in said
    assert said.endswith("Save the task again, or copy the whole folder anew.")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it is no JSON"),
        (b'{"format": 1, "task": "Image', r"it is no JSON \(Unterminated string"),
        (b'{"format": "\xff"}', r"it is no JSON \('utf-8' codec"),
        (b"[1, 2]", "it holds list and no object"),
        (b"null", "it holds NoneType and no object"),
    ],
)
def test_a_description_that_is_cut_off_is_named(
    tiny: ImageClassifier, tmp_path: Path, content: bytes, says: str
) -> None:
    folder = tiny.save(tmp_path / "ants")
    (folder / "task.json").write_bytes(content)
    with pytest.raises(SavedTaskError, match=says) as told:
        mealkit.load(folder)
    assert "task.json is damaged" in str(told.value)
    assert "Save the task again" in str(told.value)


def test_a_missing_tensor_is_named(tiny: ImageClassifier, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "ants")
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.1.bias"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SavedTaskError, match=r"missing \['head.1.bias'\]"):
        mealkit.load(folder)


def test_a_loaded_task_has_no_data_and_says_so(tiny: ImageClassifier, tmp_path: Path) -> None:
    loaded = mealkit.load(tiny.save(tmp_path / "ants"))
    with pytest.raises(NoDataError, match="saved tasks do not carry any"):
        loaded.finetune()
    assert len(loaded.finetune(tiny.data, epochs=1)) == 1


def test_precision_is_recorded(tiny: ImageClassifier, tmp_path: Path) -> None:
    tiny.precision = "bf16-mixed"
    assert mealkit.load(tiny.save(tmp_path / "ants")).precision == "bf16-mixed"


def test_a_module_of_the_user_is_passed_to_load(make_task: Make, tmp_path: Path) -> None:
    task = make_task()
    task.finetune(epochs=1, strategy="freeze")
    folder = task.save(tmp_path / "own")
    with pytest.raises(BackboneError, match="backbone="):
        mealkit.load(folder)
    net: nn.Module = type(task.backbone.net)()
    loaded = mealkit.load(folder, backbone=net)
    paths = list(task.data.test.ids)
    assert np.allclose(
        loaded.predict(paths).probabilities, task.predict(paths).probabilities, atol=1e-6
    )


def test_an_untrained_net_comes_back_as_untrained(tiny: ImageClassifier, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "frozen")  # its body was never trained
    assert not mealkit.load(folder).backbone.pretrained
    assert not ImageClassifier(str(folder), classes=["x", "y"]).backbone.pretrained
    tiny.finetune(epochs=1, strategy="full")
    assert mealkit.load(tiny.save(folder)).backbone.pretrained


def test_a_module_for_four_channels_comes_back(tmp_path: Path) -> None:
    backbone = create(nn.Conv2d(4, 5, 3), ImageDataSpec(in_chans=4, size=16))
    task = ImageClassifier(backbone, classes=["x", "y"])
    loaded = mealkit.load(task.save(tmp_path / "four"), backbone=nn.Conv2d(4, 5, 3))
    assert loaded.input_spec == task.input_spec


def test_a_saved_task_is_a_backbone(tiny: ImageClassifier, photos: Path, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "ants")
    other = ImageClassifier(str(folder), classes=["x", "y"])
    paths = list(tiny.data.val.ids)
    assert np.array_equal(other.embed(paths).values, tiny.embed(paths).values)


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("format-*/")), ids=lambda path: path.name)
def test_golden_tasks_of_earlier_versions_predict_what_they_did(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "task", copy)
    expected = json.loads((folder / "expected.json").read_text())
    predictions = mealkit.load(copy).predict([folder / name for name in expected])
    assert np.allclose(predictions.probabilities, list(expected.values()), atol=1e-5)


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("series-*/")), ids=lambda path: path.name)
def test_golden_forecasters_of_earlier_versions_forecast_what_they_did(
    folder: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "task", copy)
    expected = json.loads((folder / "expected.json").read_text())
    task: Any = mealkit.load(copy)  # the forecaster it was
    answers = {"kept": task.predict(None, horizon=10), "newer": task.predict(folder / "newer.csv")}
    for name, answer in answers.items():
        assert np.allclose(answer.quantiles, expected[name], rtol=1e-4)


def test_there_are_golden_tasks() -> None:
    assert len(list(GOLDEN.glob("format-*/task/task.json"))) >= 1
    assert len(list(GOLDEN.glob("series-*/task/task.json"))) >= 1


def test_what_is_no_path_is_refused(make_task: Make) -> None:
    with pytest.raises(InvalidValueError, match="folder=3: expected the path of a folder"):
        make_task().save(3)
