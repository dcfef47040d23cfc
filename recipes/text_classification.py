"""Fine-tune a pretrained encoder on a table of texts, score it, save it, and label new ones.

    python recipes/text_classification.py --train tickets.csv --text message --label team

With ``--quick`` it trains on docstrings of installed libraries, offline.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import mealkit
from mealkit import TextClassifier


def main(
    *,
    train: str,
    text: str = "text",
    label: str = "label",
    test: str | None = None,
    backbone: str = "sentence-transformers/all-MiniLM-L6-v2",
    strategy: str | None = None,
    epochs: int = 5,
    save: str = "classifier",
) -> mealkit.Evaluation:
    """Train, score on the test part (else on the validation part), and save."""
    task = TextClassifier.from_csv(train, text=text, label=label, test=test, backbone=backbone)
    task.finetune(epochs=epochs, strategy=strategy)
    evaluation = task.evaluate()
    print(evaluation)
    print(f"saved in {task.save(save)}")
    return evaluation


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", help="CSV file with one row per text")
    parser.add_argument("--text", default="text", help="column of texts")
    parser.add_argument("--label", default="label", help="column of labels")
    parser.add_argument("--test", help="CSV file with the same columns for the final score")
    parser.add_argument("--backbone", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--strategy", help="freeze, freeze_unfreeze, full, contrastive, ...")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--save", default="classifier")
    parser.add_argument("--quick", action="store_true", help="try it on docstrings, offline")
    options = vars(parser.parse_args())
    if options.pop("quick"):
        import pandas as pd
        from docstrings_demo import read_docstrings

        with tempfile.TemporaryDirectory() as folder:
            for part, rows in read_docstrings(most=40).items():
                frame = pd.DataFrame(rows, columns=["text", "label", "file"])
                frame.to_csv(Path(folder) / f"{part}.csv", index=False)
                options[part] = f"{folder}/{part}.csv"
            options |= {"backbone": "mealkit_tiny_text", "epochs": 2, "save": f"{folder}/saved"}
            main(**options)
    elif options["train"] is None:
        parser.error("--train is needed (or --quick)")
    else:
        main(**options)
