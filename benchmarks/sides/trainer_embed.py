"""The transformers Trainer's side of the encoding benchmark: `predict` at its defaults.

The tokens are made before, outside the clock, and padded by DataCollatorWithPadding. The net is the
encoder with a classifier of two random rows, which costs next to nothing.

Settings: texts, warm_up, model (folder).
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
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds of prediction."""
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    model = AutoModelForSequenceClassification.from_pretrained(settings["model"])

    def tokens(texts: list[str]) -> Dataset:
        table = Dataset.from_dict({"text": texts})
        cut = lambda rows: tokenizer(rows["text"], truncation=True, max_length=256)  # noqa: E731
        return table.map(cut, batched=True).remove_columns("text")

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(folder, report_to="none", disable_tqdm=True),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.predict(tokens(settings["warm_up"]))
        table = tokens(settings["texts"])
        started = time.perf_counter()
        trainer.predict(table)
        return {"seconds": time.perf_counter() - started}


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    print("\n" + json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
