"""What was found wrong with inputs, kept until the user asks."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas

_NUM_SHOWN = 20


class Entry(NamedTuple):
    """One problem of one input."""

    input: str
    problem: str


class Report:
    """Every input that was left out or looks wrong, with the reason.

    Example:
        >>> report = Report()
        >>> report.add("photos/cat/3.jpg", "empty (0 bytes)")
        >>> print(report)
        1 problem with the inputs
        photos/cat/3.jpg: empty (0 bytes)
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._known: set[Entry] = set()

    def add(self, id: str, reason: str) -> None:
        """Enter a problem; one that is already there is not entered twice."""
        entry = Entry(id, reason)
        if entry not in self._known:
            self._known.add(entry)
            self.entries.append(entry)

    def to_frame(self) -> pandas.DataFrame:
        """Answer with a pandas DataFrame of the columns ``input`` and ``problem``."""
        import pandas  # here, because making and printing a report needs no pandas

        return pandas.DataFrame(self.entries, columns=list(Entry._fields))

    def __len__(self) -> int:
        return len(self.entries)

    def __str__(self) -> str:
        if not self.entries:
            return "No problems with the inputs"
        plural = "" if len(self) == 1 else "s"
        lines = [f"{entry.input}: {entry.problem}" for entry in self.entries[:_NUM_SHOWN]]
        rest = len(self) - len(lines)
        if rest:
            lines.append(f"... and {rest:,} more; to_frame() has them all")
        return "\n".join([f"{len(self):,} problem{plural} with the inputs", *lines])

    def __repr__(self) -> str:
        return f"Report({len(self)} entries)"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(entry.input)}</td><td>{html.escape(entry.problem)}</td></tr>"
            for entry in self.entries[:_NUM_SHOWN]
        )
        head = html.escape(str(self).splitlines()[0])
        rest = len(self) - _NUM_SHOWN
        more = f"<p>... and {rest:,} more; to_frame() has them all</p>" if rest > 0 else ""
        return f"<p>{head}</p><table><tr><th>input</th><th>problem</th></tr>{rows}</table>{more}"
