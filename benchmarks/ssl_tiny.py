"""Could `mealkit_tiny` ship weights that have seen no labels? Against those that it ships.

The same net, thrice: with random weights, with those of the package (trained on labelled CIFAR-10
pictures), and after SimCLR on the 20,000 unlabelled pictures of the CIFAR-10 subset (32 px, batches
of 256). Its frozen features are scored by a linear head, whose penalty is cross-validated, and by
20 nearest neighbours: on scikit-learn's digits (8x8 pixels enlarged by the net's preprocessing;
1,297 learnt from, 500 scored) and on the CIFAR-10 subset (5,000 learnt from, 1,000 scored, which
neither net was trained on).

Run: OMP_NUM_THREADS=1 python benchmarks/ssl_tiny.py --kept pretrained
"""

from __future__ import annotations

import argparse
import copy
import logging
from pathlib import Path

import numpy as np
import torch
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import unpacked
from sklearn.datasets import load_digits
from ssl_labels import pretrained

from mealkit import ImageClassifier, ImageData
from mealkit.backbones import Backbone, create
from mealkit.tasks.classification import compute_features
from mealkit.tasks.probing import probe_features, single_labels

NUM_TEST = 500
COLUMNS = ("weights", "digits, linear", "digits, kNN", "CIFAR-10, linear", "CIFAR-10, kNN")


def digits(*, seed: int) -> ImageData:
    """Split scikit-learn's digits."""
    found = load_digits()
    images = (found.images * (255 / 16)).round().astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    test, train = order[:NUM_TEST], order[NUM_TEST:]
    held = (images[test], found.target[test])
    return ImageData.from_arrays(images[train], found.target[train], test=held, split=0)


def score(net: Backbone, data: ImageData) -> dict[str, float]:
    """Answer with the test accuracy of nearest neighbours and of a linear head."""
    task = ImageClassifier(copy.deepcopy(net), classes=data.classes)
    train, test = [
        (compute_features(task, part, batch_size=256)[0], single_labels(part))
        for part in (data.train, data.test)
    ]
    return probe_features(train, test, num_classes=len(data.classes))


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    logging.getLogger("mealkit").setLevel(logging.ERROR)
    known = environment(options)
    torch.manual_seed(0)
    nets = {
        "random": create("mealkit_tiny", pretrained=False),
        "shipped, with labels": create("mealkit_tiny"),
    }
    runs: dict[str, Result] = {}
    with unpacked(options.shared, num_each=None, quick=options.quick, unlabelled=True) as photos:
        name = f"SimCLR, {options.pretrain_epochs} epochs"
        nets[name], pretraining = pretrained(photos, options, "mealkit_tiny")
        data = {
            "digits": digits(seed=options.seeds[0]),
            "CIFAR-10": ImageData.from_folders(photos / "train", test=photos / "test", split=0),
        }
        for name, net in nets.items():
            runs[name] = {on: score(net, part) for on, part in data.items()}
            print(name, runs[name], flush=True)
    rows = [
        (name, *(f"{100 * of[on][how]:.1f}" for on in data for how in ("linear", "knn")))
        for name, of in runs.items()
    ]
    print_report("Weights of mealkit_tiny, accuracy (%)", known, COLUMNS, rows)
    write_json(options.json, {"environment": known, "pretraining": pretraining, "runs": runs})


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0])
    parser.add_argument("--pretrain-epochs", type=int, default=2)
    parser.add_argument(
        "--kept", type=Path, default=Path("pretrained"), help="folder of the pretrained weights"
    )
    main(read_options(parser))
