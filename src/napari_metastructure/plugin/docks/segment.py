"""Dock widget: segment images without annotation, and watch the pseudo-labels form."""

from dataclasses import replace

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QPushButton

from napari_metastructure.few_labels.configs import SegmentConfig
from napari_metastructure.jobs.events import Done, Preview, Progress, Result, Round, Step
from napari_metastructure.jobs.job import Job
from napari_metastructure.plugin.layers import RECORD
from napari_metastructure.plugin.parts.dock import Dock, say, section
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.gallery import Gallery
from napari_metastructure.plugin.parts.input_form import InputForm
from napari_metastructure.plugin.parts.live import PROBABILITY, LiveLayer, Watched
from napari_metastructure.plugin.parts.model_panel import ModelPanel, is_image, is_labels
from napari_metastructure.plugin.parts.run_panel import Curves, RunPanel, late_job, notify_error
from napari_metastructure.plugin.parts.streamed import Streamed, is_large

__all__ = ["UnsupervisedSegmentation"]

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
_GIVEN = ("labels", "scribbles")
_BASELINES = ("otsu", "li", "triangle", "sato")


class UnsupervisedSegmentation(Dock):
    """Segment bright or dark structures in one or more images without labels.

    Parameters
    ----------
    napari_viewer : napari.Viewer
    """

    def __init__(self, napari_viewer):
        super().__init__(napari_viewer)
        self._watched = self._sources = self._done = None
        self._streamed = []  # results that are written to files
        self._live = {
            "probability": LiveLayer(self.viewer, "image", "live probability", **PROBABILITY),
            "label": LiveLayer(self.viewer, "labels", "live pseudo-label"),
        }
        self._build_inputs()
        self._build_run()
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()
        self._on_mode()

    # ------------------------------------------------------------------ layout

    def _build_inputs(self):
        self.images = [self.choose_layer("image", "Image", is_image, tooltip="Image or stack.")]
        self.given = self.choose_layer(
            "given",
            "Start labels",
            is_labels,
            optional=True,
            tooltip="For start: labels, a first segmentation; for start: scribbles, "
            "1 on background and 2 on structures.",
        )
        self.inputs = self.add(Form().add(*self.images))
        self.reading = self.add(InputForm(self, "segmented"))
        self.more = self.add(QPushButton("Add another image"))
        self.more.setToolTip("Segment several image layers as one image set.")
        self.more.clicked.connect(self.add_image)
        self.gallery = self.add(Gallery(self.viewer, self._shown_source))
        self.gallery.picked.connect(self._take_start)
        self.inputs.changed.connect(self.gallery.follow)
        self.form = self.add(Form().add_fields(SegmentConfig, _BASIC).add(self.given))
        self.advanced = Form().add_fields(SegmentConfig, _ADVANCED)
        self.add(section("More settings", self.advanced))
        for form in (self.inputs, self.reading, self.form, self.advanced):
            form.changed.connect(self._check)
        self.reading.form["spatial_dims"].changed.connect(self._on_dimensions)
        self.form["mode"].changed.connect(self._on_mode)

    def _build_run(self):
        self.panel = self.add(RunPanel("Segment"))
        self.curves = self.add(
            Curves({"loss": ["training"], "change per round": ["labels"]}, "round")
        )
        self.pictures = self.add(Pictures(("candidate", "label", "prediction")))
        self.curves.hide()
        self.pictures.hide()
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.models = self.add(ModelPanel(self, self.panel, predict_after=False))
        self.panel.finished.connect(self._on_finished)
        self.baseline_button = self.add(QPushButton("Add filters to compare with"))
        self.baseline_button.setToolTip(
            "Otsu, Li, triangle and Sato ridge masks of the image, as hidden layers."
        )
        self.baseline_button.clicked.connect(self.add_baselines)

    def _shown_source(self):
        """The first image as it is read, for the gallery; None without one."""
        return self.reading.source() if self.images[0].value is not None else None

    def _take_start(self, name, polarity):
        """Start from the mask that was clicked in the gallery."""
        self.form.set_values({"start": name, "polarity": polarity})

    def add_image(self):
        """Offer one more image layer for the set."""
        number = len(self.images) + 1
        box = self.choose_layer(f"image_{number}", f"Image {number}", is_image, optional=True)
        self.images.append(box)
        self.inputs.add(box)
        self._check()

    # ------------------------------------------------------------------ inputs

    def config(self):
        """The `SegmentConfig` that the form shows."""
        read = self.reading.values()
        return SegmentConfig(**self.form.values(), **self.advanced.values(), **read)

    def chosen_images(self):
        """The image layers of the set."""
        return [box.value for box in self.images if box.value is not None]

    def reset_choices(self, event=None):
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._check()
        self.models.read_target()

    def problem(self):
        """Why the segmentation cannot start; None if it can."""
        images = self.chosen_images()
        if not images:
            return "Add an Image layer to segment."
        if self.form["start"].value in _GIVEN:
            given = self.given.value
            if given is None or len(images) > 1 or not self.reading.source().fits(given):
                return "This start needs start labels of the shape of a single image."
        try:
            self.config()
        except ValueError as error:
            return str(error)
        return None

    def _check(self):
        given = {"given"} if self.form["start"].value in _GIVEN else set()
        self.form.show_only({*_BASIC, *given})
        self.reading.show_layer(self.images[0].value)
        self.panel.set_problem(self.problem())
        self.baseline_button.setEnabled(bool(self.chosen_images()) and not self.panel.running)

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

    def run(self):
        """Segment in the background."""
        self.gallery.clear()
        layers, config = self.chosen_images(), self.config()
        sources = [self.reading.source(layer) for layer in layers]
        try:
            regions = [self.reading.region(source) for source in sources]
        except ValueError as error:
            notify_error(error)
            return
        sources = [
            source if region is None else source.around(region)
            for source, region in zip(sources, regions)
        ]
        given = {"labels": [sources[0].labels(self.given.value)]} if config.start in _GIVEN else {}
        self._streamed = []
        if not any(source.box for source in sources) and any(
            is_large(source.array, source.shape, 2) for source in sources
        ):
            try:
                folder = self.models.folder.value
                self._streamed = [
                    Streamed(self.viewer, "unsupervised", source, "uint8", folder=folder)
                    for source in sources
                ]
            except (OSError, ImportError) as error:
                notify_error(error)
                return
            given["out"] = [streamed.out for streamed in self._streamed]
            say(self.models.written, f"Written to {self._streamed[0].path}")
        job = late_job(
            "napari_metastructure.few_labels.segment:segment",
            images=[source.array for source in sources],
            config=config,
            **given,
        )
        self._watched = Watched(job, sources[0])
        self._sources = list(zip(sources, regions))
        self._follow_plane()
        self.curves.clear_points()
        self.curves.show()
        self.panel.start(job, "Segmentation")

    def _follow_plane(self, event=None):
        if self._watched is not None:
            self._watched.follow(self.viewer)

    def _on_event(self, event):
        for streamed in self._streamed:
            streamed.on_event(event)
        if isinstance(event, Step):
            self._step = event.step
            self.curves.add_point("training", event.step, event.loss)
        elif isinstance(event, Preview) and event.image is self._watched.plane:
            self._draw("probability", event.probability)
        elif isinstance(event, Round):
            self._show_round(event)
        elif isinstance(event, Done):
            self._done = event
        elif isinstance(event, Result) and isinstance(event.value, dict):
            self._show_baselines(event.value)

    def _show_round(self, event):
        self.curves.add_point("labels", event.round, event.label_change)
        self.pictures.show()
        self.pictures.draw(event.candidate, event.label, event.probability)
        if np.array_equal(event.image, self._watched.plane):
            self._draw("probability", event.probability)
            self._draw("label", np.rint(event.label).astype(np.uint8))

    def _draw(self, kind, plane):
        self._live[kind].draw(self._watched.source.shaped(plane), self._watched.place)

    def _on_finished(self):
        for layer in self._live.values():
            layer.remove()
        done, self._done = self._done, None
        self._watched = None
        self._check()
        streamed, self._streamed = self._streamed, []
        if streamed and (done is None or done.stopped):
            say(self.models.written, f"Not finished; what there is lies in {streamed[0].path}")
        if done is None:
            return
        self.gallery.suggest(done.record.get("confidence", {}))
        start = "+".join(np.atleast_1d(done.record.get("start", done.record["config"]["mode"])))
        self.models.take(done.model, f"unsupervised, {start}")
        if done.probabilities is None:
            return
        for (source, region), mask, p in zip(self._sources, done.masks, done.probabilities):
            if region is not None:
                mask, p = (np.where(region, source.whole(part), 0) for part in (mask, p))
                source = replace(source, box=None)
            mask, p = source.shaped(mask), source.shaped(p)
            self.models.show_result(source.name, source.place(), p, mask)

    def closed(self):
        """End what runs when the dock is closed."""
        self.gallery.clear()
        self.panel.abandon()

    # ------------------------------------------------------------------ filters

    def add_baselines(self):
        """Masks of simple filters, each a hidden layer."""
        source = self.reading.source()
        layout, data = source.layout, source.canonical
        if layout.input_axis is not None:
            data = data.mean(axis=-layout.spatial_dims - 1, dtype=np.float32)
        self._baselines_of, dims = source, layout.spatial_dims
        polarity = self.form["polarity"].value
        job = Job(lambda job: _filtering(job, data, polarity, dims))
        self.panel.start(job, "Filters")

    def _show_baselines(self, masks):
        source = self._baselines_of
        name, placed = source.name, source.place()
        for kind, mask in masks.items():
            record = {"operation": "filter", "filter": kind, "applied_to": name}
            self.viewer.add_labels(
                source.shaped(mask),
                name=f"{name} {kind}",
                visible=False,
                metadata={RECORD: record},
                **placed,
            )


