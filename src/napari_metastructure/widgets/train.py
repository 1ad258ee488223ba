"""Dock widget: train a segmentation network on a labels layer, then apply and score it."""

from pathlib import Path

import numpy as np
from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Image, Labels
from napari.qt.threading import create_worker
from qtpy.QtWidgets import QFileDialog, QHBoxLayout, QPushButton, QWidget

from napari_metastructure.configs import TrainingConfig
from napari_metastructure.events import Done, Job, Preview, Progress, Result, Step, Validated
from napari_metastructure.layers import (
    RECORD,
    noise_of,
    place,
    place_plane,
    plane_index,
    snapshot,
)
from napari_metastructure.metrics import evaluate
from napari_metastructure.widgets.dock import Dock, note, say, section
from napari_metastructure.widgets.form import Form
from napari_metastructure.widgets.run_panel import Curves, RunPanel, notify_error

__all__ = ["TrainSegmentation"]

_BASIC = ("network", "loss", "epochs", "device", "seed")
_ADVANCED = (
    "channels",
    "depth",
    "spatial_dims",
    "patch_size",
    "batch_size",
    "learning_rate",
    "validation_fraction",
    "ignore_label",
)
_STACK, _PLANE = "whole stack", "this plane"
_FILES = "Models (*.safetensors)"
_PROBABILITY = {"colormap": "magma", "contrast_limits": (0, 1)}
_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "Accuracy",
    "auc": "AUC",
    "threshold": "Best threshold",
}


