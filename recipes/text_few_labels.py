"""A handful of labels per class: compare a probe, contrast and plain fine-tuning on the same texts.

    python recipes/text_few_labels.py --train tickets.csv --text message --label team

With ``--quick`` it compares them on docstrings of installed libraries, offline.
"""

from __future__ import annotations

import argparse

import pandas as pd

from mealkit import TextClassifier


def main(
    *,
    train: pd.DataFrame,
    test: pd.DataFrame,
    text: str = "text",
    label: str = "label",
    num_each: int = 8,
    backbone: str = "sentence-transformers/all-MiniLM-L6-v2",
    epochs: int = 5,
    seed: int = 0,
) -> dict[str, float]:
    """Train on a few texts of each class with every strategy, and score all of the test table."""
    few = train.groupby(label).sample(num_each, random_state=seed)
    accuracies = {}
    for strategy in ("freeze", "contrastive", "freeze_unfreeze"):
        task = TextClassifier.from_data_frame(
            few, text=text, label=label, test=test, split=0, backbone=backbone
        )
        task.finetune(epochs=epochs, strategy=strategy)
        accuracies[strategy] = task.evaluate().metrics["accuracy"]
        print(f"{strategy}: accuracy {accuracies[strategy]:.3f} on {len(test):,} texts")
    return accuracies


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="CSV file with one row per text")
    parser.add_argument("--test", help="CSV file with the same columns")
    parser.add_argument("--text", default="text", help="column of texts")
    parser.add_argument("--label", default="label", help="column of labels")
    parser.add_argument("--num-each", type=int, default=8, help="texts of a class to train on")
    parser.add_argument("--quick", action="store_true", help="try it on docstrings, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        from docstrings_demo import read_docstrings

        columns = ["text", "label", "file"]
        parts = {n: pd.DataFrame(r, columns=columns) for n, r in read_docstrings(most=30).items()}
        main(train=parts["train"], test=parts["test"], backbone="mealkit_tiny_text", epochs=2)
    elif options["train"] is None or options["test"] is None:
        parser.error("--train and --test are needed (or --quick)")
    else:
        train, test = (pd.read_csv(options.pop(part)) for part in ("train", "test"))
        main(train=train, test=test, **options)
