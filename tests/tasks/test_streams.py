"""Training on streams: the verbs, resuming, what is refused, and memory that stays flat."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_lightning as pl
import torch

from mealkit import ImageClassifier, ImageData, Training
from mealkit.backbones import create
from mealkit.data import Stream
from mealkit.errors import InvalidValueError, NoDataError, RunError
from mealkit.specs import ImageDataSpec
from mealkit.tasks import checkpoint

NAMES = ["red", "green", "blue"]


class Colours:
    """A stream with shards, as Hugging Face's are, of noisy pictures of three colours."""

    def __init__(self, num_shards: int, num_each: int, *, seed: int = 0) -> None:
        self.num_shards, self._num_each, self._seed, self._number = num_shards, num_each, seed, 0
        self.features = {"image": None, "label": SimpleNamespace(names=NAMES)}
        split = SimpleNamespace(num_examples=num_shards * num_each)
        self.info = SimpleNamespace(
            splits={"train": split},
            builder_name="colours",
            config_name=f"{seed}",
            version="1",
            dataset_size=num_shards * num_each,
        )
        self.split = "train"

    def shard(self, num_shards: int, index: int) -> "Colours":
        made = Colours(1, self._num_each, seed=self._seed)
        made._number = index
        return made

    def __iter__(self):
        rng = np.random.default_rng([self._seed, self._number])
        for _ in range(self._num_each):
            label = int(rng.integers(3))
            pixels = rng.integers(0, 120, (16, 16, 3), dtype=np.uint8)
            pixels[..., label] += 100
            yield {"image": pixels, "label": label}


@pytest.fixture
def make() -> Callable[..., ImageClassifier]:
    def make(train: object = None, **more) -> ImageClassifier:
        source = Stream(Colours(4, 12), buffer=10) if train is None else train
        data = ImageData.from_dataset(source, **{"val": Colours(2, 9, seed=1), **more})
        data.batch_size = 8
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, stride=2), torch.nn.Tanh())
            backbone = create(net, ImageDataSpec(size=16))
        task = ImageClassifier(backbone, classes=data.classes)
        task.data, task.precision = data, "32-true"
        return task

    return make


def test_a_stream_is_trained_on_validated_and_scored(make) -> None:
    task = make(test=Colours(2, 9, seed=2))
    history = task.finetune(epochs=4, strategy="full", lr=0.02)
    assert history.rows[-1]["val/accuracy"] > 0.9
    evaluation = task.evaluate()
    assert len(evaluation) == 18
    assert evaluation.metrics["accuracy"] > 0.9
    assert evaluation.ids[0] == "shard 0, item 0"
    task.calibrate()
    assert len(task.evaluate(ImageData.from_dataset(Colours(1, 9), val=Colours(1, 5)))) == 5


def test_scores_of_a_stream_are_those_of_the_same_pictures_by_position(make) -> None:
    task = make()
    task.finetune(epochs=1, strategy="full", lr=0.02)
    rows = [row for number in range(2) for row in Colours(2, 9, seed=1).shard(2, number)]
    images = np.stack([row["image"] for row in rows])
    labels = [NAMES[row["label"]] for row in rows]
    held = ImageData.from_arrays(images, labels, split=0).train
    assert task.evaluate().metrics == pytest.approx(
        task._evaluate(_in_order(held, task), 32).metrics, abs=1e-6
    )


def _in_order(samples, task: ImageClassifier):
    """The same samples with targets in the order of the task's classes."""
    order = [sorted(NAMES).index(name) for name in task.classes]
    position = {before: after for after, before in enumerate(order)}
    samples._targets = torch.tensor([position[int(one)] for one in samples.targets])
    return samples


def test_frozen_epochs_of_a_stream_run_the_backbone_and_train_the_head_by_steps(
    make, caplog: pytest.LogCaptureFixture
) -> None:
    task = make()
    before = task.backbone.net[0].weight.clone()
    with caplog.at_level(logging.INFO, logger="mealkit"):
        task.finetune(epochs=2, strategy="freeze", lr=0.05)
    assert torch.equal(task.backbone.net[0].weight, before)
    assert task.head[1].weight.any()
    assert "features computed once" not in caplog.text
    assert "Solved the head" not in caplog.text


