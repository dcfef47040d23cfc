"""Covariates: what is known beside series, from the columns of a table to numbers on a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from ..errors import DataError, InvalidValueError
from ..specs import COVARIATES, Covariate, CovariateKind, SeriesDataSpec
from .report import Report
from .series_cells import Cells, is_blank, kind_of, to_numbers
from .series_time import Array

MOST_CATEGORIES = 50
"""Different texts that a column may hold; each becomes a number of its own."""

Columns = str | Sequence[str]
"""The name of a column, or of several."""

Named = Mapping[CovariateKind, tuple[Covariate, ...]]


@dataclass(frozen=True)
class Wanted:
    """Which columns of a table are covariates.

    Args:
        columns: Their names, by kind.
        known: What they were when the net was built; None where this table says what they are.
    """

    columns: Mapping[CovariateKind, tuple[str, ...]]
    known: Named | None = None

    @classmethod
    def of(cls, *, static: Columns, past: Columns, future: Columns) -> Self:
        """Take what a user named: one column of a kind, or several.

        Raises:
            InvalidValueError: A column was named twice.
        """
        columns: dict[CovariateKind, tuple[str, ...]] = {}
        for kind, given in zip(COVARIATES, (static, past, future), strict=True):
            columns[kind] = several_names(kind, given)
        names = [name for several in columns.values() for name in several]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidValueError(
                f"The column {twice!r} was given twice in static=, past= and future=. What is "
                "known ahead of time is future=, which nets see up to now as well."
            )
        return cls(columns)

    @classmethod
    def as_in(cls, spec: SeriesDataSpec) -> Self:
        """Ask for the columns that a spec was made of."""
        columns = {
            kind: tuple(dict.fromkeys(covariate.column for covariate in several))
            for kind, several in spec.covariates.items()
        }
        return cls(columns, spec.covariates)

    def __iter__(self) -> Iterator[str]:
        return (name for kind in COVARIATES for name in self.columns.get(kind, ()))


def several_names(role: str, given: object) -> tuple[str, ...]:
    """Answer with the columns that a user named for a role: one, or several.

    Raises:
        InvalidValueError: They are no names.
    """
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise InvalidValueError(
            f"{role}={given!r}: expected the name of a column, or several; leave it out for none."
        )
    return tuple(names)


def encode(cells: Cells, wanted: Wanted, report: Report) -> tuple[Named, Array]:
    """Turn the cells of covariates into numbers.

    A column of texts becomes one number per text. A blank cell of it is none of them, and so is a
    text that was not there when the net was built, which is reported.

    Returns:
        What the numbers are, by kind, and the numbers of each row in that order, (R, S + P + D).

    Raises:
        DataError: A column holds times, or too many different texts, or a cell is no number.
    """
    if wanted.known is None:
        named: Named = {
            kind: tuple(c for name in wanted.columns[kind] for c in _covariates(name, cells[name]))
            for kind in COVARIATES
            if wanted.columns.get(kind)
        }
    else:
        named = wanted.known
        for column in wanted:
            _report_new(column, cells[column], named, report)
    numbers: dict[str, Array] = {}
    texts: dict[str, Array] = {}
    parts = []
    for covariate in (c for kind in COVARIATES for c in named.get(kind, ())):
        name = covariate.column
        if covariate.category is None:
            if name not in numbers:
                numbers[name] = to_numbers(cells[name], name=name)
            parts.append(np.where(np.isinf(numbers[name]), np.nan, numbers[name]))
            continue
        if name not in texts:
            texts[name] = np.array(["" if is_blank(cell) else str(cell) for cell in cells[name]])
        parts.append((texts[name] == covariate.category).astype(float))
    num_rows = len(next(iter(cells.values())))
    return named, np.stack(parts, axis=1) if parts else np.zeros((num_rows, 0))


def _covariates(name: str, cells: Sequence[object]) -> list[Covariate]:
    kind = kind_of(cells)
    if kind == "time":
        raise DataError(
            f"The covariate {name!r} holds times; expected numbers or texts. Make numbers of what "
            "matters in them, such as the day of the week."
        )
    if kind == "number":
        if not np.isfinite(to_numbers(cells, name=name)).any():
            raise DataError(
                f"The covariate {name!r} holds no number in any of {len(cells):,} rows, so that "
                "nothing could be learnt from it. Leave it out, or fill it in."
            )
        return [Covariate(column=name)]
    texts = sorted({str(cell) for cell in cells if not is_blank(cell)})
    if len(texts) > MOST_CATEGORIES:
        raise DataError(
            f"The covariate {name!r} holds {len(texts):,} different texts ({texts[0]!r}, "
            f"{texts[1]!r}, ...); at most {MOST_CATEGORIES} are made into numbers. Put them into "
            "groups, or leave the column out."
        )
    return [Covariate(column=name, category=text) for text in texts]


def _report_new(name: str, cells: Sequence[object], named: Named, report: Report) -> None:
    known = {c.category for several in named.values() for c in several if c.column == name}
    if None in known:
        return
    new = sorted({str(cell) for cell in cells if not is_blank(cell)} - known)
    if new:
        shown = ", ".join(map(repr, new[:5]))
        report.add(name, f"{len(new):,} texts that were not learnt from count as none: {shown}")


@dataclass(frozen=True)
class Covariates:
    """The covariates of the series of a table, NaN where nothing is known.

    Args:
        named: What their columns are, by kind.
        static: One row per series, (N, S).
        past: Behind each other like the values of the table, (sum T, P).
        future: As far as they are known, beyond the last values too, (sum T', D).
        offsets: Where the future ones of each series start, (N + 1,).
    """

    named: Named
    static: Array
    past: Array
    future: Array
    offsets: Array

    def cut(self, kept: Array, places: Array) -> Covariates:
        """Answer with those of some series, which end earlier: known futures stay known.

        Args:
            kept: Numbers of the series that stay, in order.
            places: Which values of the table stay, in order.
        """
        starts, ends = self.offsets[:-1][kept], self.offsets[1:][kept]
        return replace(
            self,
            static=self.static[kept],
            past=self.past[places],
            future=self.future[_ranges(starts, ends)],
            offsets=np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64),
        )

    def from_step(self, first: Array, places: Array) -> Covariates:
        """Answer with the ends of all series.

        Args:
            first: The first step of each series that stays, (N,).
            places: Which values of the table stay, in order.
        """
        starts, ends = self.offsets[:-1] + first, self.offsets[1:]
        return replace(
            self,
            past=self.past[places],
            future=self.future[_ranges(starts, ends)],
            offsets=np.concatenate([[0], np.cumsum(ends - starts)]).astype(np.int64),
        )

    def future_of(self, number: int) -> Array:
        """Answer with the future ones of a series, from its first step on."""
        return self.future[self.offsets[number] : self.offsets[number + 1]]

    def measured(
        self, offsets: Array, lengths: Array
    ) -> dict[CovariateKind, tuple[Covariate, ...]]:
        """Answer with the same columns, and their mean and spread in the first steps of the series.

        Args:
            offsets: Where the values of each series start in the table, (N + 1,).
            lengths: How many steps of each count, (N,).
        """
        starts = self.offsets[:-1]
        rows = {
            "static": self.static,
            "past": self.past[_ranges(offsets[:-1], offsets[:-1] + lengths)],
            "future": self.future[_ranges(starts, starts + lengths)],
        }
        return {
            kind: tuple(_measured(c, rows[kind][:, n]) for n, c in enumerate(several))
            for kind, several in self.named.items()
        }

    def scaled(self, kind: CovariateKind, wanted: Sequence[Covariate]) -> Array:
        """Answer with the columns that a net wants to see, as it does; what is not known is 0.

        Raises:
            InvalidValueError: There is no such column.
        """
        rows = {"static": self.static, "past": self.past, "future": self.future}[kind]
        names = [covariate.name for covariate in self.named.get(kind, ())]
        missing = next((c.name for c in wanted if c.name not in names), None)
        if missing is not None:
            raise InvalidValueError(
                f"The net was built with the {kind} covariate {missing!r}, and the data have "
                f"{', '.join(map(repr, names)) or 'none'}. Build both from the same data."
            )
        picked = rows[:, [names.index(covariate.name) for covariate in wanted]]
        center = np.array([covariate.center for covariate in wanted])
        spread = np.array([covariate.spread for covariate in wanted])
        answer: Array = np.nan_to_num((picked - center) / spread).astype(np.float32)
        return answer


def _measured(covariate: Covariate, values: Array) -> Covariate:
    seen = values[np.isfinite(values)]
    if not len(seen):
        return replace(covariate, center=0.0, spread=1.0)
    spread = float(seen.std())
    # What rounding leaves of a constant is no spread.
    varies = spread > 1e-9 * max(1e-300, float(np.abs(seen).max()))
    return replace(covariate, center=float(seen.mean()), spread=spread if varies else 1.0)


def _ranges(starts: Array, ends: Array) -> Array:
    """Put the whole numbers from each start to each end behind each other."""
    counts = ends - starts
    before = np.concatenate([[0], np.cumsum(counts)])[:-1]
    answer: Array = np.repeat(starts - before, counts) + np.arange(counts.sum())
    return answer


def single_static(id: str, values: Array, columns: Sequence[Covariate], report: Report) -> Array:
    """Answer with the static covariates of a series, (S,), of those in all of its rows, (R, S).

    Raises:
        DataError: They differ within the series.
    """
    answer = np.full(values.shape[1], np.nan)
    for place, covariate in enumerate(columns):
        found = np.unique(values[:, place][np.isfinite(values[:, place])])
        if len(found) > 1:
            what = "different texts" if covariate.category is not None else f"{found[0]:g} and "
            what += "" if covariate.category is not None else f"{found[1]:g}"
            raise DataError(
                f"The static covariate {covariate.column!r} is not the same in all rows of the "
                f"series {id!r}: it holds {what}. What changes over time is past= or future=."
            )
        if len(found):
            answer[place] = found[0]
        else:
            report.add(id, f"no value of {covariate.column!r}; counted as the mean")
    return answer


def filled_forward(id: str, laid: Array, columns: Sequence[Covariate], report: Report) -> Array:
    """Fill what is missing with what was before it: never from later.

    Texts do not last: where none stands, there is none. What is missing at the very start stays so.
    """
    answer = laid.copy()
    for place, covariate in enumerate(columns):
        series = answer[:, place]
        missing = np.isnan(series)
        if not missing.any():
            continue
        if covariate.category is not None:
            series[missing] = 0.0
            continue
        known = np.maximum.accumulate(np.where(missing, -1, np.arange(len(series))))
        answer[:, place] = np.where(known >= 0, series[np.maximum(known, 0)], np.nan)
        report.add(
            id,
            f"{int(missing.sum()):,} of {len(series):,} steps of {covariate.column!r} are missing; "
            "taken as they were before",
        )
    return answer
