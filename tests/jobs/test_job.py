"""What every long computation has in common."""

import time

from napari_metastructure.jobs.events import Done, Progress, Result
from napari_metastructure.jobs.job import Job


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


def test_the_end_of_a_run_is_printed_in_one_line():
    done = Done("model", history={"loss": [0.5] * 99}, record={"config": {}}, masks=[[0] * 99])
    assert repr(done) == "Done(model='model', stopped=False)"
