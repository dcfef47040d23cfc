"""What a backbone reads, told without building it, and options of another kind of input."""

from __future__ import annotations

from pathlib import Path

import pytest

from mealkit import SSLPretrainer
from mealkit.errors import InvalidValueError
from mealkit.tasks.pretrain_kind import NetOptions
from mealkit.tasks.pretrain_kinds import KINDS, kind_of
from mealkit.tasks.pretrain_task import PretrainTask


def test_a_backbone_tells_what_it_reads(tmp_path: Path) -> None:
    pre = SSLPretrainer("patchtst", context=48)
    folder = pre.save(tmp_path / "pre")
    for given in ("patchtsmixer", pre, pre.backbone, folder, str(folder), "ridge"):
        assert kind_of(given) == "series"
    assert kind_of("mealkit_tiny_text") == "text"
    for given in ("resnet18", "torchvision/resnet18", "nowhere", tmp_path, pre.objective, 3):
        assert kind_of(given) == "image"
    (folder / "task.json").write_text("{}")
    assert kind_of(folder) == "image"


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_its_usual_method_among_its_own(kind: str) -> None:
    assert KINDS[kind].usual_method in PretrainTask.methods(kind)
    assert "backbone=pre)" in KINDS[kind].hand_over


def test_options_of_another_kind_are_named() -> None:
    asked = NetOptions(size=32, context=9)
    asked.refuse("in_chans", what="of pictures")  # which was not given
    with pytest.raises(InvalidValueError, match=r"size=32: of pictures\. Leave it out"):
        asked.refuse("in_chans", "size", what="of pictures")
    with pytest.raises(InvalidValueError, match="context=9"):
        KINDS["image"].build("mealkit_tiny", NetOptions(context=9))
    with pytest.raises(InvalidValueError, match="context=9"):
        KINDS["text"].build("mealkit_tiny_text", NetOptions(context=9))
    with pytest.raises(InvalidValueError, match="in_chans=1: of pictures; these are series"):
        KINDS["series"].build("patchtst", NetOptions(in_chans=1))
