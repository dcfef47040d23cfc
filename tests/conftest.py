"""What every test stands on: no network, caches in a temporary folder, one thread, drawn photos."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

# Set before anything imports huggingface_hub, which reads them once, at import.
CACHE = Path(tempfile.mkdtemp(prefix="mealkit-tests-"))
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
for variable in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME"):
    os.environ[variable] = str(CACHE / variable.lower())

# One CI run pretends a machine with many cores: sizes of pools and of warnings depend on them.
if cores := int(os.environ.get("MEALKIT_TEST_CORES", "0")):
    for counter in ("cpu_count", "process_cpu_count"):
        setattr(os, counter, lambda: cores)
    os.sched_getaffinity = lambda pid: set(range(cores))

ROOT = Path(__file__).parent.parent
LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1", ""}
COLOURS = {"circle": (200, 60, 60), "square": (60, 170, 80), "triangle": (70, 90, 210)}


class NetworkUsedError(OSError):
    """A test tried to leave this machine."""


def pytest_unconfigure() -> None:
    shutil.rmtree(CACHE, ignore_errors=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many tests on real data ran: without the data they skip, and that must show."""
    counts = {
        outcome: sum("real" in report.keywords for report in terminalreporter.getreports(outcome))
        for outcome in ("passed", "failed", "skipped")
    }
    if any(counts.values()):
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        terminalreporter.write_line(f"tests on real data and weights: {said}")


@pytest.fixture(autouse=True, scope="session")
def offline() -> Iterator[None]:
    """Make every connection to another machine an error."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex
    resolve = socket.getaddrinfo

    def check(host: object) -> None:
        host = host.decode() if isinstance(host, bytes) else host
        if host is not None and host not in LOCAL_HOSTS:
            raise NetworkUsedError(f"a test tried to reach {host!r}; tests run without network")

    def checked_connect(self, address):
        check(address[0] if isinstance(address, tuple) else None)  # AF_UNIX addresses are no tuple
        return connect(self, address)

    def checked_connect_ex(self, address):
        check(address[0] if isinstance(address, tuple) else None)
        return connect_ex(self, address)

    def checked_resolve(host, *args, **kwargs):
        check(host)
        return resolve(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", checked_connect)
        patch.setattr(socket.socket, "connect_ex", checked_connect_ex)
        patch.setattr(socket, "getaddrinfo", checked_resolve)
        yield


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Run torch on one thread: the nets are tiny, and results must not depend on the machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data and weights; tests that need it skip where it is absent."""
    folder = Path(os.environ.get("MEALKIT_SHARED") or ROOT.parent / "shared")
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data: {folder / 'data'} is absent; set MEALKIT_SHARED to its parent")
    return folder


