"""One run of a sweep: corrupt the labels, train on them, score on images no run has seen."""

import time
from collections import Counter
from collections.abc import Generator
from dataclasses import asdict, dataclass
from hashlib import sha256
from types import SimpleNamespace
from typing import Any, Self

import numpy as np

from napari_metastructure.jobs.events import Step
from napari_metastructure.jobs.generators import in_background, run_out
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import density, transition
from napari_metastructure.labels.metrics import Tally
from napari_metastructure.labels.noise import corrupt
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.dataset import classes_of, counting
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.losses import IGNORE
from napari_metastructure.learning.patches import class_indices
from napari_metastructure.learning.training import train
from napari_metastructure.sweep.configs import SweepConfig
from napari_metastructure.sweep.plan import SweepRun
from napari_metastructure.sweep.report import SCORES

__all__ = ["SweepData", "train_and_score"]

_VALIDATION_FRACTION = 0.1  # of the training images: noisy as they are, they choose the weights


@dataclass(frozen=True)
class SweepData:
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
    def of(cls, job: Job, images: Any, labels: Any, validation: Any, config: SweepConfig) -> Self:
        """Split the images, and number the classes of their labels."""
        axes: dict[str, Any] = {
            "spatial_dims": config.spatial_dims,
            "channel_axis": config.channel_axis,
        }
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

    def planes(self, stack: np.ndarray) -> list[np.ndarray]:
        """The planes of a stack like `stack`, each in the size of its image."""
        return [plane[tuple(map(slice, label.shape))] for plane, label in zip(stack, self.labels)]

    def fingerprint(self) -> str:
        """A hash of all pixels."""
        digest = sha256()
        for part in (self.images, self.labels, self.scored_images, self.scored_labels):
            for array in part:
                digest.update(f"{array.shape}{array.dtype}".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


def _stacked(planes):
    shape = np.max([plane.shape for plane in planes], axis=0)
    stack = np.full((len(planes), *shape), IGNORE, np.int16)
    for whole, plane in zip(stack, planes):
        whole[tuple(map(slice, plane.shape))] = plane
    return stack


def train_and_score(
    data: SweepData, run: SweepRun, config: SweepConfig
) -> Generator[Step | None, None, tuple[dict[str, Any], list[np.ndarray] | None]]:
    """Train and score one run; returns its row and its prediction.

    Yields
    ------
    Step or None
        None while it does something else, so that it can be left there.
    """
    begun = time.perf_counter()
    try:
        scores, prediction = yield from _trained_and_scored(data, run, config)
        status = {"status": "done", "error": ""}
    except Exception as error:  # the sweep goes on with the other runs
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        scores, prediction = dict.fromkeys(SCORES), None
        status = {"status": "failed", "error": reason}
    seconds = round(time.perf_counter() - begun, 1)
    return {**asdict(run), **scores, "seconds": seconds, **status}, prediction


def _trained_and_scored(data, run, config):
    spec = run.spec(data.shares, config.spatial_dims)
    still = SimpleNamespace(stopping=False)  # who leaves the run closes this generator
    noisy = data.stack
    if spec is not None:
        noisy = yield from in_background(still, None, corrupt, data.stack, spec)
    chosen = {name: getattr(config, name) for name in TrainingConfig.model_fields}
    chosen |= {"seed": run.seed, "validation_fraction": _VALIDATION_FRACTION, "ignore_label": None}
    chosen |= {"as_mask": False, "channel_axis": None if config.channel_axis is None else 0}
    job = train(data.images, data.planes(noisy), chosen, noise=spec)
    for event in job:
        yield event if isinstance(event, Step) else None
    scores, prediction = yield from in_background(still, None, _score, event.model, data)
    left = yield from in_background(
        still, None, _remaining, data.stack, noisy, spec, data, config.spatial_dims
    )
    return {**scores, **left}, prediction


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


def _remaining(clean, noisy, spec, data, spatial_dims):
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
