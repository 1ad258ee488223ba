"""Dock widget: how a labels layer, or a probability map, differs from a reference."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Image, Labels
from napari.utils import DirectLabelColormap
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels import density, transition
from napari_metastructure.labels.metrics import Tally, evaluate
from napari_metastructure.plugin.layers import RECORD, place
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.matrix import MatrixTable, ScoreTable
from napari_metastructure.plugin.parts.planewise import (
    as_classes,
    counted,
    frozen,
    is_binary,
    planes_of,
    some_classes,
    spread,
    summed,
)
from napari_metastructure.plugin.parts.run_panel import RunPanel, notify_error

__all__ = ["CompareLabels"]

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "Accuracy",
    "auc": "AUC",
    "threshold": "Threshold",
}
_MANY_PIXELS = 2**24
_ERRORS = {0: "transparent", 1: "magenta", 2: "cyan", 3: "yellow", None: "transparent"}


class CompareLabels(Dock):
    """Score labels or probabilities, and say what is left of the reference's structure.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    found : object
        The last comparison: scores, counts, matrix, rank, verdict, kept.
    """

    def __init__(self, napari_viewer):
        super().__init__(napari_viewer)
        self.found = self._pending = self._compared = self._layers = None
        self._build_inputs()
        self._build_results()
        self.reset_choices()

    def _build_inputs(self):
        self.reference = self.choose_layer(
            "reference", "Reference", _is_labels, tooltip="The true, or clean, labels."
        )
        self.other = self.choose_layer(
            "other",
            "Compare",
            lambda layer: _is_labels(layer) or _is_probability(layer),
            tooltip="Noisy labels, a prediction, or a probability map.",
        )
        self.only_class = ComboBox(
            name="only_class",
            label="Class",
            choices=["1"],
            tooltip="The class whose probability the map shows.",
        )
        self.errors = CheckBox(
            name="errors",
            text="Add a layer of errors",
            tooltip="1: missed, 2: extra, 3: wrong class.",
        )
        self.form = self.add(Form().add(self.reference, self.other, self.only_class, self.errors))
        self.panel = self.add(RunPanel("Compare"))
        self.form.changed.connect(self._on_form)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._check)

    def _build_results(self):
        self.title = self.add(note())
        self.scores = self.add(ScoreTable())
        self.copy_button, self.save_button = QPushButton("Copy"), QPushButton("Save as CSV …")
        self.copy_button.clicked.connect(self.scores.copy)
        self.save_button.clicked.connect(self._ask_and_save)
        self.buttons, row = QWidget(), QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        self.buttons.setLayout(row)
        for button in (self.copy_button, self.save_button):
            row.addWidget(button)
        self.add(self.buttons).hide()
        self.matrix_title = self.add(note())
        self.matrix = self.add(MatrixTable())
        self.verdict = self.add(note())

    # ------------------------------------------------------------------ inputs

    def reset_choices(self, event=None):
        super().reset_choices(event)
        self._on_form()

    def _on_form(self):
        layers = self.reference.value, self.other.value
        if layers != self._layers:
            self._layers = layers
            classes = [] if layers[0] is None else some_classes(layers[0].data)
            self.only_class.choices = [str(value) for value in classes if value] or ["1"]
        shown = {"reference", "other", "errors"}
        if self._needs_class():
            shown.add("only_class")
        self.form.show_only(shown)
        self._check()

    def _needs_class(self):
        """Whether a single probability map is compared with labels of several classes."""
        reference, other = self.reference.value, self.other.value
        if reference is None or other is None or isinstance(other, Labels):
            return False
        return other.ndim == reference.ndim and len(self.only_class.choices) > 1

    def problem(self):
        """Why the layers cannot be compared; None if they can."""
        reference, other = self.reference.value, self.other.value
        if reference is None:
            return "Add a Labels layer with the reference."
        if other is None or other is reference:
            return "Choose another layer, of labels or probabilities, to compare."
        shape = other.data.shape
        if _is_probability(other) and len(shape) == reference.ndim + 1:
            shape = shape[1:]
        if shape != reference.data.shape:
            return (
                f"{reference.name} has shape {reference.data.shape} but {other.name} has "
                f"{other.data.shape}; choose layers of the same pixels."
            )
        return None

    def _check(self):
        self.panel.set_problem(self.problem())

    # ------------------------------------------------------------------ run

    def run(self):
        """Compare in the background."""
        reference, other = self.reference.value, self.other.value
        request = _Request(
            reference=reference.data,
            other=other.data,
            of_class=int(self.only_class.value) if self._needs_class() else None,
            errors=self.errors.value,
        )
        self._pending = reference.name, other.name, place(reference)
        self._compared = reference, other
        self.panel.start(Job(lambda job: _comparing(job, request)), "Comparison")

    def _on_event(self, event):
        if isinstance(event, Result) and not event.stopped:
            self._show(event.value)

    def _show(self, found):
        self.found = found
        (reference, other, placed), layers = self._pending, self._compared
        say(self.title, f"{other} against {reference}:")
        self.scores.show_scores(found.scores, _TITLES)
        self.buttons.show()
        cut = found.threshold == found.threshold
        at = f" Probabilities are cut at {found.threshold:.3f}." if cut else ""
        say(self.matrix_title, f"Transition matrix (row: {reference}, column: {other}).{at}")
        self.matrix.show_matrix(found.matrix, found.classes)
        say(self.verdict, "\n".join(found.sentences))
        if found.errors is not None:
            for layer in layers:
                layer.visible = False
            self.viewer.add_labels(
                found.errors,
                name=f"{other} errors",
                colormap=DirectLabelColormap(color_dict=_ERRORS),
                metadata={RECORD: {"operation": "compare", "source": other, "clean": reference}},
                **placed,
            )

    def closed(self):
        self.panel.abandon()

    # ------------------------------------------------------------------ table

    def save_scores(self, path):
        """Write the table of scores as CSV."""
        try:
            Path(path).write_text(self.scores.as_text(), encoding="utf-8")
        except OSError as error:
            notify_error(f"The table could not be saved: {error}")

    def _ask_and_save(self):
        path, _ = QFileDialog.getSaveFileName(self, "Save scores", "scores.csv", "CSV (*.csv)")
        if path:
            self.save_scores(Path(path).with_suffix(".csv"))


@dataclass(frozen=True)
class _Request:
    """Arrays to compare; `of_class` is the class whose probability `other` is, if it is one."""

    reference: Any
    other: Any
    of_class: int | None
    errors: bool


@dataclass
class _Found:
    """What a comparison found; rows and columns of `counts` and `matrix` are `classes`."""

    scores: dict
    threshold: float
    classes: list
    counts: Any
    matrix: Any
    rank: int
    verdict: Any
    kept: float
    sentences: list
    errors: Any = None


def _comparing(job, request):
    """Look up the classes, score them, count the matrix, judge, and draw the errors."""
    yield Progress("starting", 0, 1)
    pair = yield from _pair(job, request)
    if pair is None:
        yield Result(None, stopped=True)
        return
    parts = planes_of(pair.reference)
    scores = yield from _scores(job, pair)
    counts = yield from summed(job, "counting", parts, lambda part: pair.count(part))
    judged = yield from _judged(job, pair)
    errors = yield from _errors(job, pair, parts) if request.errors else _nothing()
    if job.stopping:
        yield Result(None, stopped=True)
        return
    yield Result(_found(pair, scores, counts, judged, errors))


def _nothing():
    return
    yield


@dataclass
class _Pair:
    """The two layers as classes 0 to size - 1, plane by plane; masks have classes 0 and 1."""

    reference: Any
    other: Any
    classes: list
    missing: list
    size: int
    binary: bool
    of_class: int | None = None
    threshold: float = float("nan")

    @property
    def is_probability(self):
        return self.other.dtype.kind == "f"

    def true(self, part=...):
        labels = np.asarray(self.reference[part])
        if self.of_class is not None:
            return np.where(labels == -1, -1, labels == self.of_class).astype(np.int8)
        return as_classes(labels, self.binary)

    def found(self, part=...):
        """The labels to compare; probabilities are cut at the threshold."""
        if not self.is_probability:
            return as_classes(self.other[part], self.binary)
        if self.other.ndim > self.reference.ndim:
            where = (slice(None), *part) if isinstance(part, tuple) else part
            return np.asarray(self.other[where]).argmax(0)
        return (np.asarray(self.other[part]) > self.threshold).astype(np.int8)

    def count(self, part):
        return transition.count(self.true(part), self.found(part), self.size)


def _pair(job, request):
    """What is compared with what."""
    reference, other = frozen(request.reference), frozen(request.other)
    found = yield from counted(job, reference, planes_of(reference))
    if found is None:
        return None
    values = found[0].tolist()
    if len(values) < 1:
        raise ValueError("The reference has no pixels but ignored ones.")
    if other.dtype.kind != "f":
        others = yield from counted(job, other, planes_of(other))
        return None if others is None else _labels_pair(reference, other, values, others[0])
    if other.ndim > reference.ndim:
        size = len(other)
        if values[-1] >= size:
            raise ValueError(
                f"The reference has class {values[-1]}, but there are probabilities of {size} "
                "classes only."
            )
        return _Pair(reference, other, list(range(size)), [], size, False)
    if request.of_class is not None and request.of_class not in values:
        raise ValueError(f"The reference has no pixel of class {request.of_class}.")
    name = request.of_class or max(values[-1], 1)
    classes = ["rest" if request.of_class else 0, name]
    return _Pair(reference, other, classes, [], 2, True, request.of_class)


def _labels_pair(reference, other, values, others):
    others = others.tolist()
    classes = sorted({0, *values, *others})
    binary = is_binary(np.array(values), np.array(others))
    mine, theirs = set(values) - {0}, set(others) - {0}
    if not binary and mine and theirs and not mine & theirs:
        raise ValueError(
            f"The layers have no class in common: the reference has {_listed(mine)}, the other "
            f"{_listed(theirs)}."
        )
    missing = [] if binary else sorted(mine ^ theirs)
    if binary:
        classes = [0, max(mine or theirs or {1})]
    return _Pair(reference, other, classes, missing, 2 if binary else classes[-1] + 1, binary)


def _scores(job, pair):
    """Scores of each foreground class, and their mean if there are several."""
    rows = {}
    if pair.is_probability and pair.other.ndim == pair.reference.ndim:
        scores = yield from _probability_scores(job, pair, pair.other)
        if scores is not None:
            pair.threshold = scores["threshold"]
            rows[str(pair.classes[-1])] = scores
        return rows
    foreground = pair.classes[1:]
    true, found = pair.true(), None if pair.is_probability else pair.found()
    for done, value in enumerate(foreground, start=1):
        if job.stopping:
            return None
        if pair.binary:
            rows[str(value)] = evaluate(true, found)
        elif pair.is_probability:
            one = _Pair(pair.reference, pair.other[value], [], [], 2, True, value)
            rows[str(value)] = yield from _probability_scores(job, one, one.other)
        else:
            rows[str(value)] = evaluate(_one_of(true, value), found == value)
        yield Progress("scores", done, len(foreground))
    if len(rows) > 1 and not job.stopping:
        mean = {n: float(np.mean([row[n] for row in rows.values()])) for n in _TITLES}
        rows["mean"] = {**mean, "threshold": float("nan")}
    return rows


def _probability_scores(job, pair, probability):
    """`evaluate`; of many pixels plane by plane, with probabilities rounded to 1 / 4096."""
    if pair.reference.size <= _MANY_PIXELS:
        return evaluate(pair.true(), np.asarray(probability))
    tally, parts = Tally(), planes_of(pair.reference)
    for done, part in enumerate(parts, start=1):
        if job.stopping:
            return None
        true, plane = pair.true(part), np.asarray(probability[part])
        if not (plane.min() >= 0 and plane.max() <= 1):
            raise ValueError("Probabilities must lie between 0 and 1; rescale the image first.")
        tally.add(true[true >= 0] != 0, plane[true >= 0])
        yield Progress("scores", done, len(parts))
    return tally.scores()


def _judged(job, pair):
    """Verdict and figure of merit, from so many planes as can be looked at in seconds."""
    parts = spread(pair.reference)
    if job.stopping:
        return None
    yield Progress("verdict", 0, 2)
    true, found = (np.stack([get(part) for part in parts]) for get in (pair.true, pair.found))
    try:
        verdict = transition.judge(true, found, pair.size)
    except ValueError as error:
        verdict = str(error)
    if job.stopping:
        return None
    yield Progress("verdict", 1, 2)
    try:
        kept = density.kept(true, found)
    except ValueError:
        kept = float("nan")
    yield Progress("verdict", 2, 2)
    return verdict, kept, len(parts)


def _errors(job, pair, parts):
    """1: missed, 2: extra, 3: wrong class; ignored pixels are 0."""
    errors = np.zeros(pair.reference.shape, np.uint8)
    for done, part in enumerate(parts, start=1):
        if job.stopping:
            return None
        true, found = pair.true(part), pair.found(part)
        wrong = (true != found) & transition.both_known(true, found, None)
        kind = np.where(found == 0, 1, np.where(true == 0, 2, 3))
        errors[part] = kind * wrong
        yield Progress("errors", done, len(parts))
    return errors


def _found(pair, scores, counts, judged, errors):
    shown = list(range(len(counts)))
    if not pair.binary:
        shown = [value for value in shown if counts[value].any() or counts[:, value].any()]
    names = pair.classes if pair.binary else shown
    full, counts = counts, counts[np.ix_(shown, shown)]
    matrix = transition.normalised(counts)
    verdict, kept, planes = judged
    rank, total = transition.rank(matrix, counts), int(counts.any(1).sum())
    sentences = [str(verdict)]
    if rank < total and getattr(verdict, "kind", None) == "bent":
        sentences.append(str(transition.verdict(transition.normalised(full), full)))
    sentences.append(f"Rank {rank}: {rank} of {total} classes are left.")
    if kept == kept:
        sentences.append(f"Meta-structure kept: {kept:.3f} (1: all of it, 0: nothing).")
    if pair.missing:
        sentences.append(f"In one of the layers only: class {_listed(pair.missing)}.")
    if planes < len(planes_of(pair.reference)):
        sentences.append(f"Verdict and figure of merit come from {planes} planes of the stack.")
    return _Found(
        scores, pair.threshold, names, counts, matrix, rank, verdict, kept, sentences, errors
    )


def _one_of(labels, value):
    return np.where(labels == -1, -1, labels == value).astype(np.int8)


def _listed(values):
    return ", ".join(map(str, sorted(values)))


def _is_labels(layer):
    return isinstance(layer, Labels) and not layer.multiscale


def _is_probability(layer):
    is_image = isinstance(layer, Image) and not layer.rgb and not layer.multiscale
    return is_image and np.dtype(layer.data.dtype).kind == "f"
