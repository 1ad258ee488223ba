"""Dock widget: corrupt a labels layer, with a live preview."""

from typing import Any

import numpy as np
from magicgui.widgets import ComboBox
from napari.layers import Labels
from qtpy.QtCore import QTimer

from napari_metastructure.files.fingerprint import digest
from napari_metastructure.jobs.events import Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.classes import check_matrix
from napari_metastructure.labels.corruption import (
    LARGEST_PREVIEW,
    corrupting,
    matrix_and_verdict,
    on_plane,
    row_values,
)
from napari_metastructure.labels.noise import PARAMETERS, NoiseSpec
from napari_metastructure.plugin.layers import (
    RECORD,
    made_by,
    noise_of,
    place,
    place_plane,
    plane_index,
    snapshot,
)
from napari_metastructure.plugin.parts.again import SayAgain, as_call, config_code, layer_code
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.live import LiveLayer
from napari_metastructure.plugin.parts.matrix import MatrixTable
from napari_metastructure.plugin.parts.run_panel import RunPanel

__all__ = ["CorruptLabels"]

_ELSEWHERE = {"matrix", "fractions", "num_classes", "classes", "ignore_label"}
_FIELDS = tuple(name for name in NoiseSpec.model_fields if name not in _ELSEWHERE)
_MOST_CLASSES = 10  # of a matrix that fits into the dock
_MOST_ROWS = 33  # of one that is typed in
_ALL = "all"


