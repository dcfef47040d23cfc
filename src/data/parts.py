"""From tables of labelled inputs of any kind to checked, split parts and the report on them."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ..errors import (
    ClassError,
    InvalidValueError,
    NoDataError,
    UnreadableError,
    check_number,
    check_seed,
)
from . import check
from .labels import Classes, Labels, in_words, members
from .report import Report
from .split import classes_of, rows_per_class, split_by_hash

if TYPE_CHECKING:
    from torch import Tensor

    from ..specs import DataSpec
    from .samples import Samples
    from .sources import Table

_log = logging.getLogger("mealkit")


@dataclass(frozen=True)
class Form:
    """What a kind of input brings to the making of parts.

    Args:
        noun: What one input is called in messages.
        examine: Answers with what tells an input from others, and with why it cannot be used (or
            None); whether to look at all of it is the second argument.
        same: Whether two inputs that `examine` does not tell apart are the same.
        samples: Makes samples of checked inputs, their ids and their targets.
        spec: Makes what the data tell the net, of the names of the classes and the inputs of train.
    """

    noun: str
    examine: Callable[[Any, bool], tuple[str, str | None]]  # Any: an input, like all below
    same: Callable[[Any, Any], bool]
    samples: Callable[[Sequence[Any], Sequence[str], Tensor], Samples]
    spec: Callable[[tuple[str, ...], Sequence[Any]], DataSpec]


@dataclass(frozen=True)
class Parts:
    """What a source became.

    Args:
        spec: What the data tell the net.
        samples: By the names "train", "val" and "test"; "train" is always there.
        report: What was found wrong.
        keys: Of the training part: what each input is, its group or else its content.
    """

    spec: DataSpec
    samples: dict[str, Samples]
    report: Report
    keys: list[str]


@dataclass(frozen=True)
class _Checked:
    """The readable rows of a table."""

    inputs: Sequence[Any]  # Any: as in Table
    ids: list[str]
    labels: Labels
    keys: list[str]
    groups: list[str] | None

    @property
    def together(self) -> list[str]:
        """What each row is to a split: equal ones stay together."""
        return self.keys if self.groups is None else self.groups

    def rows(self, rows: Sequence[int]) -> _Checked:
        return _Checked(
            Rows(self.inputs, rows),
            [self.ids[row] for row in rows],
            [self.labels[row] for row in rows],
            [self.keys[row] for row in rows],
            None if self.groups is None else [self.groups[row] for row in rows],
        )


class Rows(Sequence[Any]):
    """Some rows of a sequence that is never copied: it may be a large array or a dataset.

    Any: whatever the sequence holds.
    """

    def __init__(self, items: Sequence[Any], rows: Sequence[int]) -> None:
        self.items: Sequence[Any] = items
        self.rows: list[int] = list(rows)
        if isinstance(items, Rows):
            self.items, self.rows = items.items, [items.rows[row] for row in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.items[self.rows[index]]


def build_parts(
    form: Form,
    tables: Mapping[str, Table | None],
    *,
    split: float,
    seed: int,
    on_error: str,
) -> Parts:
    """Check every input, learn the classes and split.

    Raises:
        InvalidValueError: ``split`` or ``on_error`` cannot be meant.
        ClassError: Labels do not fit.
        UnreadableError: Inputs cannot be read, and that is not to be passed over.
    """
    if on_error not in ("skip", "raise"):
        raise InvalidValueError(f"on_error={on_error!r}: expected 'skip' or 'raise'.")
    check_number("split", split, "[0, 1)", what="a share, 0 for no validation,")
    seed = check_seed(seed)
    if tables["train"] is None:
        raise NoDataError("There is nothing to train on: the training part is None.")
    given = {name: table for name, table in tables.items() if table is not None}
    # Labels before contents: they are quick to check, and wrong ones make the rest pointless.
    classes = Classes.learn(given["train"].labels, names=given["train"].classes)
    for name, table in given.items():
        classes.encode(table.labels, part=name, ids=table.ids)
    report = Report()
    parts = _check_all(form, given, report, on_error)
    _check_duplicates(form, parts, report)
    if "val" not in parts and split > 0:
        train = _split(form, parts["train"], classes, report, split, seed)
        parts = {**train, **_without_train(parts)}
    samples = {
        name: form.samples(
            part.inputs, part.ids, classes.encode(part.labels, part=name, ids=part.ids)
        )
        for name, part in parts.items()
    }
    _tell(form, samples, classes)
    spec = form.spec(classes.names, parts["train"].inputs)
    if classes.multi_label:
        _check_varied(samples["train"], classes)
        spec = replace(spec, multi_label=True)
    return Parts(spec, samples, report, parts["train"].together)


def build_scored(
    form: Form,
    tables: Mapping[str, Table | None],
    classes: Sequence[str],
    *,
    report: Report,
    on_error: str,
) -> dict[str, Samples]:
    """Check parts that are only scored, beside a training part that is no table.

    Args:
        form: What the kind of input brings.
        tables: By the names "val" and "test"; None for what there is not.
        classes: Of the training part.
        report: Where what is found wrong is entered.
        on_error: What happens to inputs that cannot be read: "skip" or "raise".
    """
    given = {name: table for name, table in tables.items() if table is not None}
    names = Classes(tuple(classes))
    for name, table in given.items():
        names.encode(table.labels, part=name, ids=table.ids)
    parts = _check_all(form, given, report, on_error)
    return {
        name: form.samples(
            part.inputs, part.ids, names.encode(part.labels, part=name, ids=part.ids)
        )
        for name, part in parts.items()
    }


def _without_train(parts: Mapping[str, _Checked]) -> dict[str, _Checked]:
    """Answer with all parts but train."""
    return {name: part for name, part in parts.items() if name != "train"}


def _check_all(
    form: Form, tables: Mapping[str, Table], report: Report, on_error: str
) -> dict[str, _Checked]:
    num_inputs = sum(len(table) for table in tables.values())
    fully = num_inputs <= check.CHECK_FULLY
    found = {name: _examine(form, table, fully) for name, table in tables.items()}
    broken: list[tuple[str, str]] = []
    for name, table in tables.items():
        for remark in table.remarks:
            report.add(*remark)
        bad = zip(table.ids, found[name], strict=True)
        broken += [(id, reason) for id, (_, reason) in bad if reason is not None]
    for id, reason in broken:
        report.add(id, reason)
    if broken:
        _say_broken(form, broken, num_inputs, on_error)
    return {name: _readable(form, name, table, found[name]) for name, table in tables.items()}


def _examine(form: Form, table: Table, fully: bool) -> list[tuple[str, str | None]]:
    """Look at every input, some hundred at a time: a dataset's rows are not kept."""
    answers: list[tuple[str, str | None]] = []
    for start in range(0, len(table), 256):
        rows = range(start, min(start + 256, len(table)))
        inputs = [table.inputs[row] for row in rows]
        answers += check.in_threads(lambda input: form.examine(input, fully), inputs)
    return answers


