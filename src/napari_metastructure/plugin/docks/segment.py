"""Dock widget: segment images with a few strokes of a brush, or without any label."""

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from napari.viewer import Viewer
from qtpy.QtWidgets import QPushButton

from napari_metastructure.few_labels.configs import WITHOUT_STROKES, SegmentConfig
from napari_metastructure.jobs.events import Done, Preview, Result, Round, Step
from napari_metastructure.plugin.docks.segment_results import Results, is_nothing, summary
from napari_metastructure.plugin.layers import hide_results, in_one_update
from napari_metastructure.plugin.parts.again import (
    SayAgain,
    as_call,
    config_code,
    layer_code,
    region_code,
    source_code,
)
from napari_metastructure.plugin.parts.baselines import baselines, show_baselines
from napari_metastructure.plugin.parts.dock import Dock, note, say, section
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.gallery import Gallery
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.interrupted import Interrupted
from napari_metastructure.plugin.parts.live import PROBABILITY, LiveLayer, Watched
from napari_metastructure.plugin.parts.model_panel import ModelPanel, is_image, is_labels
from napari_metastructure.plugin.parts.pictures import Pictures
from napari_metastructure.plugin.parts.run_panel import Curves, RunPanel, late_job, notify_error
from napari_metastructure.plugin.parts.streamed import Streamed, is_large
from napari_metastructure.plugin.parts.strokes_panel import StrokesPanel

__all__ = ["SegmentFewLabels"]

_BASIC = ("polarity", "start", "mode", "epochs", "time_limit", "device", "seed")
_ADVANCED = (
    "rounds",
    "loss",
    "ems",
    "start_channel",
    "network",
    "channels",
    "depth",
    "patch_size",
    "batch_size",
    "min_steps",
    "learning_rate",
)
_HIDDEN_BY_STROKES = {*WITHOUT_STROKES, "mode", "start_channel"}
_GIVEN = ("labels",)
_NOTHING = "Stopped before anything was found; earlier results stay."


