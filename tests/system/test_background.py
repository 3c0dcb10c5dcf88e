"""Work in a thread ahead of who asks for it."""

import threading

import pytest

from reoac_jax.system.background import Ahead


def test_results_come_in_order_and_at_most_so_many_wait():
    made, turn = [], threading.Condition()

    def make(item):
        with turn:
            made.append(item)
            turn.notify()
        return item * item

    with Ahead(make, range(10), depth=3) as results:
        for expected in range(10):
            with turn:  # what is ahead is made without being asked for
                assert turn.wait_for(lambda: len(made) == min(10, expected + 3), 10)  # noqa: B023
            assert next(results) == expected**2
        assert list(results) == [] and made == list(range(10))


def test_an_error_is_raised_where_its_result_is_asked_for():
    with Ahead(lambda item: 1 // (item - 2), range(5)) as results:
        assert [next(results), next(results)] == [-1, -1]
        with pytest.raises(ZeroDivisionError):
            next(results)


def test_leaving_early_waits_for_no_more_than_what_is_begun():
    made = []
    with Ahead(made.append, range(1000)) as results:
        next(results)
    assert len(made) <= 3 and threading.active_count() < 50
