"""How good must an annotation be? One network trained again and again under growing label noise."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.jobs.cluster import connect
from napari_metastructure.jobs.events import Progress, Result, Scored
from napari_metastructure.jobs.job import Job
from napari_metastructure.jobs.versions import versions
from napari_metastructure.learning.items import Items
from napari_metastructure.parameters import with_fields_of
from napari_metastructure.sweep import report
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.sweep.on_cluster import on_cluster
from napari_metastructure.sweep.one_run import SweepData, train_and_score
from napari_metastructure.sweep.plan import plan
from napari_metastructure.sweep.store import Store

__all__ = ["Sweep", "as_images", "sweep"]


@with_fields_of(SweepConfig)
def sweep(
    images: Any,
    labels: Any,
    config: SweepConfig | Mapping[str, Any] | None = None,
    *,
    validation_images: Any = None,
    validation_labels: Any = None,
    folder: str | Path | None = None,
    client: Any = None,
    **params: Any,
) -> Job:
    """Train on the labels under growing noise, and score each network on images it never saw.

    Parameters
    ----------
    images : array or sequence of arrays
        Planes (y, x) or stacks (..., y, x), as for `train`.
    labels : array or sequence of arrays
        Clean integer labels of the same shapes; 0 is background, -1 and ``ignore_label`` do not
        count.
    config : SweepConfig or dict, optional
    validation_images, validation_labels : array or sequence of arrays, optional
        What to score on. By default the last planes, a share of ``validation_fraction``.
    folder : path, optional
        Where every run leaves its scores (a line of ``runs.jsonl``) and its prediction as soon as
        it is done. The same folder again resumes an interrupted sweep; failed runs are
        tried again.
    client : distributed.Client, optional
        Runs the trainings on the workers of a dask cluster, one at a time on each; by
        default the config's ``scheduler``, or this process.
    **params
        Single parameters, such as ``seeds=5``, in place of the config's.

    Returns
    -------
    Job
        An iterator of `Progress`, `Scored` (one per run) and at last a `Result` with a `Sweep`.

    Raises
    ------
    ValueError, TypeError
        If a parameter or the data do not fit, or the folder holds a sweep of other data
        or settings, with one sentence that says why.

    Notes
    -----
    The question is that of Luo et al. (AAAI 2022, arXiv 2103.11594, experiments): randomised
    labels should cost next to nothing, perturbed ones more the further borders move, and
    random ones everything.

    Examples
    --------
    >>> for event in sweep(stack, masks, sample=[0.5, 0.1], seeds=1):  # doctest: +SKIP
    ...     print(event)
    """
    config = SweepConfig.of(config, **params)
    if (validation_images is None) != (validation_labels is None):
        raise ValueError("Give validation_images and validation_labels together, or neither.")
    validation = None if validation_images is None else (validation_images, validation_labels)
    return Job(lambda job: _sweeping(job, images, labels, validation, config, folder, client))


@dataclass(frozen=True)
class Sweep:
    """What a sweep found.

    Attributes
    ----------
    table : list of dict
        One row per run, in the order of the plan: ``kind, amount, seed, dice, iou, auc, threshold,
        best_dice, rank, figure_of_merit, seconds, status, error``. Dice and IoU are pooled over
        all scored pixels at the model's own threshold, and means over the foreground classes.
    record : dict
        Settings, data, versions and times.
    pictures : dict of {str: array}
        One scored plane: its ``image``, its true ``labels`` and the prediction of each run of
        the first seed, by title.
    stopped : bool
        Whether runs are missing.
    """

    table: list[dict[str, Any]]
    record: dict[str, Any]
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    stopped: bool = False

    @property
    def summary(self) -> str:
        """What the sweep says of the annotation, in plain sentences."""
        return report.summary(self.table)

    def save(self, folder: str | Path) -> Path:
        """Write ``sweep.csv``, ``sweep.png``, ``sweep.svg``, ``sweep.json`` and ``sweep.html``.

        The HTML page holds all the rest and opens offline. Returns the page's path.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        return report.save(folder, self.table, self.record, self.pictures)


def _sweeping(job, images, labels, validation, config, folder, client):
    started, clock = datetime.now(), time.perf_counter()
    yield Progress("reading the images", 0, 1)
    data = SweepData.of(job, images, labels, validation, config)
    fingerprint, runs = data.fingerprint(), plan(config)
    deadline = np.inf if config.time_limit is None else clock + config.time_limit
    with closing(Store(folder, config, fingerprint)) as store:
        done = [run for run in runs if store.is_done(run)]
        for number, run in enumerate(done):
            yield Scored(store.row(run), store.prediction(run), number + 1, len(runs))
        left = [run for run in runs if not store.is_done(run)]
        with _cluster(config, client) as client:
            where = _here if client is None else on_cluster
            for run, row, prediction in where(job, data, left, config, client, deadline):
                if run is None:  # nothing finished meanwhile
                    yield row
                    continue
                store.add(run, row, prediction)
                yield Scored(row, prediction, store.count(runs), len(runs))
        table = [row for row in map(store.row, runs) if row is not None]
        pictures = store.pictures(data, runs)
    record = {
        "operation": "sweep",
        "config": config.model_dump(mode="json"),
        "data": fingerprint,
        "trained_on": len(data.labels),
        "scored_on": len(data.scored_labels),
        "classes": data.classes,
        "runs": len(runs),
        "done": len(table),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 1),
        "versions": versions(),
    }
    stopped = len(table) < len(runs)
    yield Result(Sweep(table, record, pictures, stopped), stopped)


def _cluster(config, client):
    """The client to use, if any, as a context that closes one of our own at its end."""
    if client is None and config.scheduler:
        return connect(config.scheduler, for_all=False)
    return nullcontext(client)


def _here(job, data, runs, config, _client, deadline):
    """Run after run in this process; yields (run, row, prediction), or (None, progress, None)."""
    at, total = 0, 1
    for number, run in enumerate(runs):
        if job.stopping or time.perf_counter() > deadline:
            return
        running = train_and_score(data, run, config)
        finished = None
        while finished is None:
            try:
                step = next(running)
            except StopIteration as end:
                finished = end.value
                continue
            if job.stopping:
                running.close()
                return
            if step is not None:
                at, total = number * step.total + step.step, len(runs) * step.total
            yield None, Progress(f"{run.title}, seed {run.seed}", at, total), None
        yield run, *finished


def as_images(
    prediction: list[np.ndarray], shapes: Sequence[tuple[int, ...]], config: SweepConfig
) -> list[np.ndarray]:
    """A prediction in arrays of the whole images' shapes, 0 where nothing was scored.

    Parameters
    ----------
    prediction : list of array
        Of a `Scored` event of a sweep that held its scored part back itself.
    shapes : sequence of tuple of int
        Of the labels that the sweep was given.
    config : SweepConfig

    Returns
    -------
    list of array
    """
    images = [np.zeros(shape, prediction[0].dtype) for shape in shapes]
    scored = Items.of(images, None, config.spatial_dims).split(config.validation_fraction)[1]
    for place, mask in zip(scored.images, prediction):
        place[...] = mask
    return images
