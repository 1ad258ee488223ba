"""A trained model in the window: save it, load it, apply it, move its threshold."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from magicgui.types import FileDialogMode
from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Image, Labels, Layer
from napari.utils.notifications import show_info
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import (
    QFileDialog,
    QHBoxLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from napari_metastructure.files.outputs import with_ending
from napari_metastructure.files.results import MODEL
from napari_metastructure.jobs.events import Result
from napari_metastructure.jobs.job import Job, events_within
from napari_metastructure.plugin.layers import RECORD, Source, hide_results, labels_of, made_by
from napari_metastructure.plugin.parts.corrections import Corrections
from napari_metastructure.plugin.parts.dock import Dock, note, say, section
from napari_metastructure.plugin.parts.form import Form, device_default
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.live import PROBABILITY
from napari_metastructure.plugin.parts.path_edit import PathEdit
from napari_metastructure.plugin.parts.run_panel import RunPanel, notify_error
from napari_metastructure.plugin.parts.save_dialog import ask_where
from napari_metastructure.plugin.parts.share_dialog import ShareDialog
from napari_metastructure.plugin.parts.streamed import Decided, Streamed, is_large
from napari_metastructure.plugin.parts.stroke_layer import STROKES
from napari_metastructure.plugin.parts.threshold_slider import ThresholdSlider, decimals
from napari_metastructure.plugin.preferences import preference
from napari_metastructure.words import counted

__all__ = [
    "ModelPanel",
    "annotation_of",
    "is_grey",
    "is_image",
    "is_labels",
    "is_trainable",
]

_STACK, _PLANE = "whole stack", "this plane"
_SMALLEST_TILE = 32  # pixels
_FILES = "Models (*.safetensors)"
_READABLE = "Models (*.safetensors *.zip)"
_PACKAGES = "Packages (*.bioimageio.zip)"


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

    Attributes
    ----------
    loaded : Signal
        A model was loaded from a file.
    """

    loaded = Signal()

    def __init__(self, dock: Dock, panel: RunPanel, *, predict_after: bool = True) -> None:
        super().__init__()
        self.viewer, self.panel = dock.viewer, panel
        self.model: Any = None
        self.name: str | None = None
        self.unsaved = False
        self.path: str | None = None  # the file that holds the model
        self.results: Any = None  # (probability layer, labels layer) last made
        self.corrections: Any = None  # what is painted on the last mask
        self.streamed = None  # the prediction that is being written to a file
        self._drawn_at: float | None = None  # the threshold that the mask shows
        self.note = note()
        self.save_button = QPushButton("Save model …")
        self.load_button = QPushButton("Load model …")
        self.share_button = QPushButton("Share …")
        self.share_button.setToolTip("Save the model as a package that other programs can run.")
        self.predict_button = QPushButton("Predict")
        self.target = dock.choose_layer("target", "Image", is_image)
        self.reading = InputForm(dock, "predicted", with_dimensions=False)
        self.scope = ComboBox(name="scope", label="Planes", choices=[_STACK, _PLANE])
        self.threshold = ThresholdSlider(
            name="threshold",
            label="Threshold",
            tooltip=(
                "Moves the outlines of the last result at once. What you painted on it is kept."
            ),
        )
        self.folder = PathEdit(
            name="folder",
            label="Write to",
            mode=FileDialogMode.EXISTING_DIRECTORY,
            nullable=True,
            value=preference("folders", "results"),
            tooltip="Folder for a result that may not fit in memory, written as OME-Zarr. Empty: "
            "a temporary folder.",
        )
        self.which = Form().add(self.target)
        self.form = Form().add(self.scope, self.folder, self.threshold)
        if predict_after:
            self.predict_after = CheckBox(
                name="predict_after", label="Predict when the training is done", value=True
            )
            self.form.add(self.predict_after)
        buttons = QHBoxLayout()
        buttons.addWidget(self.save_button)
        buttons.addWidget(self.load_button)
        buttons.addWidget(self.share_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.note)
        layout.addLayout(buttons)
        self.written = note()
        parts = (self.which, self.reading, self.form, self.predict_button, self.written)
        layout.addWidget(section("Apply the model", *parts, expanded=True))

        self.save_button.clicked.connect(self._ask_and_save)
        self.load_button.clicked.connect(self._ask_and_load)
        self.share_button.clicked.connect(self._ask_and_share)
        self.predict_button.clicked.connect(self.predict)
        self._timer = QTimer(self, interval=30, singleShot=True)
        self._timer.timeout.connect(self._apply_threshold)
        self.threshold.changed.connect(self._threshold_moved)
        self.which.changed.connect(self.read_target)
        panel.yielded.connect(self._on_event)
        panel.finished.connect(self._on_finished)
        self.refresh()

    # ------------------------------------------------------------------ the model

    def take(self, model: Any, name: str, *, unsaved: bool = True) -> None:
        """Hold a model under a name."""
        self.model, self.name, self.results = model, name, None
        self.unsaved, self.path = unsaved, None
        self.read_target()
        self.refresh()

    def read_target(self) -> None:
        """Read the image to predict on in the way of the model."""
        if self.model is not None:
            self.reading.spatial_dims = self.model.spatial_dims
        self.reading.show_layer(self.target.value)
        self.reading.suit(self.model)
        rows = {"scope", "threshold", "predict_after"}
        if self.target.value is not None and self._is_large(self.reading.source(self.target.value)):
            rows.add("folder")
        self.form.show_only(rows)

    def _is_large(self, source):
        classes = 2 if self.model is None else len(self.model.classes)
        return is_large(source.array, source.shape, classes)

    def _on_finished(self):
        if self.streamed is not None:
            say(self.written, f"Not finished; the partial result is in {self.streamed.path}")
            self.streamed = None
        self.refresh()

    def refresh(self) -> None:
        """Say what there is, and enable what can be done."""
        model = self.model
        self.save_button.setEnabled(model is not None)
        self.share_button.setEnabled(model is not None)
        self.predict_button.setEnabled(model is not None and not self.panel.running)
        binary = model is not None and len(model.classes) == 2
        self.threshold.enabled = binary and self.results is not None
        if model is None:
            say(self.note, "No model yet. Train or load one.")
            return
        text = f"Model: {self.name}."
        text += " The classifier of the strokes predicts." if model.by_classifier else ""
        if binary:
            threshold = f"{model.threshold:.{decimals(model.threshold)}f}"
            text += f" Threshold {threshold}: {model.threshold_source}."
            text += " Its output is inverted." if model.inverted else ""
        text += f" {model.caution}" if model.caution else ""
        estimate = (model.record or {}).get("noise_estimate") or {}
        say(self.note, f"{text} {estimate.get('text', '')}".rstrip())

    def save(self, path: str | Path) -> None:
        """Write the model to a file."""
        if not self.model.record.get("steps", 1) and not self.model.by_classifier:
            notify_error("The training was stopped before its first step; there is no model.")
            return
        try:
            self.model.save(path)
        except (OSError, ValueError) as error:
            notify_error(f"The model could not be saved: {error}")
        else:
            self.unsaved, self.path = False, str(path)

    def share(self, path: str | Path, **texts: Any) -> None:
        """Write the model as a package for bioimage.io, tested on the chosen image."""
        from napari_metastructure.learning.bioimageio_export import export_bioimageio

        source = self.reading.source(self.target.value)
        try:
            image = self._input(source)
            if self.model.channel_axis is not None:
                image = np.moveaxis(image, -self.model.spatial_dims - 1, self.model.channel_axis)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", UserWarning)
                path = export_bioimageio(self.model, path, image, **texts)
        except (OSError, ValueError, ImportError) as error:
            notify_error(f"The model could not be shared: {error}")
            return
        show_info(" ".join([f"Wrote {path}.", *(str(each.message) for each in caught)]))

    def kept(self) -> tuple[Any, ...] | None:
        """The model and the layers of its last result, to be brought back later."""
        if self.model is None:
            return None
        result = self.results, self.corrections, self.threshold.value
        return self.model, self.name, self.unsaved, self.path, *result

    def bring_back(self, kept: tuple[Any, ...]) -> None:
        """Hold the model again, and its last result as far as it is still there."""
        model, name, unsaved, path, results, corrections, threshold = kept
        self.take(model, name, unsaved=unsaved)
        self.path = path
        if results is not None and all(layer in self.viewer.layers for layer in results):
            self.threshold.value = self._drawn_at = threshold
            self.results, self.corrections = results, corrections
        self.refresh()

    def load(self, path: str | Path) -> None:
        """Take a model from a file in place of the present one."""
        from napari_metastructure.learning.loading import load_model

        try:
            name = Path(path).stem.removesuffix(".bioimageio")
            self.take(load_model(path, device_default()), name, unsaved=False)
        except (OSError, ValueError, ImportError) as error:
            notify_error(error)
            return
        self.path = str(path)
        self.loaded.emit()

    def _ask_and_save(self):
        begin = _in_folder("model.safetensors")
        path = ask_where(self, "Save model", begin, _FILES, lambda typed: with_ending(typed, MODEL))
        if path is not None:
            self.save(path)

    def _ask_and_share(self):
        from napari_metastructure.learning.bioimageio_export import package_path, require_spec

        if self.target.value is None:
            notify_error("Choose an image to test the shared model on.")
            return
        try:
            require_spec()
        except ImportError as error:
            notify_error(error)
            return
        dialog = ShareDialog(self, self.name or "", self.target.value.name)
        if not dialog.exec():
            return
        path = ask_where(self, "Share model", "model", _PACKAGES, package_path)
        if path is not None:
            self.share(path, **dialog.values())

    def _ask_and_load(self):
        path, _ = QFileDialog.getOpenFileName(self, "Load model", _in_folder(), _READABLE)
        if path:
            self.load(path)

    # ------------------------------------------------------------------ prediction

    def predict(self, image: Layer | None = None) -> None:
        """Apply the model to a layer in the background; gives a map and a mask as new layers."""
        from napari_metastructure.learning.prediction import predict

        source = image if isinstance(image, Source) else None
        if source is None and self.target.value is not None:
            source = self.reading.source(self.target.value)
        if source is None:
            notify_error("Choose an image to predict on.")
            return
        try:
            region = self.reading.region(source)
            data = self._input(source)
        except ValueError as error:
            notify_error(error)
            return
        index, placed = (), source.place()
        if self.scope.value == _PLANE:
            index = source.plane_index(self.viewer)
            placed = source.place_plane(index)
        one = (np.newaxis,) * len(index)
        data = np.asarray(data[index])[one] if index else data
        region = region[index][one] if index and region is not None else region
        if self.model.channel_axis is not None:
            data = np.moveaxis(data, -self.model.spatial_dims - 1, self.model.channel_axis)
        self._applied_to = source, placed
        if not index and self._is_large(source):
            try:
                self._stream(source)
            except (OSError, ValueError, ImportError) as error:
                notify_error(error)
                return
        out = None if self.streamed is None else self.streamed.out
        labels = out is not None and len(self.model.classes) > 2
        tile = preference("computing", "tile")
        tile = None if tile is None else max(tile, _SMALLEST_TILE)
        job = predict(self.model, data, region=region, out=out, labels=labels, tile=tile)
        if out is None:
            job = _with_labels(job, self.model)
        self.panel.start(job, "Prediction")
        self.refresh()

    def _stream(self, source):
        """Make the file that the prediction is written to, and its layers."""
        model, binary = self.model, len(self.model.classes) == 2
        self.results = None
        self.threshold.value = self._drawn_at = model.threshold
        self.streamed = Streamed(
            self.viewer,
            self.name,
            source,
            "float32" if binary else model.decide(np.zeros((len(model.classes), 1))).dtype,
            model=model if binary else None,
            record=model.record,
            folder=self.folder.value,
        )
        say(self.written, f"Written to {self.streamed.path}")
        if binary:
            self.results = tuple(self.streamed.layers)

    def _input(self, source):
        """The image's array, channels just before the spatial axes, if it fits the model."""
        layout, wanted = source.layout, self.model.in_channels
        found = layout.num_channels if layout.input_axis is not None else 1
        if (self.model.channel_axis is None) != (layout.input_axis is None) or found != wanted:
            raise ValueError(
                f"The model needs {counted(wanted, 'channel')} but {source.name} is "
                f"read with {found}; choose its channel axis and channels to match."
            )
        if len(layout.label_shape) < self.model.spatial_dims:
            raise ValueError(f"The model needs volumes, but {source.name} is a single plane.")
        return source.canonical

    def _on_event(self, event):
        if self.streamed is not None:
            if self.streamed.on_event(event):
                self.streamed = None
        elif isinstance(event, Result) and isinstance(event.value, _Prediction):
            source, placed = self._applied_to
            probabilities, labels = map(source.shaped, event.value)
            self.panel.in_turns(self.showing(source.name, placed, probabilities, labels))

    def showing(
        self, image_name: str, placed: dict, probabilities: Any, labels: Any
    ) -> Iterator[None]:
        """Add the probabilities, hidden, and the labels as layers; a step for each."""
        added = []
        for layer in self.add_probabilities(image_name, placed, probabilities):
            added.append(layer)
            yield
        self.add_mask(image_name, placed, added, labels)

    def add_probabilities(
        self, image_name: str, placed: dict, probabilities: Any
    ) -> Iterator[Layer]:
        """Add the probabilities as hidden layers, of more than two classes one for each but the
        background; yields them as they come.
        """
        maps = {"probability": probabilities}
        if len(self.model.classes) > 2:
            names = [f"probability of {label}" for label in self.model.classes]
            maps = dict(list(zip(names, probabilities))[1:])
        for kind, data in maps.items():
            yield self.viewer.add_image(
                data,
                name=f"{image_name} {kind} ({self.name})",
                metadata=self._metadata(image_name),
                visible=False,
                **PROBABILITY,
                **placed,
            )

    def _metadata(self, image_name):
        return {RECORD: {**self.model.record, "applied_to": image_name, "model": self.name}}

    def add_mask(self, image_name: str, placed: dict, probabilities: list, labels: Any) -> Layer:
        """Add the labels that belong to layers of probabilities; hides earlier results."""
        hide_results(self.viewer, image_name, placed, labels.shape)
        mask = self.viewer.add_labels(
            labels,
            name=f"{image_name} segmentation ({self.name})",
            metadata=self._metadata(image_name),
            **placed,
        )
        self.results = None
        self.threshold.value = self._drawn_at = self.model.threshold
        self.results = probabilities[-1], mask
        self.corrections = Corrections(mask)
        self.refresh()
        return mask

    def _threshold_moved(self):
        self._timer.start()

    def _apply_threshold(self):
        """Draw the last mask again at the slider's threshold."""
        if self.results is None or len(self.model.classes) != 2:
            return
        if self.threshold.shows(self._drawn_at):
            return
        self._drawn_at = self.threshold.value
        probability, mask = self.results
        if isinstance(mask.data, Decided):
            mask.data = Decided(self.model, probability.data, self.threshold.value)
        else:
            self.corrections.show(
                self.model.decide(np.asarray(probability.data), self.threshold.value)
            )
        record = {**mask.metadata[RECORD], "threshold": self.threshold.value}
        record["threshold_source"] = "set by hand"
        mask.metadata = {**mask.metadata, RECORD: record}


