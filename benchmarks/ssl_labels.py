"""Few labels: fine-tuning what has learnt without labels, against the same net from scratch.

SimCLR trains `mealkit_resnet8` on the 20,000 unlabelled pictures of the CIFAR-10 subset (32 px), in
batches of 256, once. Of the 5,000 labelled training pictures, each draw takes 1 % (5 a class) or 10
% (50 a class), and fine-tunes both that net and one with random weights on them, for as many
epochs. There is no validation part: the last weights are scored, once, on the 1,000 test pictures.
`--select` compares rates on other draws, and scores on 2,000 training pictures that are not in
them.

Run: OMP_NUM_THREADS=1 python benchmarks/ssl_labels.py --kept pretrained
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import time
from pathlib import Path

import torch
from measuring import Result, environment, make_parser, print_report, read_options, write_json
from photos import unpacked

import mealkit
from mealkit import ImageClassifier, ImageData, SSLPretrainer, Training
from mealkit.backbones import Backbone, create
from mealkit.data.samples import Subset
from mealkit.tasks.pretrain_evaluation import PretrainEvaluation, PretrainScore, draw_labels
from mealkit.tasks.probing import single_labels

BACKBONE = "mealkit_resnet8"
SIDES = ("untrained", "pretrained")
EPOCHS = {0.01: 100, 0.1: 60}
"""Of fine-tuning, by the share of labels."""
RATES = {"untrained": 2e-3, "pretrained": 1e-3}
"""Within a point of the best that `--select` found, on two draws of 1 %."""
TRIED = {"untrained": (1e-3, 2e-3, 4e-3), "pretrained": (2e-4, 1e-3, 2e-3)}
SELECTION_SEED = 1000
"""The first draw of a selection; others are numbered from 0."""
NUM_SELECTION = 2000
COLUMNS = ("labels", "from scratch", "pretrained", "gain", "95 %", "pairs")


def pretrained(photos: Path, options: argparse.Namespace, backbone: str) -> tuple[Backbone, Result]:
    """Pretrain and keep the weights, or read those that are kept."""
    kept = options.kept / f"{backbone}-simclr-{options.pretrain_epochs}"
    if (kept / "task.json").is_file():
        return mealkit.load(kept).backbone, {"read": str(kept)}
    torch.manual_seed(0)
    net = create(backbone, pretrained=False)
    pre = SSLPretrainer.from_folder(photos / "unlabelled", backbone=net, method="simclr")
    started = time.process_time()
    batch_size = 16 if options.quick else 256
    pre.pretrain(epochs=options.pretrain_epochs, batch_size=batch_size, precision=options.precision)
    seconds = time.process_time() - started
    pre.save(kept)
    return pre.backbone, {"cpu_seconds": seconds}


def finetune(
    net: Backbone, data: ImageData, *, seed: int, lr: float, epochs: int, precision: str
) -> float:
    """Fine-tune a copy of a net on a draw, and answer with its accuracy on the test part."""
    torch.manual_seed(seed)
    task = ImageClassifier(copy.deepcopy(net), classes=data.classes)
    training = Training(seed=seed)
    task.finetune(data, epochs=epochs, lr=lr, training=training, precision=precision)
    return float(task.evaluate(data, batch_size=256).metrics["accuracy"])


def score(
    net: Backbone, data: ImageData, options: argparse.Namespace, rates: dict[str, float]
) -> list[PretrainScore]:
    """Fine-tune both nets on all draws of labels."""
    targets = single_labels(data.train)
    scores = []
    for fraction in options.fractions:
        for seed in options.seeds:
            rows = draw_labels(targets, fraction, seed=seed)
            part = data.with_train(Subset(data.train, rows))
            if options.select:
                rest = sorted(set(range(len(targets))) - set(rows))
                order = torch.randperm(len(rest), generator=torch.Generator().manual_seed(seed))
                part.test = Subset(data.train, [rest[i] for i in order[:NUM_SELECTION].tolist()])
            torch.manual_seed(seed)
            nets = {"untrained": create(BACKBONE, pretrained=False), "pretrained": net}
            for side, lr in rates.items():
                accuracy = finetune(
                    nets[side],
                    part,
                    seed=seed,
                    lr=lr,
                    epochs=2 if options.quick else EPOCHS.get(fraction, 60),
                    precision=options.precision,
                )
                scores.append(PretrainScore("finetune", side, fraction, len(rows), seed, accuracy))
                print(f"  {len(rows)}, draw {seed}, {side} at {lr:g}: {accuracy:.3f}", flush=True)
    return scores


def select(net: Backbone, data: ImageData, options: argparse.Namespace) -> list[list[object]]:
    """Score every rate of either side on draws of its own."""
    options.seeds = [SELECTION_SEED + seed for seed in options.seeds]
    rows: list[list[object]] = []
    for side in SIDES:
        for lr in TRIED[side]:
            found = PretrainEvaluation(tuple(score(net, data, options, {side: lr})), NUM_SELECTION)
            for row in found.summary().itertuples():
                rows.append([row.num_labels, side, f"{lr:g}", f"{100 * row.accuracy:.1f}"])
    return rows


def table(found: PretrainEvaluation) -> list[list[object]]:
    """Answer with a line per share of labels: means, the paired gain, and the raw pairs."""
    frame, means = found.to_frame(), found.summary()
    rows: list[list[object]] = []
    for gain in found.gains().itertuples():
        own = frame[frame.fraction == gain.fraction]
        sides = [own[own.backbone == side].sort_values("seed").accuracy for side in SIDES]
        pairs = ", ".join(f"{100 * a:.1f}/{100 * b:.1f}" for a, b in zip(*sides, strict=True))
        both = means[means.fraction == gain.fraction].set_index("backbone").accuracy
        rows.append(
            [
                int(own.num_labels.iloc[0]),
                *(f"{100 * both[side]:.1f}" for side in SIDES),
                f"{100 * gain.gain:+.1f}",
                f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}",
                pairs,
            ]
        )
    return rows


def main(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    torch.set_num_threads(1)
    logging.getLogger("mealkit").setLevel(logging.ERROR)
    known = environment(options)
    with unpacked(options.shared, num_each=None, quick=options.quick, unlabelled=True) as photos:
        net, pretraining = pretrained(photos, options, BACKBONE)
        print(f"pretraining: {pretraining}", file=sys.stderr, flush=True)
        data = ImageData.from_folders(photos / "train", test=photos / "test", split=0)
        result: Result = {"environment": known, "pretraining": pretraining}
        if options.select:
            rows = select(net, data, options)
            columns: tuple[str, ...] = ("labels", "side", "rate", "accuracy")
            result["selection"] = rows
        else:
            found = PretrainEvaluation(
                tuple(score(net, data, options, RATES)), len(data.test or ())
            )
            rows, columns = table(found), COLUMNS
            result["runs"] = found.to_frame().to_dict("records")
            result["summary"] = found.gains().to_dict("records")
    print_report("Few labels, CIFAR-10 subset, accuracy (%)", known, columns, rows)
    write_json(options.json, result)


if __name__ == "__main__":
    parser = make_parser(__doc__)
    parser.set_defaults(seeds=[0, 1, 2, 3, 4])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.01, 0.1])
    parser.add_argument("--pretrain-epochs", type=int, default=25)
    parser.add_argument(
        "--kept", type=Path, default=Path("pretrained"), help="folder of the pretrained weights"
    )
    parser.add_argument("--select", action="store_true", help="compare rates, and spare the test")
    main(read_options(parser))
