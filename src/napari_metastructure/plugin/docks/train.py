"""Dock widget: train a segmentation network on a labels layer, then apply and score it."""

import shlex
from collections.abc import Collection
from typing import Any

import numpy as np
from napari.qt.threading import create_worker
from napari.utils.notifications import show_info
from napari.viewer import Viewer
from qtpy.QtWidgets import QPushButton

from napari_metastructure.jobs.events import Done, Preview, Step, Validated
from napari_metastructure.labels.metrics import evaluate
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.smp_networks import is_smp, missing_library
from napari_metastructure.plugin.layers import (
    RECORD,
    is_shapes,
    lines_problem,
    noise_of,
    place,
    recorded_noise,
    reference_of,
    snapshot,
)
from napari_metastructure.plugin.parts.again import (
    SayAgain,
    as_call,
    config_code,
    layer_code,
    region_code,
    source_code,
)
from napari_metastructure.plugin.parts.corrections import certain_labels
from napari_metastructure.plugin.parts.dock import Dock, note, say, section
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.interrupted import Interrupted
from napari_metastructure.plugin.parts.live import PROBABILITY, LiveLayer, Watched
from napari_metastructure.plugin.parts.model_panel import (
    ModelPanel,
    annotation_of,
    is_grey,
    is_image,
    is_labels,
    is_trainable,
)
from napari_metastructure.plugin.parts.run_panel import Curves, RunPanel, late_job, notify_error
from napari_metastructure.plugin.parts.start_from import StartFrom
from napari_metastructure.plugin.parts.stated_noise import StatedNoise
from napari_metastructure.plugin.parts.stroke_layer import STROKES, share_of_zeros
from napari_metastructure.words import counted

__all__ = ["TrainSegmentation"]

_BASIC = ("network", "loss", "epochs", "as_mask", "unannotated", "device", "seed")
_ALWAYS = {name for name in _BASIC if name != "unannotated"}
_ADVANCED = (
    "augmentation",
    "class_weights",
    "pretrained",
    "channels",
    "depth",
    "patch_size",
    "batch_size",
    "min_steps",
    "learning_rate",
    "validation_fraction",
    "ignore_label",
)
_NETWORK = {"network", "pretrained", "channels", "depth"}
_LOOKED_AT_AGAIN = 2**22  # pixels of labels that may have been painted on meanwhile
_TITLES = {
    "dice": "Dice",
    "iou": "IoU",
    "accuracy": "Accuracy",
    "auc": "AUC",
}


