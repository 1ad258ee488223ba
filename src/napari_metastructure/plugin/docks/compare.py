"""Dock widget: how a labels layer, or a probability map, differs from a reference."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Image, Labels
from napari.utils import DirectLabelColormap
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_metastructure.files.outputs import with_ending
from napari_metastructure.jobs.events import Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.comparison import ERRORS, Request, comparing
from napari_metastructure.labels.planewise import frozen, some_classes
from napari_metastructure.plugin.layers import NO_MASKS, RECORD, made_by, place, reference_of
from napari_metastructure.plugin.parts.again import SayAgain, as_call, layer_code
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.matrix import MatrixTable, ScoreTable
from napari_metastructure.plugin.parts.run_panel import RunPanel, notify_error
from napari_metastructure.plugin.parts.save_dialog import ask_where

__all__ = ["CompareLabels"]

_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "Accuracy",
    "auc": "AUC",
    "threshold": "Threshold",
}
_OBJECT_TITLES = {
    "f1": "F1",
    "average_precision": "AP",
    "precision": "Precision",
    "recall": "Recall",
}
_OBJECTS: dict[str, Any] = {
    "not compared": None,
    "connected parts": "components",
    "one per label": "numbered",
}
_ERRORS = {0: "transparent", 1: "magenta", 2: "cyan", 3: "yellow", None: "transparent"}


class CompareLabels(Dock):
    """Score labels or probabilities, and say what is left of the reference's structure.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    found : labels.comparison.Comparison
        The last comparison.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.found: Any = None
        self._pending: Any = None
        self._compared: Any = None
        self._layers: Any = None
        self._build_inputs()
        self._build_results()
        self.reset_choices()

    def _build_inputs(self):
        self.reference = self.choose_layer(
            "reference",
            "Reference",
            _is_labels,
            tooltip="The true, or clean, labels.",
            follows=lambda layer: made_by(layer) is None,
            suggest=lambda: reference_of(self.other.value, self.viewer.layers),
        )
        self.other = self.choose_layer(
            "other",
            "Compare",
            lambda layer: _is_labels(layer) or _is_probability(layer),
            tooltip="Noisy labels, a prediction, or a probability map.",
            unlike=self.reference,
            follows=lambda layer: made_by(layer) not in (None, *NO_MASKS),
            suggest=self._suggest_other,
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
            tooltip="Shows 1: missed, 2: extra, 3: wrong class.",
        )
        self.objects = ComboBox(
            name="objects",
            label="Objects",
            choices=list(_OBJECTS),
            tooltip="Also count objects that were found, missed, merged or split. Objects are "
            "connected parts of a mask, or all pixels of one label.",
        )
        self.dims = ComboBox(
            name="dims",
            label="Dimensions",
            choices=[("2-D", 2), ("3-D", 3)],
            tooltip="2-D: objects in each plane separately. 3-D: objects in whole volumes.",
        )
        self.form = self.add(Form())
        self.form.add(self.reference, self.other, self.only_class, self.objects, self.dims)
        self.form.add(self.errors)
        self.panel = self.add(RunPanel("Compare"))
        self.again = self.add(SayAgain(self, self.python))
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
        self.object_scores = self.add(ScoreTable())
        self.legend = self.add(note())
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.matrix_title = self.add(note())
        self.matrix = self.add(MatrixTable())
        self.verdict = self.add(note())

    # ------------------------------------------------------------------ inputs

    def _suggest_other(self):
        """What was made from the reference, the last of these; that which is chosen if it was."""
        found = [
            layer
            for layer in self.other.choices
            if made_by(layer) not in NO_MASKS
            and reference_of(layer, self.viewer.layers) is self.reference.value is not None
        ]
        return self.other.value if self.other.value in found else next(reversed(found), None)

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._on_form()

    def _on_form(self):
        layers = self.reference.value, self.other.value
        if layers != self._layers:
            self._layers = layers
            classes = [] if layers[0] is None else some_classes(layers[0].data)
            self.only_class.choices = [str(value) for value in classes if value] or ["1"]
        shown = {"reference", "other", "objects", "errors"}
        stacked = layers[0] is not None and layers[0].ndim > 2
        if stacked and _OBJECTS[self.objects.value]:
            shown.add("dims")
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

    def problem(self) -> Any:
        """Why the layers cannot be compared; None if they can."""
        reference, other = self.reference.value, self.other.value
        if reference is None:
            return self.no_labels("Add a Labels layer with the reference.", one_level=True)
        if other is None or other is reference:
            return "Choose another layer to compare, with labels or probabilities."
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

    def run(self) -> None:
        """Compare in the background."""
        reference, other = self.reference.value, self.other.value
        request = Request(reference=reference.data, other=other.data, **self._how())
        self._pending = reference.name, other.name, place(reference)
        self._compared = reference, other
        self.panel.start(Job(lambda job: _comparing(job, request)), "Comparison")

    def _how(self) -> dict[str, Any]:
        """What is compared besides pixels, as arguments of `compare`."""
        return {
            "of_class": int(self.only_class.value) if self._needs_class() else None,
            "errors": self.errors.value,
            "objects": _OBJECTS[self.objects.value],
            "spatial_dims": self.dims.value if self.form.is_shown("dims") else 2,
        }

    def python(self) -> list[str]:
        """The next run as Python code."""
        reference, other = self.reference.value, self.other.value
        data = ("reference.data", f"{layer_code(other)}.data")
        lines = [
            f"reference = {layer_code(reference)}",
            as_call("found = nms.compare", *data, **self._how()),
            "print(found.scores, *found.sentences, sep='\\n')",
        ]
        if not self.errors.value:
            return lines
        add = ("found.errors", f"name={f'{other.name} errors'!r}", "**place(reference)")
        return [
            "from napari_metastructure.plugin.layers import place",
            *lines,
            as_call("viewer.add_labels", *add),
        ]

    def _on_event(self, event):
        if isinstance(event, Result) and not event.stopped:
            self._show(event.value)

    def _show(self, found):
        self.found = found
        (reference, other, placed), layers = self._pending, self._compared
        say(self.title, f"{other} against {reference}:")
        self.scores.show_scores(found.rows, _TITLES)
        self.buttons.show()
        rows = found.objects.rows if found.objects else []
        self.object_scores.setVisible(bool(rows))
        if rows:
            table = {f"IoU ≥ {row['iou']:g}": row for row in rows}
            self.object_scores.show_scores(table, _OBJECT_TITLES)
        say(self.legend, _legend() if found.errors is not None else None)
        threshold = found.scores["threshold"]
        at = f" Threshold of the probabilities: {threshold:.3f}." if threshold == threshold else ""
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
                features={"index": [0, *ERRORS], "error": ["none", *ERRORS.values()]},
                metadata={RECORD: {"operation": "compare", "source": other, "clean": reference}},
                **placed,
            )

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()

    # ------------------------------------------------------------------ table

    def save_scores(self, path: str | Path) -> None:
        """Write the table of scores as CSV."""
        try:
            text = self.scores.as_text()
            if self.found is not None and self.found.objects:
                text += "\n" + self.object_scores.as_text()
            Path(path).write_text(text, encoding="utf-8")
        except OSError as error:
            notify_error(f"The table could not be saved: {error}")

    def _ask_and_save(self):
        name, files = "scores.csv", "CSV (*.csv)"
        path = ask_where(self, "Save scores", name, files, lambda t: with_ending(t, ".csv"))
        if path is not None:
            self.save_scores(path)


def _legend() -> str:
    """What the colours of the layer of errors mean."""
    parts = (f"<span style='color: {_ERRORS[n]}'>■</span> {word}" for n, word in ERRORS.items())
    return f"Errors: {' &nbsp; '.join(parts)}"


def _comparing(job, request):
    """`comparing` on copies, made here, in the background, for large stacks take a while."""
    copies = {name: frozen(getattr(request, name)) for name in ("reference", "other")}
    yield from comparing(job, replace(request, **copies))


def _is_labels(layer):
    return isinstance(layer, Labels) and not layer.multiscale


def _is_probability(layer):
    is_image = isinstance(layer, Image) and not layer.rgb and not layer.multiscale
    return is_image and np.dtype(layer.data.dtype).kind == "f"
