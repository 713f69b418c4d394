"""Work in a thread of its own: order, bounds, errors, and an end in the middle."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from features.imports.ahead import Ahead


def counting(n: int, taken: list[int]) -> Iterator[int]:
    for number in range(n):
        taken.append(number)
        yield number


@pytest.mark.parametrize("most", [1, 3, 100])
def test_items_come_in_order_and_not_too_many_before_they_are_asked_for(most: int) -> None:
    taken: list[int] = []
    with Ahead(counting(50, taken), most=most) as ahead:
        for place, item in enumerate(ahead):
            assert item == place
            # One more may wait for room, and each item asked for gives room to another.
            assert len(taken) <= place + most + 2
    assert taken == list(range(50))


def test_work_goes_on_before_anything_is_asked_for() -> None:
    reached = threading.Event()

    def items() -> Iterator[int]:
        yield 1
        yield 2
        reached.set()

    with Ahead(items(), most=4) as ahead:
        assert reached.wait(60)
        assert list(ahead) == [1, 2]


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("the second is damaged")

    with Ahead(items(), most=4) as ahead:
        found = iter(ahead)
        assert next(found) == 1
        with pytest.raises(ValueError, match="the second is damaged"):
            next(found)


def test_whoever_leaves_early_ends_the_thread() -> None:
    taken: list[int] = []
    with pytest.raises(KeyError), Ahead(counting(1000, taken), most=2) as ahead:
        assert next(iter(ahead)) == 0
        raise KeyError
    assert not [thread for thread in threading.enumerate() if thread.name == "facet-ahead"]
    assert len(taken) <= 5
