"""Every method of learning without labels, one to two minutes of one core: before and after.

A small net learns from the 20,000 unlabelled pictures of the CIFAR-10 subset (32 px) for a few
epochs, with the rate and in the batches that are the method's own. Its frozen features, and those
of the same net before, are then scored on the 1,000 test pictures: by 20 nearest neighbours among
the 5,000 training pictures, and by a linear head on them, whose penalty is cross-validated among
them. mae needs a vision transformer and gets a small one, whose features are the mean of its
patches; all other methods train `mealkit_resnet8`. CPU seconds are those of `pretrain`, reading and
views included, on one thread. Test pictures choose nothing.

Run: OMP_NUM_THREADS=1 python benchmarks/ssl_images.py --seeds 0
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from pathlib import Path

import torch
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import unpacked

from mealkit import ImageClassifier, ImageData, SSLPretrainer
from mealkit.backbones import Backbone, create
from mealkit.specs import ImageDataSpec
from mealkit.tasks.pretrainer import PRETRAIN_BATCH_SIZE

COLUMNS = (
    "method",
    "epochs",
    "rows",
    "CPU s",
    "kNN before",
    "kNN",
    "linear before",
    "linear",
    "rank",
)
EPOCHS = {"moco": 4}
"""What costs less per picture sees all pictures more often; 3 times for the others."""
VIT = {"patch_size": 4, "embed_dim": 128, "depth": 4, "num_heads": 4, "global_pool": "avg"}


def build(method: str, seed: int) -> Backbone:
    """Build the net that a method trains, with random weights."""
    torch.manual_seed(seed)
    if method == "mae":
        spec = ImageDataSpec(size=32)
        return create("vit_tiny_patch16_224", spec, pretrained=False, options=VIT)
    return create("mealkit_resnet8")


def score(net: Backbone, data: ImageData) -> Result:
    """Answer with the test accuracy of nearest neighbours and of a linear head."""
    task = ImageClassifier(copy.deepcopy(net), classes=data.classes)
    k = min(20, len(data.train or ()))
    knn = task.knn(data, k=k, batch_size=256).metrics["accuracy"]
    task.finetune(data, epochs=1, strategy="freeze")
    return {"knn": knn, "linear": task.evaluate(data, batch_size=256).metrics["accuracy"]}


def measure(method: str, seed: int, photos: Path, options: argparse.Namespace) -> Result:
    """Pretrain once, and score before and after."""
    data = ImageData.from_folders(photos / "train", test=photos / "test", split=0)
    net = build(method, seed)
    before = score(net, data)
    torch.manual_seed(seed)
    pre = SSLPretrainer.from_folder(photos / "unlabelled", seed=seed, backbone=net, method=method)
    epochs = options.epochs or EPOCHS.get(method, 3)
    started, wall = time.process_time(), time.perf_counter()
    batch_size = 16 if options.quick else pre.method.batch_size or PRETRAIN_BATCH_SIZE["image"]
    history = pre.pretrain(epochs=epochs, batch_size=batch_size, precision=options.precision)
    result = {
        "method": method,
        "seed": seed,
        "cpu_seconds": time.process_time() - started,
        "seconds": time.perf_counter() - wall,
        "epochs": epochs,
        "batch_size": batch_size,
        "num_steps": epochs * -(-len(pre.data.train) // batch_size),
        "precision": pre.precision,
        "before": before,
        "after": score(pre.backbone, data),
        "rank": history.rows[-1].get("embedding/rank"),
        "spread": history.rows[-1].get("embedding/spread"),
    }
    after = result["after"]
    print(f"{method} {seed}: {result['cpu_seconds']:.0f} CPU s, {before} -> {after}", flush=True)
    return result


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    known = environment(options)
    runs: dict[str, list[Result]] = {}
    with unpacked(options.shared, num_each=None, quick=options.quick, unlabelled=True) as photos:
        for method in options.methods:
            runs[method] = [measure(method, seed, photos, options) for seed in options.seeds]
    rows = [row(method, results) for method, results in runs.items()]
    print_report("Learning without labels, CIFAR-10 subset", known, COLUMNS, rows)
    write_json(options.json, {"environment": known, "runs": runs})


def row(method: str, results: list[Result]) -> list[object]:
    """Answer with a line of the table: means over seeds."""

    def mean(*keys: str) -> float:
        values = []
        for result in results:
            value = result
            for key in keys:
                value = value[key]
            values.append(float(value))
        return statistics.fmean(values)

    shares = [("before", "knn"), ("after", "knn"), ("before", "linear"), ("after", "linear")]
    return [
        method,
        f"{mean('epochs'):.0f}",
        f"{mean('batch_size'):.0f}",
        f"{mean('cpu_seconds'):.0f}",
        *(f"{100 * mean(*keys):.1f}" for keys in shares),
        f"{mean('rank'):.1f}",
    ]


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.add_argument("--methods", nargs="+", default=SSLPretrainer.methods("image"))
    parser.add_argument("--epochs", type=int, help="for all methods (default: 3 or 4)")
    main(read_options(parser))
