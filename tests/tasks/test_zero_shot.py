"""A task made of class names: what it says, what is saved of it, and how it is trained on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from torch.nn import functional
from transformers import AutoImageProcessor, AutoModel, AutoTokenizer

import mealkit
from mealkit import ImageClassifier, ImageData
from mealkit.errors import BackboneError, ClassError, InvalidValueError, UnknownNameError
from mealkit.tasks.zero_shot import PROMPTS, describe_classes

SHAPES = ["circle", "square", "triangle"]


def paths_of(photos: Path) -> list[str]:
    return sorted(map(str, (photos / "test").glob("*/*")))


def make(folder: Path, **options) -> ImageClassifier:
    task = ImageClassifier.zero_shot(SHAPES, backbone=folder, **options)
    task.precision = "32-true"
    return task


def logits_of(folder: Path, texts: list[str], pictures: list) -> torch.Tensor:
    """What the net of transformers itself says: (pictures, texts)."""
    net, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    pixels = AutoImageProcessor.from_pretrained(folder)(pictures, return_tensors="pt")
    siglip = net.config.model_type == "siglip"
    filled = {"padding": "max_length", "max_length": 20} if siglip else {"padding": True}
    words = tokenizer(texts, **filled, return_tensors="pt")
    with torch.no_grad():
        return net(**words, **pixels).logits_per_image


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_probabilities_are_those_of_the_net_itself(both_folder, photos, kind: str) -> None:
    folder, paths = both_folder(kind), paths_of(photos)
    task = make(folder, prompts="a photo of a {}")
    texts = [f"a photo of a {name}" for name in SHAPES]
    # Of 32 pixels already: resized they would differ by a level of 255 here and there.
    arrays = [np.array(Image.open(path).convert("RGB").resize((32, 32))) for path in paths]
    logits = logits_of(folder, texts, arrays)
    with torch.no_grad():
        ours = task({"image": torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)})
    torch.testing.assert_close(ours, logits, atol=1e-4, rtol=1e-5)
    assert logits.std() > 0.1
    predictions = task.predict(arrays)
    assert np.abs(predictions.probabilities - logits.softmax(1).numpy()).max() < 1e-5
    assert predictions.classes == tuple(SHAPES)


def test_files_are_seen_as_the_processor_sees_them(both_folder, photos) -> None:
    folder, paths = both_folder("clip"), paths_of(photos)
    task = make(folder, prompts=["a photo of a {}"])
    pictures = [Image.open(path).convert("RGB") for path in paths]
    texts = [f"a photo of a {name}" for name in SHAPES]
    expected = logits_of(folder, texts, pictures).softmax(1)
    assert np.abs(task.predict(paths).probabilities - expected.numpy()).max() < 0.02


def test_an_ensemble_is_the_mean_on_the_sphere(both_folder, photos) -> None:
    folder = both_folder("clip")
    prompts = ["a photo of a {}", "a dark drawing of the {}", "{}"]
    task = make(folder, prompts=prompts)
    net, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    rows = []
    for name in SHAPES:
        batch = tokenizer(
            [prompt.replace("{}", name) for prompt in prompts], padding=True, return_tensors="pt"
        )
        with torch.no_grad():
            output = net.get_text_features(**batch)
        unit = functional.normalize(getattr(output, "pooler_output", output), dim=1)
        rows.append(functional.normalize(unit.mean(0), dim=0))
    scale = net.logit_scale.exp().item()
    torch.testing.assert_close(task.head[1].weight, scale * torch.stack(rows) / 12**0.5)
    single = make(folder, prompts=prompts[:1])
    assert not torch.allclose(single.head[1].weight, task.head[1].weight)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_saved_task_needs_neither_texts_nor_network(both_folder, photos, kind, tmp_path) -> None:
    folder = Path(shutil.copytree(both_folder(kind), tmp_path / "net"))
    task = make(folder, prompts=["a photo of a {}", "{}"])
    expected = task.predict(paths_of(photos)).probabilities
    task.save(tmp_path / "task")
    shutil.rmtree(folder)
    assert {path.name for path in (tmp_path / "task").iterdir()} == {
        "task.json",
        "model.safetensors",
    }
    saved = json.loads((tmp_path / "task" / "task.json").read_text())
    assert "text" not in json.dumps(saved["backbone"]["config"]["model_config"])
    again = mealkit.load(tmp_path / "task")
    assert not any("text" in name for name in again.state_dict())
    assert np.abs(again.predict(paths_of(photos)).probabilities - expected).max() < 1e-6
    with pytest.raises(BackboneError, match="is a saved task, which no encoder of texts is kept"):
        ImageClassifier.zero_shot(SHAPES, backbone=tmp_path / "task")


def test_a_folder_can_be_scored_without_any_training(both_folder, photos) -> None:
    task = make(both_folder("clip"), prompts="a photo of a {}")
    evaluation = task.evaluate(photos / "test")
    paths = paths_of(photos)
    predicted = task.predict(paths).labels
    right = [Path(path).parent.name == label for path, label in zip(paths, predicted, strict=True)]
    assert evaluation.metrics["accuracy"] == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("strategy", ["freeze", "full", "lora"])
def test_training_starts_from_the_texts(both_folder, photos, strategy: str) -> None:
    """A rate of next to nothing leaves the answers: nothing was solved, and nothing drawn anew."""
    if strategy == "lora":
        pytest.importorskip("peft")
    task = make(both_folder("clip"))
    data = ImageData.from_folders(photos / "train", val=photos / "val")
    assert not task.head_is_fresh
    before, head = task.predict(paths_of(photos)).probabilities, task.head[1].weight.clone()
    history = task.finetune(data, epochs=1, strategy=strategy, lr=1e-9, precision="32-true")
    assert len(history) == 1
    after = task.predict(paths_of(photos)).probabilities
    assert np.abs(after - before).max() < 1e-4
    assert not torch.equal(task.head[1].weight, head)
    assert torch.allclose(task.head[1].weight, head, atol=1e-6)


def test_training_learns_from_there(both_folder, photos) -> None:
    task = make(both_folder("clip"))
    data = ImageData.from_folders(photos / "train", val=photos / "val")
    before = task._evaluate(data.train, 32).metrics["loss"]
    task.finetune(data, epochs=8, strategy="freeze", lr=1e-2, batch_size=4, precision="32-true")
    assert task._evaluate(data.train, 32).metrics["loss"] < 0.9 * before


def test_who_wants_a_solved_head_resets_it(both_folder, photos, caplog) -> None:
    task = make(both_folder("clip"))
    data = ImageData.from_folders(photos / "train", val=photos / "val")
    task.reset_head()
    assert task.head_is_fresh
    with caplog.at_level("INFO", "mealkit"):
        task.finetune(data, epochs=1, strategy="freeze", precision="32-true")
    assert "Solved the head" in caplog.text


def test_a_hub_id_comes_from_the_cache(both_folder, photos) -> None:
    place = Path(constants.HF_HUB_CACHE) / "models--cooks--clip"
    shutil.copytree(both_folder("clip"), place / "snapshots" / "abc123")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc123")
    expected = make(both_folder("clip")).predict(paths_of(photos)).probabilities
    for name in ("cooks/clip", "transformers/cooks/clip"):
        task = ImageClassifier.zero_shot(SHAPES, backbone=name)
        task.precision = "32-true"
        assert np.array_equal(task.predict(paths_of(photos)).probabilities, expected)


def test_another_size_is_taken(both_folder, photos) -> None:
    task = make(both_folder("clip"), size=48)
    assert task.input_spec.size == (48, 48)
    assert np.isfinite(task.predict(paths_of(photos)).probabilities).all()


# Prompts


def test_prompts_are_filled_in_and_may_be_given_by_class() -> None:
    assert describe_classes(["ant", "bee"], "a {} or {}") == {
        "ant": ["a ant or ant"],
        "bee": ["a bee or bee"],
    }
    usual = describe_classes(["ant"], None)["ant"]
    assert usual == [prompt.format("ant") for prompt in PROMPTS]
    given = {"bee": ["it hums", "it stings"], "ant": "six legs"}
    assert describe_classes(["ant", "bee"], given) == {
        "ant": ["six legs"],
        "bee": ["it hums", "it stings"],
    }


@pytest.mark.parametrize(
    ("classes", "prompts", "error", "said"),
    [
        (["ant", "ant"], None, ClassError, r"must differ, got twice: ant"),
        (["ant", " "], None, ClassError, r"Class ' ' is blank"),
        (["ant"], None, ClassError, r"Got 1 classes: expected at least two"),
        (["ant", "bee"], "a photo", InvalidValueError, r"prompt 'a photo' has no \{\}"),
        (["ant", "bee"], ["{}", "an {x}"], InvalidValueError, r"prompt 'an \{x\}' has no \{\}"),
        (["ant", "bee"], [], InvalidValueError, r"prompts=\[\]: expected one text or several"),
        (["ant", "bee"], {"ant": "x"}, InvalidValueError, r"no sentence for 'bee'"),
        (["ant", "bee"], {"ant": "x", "bee": []}, InvalidValueError, r"prompts\['bee'\]=\[\]"),
        (["ant", "bee"], {"bea": "x"}, UnknownNameError, r"'bea'. Did you mean 'bee'"),
    ],
)
def test_what_cannot_be_meant_is_refused(both_folder, classes, prompts, error, said) -> None:
    with pytest.raises(error, match=said):
        ImageClassifier.zero_shot(classes, backbone=both_folder("clip"), prompts=prompts)


def test_a_backbone_without_texts_is_refused() -> None:
    with pytest.raises(BackboneError, match=r"'resnet18' has no encoder of texts"):
        ImageClassifier.zero_shot(["ant", "bee"], backbone="resnet18")
