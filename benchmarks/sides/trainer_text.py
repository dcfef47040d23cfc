"""The transformers Trainer's side of full fine-tuning on texts, at its defaults but for the given.

Tokens are made before, outside the clock, and padded to the longest text of each batch.

Settings: texts, labels, test_texts, test_labels, model (folder), epochs, batch_size, lr, seed, bf16
(true or false) and order ("random" or "group_by_length"); None is the Trainer's own default.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


class CountingCollator(DataCollatorWithPadding):
    """Count the tokens and the padding of what is collated."""

    num_tokens = num_padding = 0

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:  # Any: of transformers
        """Pad a batch."""
        batch: dict[str, Any] = super().__call__(features)
        mask = batch["attention_mask"]
        self.num_tokens += int(mask.sum())
        self.num_padding += int((1 - mask).sum())
        return batch


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with accuracy, seconds of training, steps, padding and peak memory."""
    classes = sorted(set(settings["labels"]))
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    model = AutoModelForSequenceClassification.from_pretrained(
        settings["model"], num_labels=len(classes)
    )

    def tokens(texts: list[str], labels: list[str]) -> Dataset:
        numbers = [classes.index(label) for label in labels]
        table = Dataset.from_dict({"text": texts, "label": numbers})
        cut = lambda rows: tokenizer(rows["text"], truncation=True, max_length=256)  # noqa: E731
        return table.map(cut, batched=True).remove_columns("text")

    chosen = {
        "num_train_epochs": settings["epochs"],
        "per_device_train_batch_size": settings["batch_size"],
        "learning_rate": settings["lr"],
        "seed": settings["seed"],
        "bf16": settings["bf16"],
        "train_sampling_strategy": settings["order"],
        "use_cpu": not torch.cuda.is_available(),  # without it, bf16 is refused on a CPU
    }
    given = {name: value for name, value in chosen.items() if value is not None}
    train = tokens(settings["texts"], settings["labels"])
    test = tokens(settings["test_texts"], settings["test_labels"])
    collator = CountingCollator(tokenizer)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, report_to="none", disable_tqdm=True, save_strategy="no", **given
        )
        trainer = Trainer(model, arguments, data_collator=collator, train_dataset=train)
        started = time.perf_counter()
        done = trainer.train()
        seconds = time.perf_counter() - started
        padding = collator.num_padding / collator.num_tokens
        answers = trainer.predict(test)
    right = np.argmax(answers.predictions, axis=1) == answers.label_ids
    return {
        "seconds": seconds,
        "num_steps": done.global_step,
        "accuracy": float(right.mean()),
        "padding_per_token": padding,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print("\n" + json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
