"""How good must an annotation be? One network trained again and again under growing label noise."""

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from napari_metastructure.jobs.cluster import ONE_AT_A_TIME, connect
from napari_metastructure.jobs.events import Progress, Result, Scored, Step
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import density, transition
from napari_metastructure.labels.metrics import Tally
from napari_metastructure.labels.noise import corrupt
from napari_metastructure.learning.configs import SweepConfig, TrainingConfig
from napari_metastructure.learning.losses import IGNORE
from napari_metastructure.learning.model import run_out, versions
from napari_metastructure.learning.patches import Items, class_indices
from napari_metastructure.learning.training import classes_of, counting, train
from napari_metastructure.sweep import report
from napari_metastructure.sweep.plan import Run, plan

__all__ = ["Sweep", "SweepConfig", "as_images", "sweep"]

_HELD_BACK = 0.1  # of the training images: noisy as they are, they choose the weights
_TRIES = 3  # of a run whose worker died


def sweep(
    images,
    labels,
    config=None,
    *,
    validation_images=None,
    validation_labels=None,
    folder=None,
    client=None,
    **params,
):
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
        it is done. A sweep that was broken off goes on where it stopped; failed runs are
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

    table: list
    record: dict
    pictures: dict = field(default_factory=dict)
    stopped: bool = False

    @property
    def summary(self):
        """What the sweep says of the annotation, in plain sentences."""
        return report.summary(self.table)

    def save(self, folder):
        """Write ``sweep.csv``, ``sweep.png``, ``sweep.svg``, ``sweep.json`` and ``sweep.html``.

        The HTML page holds all the rest and opens offline. Returns the page's path.

        Raises
        ------
        OSError
            If the folder cannot be written to.
        """
        return report.save(folder, self.table, self.record, self.pictures)


# --------------------------------------------------------------------------- the job


def _sweeping(job, images, labels, validation, config, folder, client):
    started, clock = datetime.now(), time.perf_counter()
    yield Progress("reading the images", 0, 1)
    data = _Data.of(job, images, labels, validation, config)
    runs = plan(config)
    store = _Store(folder, _settings(config), data.fingerprint())
    left = [run for run in runs if not store.is_done(run)]
    for number, run in enumerate(run for run in runs if store.is_done(run)):
        yield Scored(store.row(run), store.prediction(run), number + 1, len(runs))
    made = None
    if client is None and config.scheduler:
        client = made = connect(config.scheduler, for_all=False)
    where = _here if client is None else _on_cluster
    deadline = np.inf if config.time_limit is None else clock + config.time_limit
    try:
        for run, row, prediction in where(job, data, left, config, client, deadline):
            if run is None:  # nothing finished meanwhile
                yield row
                continue
            store.add(run, row, prediction)
            yield Scored(row, prediction, store.count(runs), len(runs))
    finally:
        if made is not None:
            made.close()
    record = {
        "operation": "sweep",
        "config": config.model_dump(mode="json"),
        "data": store.data,
        "trained_on": len(data.labels),
        "scored_on": len(data.scored_labels),
        "classes": data.classes,
        "runs": len(runs),
        "done": store.count(runs),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 1),
        "versions": versions(),
    }
    table = [row for row in map(store.row, runs) if row is not None]
    stopped = len(table) < len(runs)
    yield Result(Sweep(table, record, _pictures(data, runs, store), stopped), stopped)


def _here(job, data, runs, config, _client, deadline):
    """Run after run in this process; yields (run, row, prediction), or (None, progress, None)."""
    for number, run in enumerate(runs):
        if job.stopping or time.perf_counter() > deadline:
            return
        running = _running(data, run, config)
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
            at, total = number * step.total + step.step, len(runs) * step.total
            yield None, Progress(f"{run.title}, seed {run.seed}", at, total), None
        yield run, *finished


def _running(data, run, config):
    """Train and score one run: generator of `Step`; returns its row and its prediction."""
    begun = time.perf_counter()
    try:
        scores, prediction = yield from _trained_and_scored(data, run, config)
        status = {"status": "done", "error": ""}
    except Exception as error:  # the sweep goes on with the other runs
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        scores, prediction = dict.fromkeys(report.SCORES), None
        status = {"status": "failed", "error": reason}
    seconds = round(time.perf_counter() - begun, 1)
    return {**asdict(run), **scores, "seconds": seconds, **status}, prediction