class Pictures(pg.GraphicsLayoutWidget):
    """A strip of small pictures with titles.

    Parameters
    ----------
    titles : sequence of str
    """

    def __init__(self, titles):
        super().__init__()
        self.setBackground(None)
        self.setFixedHeight(130)
        self.ci.setContentsMargins(0, 0, 0, 0)
        self._items = []
        for column, title in enumerate(titles):
            self.addLabel(title, row=0, col=column)
            box = self.addViewBox(
                row=1,
                col=column,
                lockAspect=True,
                invertY=True,
                enableMouse=False,
                enableMenu=False,
            )
            item = pg.ImageItem(levels=(0, 1), axisOrder="row-major")
            box.addItem(item)
            self._items.append(item)

    def draw(self, *planes):
        """Show these planes, values 0 to 1; of a volume its middle plane."""
        for item, plane in zip(self._items, planes):
            plane = plane[len(plane) // 2] if plane.ndim == 3 else plane
            item.setImage(np.asarray(plane, np.float32), levels=(0, 1))


def _filtering(job, data, polarity, spatial_dims):
    """The mask of each baseline filter for all planes."""
    yield Progress("starting", 0, 1)
    from napari_metastructure.arrays.blocks import planes
    from napari_metastructure.few_labels.filters import filter_mask
    from napari_metastructure.few_labels.polarity import polarity as of_images

    parts = planes(np.asarray(data), spatial_dims)
    polarity = of_images(parts) if polarity == "auto" else polarity
    masks = {}
    total = len(_BASELINES) * len(parts)
    for kind in _BASELINES:
        filtered = []
        for part in parts:
            filtered.append(filter_mask(part, kind, polarity))
            yield Progress(kind, len(masks) * len(parts) + len(filtered), total)
            if job.stopping:
                yield Result(None, stopped=True)
                return
        masks[kind] = np.stack(filtered).reshape(data.shape)
    yield Result(masks)
