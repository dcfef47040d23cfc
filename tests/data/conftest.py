"""A tokenizer that a test can count by hand, and streams whose pictures count themselves."""

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from mealkit.specs import TextSpec

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e"]


@pytest.fixture
def words() -> TextSpec:
    """Words of one letter, between [CLS] (2) and [SEP] (3); padded with 0; 12 tokens at most."""
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    return TextSpec(tokenizer=tokenizer.to_str(), pad_id=0, max_length=12, type_ids=True)


class Hub:
    """A stream with shards, as Hugging Face's datasets have it: four items of a colour in each."""

    def __init__(self, num_shards: int, *, num_each: int = 4, number: int | None = None) -> None:
        self.num_shards, self._num_each, self._number = num_shards, num_each, number
        self.features = {"image": None, "label": SimpleNamespace(names=["red", "green", "blue"])}
        split = SimpleNamespace(num_examples=num_shards * num_each)
        self.info = SimpleNamespace(
            splits={"train": split}, builder_name="hub", config_name="", version="1", dataset_size=9
        )
        self.split = "train"
        self.num_read = 0

    def shard(self, num_shards: int, index: int) -> "Hub":
        assert num_shards == self.num_shards
        made = Hub(1, num_each=self._num_each, number=index)
        made.parent = self
        return made

    def __iter__(self):
        for place in range(self._num_each):
            self.parent.num_read += 1
            label = (self._number + place) % 3
            pixels = np.zeros((8, 8, 3), dtype=np.uint8)
            pixels[..., label] = 200
            pixels[0, 0, 0] = self._number * self._num_each + place  # which of all it is
            yield {"image": pixels, "label": label}


@pytest.fixture
def hub() -> type[Hub]:
    """Makes streams of so many shards whose first pixel counts the pictures."""
    return Hub


def png(number: int) -> bytes:
    """A picture of 8 x 8 pixels of one of three colours; the first pixel counts."""
    pixels = np.zeros((8, 8, 3), dtype=np.uint8)
    pixels[..., number % 3] = 200
    pixels[0, 0, 0] = number % 256
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    return file.getvalue()


@pytest.fixture
def write_tar() -> Callable[[Path, dict[str, bytes]], Path]:
    """Write a tar file of members by name."""

    def write(path: Path, members: dict[str, bytes]) -> Path:
        with tarfile.open(path, "w") as tar:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        return path

    return write


@pytest.fixture
def tars(tmp_path: Path, write_tar) -> Path:
    """A folder with four shards of five pictures, 20 in all, with numbers and names of classes."""
    for shard in range(4):
        members = {}
        for number in range(shard * 5, shard * 5 + 5):
            members[f"{number:03d}.png"] = png(number)
            members[f"{number:03d}.cls"] = str(number % 3).encode()
            members[f"{number:03d}.txt"] = ("red", "green", "blue")[number % 3].encode() + b"\n"
        write_tar(tmp_path / f"part-{shard}.tar", members)
    return tmp_path


@pytest.fixture
def count_calls() -> Callable[..., int]:
    """Count the Python calls that a call makes: work that does not jitter."""

    def count(do: Callable[..., object], *given: object) -> int:
        calls = 0

        def note(frame: object, event: str, argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        before = sys.getprofile()
        do(*given)  # what is made once is made now
        sys.setprofile(note)
        try:
            do(*given)
        finally:
            sys.setprofile(before)
        return calls

    return count