class TrainSegmentation(Dock):
    """Train on one or more pairs of image and labels, watch it, predict, score, save.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._watched: Watched | None = None
        self._trained_on: tuple | None = None
        self._finished_model: Any = None
        self._complete = False  # whether the training came to its end
        self._asked_about: Any = None  # the labels layer that the question is about
        self._may_be_strokes = False
        self._preview = LiveLayer(self.viewer, "image", "training preview", **PROBABILITY)
        self._build_inputs()
        self._build_run()
        self._build_score()
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()

    # ------------------------------------------------------------------ layout

    def _build_inputs(self):
        self.image = self.choose_layer(
            "image", "Image", is_image, tooltip="What the network sees.", follows=is_image
        )
        self.labels = self.choose_layer(
            "labels",
            "Labels",
            is_annotation,
            tooltip="What the network learns; the labels may be noisy. The lines and paths of a "
            "Shapes layer are used as centre lines, which the threshold widens to the "
            "edges of the image.",
            follows=is_trainable,
            suggest=lambda: annotation_of(self.image, self.labels),
        )
        self.clean_labels = self.choose_layer(
            "clean_labels",
            "Clean labels",
            is_labels,
            optional=True,
            tooltip="Optional: clean labels of the same image. Only their validation part is "
            "used, and only for validation.",
        )
        self.inputs = self.add(Form().add(self.image, self.labels, self.clean_labels))
        self.reading = self.add(InputForm(self, "trained"))
        self.pairs = []
        self.more = self.add(QPushButton("Add another image"))
        self.more.setToolTip("Train on several image layers at once.")
        self.more.clicked.connect(self.add_pair)
        self.question = self.add(note())
        self.noise = self.add(StatedNoise())
        self.start = self.add(StartFrom(lambda: self.models))
        self.form = self.add(Form().add_fields(TrainingConfig, _BASIC))
        self.advanced = Form().add_fields(TrainingConfig, _ADVANCED)
        self.add(section("More settings", self.advanced))
        forms = (self.inputs, self.reading, self.noise, self.start, self.form, self.advanced)
        for form in forms:
            form.changed.connect(self._check)
        self.reading.form["spatial_dims"].changed.connect(self._on_dimensions)

    def _build_run(self):
        self.panel = RunPanel("Train")
        self.interrupted = self.add(Interrupted("train", self.panel))
        self.interrupted.resumed.connect(self.resume)
        self.interrupted.restarted.connect(self.panel.run_button.click)
        self.add(self.panel)
        self.again = self.add(SayAgain(self, self.python, self.config, self.command))
        self.curves = self.add(Curves({"loss": ["training"], "validation": ["Dice", "AUC"]}))
        self.curves.hide()
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.models = self.add(ModelPanel(self, self.panel))
        self.panel.finished.connect(self._on_finished)
        self.corrections_button = self.add(QPushButton("Use my corrections"))
        self.corrections_button.setToolTip(
            "Make labels from the planes of the result that you corrected, to train on."
        )
        self.corrections_button.clicked.connect(self.use_corrections)

    def _build_score(self):
        self.result = self.choose_layer(
            "result",
            "Result",
            _is_result,
            tooltip="Labels, or probabilities, which are scored at their best threshold.",
        )
        self.reference = self.choose_layer(
            "reference",
            "Reference",
            is_labels,
            tooltip="The true labels.",
            unlike=self.result,
            suggest=lambda: reference_of(self.result.value, self.viewer.layers),
        )
        self.score_button = QPushButton("Score")
        self.score_button.clicked.connect(self.score)
        self.score_note = note()
        form = Form().add(self.result, self.reference)
        self.add(section("Score", form, self.score_button, self.score_note, expanded=True))

    def add_pair(self) -> None:
        """Offer one more image and labels to train on."""
        self.hold_choices()
        number = len(self.pairs) + 2
        pair = (
            self.choose_layer(f"image_{number}", f"Image {number}", is_image, optional=True),
            self.choose_layer(f"labels_{number}", f"Labels {number}", is_annotation, optional=True),
        )
        self.pairs.append(pair)
        self.inputs.add(*pair)
        self._check()

    def make_rows(self, form: Form, names: Collection[str]) -> None:
        """Offer as many pairs as before."""
        while form is self.inputs and f"image_{len(self.pairs) + 2}" in names:
            self.add_pair()

    # ------------------------------------------------------------------ inputs

    def config(self) -> TrainingConfig:
        """The `TrainingConfig` that the form shows."""
        read = self.reading.values()
        return TrainingConfig(**self.form.values(), **self.advanced.values(), **read)

    def chosen_pairs(self) -> list:
        """(image layer, labels layer) of every row that is filled in."""
        rows = [(self.image, self.labels), *self.pairs]
        pairs = [(image.value, labels.value) for image, labels in rows]
        return [pair for pair in pairs if pair != (None, None)]

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._check()
        self.models.read_target()

    def problem(self) -> str | None:
        """Why the training cannot start; None if it can."""
        pairs = self.chosen_pairs()
        if not pairs or None in pairs[0]:
            return self.no_labels("Add an Image layer and a Labels layer to train on.")
        for image, labels in pairs:
            if image is None or labels is None:
                return "Choose both an image and its labels in every row."
            source = self.reading.source(image)
            lines = is_shapes(labels)
            reason = lines_problem(labels, source) if lines else source.misfit(labels)
            if reason:
                return reason
        clean = self.clean_labels.value
        if clean is not None and len(pairs) > 1:
            return "Clean labels work with a single image; leave them empty for several."
        if clean is not None and not self.reading.source().fits(clean):
            return f"{clean.name} does not have the image's shape; choose other clean labels."
        try:
            config = self.config()
        except ValueError as error:
            return self.in_words(error)
        return self.start.problem(config.spatial_dims) or missing_library(config.network)

    def _ask_about_zeros(self):
        """Labels that are nearly all 0 may be strokes: ask, with the switch at hand."""
        layer = self.labels.value
        layer = None if is_shapes(layer) else layer
        small = layer is not None and layer.data.size < _LOOKED_AT_AGAIN
        if layer is self._asked_about and not small:
            return
        share = None if layer is None else share_of_zeros(layer)
        say(
            self.question,
            share
            and f"{100 * share:.0f} % of the pixels are 0. Are these not annotated, or background?",
        )
        self._may_be_strokes = share is not None
        if layer is not self._asked_about or share is None:
            record = {} if layer is None else layer.metadata.get(RECORD, {})
            painted = record.get("operation") == STROKES
            self.form["unannotated"].value = share is not None and painted
        self._asked_about = layer

    def _show_fields(self):
        """The fields that matter: a model to start from has its own network."""
        own = _NETWORK
        if self.start.is_new:
            own = {"channels", "depth"} if is_smp(self.form["network"].value) else {"pretrained"}
        self.form.show_only(set(_BASIC if self._may_be_strokes else _ALWAYS) - own)
        self.advanced.show_only(set(_ADVANCED) - own)

    def _check(self):
        labels = self.labels.value
        self.reading.show_layer(self.image.value, None if is_shapes(labels) else labels)
        self.interrupted.show_image(self.image.value and self.reading.source())
        self._ask_about_zeros()
        self._show_fields()
        self.panel.set_problem(self.problem())

    def _on_dimensions(self, dims):
        """Fill in the sizes that suit planes or volumes."""
        defaults = TrainingConfig(spatial_dims=dims)
        names = ("patch_size", "batch_size")
        self.advanced.set_values({name: getattr(defaults, name) for name in names})

    # ------------------------------------------------------------------ training

    def resume(self) -> None:
        """Go on with the unfinished training, whose settings the form then shows."""
        self.interrupted.run_in(self, self.form, self.advanced)

    def run(self, *, resume: bool = False) -> None:
        """Train in the background, from the beginning or from the unfinished training."""
        pairs, config = self.chosen_pairs(), self.config()
        clean = self.clean_labels.value
        sources = [self.reading.source(image) for image, _ in pairs]
        try:
            regions = [self.reading.region(source) for source in sources]
            labels = [
                source.labels_later(layer, region)
                for source, (_, layer), region in zip(sources, pairs, regions)
            ]
        except ValueError as error:
            notify_error(error)
            return
        recorded = self._recorded()
        job = late_job(
            "napari_metastructure.learning.training:train",
            images=[source.array for source in sources],
            labels=labels,
            config=config,
            validation_labels=None
            if clean is None
            else [sources[0].labels_later(clean, regions[0])],
            noise=self._noise(recorded),
            model=self.start.value(),
            checkpoint=self.interrupted.start(resume),
        )
        if self.noise.is_recorded and any(noise and not own for noise, own in recorded):
            show_info(
                "The labels have changed since their noise was recorded, so no noise is corrected; "
                "state it as label noise if it still holds."
            )
        self._watched = Watched(job, sources[0])
        self._trained_on = pairs[0][1], pairs[0][1].name
        self._follow_plane()
        self._complete = False
        self.curves.clear_points()
        self.curves.show()
        self.panel.start(job, "Training")

    def _recorded(self):
        """What records tell of the noise of the labels, row by row; it hashes the labels."""
        return [recorded_noise(labels) for _, labels in self.chosen_pairs()]

    def _noise(self, recorded):
        """What is known of the noise of the labels: stated, or recorded alike for all."""
        noises = [noise if own else None for noise, own in recorded]
        same = all(noise == noises[0] for noise in noises)
        return self.noise.value(noises[0] if same else None)

    def command(self) -> str:
        """The command that the settings are for."""
        path = self.start.path()
        start = "" if path is None else f" --start-from {shlex.quote(path)}"
        noise = " --noise NOISE" if self.noise.is_stated else ""
        return f"train IMAGES LABELS{noise}{start} -o model.safetensors"

    def python(self) -> list[str]:
        """The next run as Python code."""
        reading, clean = self.reading, self.clean_labels.value
        lines = ["from napari_metastructure.plugin.layers import Source, region_mask"]
        images, labels = [], []
        for number, (image, layer) in enumerate(self.chosen_pairs(), start=1):
            name = "image" if number == 1 else f"image_{number}"
            lines.append(source_code(name, image, reading))
            images.append(f"{name}.array")
            labels.append(f"{name}.labels({layer_code(layer)}, {region_code(name, reading)})")
        more = {"noise": repr(self._noise(self._recorded()))}
        if clean is not None:
            region = region_code("image", reading)
            more["validation_labels"] = f"[image.labels({layer_code(clean)}, {region})]"
        if not self.start.is_new:
            more["model"] = repr(self.start.path())
        arguments = (f"{name}={value}" for name, value in more.items())
        lines += [
            f"config = nms.{config_code(self.config())}",
            f"images = [{', '.join(images)}]",
            f"labels = [{', '.join(labels)}]",
            as_call("done = nms.train", "images", "labels", "config", *arguments) + ".run()",
        ]
        if self.models.predict_after.value:
            lines += [
                "labels = image.shaped(done.model.segment(image.array))",
                "viewer.add_labels(labels, name='segmentation', **image.place())",
            ]
        return lines

    def _follow_plane(self, event=None):
        """Preview the plane that is shown now."""
        if self._watched is not None:
            self._watched.follow(self.viewer)

    def _on_event(self, event):
        if isinstance(event, Step):
            self.curves.add_point("training", event.step, event.loss)
        elif isinstance(event, Validated):
            self.curves.add_point("Dice", event.step, event.dice)
            self.curves.add_point("AUC", event.step, event.auc)
        elif isinstance(event, Preview) and event.image is self._watched.plane:
            p = event.probability
            source = self._watched.source
            p = 1 - p[0] if p.ndim > source.layout.spatial_dims else p
            p = source.shaped(p)
            if not self._preview.shown:
                self._watched.hide_results(self.viewer, p)
            self._preview.draw(p, self._watched.place)
        elif isinstance(event, Done):
            self._complete = not event.stopped
            if self._complete or event.record["steps"]:
                self._finished_model = event.model

    def _on_finished(self):
        self._preview.remove()
        watched, self._watched = self._watched, None
        if watched is not None:
            watched.show_results()
        model, self._finished_model = self._finished_model, None
        self.interrupted.finish(complete=self._complete)
        self._check()
        if model is not None:
            layer, name = self._trained_on
            self.models.take(model, name)
            self.models.reading.adopt(self.reading)
            if not self._complete:
                self.panel.status.setText("Stopped with the best weights; Predict applies them.")
            elif self.models.predict_after.value:
                layer.visible = False
                self.models.predict(watched.source)
        elif self.models.results is not None:
            probability, mask = self.models.results
            self.result.value = probability if len(self.models.model.classes) == 2 else mask

    def use_corrections(self) -> None:
        """Make labels of the planes of the last result that were painted on, and choose them.

        The other planes keep their labels, unless these are known to be noisy: what is done about
        the noise would be wrong for the corrected planes.
        """
        corrections = self.models.corrections
        if corrections is None or corrections.mask not in self.viewer.layers:
            notify_error("There is no result to correct; press Train first.")
            return
        mask, painted = corrections.mask, corrections.painted()
        if not painted.any():
            notify_error(
                "Correct the last result with the brush first; the planes that you paint on "
                "are used."
            )
            return
        labels = self.labels.value
        kept = labels is not None and noise_of(labels) is None
        certain = certain_labels(
            np.asarray(mask.data),
            painted,
            np.asarray(snapshot(labels)) if kept else None,
            self.reading.spatial_dims,
        )
        planes = np.unique(np.nonzero(painted)[0]).tolist() if painted.ndim > 2 else [0]
        record = {"operation": "corrections", "source": mask.name, "planes": planes}
        name = f"{mask.name} corrected"
        layer = self.viewer.add_labels(
            certain, name=name, visible=False, metadata={RECORD: record}, **place(mask)
        )
        self.labels.value = layer
        rest = (
            "the other planes keep their labels"
            if (certain >= 0).all()
            else "no other planes are used"
        )
        trained_on = counted(len(planes), "corrected plane")
        show_info(f"{trained_on} will be trained on; {rest}. Press Train.")

    def closed(self) -> None:
        """End what runs when the dock is closed."""
        self.panel.abandon()

    # ------------------------------------------------------------------ score

    def score(self) -> None:
        """Compare the result layer with the reference layer."""
        result, reference = self.result.value, self.reference.value
        if result is None or reference is None:
            notify_error("Choose a result layer and a reference layer to compare.")
            return
        worker = create_worker(
            evaluate, snapshot(reference), np.asarray(snapshot(result)), _ignore_errors=True
        )
        worker.returned.connect(self._show_scores)
        worker.errored.connect(notify_error)
        worker.finished.connect(self._enable_score)
        self.score_button.setEnabled(False)
        worker.start()

    def _enable_score(self):
        self.score_button.setEnabled(True)

    def _show_scores(self, scores):
        known = {
            title: scores[name] for name, title in _TITLES.items() if np.isfinite(scores[name])
        }
        threshold, lines = scores["threshold"], []
        if np.isfinite(threshold):
            lines = [f"At the best threshold for this reference, {threshold:.3f}:"]
        lines += [f"{title} {value:.3f}" for title, value in known.items()]
        for label, values in scores.get("per_class", {}).items():
            lines.append(f"class {label}: Dice {values['dice']:.3f}, IoU {values['iou']:.3f}")
        say(self.score_note, "\n".join(lines))
        self.bring_into_view(self.score_note)


def is_annotation(layer: Any) -> bool:
    """Whether a layer can hold what is learnt: labels, or lines and paths of shapes."""
    return is_labels(layer) or is_shapes(layer)


def _is_result(layer):
    return is_labels(layer) or (is_grey(layer) and layer.data.dtype.kind == "f")
