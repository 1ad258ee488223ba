"""Generators that are driven to their end, and functions in the background."""

import time

import pytest

from napari_metastructure.jobs.generators import in_background, run_out
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
