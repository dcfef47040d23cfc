"""sentence-transformers' side of the encoding benchmark: `encode` at its defaults.

Settings: texts, warm_up, model (folder), out (file of the embeddings).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer


def measure(settings: dict[str, Any]) -> dict[str, Any]:  # Any: plain JSON values
    """Answer with seconds, and write the embeddings."""
    model = SentenceTransformer(settings["model"], device="cpu")
    model.encode(settings["warm_up"])
    started = time.perf_counter()
    values = model.encode(settings["texts"])
    seconds = time.perf_counter() - started
    np.save(settings["out"], values)
    return {"seconds": seconds}


if __name__ == "__main__":
    print("\n" + json.dumps(measure(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