class TrainSegmentation(Dock):
    """Train on one or more pairs of image and labels, watch it, predict, score, save.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer):
        super().__init__(napari_viewer)
        self.model = None
        self._run = None
        self._preview_layer = None
        self._build_inputs()
        self._build_run()
        self._build_model()
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()
        self._refresh_model()

    # ------------------------------------------------------------------ layout

    def _build_inputs(self):
        self.image = self.choose_layer("image", "Image", _is_grey, tooltip="What the network sees.")
        self.labels = self.choose_layer(
            "labels", "Labels", _is_labels, tooltip="What it learns; noisy labels are welcome."
        )
        self.clean_labels = self.choose_layer(
            "clean_labels",
            "Clean labels",
            _is_labels,
            optional=True,
            tooltip="Optional: trusted labels of the same image, for validation only; "
            "only the held-back part is looked at.",
        )
        self.inputs = self.add(Form().add(self.image, self.labels, self.clean_labels))
        self.pairs = []
        self.more = self.add(QPushButton("Add another image"))
        self.more.setToolTip("Train on several image layers at once.")
        self.more.clicked.connect(self.add_pair)
        self.form = self.add(Form().add_fields(TrainingConfig, _BASIC))
        self.advanced = Form().add_fields(TrainingConfig, _ADVANCED)
        self.add(section("More settings", self.advanced))
        for form in (self.inputs, self.form, self.advanced):
            form.changed.connect(self._check)

    def _build_run(self):
        self.panel = self.add(RunPanel("Train"))
        self.curves = Curves({"loss": ["training"], "held-back part": ["Dice", "AUC"]})
        self.curves.hide()
        self.add(self.curves)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._on_finished)

    def _build_model(self):
        self.model_note = self.add(note())
        buttons, row = QWidget(), QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        buttons.setLayout(row)
        self.save_button, self.load_button = (
            QPushButton("Save model …"),
            QPushButton("Load model …"),
        )
        for button in (self.save_button, self.load_button):
            row.addWidget(button)
        self.save_button.clicked.connect(self._ask_and_save)
        self.load_button.clicked.connect(self._ask_and_load)
        self.add(buttons)

        self.target = self.choose_layer("target", "Image", _is_grey)
        self.scope = ComboBox(name="scope", label="Planes", choices=[_STACK, _PLANE])
        self.predict_after = CheckBox(
            name="predict_after",
            label="",
            text="Predict when the training is done",
            value=True,
        )
        self.predict_button = QPushButton("Predict")
        self.predict_button.clicked.connect(self.predict)
        self.result = self.choose_layer(
            "result", "Result", _is_result, tooltip="Probabilities or labels to be scored."
        )
        self.reference = self.choose_layer(
            "reference", "Reference", _is_labels, tooltip="The true labels."
        )
        self.score_button = QPushButton("Score")
        self.score_button.clicked.connect(self.score)
        self.score_note = note()
        self.add(
            section(
                "Predict",
                Form().add(self.target, self.scope, self.predict_after),
                self.predict_button,
                expanded=True,
            )
        )
        self.add(
            section(
                "Score",
                Form().add(self.result, self.reference),
                self.score_button,
                self.score_note,
                expanded=True,
            )
        )

    def add_pair(self):
        """Offer one more image and labels to train on."""
        number = len(self.pairs) + 2
        pair = (
            self.choose_layer(f"image_{number}", f"Image {number}", _is_grey, optional=True),
            self.choose_layer(f"labels_{number}", f"Labels {number}", _is_labels, optional=True),
        )
        self.pairs.append(pair)
        self.inputs.add(*pair)
        self._check()

    # ------------------------------------------------------------------ inputs

    def config(self):
        """The `TrainingConfig` that the form shows."""
        return TrainingConfig(**self.form.values(), **self.advanced.values())

    def chosen_pairs(self):
        """(image layer, labels layer) of every row that is filled in."""
        rows = [(self.image, self.labels), *self.pairs]
        pairs = [(image.value, labels.value) for image, labels in rows]
        return [pair for pair in pairs if pair != (None, None)]

    def reset_choices(self, event=None):
        super().reset_choices(event)
        self._check()

    def problem(self):
        """Why the training cannot start; None if it can."""
        pairs = self.chosen_pairs()
        if not pairs or None in pairs[0]:
            return "Add an Image layer and a Labels layer to train on."
        for image, labels in pairs:
            if image is None or labels is None:
                return "Choose both an image and its labels in every row."
            if image.data.shape != labels.data.shape:
                return (
                    f"{image.name} has shape {image.data.shape} but {labels.name} has "
                    f"{labels.data.shape}; choose labels that belong to the image."
                )
        clean = self.clean_labels.value
        if clean is not None and len(pairs) > 1:
            return "Clean labels work with a single image; leave them empty for several."
        if clean is not None and clean.data.shape != pairs[0][0].data.shape:
            return f"{clean.name} does not have the image's shape; choose other clean labels."
        try:
            self.config()
        except ValueError as error:
            return str(error)
        return None

    def _check(self):
        self.panel.set_problem(self.problem())

    # ------------------------------------------------------------------ training

    def run(self):
        """Train in the background."""
        pairs, config = self.chosen_pairs(), self.config()
        clean = self.clean_labels.value
        noises = [noise_of(labels) for _, labels in pairs]
        arguments = {
            "images": [snapshot(image) for image, _ in pairs],
            "labels": [snapshot(labels) for _, labels in pairs],
            "config": config,
            "validation_labels": None if clean is None else [snapshot(clean)],
            "noise": noises[0] if all(noise == noises[0] for noise in noises) else None,
        }
        job = Job(lambda job: _training(job, arguments))
        self._run = _Run(job, *pairs[0], config.spatial_dims)
        self._follow_plane()
        self.curves.clear_points()
        self.curves.show()
        self.panel.start(job, "Training")

    def _follow_plane(self, event=None):
        """Preview the plane that is shown now."""
        if self._run is not None:
            self._run.show_plane(self.viewer)

    def _on_event(self, event):
        if isinstance(event, Step):
            self.curves.add_point("training", event.step, event.loss)
        elif isinstance(event, Validated):
            self.curves.add_point("Dice", event.step, event.dice)
            self.curves.add_point("AUC", event.step, event.auc)
        elif isinstance(event, Preview):
            self._show_preview(event)
        elif isinstance(event, Done):
            self._take_model(event.model, self._run.labels_name)
        elif isinstance(event, Result) and not event.stopped:
            self._show_prediction(event.value)

    def _show_preview(self, event):
        if event.image is not self._run.plane:  # the slider has moved on
            return
        data = _object_probability(event.probability, event.image.ndim)
        data = data.reshape((1,) * (len(self._run.place["scale"]) - data.ndim) + data.shape)
        if self._preview_layer in self.viewer.layers:
            self._preview_layer.data = data
            self._preview_layer.translate = self._run.place["translate"]
            return
        active = self.viewer.layers.selection.active
        self._preview_layer = self.viewer.add_image(
            data, name="training preview", **_PROBABILITY, **self._run.place
        )
        self.viewer.layers.selection.active = active

    def _on_finished(self):
        if self._preview_layer in self.viewer.layers:
            self.viewer.layers.remove(self._preview_layer)
        self._preview_layer = None
        finished, self._run = self._run, None
        self._check()
        self._refresh_model()
        if finished is not None and finished.done and self.predict_after.value:
            finished.labels.visible = False
            self.predict(finished.image)

    def closed(self):
        self.panel.abandon()

    # ------------------------------------------------------------------ model

    def _take_model(self, model, name):
        if self._run is not None:
            self._run.done = True
        self.model, self._model_name = model, name
        self._refresh_model()

    def _refresh_model(self):
        model = self.model
        self.save_button.setEnabled(model is not None)
        self.predict_button.setEnabled(model is not None and not self.panel.running)
        if model is None:
            say(self.model_note, "No model yet: train one, or load one.")
            return
        text = f"Model: {self._model_name}."
        if len(model.classes) == 2:
            text += f" Threshold {model.threshold:.3f}: {model.threshold_source}."
            text += " Its output is inverted." if model.inverted else ""
        say(self.model_note, text)

    def save_model(self, path):
        """Write the model to a file."""
        try:
            self.model.save(path)
        except OSError as error:
            notify_error(f"The model could not be saved: {error}")

    def load_model(self, path):
        """Take a model from a file in place of the present one."""
        from napari_metastructure.model import load_model

        try:
            self._take_model(load_model(path, self.form["device"].value), Path(path).stem)
        except (OSError, ValueError) as error:
            notify_error(error)

    def _ask_and_save(self):
        path, _ = QFileDialog.getSaveFileName(self, "Save model", "model.safetensors", _FILES)
        if path:
            self.save_model(Path(path).with_suffix(".safetensors"))

    def _ask_and_load(self):
        path, _ = QFileDialog.getOpenFileName(self, "Load model", "", _FILES)
        if path:
            self.load_model(path)

    # ------------------------------------------------------------------ prediction

    def predict(self, image=None):
        """Apply the model to a layer in the background; gives two new layers."""
        from napari_metastructure.prediction import predict

        image = image if isinstance(image, Image) else self.target.value
        if image is None or self.model is None or self.panel.running:
            return
        data, placed = snapshot(image), place(image)
        if self.scope.value == _PLANE:
            index = plane_index(image, self.viewer, self.model.spatial_dims)
            data = np.asarray(data[index])[(np.newaxis,) * len(index)]
            placed = place_plane(image, index)
        self._predicted = image.name, placed
        self.panel.start(predict(self.model, data), "Prediction")
        self._refresh_model()

    def _show_prediction(self, probabilities):
        name, placed = self._predicted
        labels = self.model.decide(probabilities)
        metadata = {RECORD: {**self.model.record, "applied_to": name, "model": self._model_name}}
        maps = {"probability": probabilities}
        if probabilities.ndim > labels.ndim:
            maps = {f"probability of {c}": p for c, p in zip(self.model.classes, probabilities)}
        for kind, data in list(maps.items())[-1:] if len(maps) == 1 else list(maps.items())[1:]:
            layer = self.viewer.add_image(
                data,
                name=f"{name} {kind} ({self._model_name})",
                metadata=metadata,
                visible=False,
                **_PROBABILITY,
                **placed,
            )
        segmentation = self.viewer.add_labels(
            labels,
            name=f"{name} segmentation ({self._model_name})",
            metadata=metadata,
            **placed,
        )
        self.result.value = layer if len(maps) == 1 else segmentation

    # ------------------------------------------------------------------ score

    def score(self):
        """Compare the result layer with the reference layer."""
        result, reference = self.result.value, self.reference.value
        if result is None or reference is None:
            notify_error("Choose a result layer and a reference layer to compare.")
            return
        worker = create_worker(
            evaluate, snapshot(reference), np.asarray(result.data), _ignore_errors=True
        )
        worker.returned.connect(self._show_scores)
        self.score_button.setEnabled(False)
        worker.finished.connect(lambda: self.score_button.setEnabled(True))
        worker.start()

    def _show_scores(self, scores):
        self.scores = scores
        parts = [f"{_TITLES[name]} {scores[name]:.3f}" for name in _TITLES if _known(scores[name])]
        for label, values in scores.get("per_class", {}).items():
            parts.append(f"class {label}: Dice {values['dice']:.3f}, IoU {values['iou']:.3f}")
        say(self.score_note, "\n".join(parts))


def _training(job, arguments):
    """`train`, imported in the worker's thread, since torch takes its time."""
    yield Progress("starting", 0, 1)
    from napari_metastructure.training import train

    inner = train(**arguments)
    inner.preview = job.preview
    for event in inner:
        yield event
        inner.preview = job.preview
        if job.stopping:
            inner.stop()


class _Run:
    """What a running training was started on, and the plane that it previews."""

    def __init__(self, job, image, labels, spatial_dims):
        self.job, self.image, self.labels = job, image, labels
        self.labels_name = labels.name
        self.spatial_dims = spatial_dims
        self.done = False

    def show_plane(self, viewer):
        index = plane_index(self.image, viewer, self.spatial_dims)
        self.plane = np.array(self.image.data[index])
        self.place = place_plane(self.image, index)
        self.job.preview = self.plane


def _is_grey(layer):
    return isinstance(layer, Image) and not layer.rgb and not layer.multiscale


def _is_labels(layer):
    return isinstance(layer, Labels) and not layer.multiscale


def _is_result(layer):
    return _is_labels(layer) or (_is_grey(layer) and layer.data.dtype.kind == "f")


def _object_probability(probability, ndim):
    """One map: of the object, or for several classes of anything but background."""
    return 1 - probability[0] if probability.ndim > ndim else probability


def _known(value):
    return value == value