class SegmentFewLabels(Dock):
    """Segment one or more images with a few strokes, or without labels.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._watched: Watched | None = None
        self._sources: list | None = None
        self._done: Done | None = None
        self._step: Step | None = None
        self._found = True  # by the last run
        self._shown: list = []  # of the last result: image, mask, layers of probabilities
        self._streamed = []  # results that are written to files
        self.results = Results(self.viewer)
        self._live = {
            "probability": LiveLayer(self.viewer, "image", "live probability", **PROBABILITY),
            "label": LiveLayer(self.viewer, "labels", "live pseudo-label"),
        }
        self._build_inputs()
        self._build_strokes()
        self._build_run()
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()
        self._on_mode()

    # ------------------------------------------------------------------ layout

    def _build_inputs(self):
        first = self.choose_layer(
            "image", "Image", is_image, tooltip="Image or stack.", follows=is_image
        )
        self.images = [first]
        self.inputs = self.add(Form().add(*self.images))
        self.reading = self.add(InputForm(self, "segmented"))
        self.more = self.add(QPushButton("Add another image"))
        self.more.setToolTip("Segment several image layers with one network.")
        self.more.clicked.connect(self.add_image)
        self.gallery = self.add(Gallery(self.viewer, self._shown_source, self._strokes_at))
        self.gallery.picked.connect(self._take_start)
        self.inputs.changed.connect(self.gallery.follow)

    def _build_strokes(self):
        self.strokes = StrokesPanel(self, self._read_sources)
        self.add(section("Strokes", self.strokes, expanded=True))
        self.strokes.changed.connect(self._on_strokes)
        self.strokes.shown.connect(self._on_live)

    def _build_run(self):
        self.given = self.choose_layer(
            "given",
            "Start labels",
            is_labels,
            optional=True,
            tooltip="A first segmentation, if Start is set to labels.",
        )
        self.form = self.add(Form().add_fields(SegmentConfig, _BASIC).add(self.given))
        self.advanced = Form().add_fields(SegmentConfig, _ADVANCED)
        self.add(section("More settings", self.advanced))
        self.panel = RunPanel("Segment all")
        self.interrupted = self.add(Interrupted("segment", self.panel))
        self.interrupted.resumed.connect(self.resume)
        self.interrupted.restarted.connect(self.panel.run_button.click)
        self.add(self.panel)
        command = "segment IMAGES -o masks.ome.tif"
        self.again = self.add(SayAgain(self, self.python, self.config, command))
        self.panel.run_button.setToolTip("Train a network and segment every plane with it.")
        self.summary = self.add(note())
        self.loss_curve = self.add(Curves({"loss": ["training"]}))
        self.curves = self.add(
            Curves({"loss": ["training"], "change per round": ["labels"]}, "round")
        )
        self.pictures = self.add(Pictures(("chosen mask", "next labels", "probability")))
        for part in (self.loss_curve, self.curves, self.pictures):
            part.hide()
        self.models = self.add(ModelPanel(self, self.panel, predict_after=False))
        self.baseline_button = self.add(QPushButton("Add filters to compare with"))
        self.baseline_button.setToolTip(
            "Otsu, Li, triangle and Sato ridge masks of the image, as hidden layers."
        )
        self.baseline_button.clicked.connect(self.add_baselines)
        for form in (self.inputs, self.reading, self.form, self.advanced):
            form.changed.connect(self._check)
        self.reading.form["spatial_dims"].changed.connect(self._on_dimensions)
        self.form["mode"].changed.connect(self._on_mode)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._on_finished)
        self.models.loaded.connect(self._on_model_loaded)

    def _shown_source(self):
        """The first image as it is read, for the gallery; None without one."""
        return self.reading.source() if self.images[0].value is not None else None

    def _strokes_at(self, index):
        """Strokes on a plane of the first image, which the gallery's ranking follows."""
        return self.strokes.strokes(copy=False)[0][index] if self.has_strokes else None

    def _take_start(self, name, polarity):
        """Start from the mask that was clicked in the gallery."""
        self.form.set_values({"start": name, "polarity": polarity})

    def add_image(self) -> None:
        """Offer one more image layer for the set."""
        self.hold_choices()
        number = len(self.images) + 1
        box = self.choose_layer(f"image_{number}", f"Image {number}", is_image, optional=True)
        self.images.append(box)
        self.inputs.add(box)
        self._check()

    def make_rows(self, form: Form, names: Collection[str]) -> None:
        """Offer as many images as before."""
        while form is self.inputs and f"image_{len(self.images) + 1}" in names:
            self.add_image()

    def _open_sample(self):
        """Open it with its exact labels hidden: they would lie over the results."""
        super()._open_sample()
        for layer in filter(is_labels, self.viewer.layers):
            layer.visible = False

    # ------------------------------------------------------------------ inputs

    @property
    def has_strokes(self) -> bool:
        """Whether there is a stroke to learn from."""
        return bool(self.strokes.values())

    def config(self) -> SegmentConfig:
        """The `SegmentConfig` that the forms show."""
        if self.has_strokes:
            self._check()  # the first may have been painted a moment ago
        values = {**self.form.values(), **self.advanced.values()}
        if values.get("min_steps") == SegmentConfig.model_fields["min_steps"].default:
            del values["min_steps"]  # left alone: strokes have a default of their own
        return SegmentConfig(**values, **self.reading.values())

    def chosen_images(self) -> list:
        """The image layers of the set."""
        return [box.value for box in self.images if box.value is not None]

    def _read_sources(self):
        return [self.reading.source(layer) for layer in self.chosen_images()]

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._check()
        self.models.read_target()

    def problem(self) -> str | None:
        """Why the segmentation cannot start; None if it can."""
        images = self.chosen_images()
        if not images:
            return "Add an Image layer to segment."
        unlike = next(filter(None, map(self.reading.unlike, images[1:])), None)
        if unlike:
            return unlike
        if self.has_strokes:
            return self.strokes.problem()
        if self.form["start"].value in _GIVEN:
            given = self.given.value
            if given is None or len(images) > 1 or not self.reading.source().fits(given):
                return "Choose start labels with the shape of the image, and a single image."
        try:
            self.config()
        except ValueError as error:
            return self.in_words(error)
        return None

    def _check(self):
        taught = self.has_strokes
        if taught and self.form["mode"].value != "robust":  # the published mode has no strokes
            self.form["mode"].value = "robust"
        given = {"given"} if self.form["start"].value in _GIVEN and not taught else set()
        hidden = _HIDDEN_BY_STROKES if taught else set()
        self.form.show_only({*_BASIC, *given} - hidden)
        self.advanced.show_only({*_ADVANCED} - hidden)
        self.reading.show_layer(self.images[0].value)
        self.interrupted.show_image(self._shown_source())
        self.strokes.refresh()
        self.gallery.button.setEnabled(bool(self.chosen_images()))
        self.panel.set_problem(self.problem())
        self.baseline_button.setEnabled(bool(self.chosen_images()) and not self.panel.running)

    def _on_strokes(self):
        self._check()
        if not self.has_strokes:
            return
        self.hold_choices()  # another image would have no strokes
        self.gallery.take_away()

    def _on_live(self, placed, shape):
        """What the strokes give is seen, in place of results and of a job's previews."""
        self.results.hide(self.chosen_images())
        hide_results(self.viewer, self.images[0].value.name, placed, shape)
        for live in self._live.values():
            if live.shown:
                live.layer.visible = False

    def _on_mode(self):
        """Fill in the defaults of the mode."""
        dims = self.reading.spatial_dims
        defaults = SegmentConfig(mode=self.form["mode"].value, spatial_dims=dims)
        for form, names in ((self.form, _BASIC), (self.advanced, _ADVANCED)):
            form.set_values({name: getattr(defaults, name) for name in names if name != "seed"})

    def _on_dimensions(self, dims):
        """Fill in the sizes that suit planes or volumes."""
        defaults = SegmentConfig(mode=self.form["mode"].value, spatial_dims=dims)
        names = ("patch_size", "batch_size")
        self.advanced.set_values({name: getattr(defaults, name) for name in names})

    # ------------------------------------------------------------------ run

    def resume(self) -> None:
        """Go on with the unfinished training, whose settings the form then shows."""
        self.form["mode"].value = self.interrupted.state["settings"]["mode"]  # with its defaults
        self.interrupted.run_in(self, self.form, self.advanced)

    def run(self, *, resume: bool = False) -> None:
        """Segment all planes in the background, with the unfinished training or a new one."""
        self.gallery.clear()
        config, sources = self.config(), self._read_sources()
        try:
            regions = [self.reading.region(source) for source in sources]
        except ValueError as error:
            notify_error(error)
            return
        sources = [
            source if region is None else source.around(region)
            for source, region in zip(sources, regions)
        ]
        labels = self._labels(config, sources)
        if resume and "model" in labels:
            labels["model"] = None  # the training has its weights
        try:
            out = self._stream(sources)
        except (OSError, ValueError, ImportError) as error:
            notify_error(error)
            return
        job = late_job(
            "napari_metastructure.few_labels.segment:segment",
            images=[source.array for source in sources],
            config=config,
            checkpoint=self.interrupted.start(resume),
            **labels,
            **out,
        )
        self._watched, self._step = Watched(job, sources[0]), None
        self._sources = list(zip(sources, regions))
        self._follow_plane()
        say(self.summary, None)
        once = self.has_strokes or (config.mode == "robust" and config.rounds == 1)
        shown = self.loss_curve if once else self.curves
        shown.clear_points()
        for part in (self.loss_curve, self.curves):
            part.setVisible(part is shown)
        self.panel.start(job, "Segmentation")

    def _labels(self, config, sources):
        """What the user has annotated, as arguments of `segment`."""
        if self.has_strokes:
            strokes = self.strokes.strokes()
            if self.results.correct(self.chosen_images(), strokes):
                self.strokes.keep(strokes)
            strokes = [
                one if source.box is None else one[source.box]
                for one, source in zip(strokes, sources)
            ]
            model = self.models.model
            taught = model is not None and "strokes.0.shape" in model.attached
            return {"strokes": strokes, "model": model if taught else None}
        if config.start in _GIVEN:
            return {"labels": [sources[0].labels_later(self.given.value)]}
        return {}

    def python(self) -> list[str]:
        """The next run as Python code; what was painted on a result is not in it."""
        names, lines = [], []
        for number, layer in enumerate(self.chosen_images(), start=1):
            names.append("image" if number == 1 else f"image_{number}")
            lines.append(source_code(names[-1], layer, self.reading))
        regions = [region_code(name, self.reading) for name in names]
        if regions[0]:
            lines.append(f"regions = [{', '.join(map(str, regions))}]")
            arounds = (f"{name}.around(regions[{k}])" for k, name in enumerate(names))
            lines += [f"{name} = {around}" for name, around in zip(names, arounds)]
        arguments = self._taught_by(names)
        images = ", ".join(f"{name}.array" for name in names)
        lines += [
            f"config = nms.{config_code(self.config())}",
            as_call("done = nms.segment", f"[{images}]", "config", *arguments) + ".run()",
            f"for number, source in enumerate([{', '.join(names)}]):",
            "    mask, name = done.masks[number], f'{source.name} segmentation'",
        ]
        if regions[0]:
            lines += [
                "    mask = np.where(regions[number], source.whole(mask), 0).astype(mask.dtype)",
                "    source = replace(source, box=None)",
            ]
        return [
            "import numpy as np",
            *["from dataclasses import replace"][: bool(regions[0])],
            "from napari_metastructure.plugin.layers import Source, region_mask",
            *lines,
            "    viewer.add_labels(source.shaped(mask), name=name, **source.place())",
        ]

    def _taught_by(self, names):
        """What the user has annotated, as code of arguments of `segment`."""
        if self.has_strokes:
            sources = zip(names, self._read_sources())
            found = ", ".join(self.strokes.code(name, source) for name, source in sources)
            return [f"strokes=[{found}]"]
        if self.form["start"].value in _GIVEN:
            return [f"labels=[image.labels({layer_code(self.given.value)})]"]
        return []

    def _stream(self, sources):
        """Files to write results to that may not fit in memory, as an argument of `segment`."""
        self._streamed = []
        large = (is_large(source.array, source.shape, 2) for source in sources)
        if any(source.box for source in sources) or not any(large):
            return {}
        folder = self.models.folder.value
        self._streamed = [
            Streamed(self.viewer, self._title, source, "uint8", folder=folder) for source in sources
        ]
        say(self.models.written, f"Written to {self._streamed[0].path}")
        return {"out": [streamed.out for streamed in self._streamed]}

    @property
    def _title(self):
        return "strokes" if self.has_strokes else "no labels"

    def _follow_plane(self, event=None):
        if self._watched is not None:
            self._watched.follow(self.viewer)

    def _on_event(self, event):
        for streamed in self._streamed:
            streamed.on_event(event)
        if isinstance(event, Step):
            self._step = event
            for curve in (self.loss_curve, self.curves):
                if curve.isVisible():
                    curve.add_point("training", event.step, event.loss)
        elif isinstance(event, Preview) and event.image is self._watched.plane:
            self._draw("probability", event.probability)
        elif isinstance(event, Round):
            self._show_round(event)
        elif isinstance(event, Done):
            self._done, self._shown = event, []
            self._found = not is_nothing(event)
            if not self._found:
                return
            taught = "result" in event.record
            start = "strokes" if taught else f"no labels, {_start_of(event.record)}"
            self.models.take(event.model, start)
            if event.probabilities is not None:
                self.panel.in_turns(self._showing(event))
        elif isinstance(event, Result) and isinstance(event.value, dict):
            self.panel.in_turns(show_baselines(self.viewer, self._baselines_of, event.value))

    def _show_round(self, event):
        self.curves.add_point("labels", event.round, event.label_change)
        self.pictures.show()
        self.pictures.draw(event.candidate, event.label, event.probability)
        if np.array_equal(event.image, self._watched.plane):
            self._draw("probability", event.probability)
            self._draw("label", np.rint(event.label).astype(np.uint8))

    def _draw(self, kind, plane):
        if plane.ndim > self._watched.source.layout.spatial_dims:  # of several classes: any object
            plane = 1 - plane[0]
        plane, live = self._watched.source.shaped(plane), self._live[kind]
        is_new = not live.shown
        if is_new:
            self.strokes.clear(drawn=False)
            self._watched.hide_results(self.viewer, plane)
        live.draw(plane, self._watched.place)
        if is_new:
            self.strokes.put_on_top()

    def _showing(self, done):
        """Add the probabilities of each image, which are hidden; a step for each layer."""
        for (source, region), mask, p in zip(self._sources, done.masks, done.probabilities):
            if region is not None:
                inside = np.broadcast_to(region, source.layout.label_shape)
                mask, p = (
                    np.where(inside, _whole(source, part), 0).astype(part.dtype)
                    for part in (mask, p)
                )
                source = replace(source, box=None)
            added, shaped = [], source.shaped(p)
            for layer in self.models.add_probabilities(source.name, source.place(), shaped):
                added.append(layer)
                yield
            self._shown.append((source, mask, added))

    def _on_finished(self):
        if self._done is None:
            for layer in self._live.values():
                layer.remove()
        with in_one_update(self.viewer):
            self._finish()

    def _finish(self):
        for layer in self._live.values():
            layer.remove(drawn=False)
        done, self._done = self._done, None
        if self._watched is not None:
            self._watched.show_results()
        self._watched = None
        self.interrupted.finish(complete=done is not None and not done.stopped)
        self._check()
        streamed, self._streamed = self._streamed, []
        if streamed and (done is None or done.stopped):
            say(
                self.models.written,
                f"Not finished; the partial result is saved to {streamed[0].path}",
            )
        if done is None:
            return
        self.gallery.suggest(done.record.get("confidence", {}))
        say(self.summary, summary(done, self._step) if self._found else _NOTHING)
        if done.probabilities is not None and self._found:
            self._show_masks("result" in done.record)

    def _show_masks(self, taught):
        self.strokes.clear(drawn=False)
        self.results.put_away([source.layer for source, _ in self._sources])
        layers = self.viewer.layers
        for source, labels, added in self._shown:
            mask = self.models.add_mask(source.name, source.place(), added, source.shaped(labels))
            if len(self._shown) > 1 and added[-1] in layers:
                layers.move(layers.index(mask), layers.index(added[-1]) + 1)
            corrections = self.models.corrections
            self.results.take(source.layer, [*added, mask], mask, corrections, taught=taught)
        self._shown = []
        if taught and self.strokes.layer is not None:
            self.strokes.put_on_top()
            self.viewer.layers.selection.active = self.strokes.layer

    def _on_model_loaded(self):
        """Strokes and settings saved with a model come back, if it was taught on these images."""
        from napari_metastructure.labels.strokes import unpack_strokes

        model = self.models.model
        found, sources = unpack_strokes(model.attached), self._read_sources()
        if self.has_strokes or not found:
            return
        if len(found) > len(sources) or not all(
            map(partial(_knows, model), count(), found, sources)
        ):
            say(self.strokes.note, "The strokes saved with the model are on other images.")
            return
        for number, one in enumerate(found):
            if one.any():
                self.strokes.show_strokes(one, number)
        settings = {**model.record["config"]}
        for form in (self.form, self.advanced):
            names = [name for name in form.values() if name in settings and name != "seed"]
            form.set_values({name: settings[name] for name in names})

    def actions(self) -> dict[str, Any]:
        """What the keys do while the dock is in front."""
        return super().actions() | self.strokes.actions

    def closed(self) -> None:
        """Let go of the viewer, and end what runs."""
        self.gallery.clear()
        self.strokes.close_down()
        self._done = None
        self.panel.abandon()

    # ------------------------------------------------------------------ filters

    def add_baselines(self) -> None:
        """Masks of simple filters, each a hidden layer."""
        self._baselines_of = self.reading.source()
        job = baselines(self._baselines_of, self.form["polarity"].value)
        self.panel.start(job, "Filters")


def _start_of(record):
    return "+".join(np.atleast_1d(record.get("start", record["config"]["mode"])))


def _knows(model, number, strokes, source):
    """Whether a model was taught by strokes on this image, as far as the pixels under them tell."""
    from napari_metastructure.labels.strokes import digest_under, pixels_under

    if strokes.shape != source.shape:
        return False
    layout = source.layout
    axis = None if layout.input_axis is None else -layout.spatial_dims - 1
    tells = {"digest": digest_under, "pixels": pixels_under}  # models of earlier versions: values
    for name, of in tells.items():
        known = model.attached.get(f"strokes.{number}.{name}")
        if known is not None:
            found = of(source.canonical, strokes, axis, layout.spatial_dims)
            return np.array_equal(found, known)
    return True


def _whole(source, result):
    """A result of a part as one of the whole image; classes along a first axis stay."""
    if result.ndim == len(source.layout.label_shape):
        return source.whole(result)
    return np.stack([source.whole(one) for one in result])
