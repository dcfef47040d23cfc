"""Reading one batch ahead, in a thread: scripts then need no ``__main__`` guard."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def read_ahead(batches: Iterator[Item]) -> Iterator[Item]:
    """Read the next batch while the current one is computed on; no batch is None."""
    with ThreadPoolExecutor(1, thread_name_prefix="mealkit-loader") as pool:
        future = pool.submit(next, batches, None)
        while (batch := future.result()) is not None:
            future = pool.submit(next, batches, None)
            yield batch