def _trained_and_scored(data, run, config):
    spec = run.spec(data.shares, config.spatial_dims)
    noisy = data.stack if spec is None else corrupt(data.stack, spec)
    chosen = {name: getattr(config, name) for name in TrainingConfig.model_fields}
    chosen |= {"seed": run.seed, "validation_fraction": _HELD_BACK, "ignore_label": None}
    chosen |= {"as_mask": False, "channel_axis": None if config.channel_axis is None else 0}
    job = train(data.images, data.planes(noisy), chosen, noise=spec)
    for event in job:
        if isinstance(event, Step):
            yield event
    model = event.model
    scores, prediction = _score(model, data)
    return {**scores, **_left(data.stack, noisy, spec, data, config.spatial_dims)}, prediction


def _score(model, data):
    """Scores on the images that no run was trained on, and the labels predicted there."""
    size = len(data.classes)
    values = np.array(data.classes).astype(np.min_scalar_type(data.classes[-1]))
    counts, masks = np.zeros((size, size), np.int64), []
    tallies = [Tally() for _ in range(size - 1)]
    for image, truth in zip(data.scored_images, data.scored_labels):
        probabilities = model.predict(np.asarray(image))
        mask = model.decide(probabilities).astype(np.uint8)
        known = truth != IGNORE
        counts += transition.count(truth[known][None], mask[known][None], size)
        maps = [probabilities] if size == 2 else model.undo_noise(probabilities)[1:].clip(0, 1)
        for label, (tally, p) in enumerate(zip(tallies, maps), 1):
            tally.add(truth[known] == label, p[known])
        masks.append(values[mask])
    hits, either = np.diag(counts)[1:], (counts.sum(0) + counts.sum(1))[1:]
    occurs = counts.sum(1)[1:] > 0
    curves = [tally.scores() for tally, there in zip(tallies, occurs) if there]
    scores = {
        "dice": _mean(2 * hits[occurs] / either[occurs]),
        "iou": _mean(hits[occurs] / (either - hits)[occurs]),
        "auc": _mean([curve["auc"] for curve in curves]),
        "threshold": float(model.threshold) if size == 2 else None,
        "best_dice": _mean([curve["dice"] for curve in curves]),
    }
    return scores, masks


def _left(clean, noisy, spec, data, spatial_dims):
    """What the noise leaves of the classes: rank of the matrix, and the figure of merit."""
    size = len(data.classes)
    if spec is None:
        return {"rank": size, "figure_of_merit": 1.0}
    try:
        rank = transition.rank(transition.of(spec, size))
    except ValueError:  # borders that move have no matrix of their own
        counts = transition.count(clean, noisy, size)
        rank = transition.rank(transition.normalised(counts), counts)
    merit = density.kept(clean, noisy, spatial_dims=spatial_dims)
    return {"rank": rank, "figure_of_merit": float(merit)}


def _mean(values):
    return float(np.mean(values)) if len(values) else None