class _Prediction(NamedTuple):
    """Arrays of the layers to come."""

    probabilities: np.ndarray
    labels: np.ndarray


def _with_labels(job, model):
    """A prediction that gives the labels too: deciding on a stack takes its time."""

    def work(outer):
        for event in events_within(outer, job):
            if isinstance(event, Result) and event.value is not None:
                value = _Prediction(event.value, model.decide(event.value))
                event = Result(value, event.stopped)
            yield event

    return Job(work)


def _in_folder(name: str = "") -> str:
    """Where the dialog for a model begins."""
    folder = preference("folders", "models")
    return str(Path(folder).expanduser() / name) if folder else name


def is_grey(layer: Layer) -> bool:
    """Whether a layer is an image with one value per pixel."""
    return isinstance(layer, Image) and not layer.rgb and not layer.multiscale


def is_image(layer: Layer) -> bool:
    """Whether a layer can be an input: an image of grey values or colours, no result of ours."""
    return isinstance(layer, Image) and RECORD not in layer.metadata


def annotation_of(image: ComboBox, labels: ComboBox) -> Layer | None:
    """Of the layers in a box of labels, the annotation of the image in another; no prediction."""
    annotations = [layer for layer in labels.choices if is_trainable(layer)]
    return labels_of(image.value, annotations, labels.value)


def is_trainable(layer: Layer) -> bool:
    """Whether labels may be annotated: by hand, or made noisy or corrected; no prediction."""
    return is_labels(layer) and made_by(layer) in (None, "corrupt", "corrections", STROKES)


def is_labels(layer: Layer) -> bool:
    """Whether a layer can hold annotations."""
    return isinstance(layer, Labels)