def _say_broken(
    form: Form, broken: Sequence[tuple[str, str]], num_inputs: int, on_error: str
) -> None:
    shown = "; ".join(f"{id}: {reason}" for id, reason in broken[:5])
    more = f"; and {len(broken) - 5:,} more" if len(broken) > 5 else ""
    if on_error == "raise":
        raise UnreadableError(
            f"{len(broken):,} of {num_inputs:,} {form.noun}s cannot be read: {shown}{more}. Repair "
            "or remove them, or pass on_error='skip' to go on without them."
        )
    _log.warning(
        "Left out %s of %s %ss that cannot be read; data.report lists them (%s: %s%s).",
        f"{len(broken):,}",
        f"{num_inputs:,}",
        form.noun,
        *broken[0],
        ", ..." if len(broken) > 1 else "",
    )


def _readable(
    form: Form, name: str, table: Table, found: Sequence[tuple[str, str | None]]
) -> _Checked:
    rows = [row for row, (_, reason) in enumerate(found) if reason is None]
    left = {one for row in rows for one in members(table.labels[row])}
    each = ((row, one) for row, label in enumerate(table.labels) for one in members(label))
    for row, label in each:
        if label not in left:
            count = sum(label in members(other) for other in table.labels)
            raise UnreadableError(
                f"None of the {count:,} {form.noun}s of the class {str(label)!r} in the {name} "
                f"part can be read; the first is {table.ids[row]}: {found[row][1]}. Repair them or "
                "remove the class."
            )
    checked = _Checked(
        table.inputs, table.ids, table.labels, [key for key, _ in found], table.groups
    )
    return checked.rows(rows)