def test_a_stopped_run_on_a_stream_goes_on_to_the_same_weights(
    make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(checkpoint, "MOST_SHARE", float("inf"))

    class Stop(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
            if trainer.global_step == 9:  # in the midst of the second epoch of six steps
                raise RuntimeError("stopped")

    expected = make()
    expected.finetune(epochs=3, strategy="full", training=Training(ema=0.9))
    task, run = make(), tmp_path / "run"
    settings = {"epochs": 3, "strategy": "full", "run": run, "training": Training(ema=0.9)}
    with pytest.raises(RuntimeError, match="stopped"):
        task.finetune(callbacks=[Stop()], **settings)
    again = make()
    again.finetune(resume=True, **settings)
    for name, value in expected.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_run_on_another_stream_is_not_gone_on_with(make, tmp_path: Path) -> None:
    task = make()
    task.finetune(epochs=1, strategy="full", run=tmp_path / "run")
    other = make(Stream(Colours(4, 12, seed=5), buffer=10))
    with pytest.raises(RunError, match=r"data\.train\.contents"):
        other.finetune(epochs=1, strategy="full", run=tmp_path / "run", resume=True)


def test_rates_and_batch_sizes_are_found_on_a_stream(make) -> None:
    task = make()
    task.finetune(epochs=1, strategy="full", lr="auto")
    assert task.plan.lr > 0
    task.finetune(epochs=1, strategy="full", batch_size="auto")


def test_what_needs_positions_says_so(make) -> None:
    task = make()
    with pytest.raises(NoDataError, match="no labels to score against"):
        task.knn(k=3)
    with pytest.raises(NoDataError, match="no training part with labels"):
        task.cross_validate(k=2, epochs=1)
    task.data.balance = "sampler"
    with pytest.raises(InvalidValueError, match="balance='sampler' with a stream"):
        task.finetune(epochs=1, strategy="full")


def test_a_batch_of_a_stream_is_shown(make) -> None:
    axes = make().show_batch(4).axes
    assert sum(bool(axis.get_title()) for axis in axes) == 4


MEASURE = """
import io, resource, sys
from pathlib import Path
import numpy as np, torch
from PIL import Image
from mealkit import ImageSpec
from mealkit.data import Stream, StreamSamples, StreamLoader
from mealkit.data.streams import Order

pattern, length = sys.argv[1], int(sys.argv[2])
torch.set_num_threads(1)
samples = StreamSamples(Stream(pattern, length=length), part="train", image="jpg", label="cls",
                        classes=["a", "b"], scored=False)
samples.prepare(ImageSpec(size=(32, 32), crop_pct=1.0))
loader = StreamLoader(samples, batch_size=100, order=Order(shuffle=True))
seen, peaks = 0, []
digest = torch.zeros(length, dtype=torch.bool)
for batch in loader:
    seen += len(batch["index"])
    digest[(batch["index"] >> 32) * 1000 + (batch["index"] & 0xffffffff)] = True
    if seen in (10_000, length):
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
print(seen, int(digest.sum()), *peaks)
"""


@pytest.mark.slow
def test_memory_stays_flat_over_100_000_pictures_in_tar_files(tmp_path: Path) -> None:
    pytest.importorskip("webdataset", reason="needs mealkit[webdataset]")
    write_shards(tmp_path, num_shards=100, num_each=1_000)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tmp_path / "{000..099}.tar"), "100000"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen, distinct, early, late = map(int, done.stdout.split())
    assert seen == distinct == 100_000
    # KiB on Linux. Ten times as many pictures take no more; kept, they would take 90 MiB encoded.
    assert late - early < 16 * 1024


def write_shards(folder: Path, *, num_shards: int, num_each: int) -> None:
    """Write tar files of small JPEG pictures of two classes, about 1 KB each."""
    import io
    import tarfile

    from PIL import Image

    rng = np.random.default_rng(0)
    encoded = []
    for _ in range(50):
        file = io.BytesIO()
        noise = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(noise).save(file, "jpeg", quality=50)
        encoded.append(file.getvalue())
    for shard in range(num_shards):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as tar:
            for number in range(num_each):
                for suffix, data in (("jpg", encoded[number % 50]), ("cls", b"%d" % (number % 2))):
                    info = tarfile.TarInfo(f"{shard:03d}-{number:04d}.{suffix}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
