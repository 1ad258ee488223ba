"""Scores on the validation pixels, and the best weights so far."""

import copy
from collections.abc import Generator
from typing import Any

import numpy as np

from napari_metastructure.jobs import parallel
from napari_metastructure.jobs.events import Progress, Validated
from napari_metastructure.jobs.generators import run_until_stopped
from napari_metastructure.labels.metrics import Tally
from napari_metastructure.learning.losses import IGNORE
from napari_metastructure.learning.patches import class_indices

__all__ = ["Validation"]


class Validation:
    """Scores on the validation pixels, and the best weights so far.

    Clean labels judge the probabilities of the true labels; others, as noisy as those trained on,
    what follows from these for the noisy ones. The best weights are those of the largest area under
    the ROC curve; of several classes with known noise, those under which the noisy labels are
    likeliest: a mean over the classes would count chance among the rare ones in full.

    Parameters
    ----------
    job : Job
    model : SegmentationModel
    items : Items
        The validation part.
    clean : bool
        Whether its labels are free of the noise.
    ignore_label : int or None
    forward_matrix : array of float, (classes, classes), optional
        Transition matrix of the noise that the loss corrects for.
    """

    def __init__(
        self,
        job: Any,
        model: Any,
        items: Any,
        clean: Any,
        ignore_label: int | None,
        forward_matrix: Any = None,
    ) -> None:
        self.job, self.model, self.items = job, model, items
        self.clean, self.ignore_label = clean, ignore_label
        self.forward_matrix = forward_matrix
        self.history = []
        self.merit, self.scores = -np.inf, None
        self.weights: dict[str, Any] | None = None
        self.tally: Tally | None = None

    @property
    def labels(self) -> Any:
        """What the scores were taken on."""
        if self.scores is None:
            return None
        return "clean labels" if self.clean else "validation labels"

    def run(self, epoch: int, step: int) -> Generator[Any, Any, Any]:
        """Score the network as it is; generator of events."""
        found = yield from self._tallies()
        if found is None:
            return
        tallies, explained = found
        turned = not self.clean and self._noise_inverts
        scores = _mean_scores([tally.turned() if turned else tally for tally in tallies])
        merit = self._merit(scores["auc"]) if explained is None else explained
        is_best = np.isnan(merit) or merit > self.merit
        if is_best:
            self.merit, self.tally = merit, tallies[0]
            self.scores = None if np.isnan(merit) else scores
            self.weights = copy.deepcopy(self.model.network.state_dict())
        validated = {"epoch": epoch, "step": step, **scores}
        self.history.append(validated)
        yield Validated(**validated, best=bool(is_best))

    def state(self) -> tuple[dict[str, Any], dict]:
        """What is to be kept of it: tensors by name, and values that JSON holds."""
        return self.weights or {}, {
            "history": self.history,
            "merit": float(self.merit),
            "scores": self.scores,
            "tally": None if self.tally is None else [part.tolist() for part in self.tally.counts],
            "has_weights": self.weights is not None,
        }

    def take_up(self, tensors: dict[str, Any], values: dict) -> None:
        """Go on from a `state`."""
        self.history[:] = values["history"]
        self.merit, self.scores = values["merit"], values["scores"]
        if values["tally"] is not None:
            self.tally = Tally.of(*(np.array(part, np.int64) for part in values["tally"]))
        if values["has_weights"]:
            self.weights = tensors

    @property
    def _noise_inverts(self):
        """Whether an object pixel is less likely to be labelled object than a background pixel."""
        q = self.forward_matrix
        if q is None or len(q) > 2:
            return self.model.inverted
        return q[1, 1] < q[0, 1]

    def _merit(self, auc):
        """The area under the curve; that of the inverse too where only clean labels know."""
        unknown = self.forward_matrix is None and not self.model.inverted
        return max(auc, 1 - auc) if self.clean and unknown else auc

    def _tallies(self):
        """One tally per foreground class, and what is `_explained`; None if stopped."""
        model, noisy = self.model, self.forward_matrix is not None and not self.clean
        labelled, log_likelihood = np.zeros(len(model.classes)), np.zeros(1)
        tallies = [Tally() for _ in model.classes[1:]]
        for number in range(parallel.rank(), len(self.items), parallel.size()):
            label = self.items.labels[number]
            truth = class_indices(np.asarray(label), model.classes, self.ignore_label)
            counted = truth != IGNORE
            missing = self.items.missing(number)
            if missing is not None:
                counted &= ~missing
            if not counted.any():
                continue
            prediction = model.predicting_one(self.items.image(number))
            probability = yield from run_until_stopped(
                self.job, prediction, Progress("validating", number, len(self.items))
            )
            if probability is None:
                return None
            if len(tallies) == 1:
                probability = np.stack([1 - probability, probability])
            elif noisy:
                probability = np.tensordot(self.forward_matrix.T, probability, axes=1)
                of_label = np.take_along_axis(probability, truth.clip(0)[None], 0)[0][counted]
                log_likelihood += np.log(np.maximum(of_label, 1e-12)).sum()
                labelled += np.bincount(truth[counted], minlength=len(labelled))
            for index, tally in enumerate(tallies, 1):
                tally.add(truth[counted] == index, probability[index][counted])
        parallel.sum_tallies(tallies)
        if not noisy or len(tallies) == 1:
            return tallies, None
        return tallies, _explained(*map(parallel.total, (labelled, log_likelihood)))


def _explained(labelled, log_likelihood):
    """One half, and half of the share of the labels' entropy that is explained: 0.5 for nothing."""
    if not labelled.any():
        return float("nan")
    shares = labelled[labelled > 0] / labelled.sum()
    entropy = -float((shares * np.log(shares)).sum())
    left = -float(log_likelihood[0] / labelled.sum())
    return 0.5 + (1 - left / entropy) / 2 if entropy > 0 else float("nan")


def _mean_scores(tallies):
    """Means over the classes that occur; nan if none does."""
    scores = [score for score in (tally.scores() for tally in tallies) if score["auc"] >= 0]
    return {
        name: float(np.mean([score[name] for score in scores])) if scores else float("nan")
        for name in ("dice", "auc", "threshold")
    }
