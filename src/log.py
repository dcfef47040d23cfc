"""What mealkit tells its user while it works: lines on stderr, unless the user logs himself.

Every such line goes through ``logging.getLogger("mealkit")``. A script that never set up logging
sees INFO and above on stderr; one that did (the root logger has a handler) gets the records there
and nowhere twice. Silence is one line::

    logging.getLogger("mealkit").setLevel(logging.WARNING)
"""

from __future__ import annotations

import logging
import sys

LOGGER = logging.getLogger("mealkit")


class FallbackHandler(logging.Handler):
    """Write to today's ``sys.stderr`` while nobody else listens.

    The stream is looked up for every record, because notebooks and test runners replace it after
    the import.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print the record, unless the root logger has handlers that get it anyway."""
        if logging.getLogger().handlers or sys.stderr is None:  # None under pythonw
            return
        try:
            print(self.format(record), file=sys.stderr)
        except Exception:  # logging's rule: a log line never stops the program
            self.handleError(record)


def attach() -> None:
    """Make the lines visible once; a level that the user has set already is kept."""
    if not any(isinstance(handler, FallbackHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(FallbackHandler(logging.INFO))
    if LOGGER.level == logging.NOTSET:
        LOGGER.setLevel(logging.INFO)
