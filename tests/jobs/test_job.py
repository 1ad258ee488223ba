"""What every long computation has in common."""

import signal
import threading
import time
from contextlib import nullcontext

import pytest

from napari_metastructure.jobs import progress
from napari_metastructure.jobs.events import Done, Progress, Result
from napari_metastructure.jobs.job import Job, events_within


def test_the_clock_of_a_job_stands_still_between_two_events():
    def work(job):
        begun = job.clock()
        time.sleep(0.2)
        yield Progress("working", 0, 1)
        yield Result(job.clock() - begun)

    job = Job(work)
    time.sleep(0.2)
    next(job)
    time.sleep(1)
    assert 0.19 < next(job).value < 0.9


def test_stop_reaches_a_job_within_another_at_once():
    """Also while its next event takes long, as a file of a batch does."""

    def long(job):
        yield Progress("begun", 0, 1)
        end = time.perf_counter() + 10
        while not job.stopping and time.perf_counter() < end:
            time.sleep(0.01)
        yield Result(None, stopped=job.stopping)

    outer = Job(lambda job: events_within(job, Job(long)))
    next(outer)
    threading.Timer(0.1, outer.stop).start()
    clock = time.perf_counter()
    assert next(outer).stopped
    assert time.perf_counter() - clock < 5


def test_the_end_of_a_run_is_printed_in_one_line():
    done = Done("model", history={"loss": [0.5] * 99}, record={"config": {}}, masks=[[0] * 99])
    assert repr(done) == "Done(model='model', stopped=False)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_ends_at_its_next_job_once_it_was_terminated(monkeypatch, capsys, number):
    """What the present job has is returned, so that it can be kept; Ctrl-C stops that job only."""

    def stopped(job):
        yield Progress("begun", 0, 1)
        signal.raise_signal(number)
        yield Result("kept", stopped=job.stopping)

    monkeypatch.setattr(progress, "_terminated", threading.Event())
    kept = []
    with pytest.raises(SystemExit) if number == signal.SIGTERM else nullcontext() as ended:
        for _ in range(3):
            kept.append(Job(stopped).run(hidden=True))
    if number == signal.SIGTERM:
        assert ended.value.code == progress.code_of_stop() == 143
        assert kept == ["kept"]
        assert capsys.readouterr().err == "Terminated: no further job begins.\n"
    else:
        assert progress.code_of_stop() == 130
        assert kept == ["kept"] * 3
