"""Reading one batch ahead."""

import threading

import pytest

from mealkit.data.ahead import read_ahead


def test_everything_comes_in_order_and_one_ahead() -> None:
    made = []

    def batches():
        for number in range(4):
            made.append((number, threading.current_thread() is threading.main_thread()))
            yield number

    seen = []
    for number in read_ahead(batches()):
        seen.append(number)
        if number == 3:
            break
    assert seen == [0, 1, 2, 3]
    assert made == [(number, False) for number in range(4)]


def test_a_failure_comes_where_it_happened() -> None:
    def batches():
        yield 1
        raise OSError("the disk is gone")

    ahead = read_ahead(batches())
    assert next(ahead) == 1
    with pytest.raises(OSError, match="disk is gone"):
        next(ahead)
