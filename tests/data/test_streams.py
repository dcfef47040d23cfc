"""What is a stream, and what a stream cannot be asked for."""

import pytest
from torch.utils.data import IterableDataset

from mealkit.data import Stream
from mealkit.data.streams import BUFFER, as_stream, refuse_for_streams
from mealkit.errors import DataError, InvalidValueError


class Pairs(IterableDataset):
    def __iter__(self):
        yield "picture", "label"


def test_what_can_only_be_iterated_is_read_as_a_stream() -> None:
    pairs = Pairs()
    stream = as_stream(pairs)
    assert stream == Stream(pairs, length=None, buffer=BUFFER)
    assert as_stream(stream) is stream
    assert as_stream([("picture", "label")]) is None
    assert as_stream(None) is None


@pytest.mark.parametrize("wrong", [{"length": 0}, {"buffer": 0}, {"length": "9"}, {"length": 1.5}])
def test_numbers_that_cannot_be_meant_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidValueError, match=r"expected (at least 1|a whole number)"):
        Stream("train.tar", **wrong)


def test_what_needs_all_pictures_is_refused() -> None:
    refuse_for_streams(group=None, split=0)
    with pytest.raises(DataError, match="group='patient' with a stream"):
        refuse_for_streams(group="patient", split=0)
    with pytest.raises(DataError, match=r"split=0\.1 with a stream.*val="):
        refuse_for_streams(group=None, split=0.1)