def _pictures(data, runs, store):
    """A scored plane with objects, and what each run of the first seed makes of it."""
    plane = max(range(len(data.scored_labels)), key=lambda n: (data.scored_labels[n] > 0).mean())
    truth = np.array(data.classes)[np.maximum(data.scored_labels[plane], 0)]
    image = np.asarray(data.scored_images[plane])
    pictures = {"image": image.mean(0) if image.ndim > truth.ndim else image, "labels": truth}
    for run in runs:
        prediction = store.prediction(run) if run.seed == runs[0].seed else None
        if prediction is not None:
            pictures[run.title] = prediction[plane]
    middle = {name: p[len(p) // 2] if p.ndim == 3 else p for name, p in pictures.items()}
    return {name: np.asarray(picture) for name, picture in middle.items()}


def as_images(prediction, shapes, config):
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


# --------------------------------------------------------------------------- data


@dataclass(frozen=True)
class _Data:
    """What every run shares. Labels are numbers of classes, int16, -1 where they do not count.

    `stack` holds the labels to train on as one array, filled up with -1 to one shape.
    """

    images: list
    labels: list
    stack: np.ndarray
    scored_images: list
    scored_labels: list
    classes: list
    shares: list

    @classmethod
    def of(cls, job, images, labels, validation, config):
        axes = {"spatial_dims": config.spatial_dims, "channel_axis": config.channel_axis}
        training = Items.of(images, labels, **axes)
        if validation is None:
            training, scored = training.split(config.validation_fraction)
        else:
            scored = Items.of(*validation, **axes)
        if not len(scored):
            raise ValueError("A sweep needs images to score on; raise validation_fraction above 0.")
        counts = run_out(counting(job, training, config))
        classes = classes_of(counts, Counter(), True)
        numbers = [
            [
                class_indices(np.asarray(label), classes, config.ignore_label).astype(np.int16)
                for label in part.labels
            ]
            for part in (training, scored)
        ]
        shares = [counts[value] / counts.total() for value in classes]
        stack = _stacked(numbers[0])
        return cls(training.images, numbers[0], stack, scored.images, numbers[1], classes, shares)

    def planes(self, stack):
        """The planes of a stack like `stack`, each in the size of its image."""
        return [plane[tuple(map(slice, label.shape))] for plane, label in zip(stack, self.labels)]

    def fingerprint(self):
        """A hash of all pixels."""
        digest = sha256()
        for part in (self.images, self.labels, self.scored_images, self.scored_labels):
            for array in part:
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def _stacked(planes):
    shape = np.max([plane.shape for plane in planes], axis=0)
    stack = np.full((len(planes), *shape), IGNORE, np.int16)
    for whole, plane in zip(stack, planes):
        whole[tuple(map(slice, plane.shape))] = plane
    return stack


# --------------------------------------------------------------------------- records


def _settings(config):
    """What two runs must share to stand in one table."""
    names = set(TrainingConfig.model_fields) - {"seed", "device"}
    return {name: value for name, value in config.model_dump(mode="json").items() if name in names}


class _Store:
    """Rows and predictions of the finished runs: in memory, and as they come in a folder.

    A row is one line at the end of ``runs.jsonl``, so that a sweep that is killed loses
    the run under way at most.
    """

    def __init__(self, folder, settings, data):
        self.data = data
        self.folder = None if folder is None else Path(folder)
        self._rows, self._predictions = {}, {}
        if self.folder is None:
            return
        (self.folder / "predictions").mkdir(parents=True, exist_ok=True)
        self._lines = self.folder / "runs.jsonl"
        self._check({"settings": settings, "data": data})
        for row in _read_lines(self._lines):
            self._rows[Run(row["kind"], row["amount"], row["seed"])] = row

    def _check(self, identity):
        """Refuse a folder with the sweep of other data or settings."""
        path = self.folder / "identity.json"
        if not path.exists():
            path.write_text(json.dumps(identity, indent=1))
        known = json.loads(path.read_text())
        if known["data"] != identity["data"]:
            raise ValueError(
                f"{self.folder} holds a sweep of other images or labels; choose another folder."
            )
        settings = identity["settings"]
        changed = sorted(
            name for name, value in known["settings"].items() if settings.get(name) != value
        )
        if changed:
            raise ValueError(
                f"{self.folder} holds a sweep with another {', '.join(changed)}; "
                "choose another folder, or the settings of that sweep."
            )

    def is_done(self, run):
        return self._rows.get(run, {}).get("status") == "done"

    def count(self, runs):
        """How many of the runs have ended, well or not."""
        return sum(run in self._rows for run in runs)

    def row(self, run):
        """The row of a run; None if there is none yet."""
        return self._rows.get(run)

    def add(self, run, row, prediction):
        """Keep a finished run: the row comes last, so that it stands for the whole."""
        self._rows[run] = row
        if self.folder is None:
            self._predictions[run] = prediction
            return
        if prediction is not None:
            path = self._path(run)
            np.savez_compressed(path.with_suffix(".part.npz"), *prediction)
            path.with_suffix(".part.npz").replace(path)
        with open(self._lines, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def prediction(self, run):
        """The predicted labels, one array per scored image; None if there are none."""
        if self.folder is None:
            return self._predictions.get(run)
        if not self.is_done(run) or not self._path(run).exists():
            return None
        with np.load(self._path(run)) as file:
            return [file[name] for name in file.files]

    def _path(self, run):
        return self.folder / "predictions" / f"{run.name}.npz"


def _read_lines(path):
    """The rows of a file; what a killed process left half written, at its end, is cut off."""
    if not path.exists():
        return []
    lines, rows = path.read_bytes().splitlines(keepends=True), []
    for number, line in enumerate(lines):
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number < len(lines) - 1:
                raise ValueError(f"Line {number + 1} of {path} is damaged; remove it.") from None
            path.write_bytes(b"".join(lines[:-1]))
    return rows


# --------------------------------------------------------------------------- cluster


def _run_to_end(data, run, config):
    """`_running` on a worker."""
    with ONE_AT_A_TIME:
        return run_out(_running(data, run, config))


def _on_cluster(job, data, runs, config, client, deadline):
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
                        "The dask scheduler went away; the finished runs are kept: start the "
                        "sweep again with the same folder to go on."
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
                    row = {**asdict(run), **dict.fromkeys(report.SCORES), "seconds": None}
                    yield run, {**row, "status": "failed", "error": reason}, None
    finally:
        if client.status == "running":
            client.cancel(list(pending))
