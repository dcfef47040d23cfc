"""The ground that tests stand on holds: no network, private caches, the pretended cores."""

from __future__ import annotations

import multiprocessing
import os
import socket
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from PIL import Image


@pytest.mark.parametrize("address", ["93.184.215.14", "huggingface.co"])
def test_connections_to_other_machines_are_errors(address: str) -> None:
    with pytest.raises(OSError, match=f"a test tried to reach '{address}'"):
        socket.create_connection((address, 80), timeout=1)
    with pytest.raises(urllib.error.URLError, match="tests run without network"):
        urllib.request.urlopen(f"http://{address}/weights", timeout=1)


def test_connections_to_this_machine_work() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname(), timeout=5) as client:
            client.sendall(b"hello")
            accepted, _ = server.accept()
        with accepted:
            assert accepted.recv(5) == b"hello"


def test_caches_are_not_those_of_the_user() -> None:
    folders = [os.environ[name] for name in ("HF_HOME", "TORCH_HOME", "XDG_CACHE_HOME")]
    folders += [torch.hub.get_dir(), huggingface_hub.constants.HF_HUB_CACHE]
    assert all("mealkit-tests-" in folder for folder in folders)
    assert huggingface_hub.constants.HF_HUB_OFFLINE


def test_torch_runs_on_one_thread() -> None:
    assert torch.get_num_threads() == 1


@pytest.mark.skipif("MEALKIT_TEST_CORES" not in os.environ, reason="no cores are pretended")
def test_pretended_cores_are_what_every_counter_says() -> None:
    cores = int(os.environ["MEALKIT_TEST_CORES"])
    assert os.cpu_count() == multiprocessing.cpu_count() == cores
    assert len(os.sched_getaffinity(0)) == cores


def test_kitchen_holds_what_examples_name(kitchen: Path) -> None:
    assert Path.cwd() == kitchen
    assert len(list(Path("photos/train").glob("*/*.jpg"))) == 36
    assert len(list(Path("photos/val").glob("*/*.jpg"))) == 12
    assert Path("photos.csv").read_text().splitlines()[:2] == [
        "path,label",
        "photos/train/circle/circle00.jpg,circle",
    ]
    assert all(Path(name).exists() for name in ("new.jpg", "a.jpg", "b.jpg", "unlabelled"))


def test_drawn_shapes_are_three_classes_of_small_pictures(shapes: Path) -> None:
    paths = sorted(shapes.glob("*/*.png"))
    assert [path.name for path in paths[::12]] == ["circle00.png", "square00.png", "triangle00.png"]
    for path in paths:
        with Image.open(path) as image:
            assert 32 <= min(image.size) <= max(image.size) <= 40
    assert len({path.read_bytes() for path in paths}) == 36  # a duplicate would be reported
