"""The local engine: in order, bounded, and honest about errors."""

from __future__ import annotations

import threading
import time

import pytest

from facekd.core.system import cores
from facekd.engines.local import batches, map_ordered


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_results_come_in_order(workers: int) -> None:
    def slow_first(item: int) -> int:
        time.sleep(0.02 if item % 5 == 0 else 0)
        return item * item

    assert list(map_ordered(slow_first, range(40), workers)) == [i * i for i in range(40)]


def test_nothing_gives_nothing() -> None:
    assert list(map_ordered(abs, [], 2)) == []


def test_items_are_taken_only_a_little_ahead() -> None:
    taken = []

    def endless():
        number = 0
        while True:
            taken.append(number)
            yield number
            number += 1

    results = map_ordered(lambda item: item, endless(), 3)
    for expected in range(50):
        assert next(results) == expected
        assert len(taken) <= expected + 1 + 2 * 3
    results.close()


def test_several_threads_work_at_once() -> None:
    meeting = threading.Barrier(3)

    def meet(_: int) -> bool:
        meeting.wait(timeout=10)  # returns only when three are here
        return True

    assert list(map_ordered(meet, range(6), 3)) == [True] * 6


def test_an_error_comes_out_where_its_item_stands() -> None:
    done = []

    def third_fails(item: int) -> int:
        if item == 3:
            raise ZeroDivisionError("item 3")
        done.append(item)
        return item

    results = map_ordered(third_fails, range(1000), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ZeroDivisionError, match="item 3"):
        next(results)
    assert len(done) < 20  # the rest was not begun


def test_an_error_of_the_source_comes_out_too() -> None:
    def broken():
        yield 1
        raise OSError("source")

    with pytest.raises(OSError, match="source"):
        list(map_ordered(abs, broken(), 1))


def test_batches() -> None:
    assert [list(b) for b in batches(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]
    assert list(batches([], 3)) == []
    assert cores() >= 1
