"""Every error a user can cause, and the words that describe it.

The tree::

    MealkitError
    ├── InvalidValueError(ValueError)        an argument that cannot be meant
    │   └── UnknownNameError                 a name that is not one of the known ones
    ├── DataError(ValueError)                a source that cannot be trained on or read as asked
    │   ├── NoDataError                      absent or empty
    │   ├── ClassError                       labels that do not fit the classes learnt from train
    │   └── UnreadableError                  files that cannot be read
    ├── WeightsError(RuntimeError)           weights that do not fit or cannot be reached
    ├── BackboneError(RuntimeError)          a net that cannot serve as a backbone as asked
    ├── SavedTaskError(RuntimeError)         no saved task, a damaged or a newer one
    ├── RunError(RuntimeError)               a training run that cannot start as asked
    └── MissingPackageError(ImportError)     an optional package that is absent or broken
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import math
from collections.abc import Callable, Iterable
from numbers import Integral, Real
from pathlib import Path
from types import ModuleType

MOST_SEED = 2**62
"""Generators take 64 bits; the rest is left for the epochs and steps that are added to a seed."""


class MealkitError(Exception):
    """Root of every error that mealkit raises on purpose."""


class InvalidValueError(MealkitError, ValueError):
    """An argument has a value that cannot be meant."""


class UnknownNameError(InvalidValueError):
    """A name is not one of the known ones."""


class DataError(MealkitError, ValueError):
    """A source cannot be trained on, or read as asked."""


class NoDataError(DataError):
    """A source is absent or empty."""


class ClassError(DataError):
    """Labels do not fit the classes that were learnt from the training part."""


class UnreadableError(DataError):
    """Files cannot be read.

    Args:
        message: Which file, and why.
        reason: The why alone, for reports that name the file in a column of its own.
    """

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason or message


class WeightsError(MealkitError, RuntimeError):
    """Weights do not fit the net, or cannot be reached."""


class BackboneError(MealkitError, RuntimeError):
    """A net cannot serve as a backbone as asked."""


class SavedTaskError(MealkitError, RuntimeError):
    """A folder is no saved task, or one that this version cannot read."""


class RunError(MealkitError, RuntimeError):
    """A training run cannot start as asked."""


class MissingPackageError(MealkitError, ImportError):
    """An optional package is absent or broken."""


def unknown_name(kind: str, name: str, known: Iterable[str], *, most: int = 5) -> UnknownNameError:
    """Describe a name that is not one of the known ones, nearest first, in under 500 characters."""
    options, name = sorted(known), str(name)
    near = difflib.get_close_matches(name, options, n=most, cutoff=0.5)
    shown = near or options[:most]
    words = ", ".join(repr(option) for option in shown) or "none"
    lead = "Did you mean" if near else "Known are"
    rest = f" ({len(options)} in all)" if len(options) > len(shown) else ""
    end = "?" if near else "."
    return UnknownNameError(f"There is no {kind} {name[:80]!r}. {lead} {words}{end}{rest}"[:499])


def check_count(name: str, value: object, *, least: int = 1) -> int:
    """Refuse what is no whole number, or too small a one.

    Args:
        name: Of the argument.
        value: What was given for it.
        least: The smallest that can be meant.

    Returns:
        The number as a plain int: those of NumPy, which searches over settings hand on, are no
        batch size to torch and nothing to JSON.

    Raises:
        InvalidValueError: It cannot be meant.
    """
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InvalidValueError(f"{name}={value!r}: expected a whole number.")
    if int(value) < least:
        raise InvalidValueError(f"{name}={value}: expected at least {least}.")
    return int(value)


def check_seed(seed: object, *, name: str = "seed") -> int:
    """Refuse what is no whole number of 64 bits, less what epochs are added to it.

    Args:
        seed: What was given.
        name: Of the argument.

    Returns:
        The seed as a plain int.

    Raises:
        InvalidValueError: It cannot be meant.
    """
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise InvalidValueError(f"{name}={seed!r}: expected a whole number.")
    if not -MOST_SEED <= int(seed) <= MOST_SEED:
        raise InvalidValueError(f"{name}={seed}: expected at least -2**62 and at most 2**62.")
    return int(seed)


def check_number(name: str, value: object, within: str, *, what: str = "a number") -> float:
    """Refuse what is no number, or lies outside an interval.

    Args:
        name: Of the argument.
        value: What was given for it.
        within: The interval as it is written: ``"(0, 1]"`` leaves 0 out and has 1 in it.
        what: What the number is, for the message.

    Returns:
        The number as a plain float.

    Raises:
        InvalidValueError: It cannot be meant.
    """
    low, high = (float(end) for end in within[1:-1].split(","))
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        above = low <= number if within.startswith("[") else low < number
        below = number <= high if within.endswith("]") else number < high
        if above and below:
            return number
    raise InvalidValueError(f"{name}={value!r}: expected {what} in {within}.")


def check_positive(name: str, value: object) -> None:
    """Refuse what is no number above zero.

    Raises:
        InvalidValueError: It is none.
    """
    number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    if not 0 < number < math.inf:
        raise InvalidValueError(f"{name}={value!r}: expected a positive number.")


def check_switch(name: str, value: object) -> None:
    """Refuse what is neither True nor False.

    Raises:
        InvalidValueError: It is not.
    """
    if not isinstance(value, bool):
        raise InvalidValueError(f"{name}={value!r}: expected True or False.")


def check_path(name: str, value: object, *, what: str) -> None:
    """Refuse what is no path.

    Args:
        name: Of the argument.
        value: What was given for it.
        what: Is expected there: ``"a folder"``.

    Raises:
        InvalidValueError: It is none.
    """
    if not isinstance(value, str | Path):
        raise InvalidValueError(f"{name}={shown(value)}: expected the path of {what}.")


def shown(value: object) -> str:
    """Show a value in a message, in one line and at most 80 characters."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 80 else f"{line[:60]}... ({type(value).__name__})"


def can_be_called(function: Callable[..., object], *given: object, **named: object) -> bool:
    """Whether a function of the user's takes these arguments; True where nobody can say."""
    try:
        inspect.signature(function).bind(*given, **named)
    except TypeError:
        return False
    except ValueError:  # some that are written in C have no signature
        return True
    return True


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional package where it is needed.

    Raises:
        MissingPackageError: The package is absent, or is there and fails to import.
    """
    try:
        return importlib.import_module(module)
    except Exception as error:  # a broken package may raise anything, and must break only this
        top = module.split(".")[0]
        raise MissingPackageError(
            f"{top} is needed for {purpose} and could not be imported ({type(error).__name__}: "
            f"{error}). Run: pip install 'mealkit[{extra}]'"
        ) from error