class CorruptLabels(Dock):
    """Make a noisy copy of a labels layer.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.labels = self.choose_layer(
            "labels",
            "Labels",
            lambda layer: isinstance(layer, Labels),
            tooltip="The clean labels.",
            follows=lambda layer: made_by(layer) is None,
        )
        self.only_class = ComboBox(
            name="only_class",
            label="Class",
            choices=[_ALL],
            tooltip="Change only the pixels of this class.",
        )
        self.scope = ComboBox(
            name="scope",
            label="Planes",
            choices=["whole stack", "this plane"],
            tooltip="Which planes are corrupted; the others stay as they are.",
        )
        self.labels.changed.connect(self._on_layer)  # before the form, which shows a preview
        self.form = self.add(Form())
        self.form.add(self.labels).add_fields(NoiseSpec, _FIELDS).add(self.only_class, self.scope)
        self.form["seed"].value = "0"
        self.changed = self.add(note())
        self.matrix = self.add(MatrixTable())
        self.verdict = self.add(note())
        self.panel = self.add(RunPanel("Corrupt"))
        command = "corrupt LABELS -o noisy.ome.tif"
        self.again = self.add(SayAgain(self, self.python, self.spec, command))

        self._preview = LiveLayer(self.viewer, "labels", "corruption preview")
        self._hidden: Any = None
        self._fresh = True  # nothing was made with these settings yet
        self._classes: list[int] = []
        self._names, self._meant = [0, 1], np.eye(2)
        self._timer = QTimer(self, interval=150, singleShot=True)
        self._timer.timeout.connect(self._show_preview)
        self.form.changed.connect(self._on_form)
        self.matrix.changed.connect(self._on_form)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()
        self._on_layer()

    # ------------------------------------------------------------------ parameters

    def spec(self) -> Any:
        """The `NoiseSpec` that the form shows."""
        values = self.form.values()
        if self.form.is_shown("only_class") and self.only_class.value != _ALL:
            values["classes"] = (int(self.only_class.value),)
        if values["kind"] == "transition":
            values["matrix"] = self.matrix.matrix()
        return NoiseSpec(**values)

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._check()
        if not self._preview.shown:  # deleted by the user
            self._show_hidden()

    def _on_layer(self):
        layer = self.labels.value
        classes = [] if layer is None else _classes(layer.data)
        self.only_class.choices = [_ALL, *map(str, classes)]
        self._classes = classes
        self._forgetmatrix_and_verdict()
        self._show_fields()
        self._check()
        self._remove_preview()
        say(self.changed, None)

    def _on_form(self):
        self._fresh = True
        self._show_fields()
        if self._check():
            self._preview_later()
        else:
            say(self.verdict, None)

    def _show_fields(self):
        """Show the parameters of the chosen kind, and the choices that the layer asks for."""
        kind = self.form["kind"].value
        shown = {"labels", "kind", *PARAMETERS[kind]}
        if self.labels.value is not None and self.labels.value.ndim > 2:
            shown.add("scope")
        else:
            shown.discard("spatial_dims")
        if "classes" in PARAMETERS[kind] and len(self.only_class.choices) > 2:
            shown.add("only_class")
        self.form.show_only(shown)
        self._names = row_values(self._classes, typed=kind == "transition")
        if kind == "transition" and len(self._names) <= _MOST_ROWS:
            if not self.matrix.editable:
                self._edit_matrix()
        elif kind == "transition" or self.matrix.editable:
            self._forgetmatrix_and_verdict()

    def _edit_matrix(self):
        """Let the matrix be typed in, beginning with that of the noise shown before."""
        size = len(self._names)
        matrix = 0.8 * np.eye(size)  # a fifth of each class is missed
        matrix[:, 0] += 0.2
        if self.matrix.rowCount() == size and np.isfinite(self._meant).all():
            matrix = np.round(self._meant, 2)
            matrix += np.diag(1 - matrix.sum(1))
        self.matrix.show_matrix(matrix, self._names, editable=True)

    def _forgetmatrix_and_verdict(self):
        self.matrix.reshape([], [])
        self.matrix.editable = False
        self.matrix.hide()
        say(self.verdict, None)

    def problem(self) -> str | None:
        """Why nothing can be run; None if it can."""
        layer = self.labels.value
        if layer is None:
            return self.no_labels("Add a Labels layer to corrupt.")
        if layer.multiscale:
            return "Multiscale labels cannot be corrupted; use one of their levels."
        if self.form["kind"].value == "transition" and not self.matrix.editable:
            return (
                f"{layer.name} has labels up to {self._names[-1]}; a matrix has a row for each "
                f"value, and at most {_MOST_ROWS}. Number the classes anew, or choose another kind."
            )
        return _matrix_problem(self.matrix.matrix()) if self.matrix.editable else None

    def _check(self):
        """Say why nothing can be run, if so."""
        problem = self.problem()
        self.panel.set_problem(problem)
        return problem is None

    def python(self) -> list[str]:
        """The next run as Python code."""
        layer, spec = self.labels.value, self.spec()
        lines = [
            "from napari_metastructure.plugin.layers import place",
            f"labels = {layer_code(layer)}",
            as_call("noisy = nms.corrupt", "labels.data", f"nms.{config_code(spec)}"),
        ]
        if self.form.is_shown("scope") and self.scope.value == "this plane":
            index = plane_index(layer, self.viewer)
            lines += [f"corrupted, noisy = noisy[{index}], labels.data.copy()"]
            lines += [f"noisy[{index}] = corrupted"]
        name = f"{layer.name} {spec.summary()}"
        return [*lines, as_call("viewer.add_labels", "noisy", f"name={name!r}", "**place(labels)")]

    # ------------------------------------------------------------------ preview

    def _preview_later(self):
        if self.in_front and not self.panel.running:
            self._timer.start()

    def _follow_plane(self, event=None):
        if self._preview.shown:
            self._preview_later()

    def _show_preview(self):
        layer = self.labels.value
        if self.panel.running or not self.in_front or not self._check():
            return
        if layer is self._preview.layer:
            return
        index = plane_index(layer, self.viewer)
        clean = np.asarray(layer.data[index])
        if clean.size > LARGEST_PREVIEW:
            say(self.changed, "The plane is too large for a live preview.")
            return
        try:
            noisy = on_plane(layer.data, index, self.spec())
        except ValueError as error:
            say(self.changed, self.in_words(error))
            return
        say(self.changed, f"Preview: {_share_changed(clean, noisy)} of the plane's pixels changed.")
        is_new = not self._preview.shown
        self._preview.draw(noisy, place_plane(layer, index))
        if is_new and layer.visible:
            self._hidden, layer.visible = layer, False
        self._showmatrix_and_verdict(clean, noisy)

    def _showmatrix_and_verdict(self, clean, noisy):
        """Show the transition matrix, and say what a network can still learn."""
        found = matrix_and_verdict(self.spec(), clean, noisy, self._names)
        if found is None:
            if not self.matrix.editable:
                self._forgetmatrix_and_verdict()
            return
        self._meant, verdict, source = found
        if not self.matrix.editable and len(self._names) <= _MOST_CLASSES:
            self.matrix.show_matrix(self._meant, self._names)
        rank = f"Rank {verdict.rank} of {verdict.num_classes}"
        say(self.verdict, f"{verdict} {rank}; transition matrix {source}.")

    def _remove_preview(self):
        self._timer.stop()
        self._preview.remove()
        self._show_hidden()

    def _show_hidden(self):
        """Show the labels again in place of which the preview was seen."""
        if self._hidden is not None:
            self._hidden.visible = True
        self._hidden = None

    def hideEvent(self, event: Any) -> None:
        """Take the preview away when the dock is hidden."""
        super().hideEvent(event)
        self._remove_preview()

    def uncovered(self) -> None:
        """Show the preview, unless its settings gave the last result."""
        if self._fresh and not self.panel.running:
            self._timer.start()

    def covered(self) -> None:
        """Take the preview away with its tab."""
        self._remove_preview()

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()
        self._remove_preview()

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Corrupt the labels in the background; the result is a new layer."""
        layer, spec = self.labels.value, self.spec()
        index = plane_index(layer, self.viewer) if self.scope.value == "this plane" else None
        if spec.seed is None and "seed" in PARAMETERS[spec.kind]:
            spec = spec.model_copy(update={"seed": int(np.random.default_rng().integers(2**31))})
        self._pending = {
            "spec": spec,
            "source": layer.name,
            "whole": index is None,
            "before": noise_of(layer) or [],
            "place": place(layer),
            "layer": layer,
        }
        self._remove_preview()
        data = snapshot(layer)
        self.panel.start(Job(lambda job: corrupting(job, data, spec, index)), "Corruption")

    def _on_event(self, event):
        if not isinstance(event, Result) or event.stopped:
            return
        self._fresh = False
        noisy, share = event.value
        pending, spec = self._pending, self._pending["spec"]
        record = {
            "operation": "corrupt",
            "source": pending["source"],
            "noise": [*pending["before"], spec.model_dump(mode="json")],
            "whole": pending["whole"],
            "changed": share,
            "digest": digest(noisy),
        }
        self.viewer.add_labels(
            noisy,
            name=f"{pending['source']} {spec.summary()}",
            metadata={RECORD: record},
            **pending["place"],
        )
        pending["layer"].visible = False
        say(self.changed, f"{100 * share:.1f} % of the pixels changed.")


def _classes(data):
    """Foreground classes of a labels array, few enough to choose from."""
    values = np.unique(np.asarray(data)) if data.size <= 2**27 else np.array([1])
    values = values[values > 0]
    return values.tolist() if len(values) <= 32 else []


def _matrix_problem(matrix):
    try:
        check_matrix(matrix)
    except ValueError as error:
        return str(error)
    return None


def _share_changed(clean, noisy):
    return f"{100 * np.count_nonzero(clean != noisy) / max(clean.size, 1):.1f} %"
