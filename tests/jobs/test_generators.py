"""Generators that are driven to their end, and functions in the background."""

import threading
import time

import joblib
import pytest

from napari_metastructure.jobs.generators import (
    Grace,
    in_background,
    run_out,
    side_by_side,
    told_by,
)
from napari_metastructure.jobs.job import Job


def job_of(function, *arguments):
    """A job that only runs a function in the background, and the list of what that returns."""
    found = []

    def work(job):
        found.append((yield from in_background(job, "busy", function, *arguments)))

    return Job(work), found


def test_value_of_a_function_in_the_background():
    job, found = job_of(divmod, 7, 2)
    assert list(job) == ["busy"]
    assert found == [(3, 1)]


def test_events_go_on_while_the_function_works():
    job, _ = job_of(time.sleep, 0.35)
    assert 3 <= len(list(job)) <= 5


def test_stop_does_not_wait_for_the_function():
    job, found = job_of(time.sleep, 5)
    next(job), next(job)
    job.stop()
    clock = time.perf_counter()
    assert list(job) == []
    assert found == [None]
    assert time.perf_counter() - clock < 0.5


def test_nothing_begins_after_a_stop():
    calls = []
    job, _ = job_of(calls.append, 1)
    next(job)
    job.stop()
    assert (list(job), calls) == ([], [])


def test_errors_of_the_function_are_raised():
    job, _ = job_of(int, "x")
    with pytest.raises(ValueError, match="invalid literal"):
        run_out(job)


def counting(most, seconds=0.0):
    """A generator that takes so long for each of its steps, and returns "end"."""
    for _ in range(most):
        time.sleep(seconds)
        yield
    return "end"


def within(seconds, *generators, stop=True):
    """What generators return that run one after the other within a moment after a stop."""
    found = []

    def work(job):
        grace = Grace(job, seconds)
        if stop:
            job.stop()
        for generator in generators:
            found.append((yield from grace.run(generator, "busy")))

    list(Job(work))
    return found


def test_a_stopped_job_goes_on_for_a_moment():
    assert within(5, counting(3), counting(2)) == ["end", "end"]
    clock = time.perf_counter()
    assert within(0.5, counting(1, 0.1), counting(50, 0.1)) == ["end", None]
    assert time.perf_counter() - clock < 2  # a moment for both together
    assert within(-1, counting(3)) == [None]


def test_what_cannot_be_finished_in_a_moment_is_left_at_once():
    done = []

    def of_many():
        for number in range(1, 1000):
            done.append(number)
            time.sleep(0.02)
            yield number, 1000

    assert within(1, of_many(), counting(1)) == [None, None]
    assert len(done) == 1


def test_a_job_that_is_not_stopped_has_no_end():
    assert within(-1, counting(3), stop=False) == ["end"]


def test_what_a_function_tells_comes_one_by_one():
    asked = []

    def function(tell):
        for number in range(3):
            asked.append(number)
            tell(number)
        return "found"

    events = told_by(function)
    assert next(events) == 0
    time.sleep(0.2)
    assert asked == [0]  # it waits, as for a pause
    assert list(events) == [1, 2]
    assert run_out(told_by(function)) == "found"


def test_an_error_of_a_function_that_tells_is_raised():
    with pytest.raises(KeyError, match="lost"):
        list(told_by(lambda tell: {}["lost"]))


def test_a_function_that_nobody_listens_to_ends_and_cleans_up():
    left = []

    def function(tell):
        try:
            for number in range(10):
                tell(number)
        finally:
            left.append(number)

    events = told_by(function)
    next(events), next(events)
    events.close()
    assert left == [1]


@pytest.mark.parametrize("cores", [1, 4])
def test_all_that_generators_yield_side_by_side(monkeypatch, cores):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    assert sorted(side_by_side([iter(range(k, k + 3)) for k in (0, 10, 20)])) == sorted(
        [0, 1, 2, 10, 11, 12, 20, 21, 22]
    )
    assert list(side_by_side([])) == []


def test_generators_side_by_side_run_at_once(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 3)
    both_there = threading.Barrier(2, timeout=5)

    def one():
        yield both_there.wait()

    assert sorted(side_by_side([one(), one()])) == [0, 1]


def test_an_error_side_by_side_is_raised():
    def one():
        yield 1
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        list(side_by_side([one()]))


def test_generators_side_by_side_wait_for_the_caller_and_end_with_it():
    made = []

    def one():
        for number in range(100):
            made.append(number)
            yield number

    items = side_by_side([one()])
    assert next(items) == 0
    time.sleep(0.3)
    assert made == [0, 1, 2]  # one in the queue, one in hand
    items.close()
    time.sleep(0.3)
    assert len(made) == 3