def _check_duplicates(form: Form, parts: Mapping[str, _Checked], report: Report) -> None:
    """Report exact copies of an input in several parts, or with several labels."""
    num_across = 0
    for (first_name, first_row), (name, row) in _copies(parts):
        first, part = parts[first_name], parts[name]
        across, relabelled = name != first_name, part.labels[row] != first.labels[first_row]
        if not (across or relabelled):
            continue
        if not form.same(first.inputs[first_row], part.inputs[row]):
            continue
        num_across += across
        where = f"{first.ids[first_row]} in the {first_name} part"
        if across:
            report.add(part.ids[row], f"an exact copy, in the {name} part, of {where}")
        if relabelled:
            labels = f"{in_words(part.labels[row])} here, {in_words(first.labels[first_row])} there"
            report.add(part.ids[row], f"an exact copy, labelled {labels}, of {where}")
    if num_across:
        _log.warning(
            "Exact copies between parts: %s, which makes scores too good; data.report lists them.",
            f"{num_across:,}",
        )


Place = tuple[str, int]


def _copies(parts: Mapping[str, _Checked]) -> Iterator[tuple[Place, Place]]:
    """Find inputs with the fingerprint of an earlier one: pairs of that one and this one."""
    first: dict[str, Place] = {}
    for name, part in parts.items():
        for row, key in enumerate(part.keys):
            if key in first:
                yield first[key], (name, row)
            else:
                first[key] = (name, row)


def _split(
    form: Form, train: _Checked, classes: Classes, report: Report, share: float, seed: int
) -> dict[str, _Checked]:
    keys = train.together
    of_row = classes_of(classes.encode(train.labels, part="train", ids=train.ids))
    in_val = split_by_hash(keys, of_row, share=share, seed=seed)
    _say_not_validated(form, train, classes, report, of_row, in_val)
    parts = {"train": train.rows([row for row, chosen in enumerate(in_val) if not chosen])}
    if any(in_val):
        parts["val"] = train.rows([row for row, chosen in enumerate(in_val) if chosen])
    return parts


def _say_not_validated(
    form: Form,
    train: _Checked,
    classes: Classes,
    report: Report,
    of_row: Sequence[Sequence[int]],
    in_val: Sequence[bool],
) -> None:
    """Report the classes of which nothing is in validation: all they have is needed to train on."""
    keys = train.together
    distinct: dict[int, set[str]] = defaultdict(set)
    first: dict[int, int] = {}
    validated = set()
    for row, targets in enumerate(of_row):
        for target in targets:
            distinct[target].add(keys[row])
            first.setdefault(target, row)
            if in_val[row]:
                validated.add(target)
    if not any(in_val):
        validated = set(distinct)  # that nothing at all is validated is another matter
    absent = [t for t, group in distinct.items() if len(group) == 1 or t not in validated]
    what = form.noun if train.groups is None else "group"
    for target in absent:
        name, count = classes.names[target], len(distinct[target])
        said = f"the only {what}" if count == 1 else f"one of the {count} {what}s"
        report.add(train.ids[first[target]], f"{said} of the class {name!r}; not validated")
    if absent:
        names = ", ".join(repr(classes.names[target]) for target in absent[:5])
        _log.warning(
            "%d classes have a single %s or group and stay out of validation: %s%s.",
            len(absent),
            form.noun,
            names,
            ", ..." if len(absent) > 5 else "",
        )


def _check_varied(samples: Samples, classes: Classes) -> None:
    """Refuse a class that every training row has: nothing tells when it is absent."""
    targets = samples.targets
    always = [] if targets is None else (targets == 1).all(0).nonzero().flatten().tolist()
    if always:
        names = ", ".join(repr(classes.names[place]) for place in always[:5])
        raise ClassError(
            f"All {len(samples):,} training rows have the label {names}, so nothing tells when it "
            "is absent. Leave it out, or add rows without it."
        )


def _tell(form: Form, samples: Mapping[str, Samples], classes: Classes) -> None:
    num_classes = len(classes.names)
    known = [part.targets for part in samples.values() if part.targets is not None]
    counts = torch.stack([rows_per_class(targets, num_classes) for targets in known]).sum(0)
    num_none = sum(int((targets.sum(1) == 0).sum()) for targets in known if targets.ndim == 2)
    named = list(zip(classes.names, counts.tolist(), strict=True))
    shown = ", ".join(f"{name} {count:,}" for name, count in named[:10])
    more = f" and {num_classes - 10:,} more" if num_classes > 10 else ""
    more += f", none of them {num_none:,}" if classes.multi_label else ""
    names = {"train": "train", "val": "validation", "test": "test"}
    parts = ", ".join(f"{len(part):,} {names[name]}" for name, part in samples.items())
    _log.info(
        "%s %ss, %d classes%s: %s%s; %s.",
        f"{sum(map(len, samples.values())):,}",
        form.noun,
        num_classes,
        " (multi-label)" if classes.multi_label else "",
        shown,
        more,
        parts,
    )