@pytest.fixture(scope="session")
def both_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Answer with a folder of a random net of pictures and texts, ``"clip"`` or ``"siglip"``.

    It is written as ``save_pretrained`` does: net, tokenizer of whole words, image processor.
    """
    made: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in made:
            made[kind] = write_both(tmp_path_factory.mktemp("both") / kind, kind)
        return made[kind]

    return folder


@pytest.fixture
def bare_trainer() -> Callable[[int], Trainer]:
    """Make a Trainer as a user would who wants nothing around it."""
    from pytorch_lightning import Trainer

    def make(max_epochs: int) -> Trainer:
        return Trainer(
            max_epochs=max_epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    return make


WORDS = "a an the of photo drawing picture close blurry bright dark small large circle square"
PLACES = 20  # tokens that the encoder of texts takes


def write_both(folder: Path, kind: str) -> Path:
    """Write a random CLIP or SigLIP whose weights are far enough from zero to tell words apart."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import (
        AutoModel,
        CLIPConfig,
        CLIPImageProcessor,
        PreTrainedTokenizerFast,
        SiglipConfig,
        SiglipImageProcessor,
    )

    special = ["<pad>", "<unk>", "<start>", "<end>"]
    names = {word: number for number, word in enumerate([*special, *WORDS.split(), "triangle"])}
    tokenizer = Tokenizer(models.WordLevel(names, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    marks = [(mark, names[mark]) for mark in special[2:]]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=marks
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=PLACES,
        model_input_names=["input_ids", "attention_mask"][: 1 if kind == "siglip" else 2],
    ).save_pretrained(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    small |= {"intermediate_size": 32, "projection_dim": 12}
    texts = {**small, "vocab_size": len(names), "max_position_embeddings": PLACES}
    texts |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    pictures = {**small, "image_size": 32, "patch_size": 8}
    settings = {"text_config": texts, "vision_config": pictures}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "clip":
            net = AutoModel.from_config(CLIPConfig(**settings, projection_dim=12))
        else:
            net = AutoModel.from_config(SiglipConfig(**settings))
        for value in net.parameters():
            if value.ndim > 1:
                torch.nn.init.normal_(value, std=0.3)
        if kind == "siglip":  # about where training starts
            net.logit_scale.data.fill_(2.3)
            net.logit_bias.data.fill_(-10)
    net.save_pretrained(folder)
    if kind == "clip":
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    else:
        SiglipImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


def draw_shape(kind: str, rng: random.Random) -> Image.Image:
    """Draw a circle, a square or a triangle in its colour, moved, scaled and tinted by chance."""
    width, height = rng.randint(32, 40), rng.randint(32, 40)
    image = Image.new("RGB", (width, height), tuple(rng.randint(200, 255) for _ in range(3)))
    colour = tuple(min(255, max(0, value + rng.randint(-30, 30))) for value in COLOURS[kind])
    side = rng.randint(14, 22)
    left, top = rng.randint(2, width - side - 2), rng.randint(2, height - side - 2)
    box = (left, top, left + side, top + side)
    pen = ImageDraw.Draw(image)
    if kind == "circle":
        pen.ellipse(box, fill=colour)
    elif kind == "square":
        pen.rectangle(box, fill=colour)
    else:
        pen.polygon(
            [(left, top + side), (left + side / 2, top), (left + side, top + side)], fill=colour
        )
    return image


def write_shapes(folder: Path, *, num_each: int, seed: int, suffix: str = ".png") -> Path:
    """Write one folder of drawn pictures per kind of shape."""
    rng = random.Random(seed)
    for kind in COLOURS:
        (folder / kind).mkdir(parents=True)
        for number in range(num_each):
            draw_shape(kind, rng).save(folder / kind / f"{kind}{number:02d}{suffix}")
    return folder


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder of three classes (circle, square, triangle), 12 pictures each, 32 to 40 pixels."""
    return write_shapes(tmp_path / "shapes", num_each=12, seed=0)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with train, val and test parts of the same three classes: 12, 4 and 4 each."""
    folder = tmp_path / "photos"
    for seed, (part, num_each) in enumerate({"train": 12, "val": 4, "test": 4}.items()):
        write_shapes(folder / part, num_each=num_each, seed=seed, suffix=".jpg")
    return folder


TICKETS = {
    "billing": ["the invoice of {} is wrong", "please refund what I paid in {}"],
    "delivery": ["my parcel of {} never arrived", "where is the box you sent in {}"],
    "login": ["my password stopped working in {}", "I cannot sign in since {}"],
}
MONTHS = ("January", "March", "April", "May", "June", "July", "August", "October")


@pytest.fixture(scope="session")
def tickets() -> list[tuple[str, str]]:
    """48 short texts of three classes, which their words tell apart."""
    return [
        (form.format(month), team)
        for month in MONTHS
        for team, forms in TICKETS.items()
        for form in forms
    ]


@pytest.fixture
def kitchen(
    photos: Path,
    tickets: list[tuple[str, str]],
    both_folder: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The folder that examples in docstrings, README and docs run in.

    It holds photos/train, photos/val and photos/test (one folder per class), photos.csv (columns
    path and label), unlabelled/ (pictures only), the pictures new.jpg, a.jpg and b.jpg,
    tickets.csv (columns message and team), sales.csv (400 days of two shops, columns date, shop
    and sales), and clip/, a random net of pictures and texts.
    """
    folder = photos.parent
    shutil.copytree(both_folder("clip"), folder / "clip")
    rng = random.Random(7)
    rows = [f"{path.relative_to(folder)},{path.parent.name}" for path in photos.glob("train/*/*")]
    (folder / "photos.csv").write_text("path,label\n" + "\n".join(sorted(rows)) + "\n")
    for name, kind in {"new": "circle", "a": "square", "b": "triangle"}.items():
        draw_shape(kind, rng).save(folder / f"{name}.jpg")
    (folder / "unlabelled").mkdir()
    for number, kind in enumerate([*COLOURS] * 4):
        draw_shape(kind, rng).save(folder / "unlabelled" / f"{number:02d}.jpg")
    lines = [f"{text},{team}" for text, team in tickets]
    (folder / "tickets.csv").write_text("\n".join(["message,team", *lines]) + "\n")
    (folder / "sales.csv").write_text("\n".join(["date,shop,sales", *draw_sales()]) + "\n")
    monkeypatch.chdir(folder)
    return folder


def draw_sales() -> list[str]:
    """Answer with lines of two shops whose sales follow the week."""
    rng = random.Random(11)
    lines = []
    for shop, level in {"north": 80, "south": 50}.items():
        for day in range(400):
            date = datetime.date(2023, 1, 1) + datetime.timedelta(days=day)
            value = level + 2 * date.weekday() ** 2 + rng.gauss(0, 4)
            lines.append(f"{date},{shop},{value:.1f}")
    return lines
