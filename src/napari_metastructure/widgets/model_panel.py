"""A trained model in the window: save it, load it, apply it, move its threshold."""

from pathlib import Path

import numpy as np
from magicgui.widgets import CheckBox, ComboBox, FloatSlider
from napari.layers import Image, Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QVBoxLayout, QWidget

from napari_metastructure.events import Result
from napari_metastructure.layers import RECORD, place, place_plane, plane_index, snapshot
from napari_metastructure.widgets.dock import note, say, section
from napari_metastructure.widgets.form import Form
from napari_metastructure.widgets.live import PROBABILITY
from napari_metastructure.widgets.run_panel import notify_error

__all__ = ["ModelPanel", "is_grey", "is_labels"]

_STACK, _PLANE = "whole stack", "this plane"
_FILES = "Models (*.safetensors)"


class ModelPanel(QWidget):
    """What can be done with the model of a dock.

    Parameters
    ----------
    dock : Dock
        Its layer choices and viewer are used.
    panel : RunPanel
        Predictions run in it.
    predict_after : bool
        Offer to predict when a training is done.
    """

    def __init__(self, dock, panel, *, predict_after=True):
        super().__init__()
        self.viewer, self.panel = dock.viewer, panel
        self.model = self.name = None
        self.results = None  # (probability layer, labels layer) last made
        self.note = note()
        self.save_button = QPushButton("Save model …")
        self.load_button = QPushButton("Load model …")
        self.predict_button = QPushButton("Predict")
        self.target = dock.choose_layer("target", "Image", is_grey)
        self.scope = ComboBox(name="scope", label="Planes", choices=[_STACK, _PLANE])
        self.threshold = FloatSlider(
            name="threshold",
            label="Threshold",
            min=0,
            max=1,
            step=0.005,
            tooltip="Moves the last result's mask at once.",
        )
        self.form = Form().add(self.target, self.scope, self.threshold)
        if predict_after:
            self.predict_after = CheckBox(
                name="predict_after", label="Predict when the training is done", value=True
            )
            self.form.add(self.predict_after)
        buttons = QHBoxLayout()
        buttons.addWidget(self.save_button)
        buttons.addWidget(self.load_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.note)
        layout.addLayout(buttons)
        layout.addWidget(section("Apply the model", self.form, self.predict_button, expanded=True))

        self.save_button.clicked.connect(self._ask_and_save)
        self.load_button.clicked.connect(self._ask_and_load)
        self.predict_button.clicked.connect(self.predict)
        self._timer = QTimer(self, interval=30, singleShot=True)
        self._timer.timeout.connect(self._apply_threshold)
        self.threshold.changed.connect(self._threshold_moved)
        panel.yielded.connect(self._on_event)
        panel.finished.connect(self.refresh)
        self.refresh()

    # ------------------------------------------------------------------ the model

    def take(self, model, name):
        """Hold a model under a name."""
        self.model, self.name, self.results = model, name, None
        self.refresh()

    def refresh(self):
        """Say what there is, and enable what can be done."""
        model = self.model
        self.save_button.setEnabled(model is not None)
        self.predict_button.setEnabled(model is not None and not self.panel.running)
        binary = model is not None and len(model.classes) == 2
        self.threshold.enabled = binary and self.results is not None
        if model is None:
            say(self.note, "No model yet: run, or load one.")
            return
        text = f"Model: {self.name}."
        if binary:
            text += f" Threshold {model.threshold:.3f}: {model.threshold_source}."
            text += " Its output is inverted." if model.inverted else ""
        say(self.note, text)

    def save(self, path):
        """Write the model to a file."""
        try:
            self.model.save(path)
        except OSError as error:
            notify_error(f"The model could not be saved: {error}")

    def load(self, path):
        """Take a model from a file in place of the present one."""
        from napari_metastructure.model import load_model

        try:
            self.take(load_model(path), Path(path).stem)
        except (OSError, ValueError) as error:
            notify_error(error)

    def _ask_and_save(self):
        path, _ = QFileDialog.getSaveFileName(self, "Save model", "model.safetensors", _FILES)
        if path:
            self.save(Path(path).with_suffix(".safetensors"))

    def _ask_and_load(self):
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", _FILES)
        if path:
            self.load(path)

    # ------------------------------------------------------------------ prediction

    def predict(self, image=None):
        """Apply the model to a layer in the background; gives a map and a mask as new layers."""
        from napari_metastructure.prediction import predict

        image = image if isinstance(image, Image) else self.target.value
        if image is None:
            notify_error("Choose an image to predict on.")
            return
        data, placed = snapshot(image), place(image)
        if self.scope.value == _PLANE:
            index = plane_index(image, self.viewer, self.model.spatial_dims)
            data = np.asarray(data[index])[(np.newaxis,) * len(index)]
            placed = place_plane(image, index)
        self._applied_to = image.name, placed
        self.panel.start(predict(self.model, data), "Prediction")
        self.refresh()

    def _on_event(self, event):
        if isinstance(event, Result) and isinstance(event.value, np.ndarray):
            self.show_result(*self._applied_to, event.value)

    def show_result(self, image_name, placed, probabilities, labels=None):
        """Add the probabilities, hidden, and the labels as layers; returns the labels layer."""
        labels = self.model.decide(probabilities) if labels is None else labels
        metadata = {RECORD: {**self.model.record, "applied_to": image_name, "model": self.name}}
        maps = {"probability": probabilities}
        if probabilities.ndim > labels.ndim:
            names = [f"probability of {label}" for label in self.model.classes]
            maps = dict(list(zip(names, probabilities))[1:])
        for kind, data in maps.items():
            probability = self.viewer.add_image(
                data,
                name=f"{image_name} {kind} ({self.name})",
                metadata=metadata,
                visible=False,
                **PROBABILITY,
                **placed,
            )
        mask = self.viewer.add_labels(
            labels, name=f"{image_name} segmentation ({self.name})", metadata=metadata, **placed
        )
        self.results = None
        self.threshold.value = self.model.threshold
        self.results = probability, mask
        self.refresh()
        return mask

    def _threshold_moved(self):
        self._timer.start()

    def _apply_threshold(self):
        """Draw the last mask again at the slider's threshold."""
        if self.results is None or len(self.model.classes) != 2:
            return
        probability, mask = self.results
        mask.data = self.model.decide(np.asarray(probability.data), self.threshold.value)
        record = {**mask.metadata[RECORD], "threshold": self.threshold.value}
        record["threshold_source"] = "set by hand"
        mask.metadata = {**mask.metadata, RECORD: record}


def is_grey(layer):
    """Whether a layer can be an input: an image with one value per pixel."""
    return isinstance(layer, Image) and not layer.rgb and not layer.multiscale


def is_labels(layer):
    """Whether a layer can hold annotations."""
    return isinstance(layer, Labels) and not layer.multiscale
