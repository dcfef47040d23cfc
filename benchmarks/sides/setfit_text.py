"""SetFit's side of the contrastive benchmark, at its defaults but for the number of steps.

Settings: texts, labels, test_texts, test_labels, model (folder), num_steps, batch_size (pairs),
seed.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with accuracy and seconds of training."""
    classes = sorted(set(settings["labels"]))
    model = SetFitModel.from_pretrained(settings["model"], labels=classes)
    numbers = [classes.index(label) for label in settings["labels"]]
    train = Dataset.from_dict({"text": settings["texts"], "label": numbers})
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            batch_size=settings["batch_size"],
            max_steps=settings["num_steps"],
            seed=settings["seed"],
            report_to="none",
            save_strategy="no",
            show_progress_bar=False,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=train)
        started, cpu_started = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    answers = model.predict(settings["test_texts"])
    right = [str(a) == b for a, b in zip(answers, settings["test_labels"], strict=True)]
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "accuracy": sum(right) / len(right),
        "num_texts_encoded": 2.0 * settings["num_steps"] * settings["batch_size"],
    }


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print("\n" + json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
