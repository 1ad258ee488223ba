"""What every long computation has in common."""

import threading
import time

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
