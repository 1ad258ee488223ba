"""The runs of a sweep on the workers of a dask.distributed cluster."""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from napari_metastructure.jobs.cluster import ONE_AT_A_TIME
from napari_metastructure.jobs.events import Progress
from napari_metastructure.jobs.generators import run_out
from napari_metastructure.jobs.job import Job
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.sweep.one_run import SweepData, train_and_score
from napari_metastructure.sweep.plan import SweepRun
from napari_metastructure.sweep.report import SCORES

__all__ = ["on_cluster"]

Outcome = tuple[SweepRun | None, Any, list[np.ndarray] | None]
"""A run, its row and its prediction; None, a `Progress` and None while nothing is finished."""

_TRIES = 3  # of a run whose worker died


def on_cluster(
    job: Job,
    data: SweepData,
    runs: list[SweepRun],
    config: SweepConfig,
    client: Any,
    deadline: float,
) -> Iterator[Outcome]:
    """All runs at once on the workers of a cluster; yields as `_here` does."""
    total, tries = len(runs), Counter()
    shared = client.scatter(data, broadcast=True, hash=False)

    def submit(run):
        tries[run] += 1
        return client.submit(_run_to_end, shared, run, config, pure=False)

    pending = {submit(run): run for run in runs}
    try:
        while pending and not job.stopping and time.perf_counter() < deadline:
            done = [future for future in pending if future.done()]
            if not done:
                if client.status not in ("running", "connecting"):
                    raise RuntimeError(
                        "The connection to the dask scheduler was lost. The finished runs are "
                        "kept; start the sweep again with the same folder to continue."
                    )
                time.sleep(0.1)
                yield None, Progress("runs on the cluster", total - len(pending), total), None
            for future in done:
                run = pending.pop(future)
                if future.status == "finished":
                    yield run, *future.result()
                elif tries[run] < _TRIES and client.status == "running":  # its worker died
                    shared = client.scatter(data, broadcast=True, hash=False)
                    pending[submit(run)] = run
                else:
                    reason = f"its worker died {tries[run]} times"
                    row = {**asdict(run), **dict.fromkeys(SCORES), "seconds": None}
                    yield run, {**row, "status": "failed", "error": reason}, None
    finally:
        if client.status == "running":
            client.cancel(list(pending))


def _run_to_end(data, run, config):
    """`train_and_score` on a worker."""
    with ONE_AT_A_TIME:
        return run_out(train_and_score(data, run, config))
