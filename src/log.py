"""What mealkit tells its user while it works: lines on stderr, unless the user logs himself.

Every such line goes through ``logging.getLogger("mealkit")``. A script that never set up logging
sees INFO and above on stderr; one that did (the root logger has a handler) gets the records there
and nowhere twice. Silence is one line::

    logging.getLogger("mealkit").setLevel(logging.WARNING)
"""

from __future__ import annotations

import logging
import os
import sys

LOGGER = logging.getLogger("mealkit")


class FallbackHandler(logging.Handler):
    """Write to today's ``sys.stderr`` while nobody else listens.

    The stream is looked up for every record, because notebooks and test runners replace it after
    the import.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, unless the root logger has handlers that get it anyway.

        Of several processes that run one script, only the first says what all of them know.
        """
        if logging.getLogger().handlers or sys.stderr is None:  # None under pythonw
            return
        if record.levelno <= logging.INFO and not _is_first():
            return
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:  # logging's rule: a log line never stops the program
            self.handleError(record)


def _is_first() -> bool:
    """Whether no launcher (torchrun, SLURM, Lightning's own) has called this process another."""
    ranks = (os.environ.get(name) for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))
    return next((rank for rank in ranks if rank is not None), "0") == "0"


def attach() -> None:
    """Make the lines visible once; a level that the user has set already is kept."""
    if not any(isinstance(handler, FallbackHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(FallbackHandler(logging.INFO))
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)
