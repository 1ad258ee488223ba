"""Dock widget: split a mask into objects, count and measure them."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyqtgraph as pg
from magicgui.widgets import CheckBox, ComboBox
from napari.layers import Image, Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QHBoxLayout, QPushButton, QWidget

from napari_metastructure.files.outputs import with_ending
from napari_metastructure.jobs.events import Progress, Result
from napari_metastructure.jobs.job import Job
from napari_metastructure.labels.objects import (
    ObjectsConfig,
    features,
    measure,
    split,
    summary,
)
from napari_metastructure.labels.planewise import frozen, labels_in, merged, why_numbers
from napari_metastructure.plugin.layers import (
    NO_MASKS,
    RECORD,
    made_by,
    place,
    place_plane,
    plane_index,
)
from napari_metastructure.plugin.parts.again import SayAgain, as_call, as_settings, layer_code
from napari_metastructure.plugin.parts.colours import COLOURS
from napari_metastructure.plugin.parts.dock import Dock, note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.live import LiveLayer
from napari_metastructure.plugin.parts.long_names import keep_narrow
from napari_metastructure.plugin.parts.plots import FollowsTheme
from napari_metastructure.plugin.parts.run_panel import RunPanel, notify_error
from napari_metastructure.plugin.parts.save_dialog import ask_where
from napari_metastructure.words import counted

__all__ = ["MeasureObjects"]

_FIELDS = (
    "threshold",
    "smoothing",
    "fill_holes",
    "method",
    "split_depth",
    "min_size",
    "max_size",
    "drop_border",
)
_BESIDE_TITLE = 60  # pixels that a histogram has on both sides of it
_LARGEST_PREVIEW = 4096 * 4096
_POWERS = {  # of the unit of length, for the measurements that have one
    "equivalent_diameter": "",
    "perimeter": "",
    "skeleton_length": "",
    "area": "²",
    "surface": "²",
    "volume": "³",
}
_COLOURS = ("red", "green", "blue")
_PLACES = ("index", "label", "axis_", "centroid_")  # columns that are no measurement


class MeasureObjects(Dock):
    """Number the objects of a mask, measure them, and show how they are distributed.

    Parameters
    ----------
    napari_viewer : napari.Viewer

    Attributes
    ----------
    table, summary : pandas.DataFrame or None
        The last measurements: a row for each object, and for each plane or volume.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__(napari_viewer)
        self.table: Any = None
        self.summary: Any = None
        self._looked_at: Any = None  # the mask, and what is said of its labels
        self._unit = ""
        self._pending: Any = None
        self._preview = LiveLayer(self.viewer, "labels", "objects preview", opacity=0.5)
        self._timer = QTimer(self, interval=150, singleShot=True)
        self._timer.timeout.connect(self._show_preview)
        self._build_inputs()
        self._build_results()
        self.viewer.dims.events.current_step.connect(self._follow_plane)
        self.reset_choices()

    def _build_inputs(self) -> None:
        self.mask = self.choose_layer(
            "mask",
            "Mask",
            _is_mask,
            tooltip="Labels or a probability map.",
            follows=lambda layer: isinstance(layer, Labels) and made_by(layer) not in NO_MASKS,
        )
        self.image = self.choose_layer(
            "image",
            "Intensities",
            _is_image,
            tooltip="Optional: the image in which the objects' brightness is measured; of a colour "
            "image, in each colour.",
            optional=True,
        )
        self.dims = ComboBox(
            name="dims",
            label="Dimensions",
            choices=[("2-D", 2), ("3-D", 3)],
            tooltip="2-D: objects in each plane separately. 3-D: objects in whole volumes.",
        )
        self.skeleton = CheckBox(
            name="skeleton",
            text="Skeletons",
            tooltip="Also measure length and branch points, for networks and neurites.",
        )
        self.numbered = CheckBox(
            name="numbered",
            text="Labels number the objects",
            tooltip="Measure them as they are, so that touching objects stay apart. Otherwise all "
            "labels above 0 are one mask, which is split into objects.",
        )
        self.form = self.add(Form().add(self.mask, self.image, self.dims, self.numbered))
        self.form.add_fields(ObjectsConfig, _FIELDS).add(self.skeleton)
        self.about = self.add(note())
        self.panel = self.add(RunPanel("Measure"))
        self.again = self.add(SayAgain(self, self.python, self.config, self.command))
        self.form.changed.connect(self._on_form)
        self.panel.clicked.connect(self.run)
        self.panel.yielded.connect(self._on_event)
        self.panel.finished.connect(self._check)

    def _build_results(self) -> None:
        self.found = self.add(note())
        self.column_box = ComboBox(
            name="column", label="Histogram", choices=[], tooltip="The measurement to show."
        )
        keep_narrow(self.column_box.native)  # names of images are in it
        self.results = self.add(Form().add(self.column_box))
        self.plot = self.add(Histogram())
        self.save_button = QPushButton("Save as CSV …")
        self.save_summary_button = QPushButton("Save summary …")
        self.save_button.setToolTip("A row for each object.")
        self.save_summary_button.setToolTip("Count and coverage of each plane or volume.")
        self.buttons, row = QWidget(), QHBoxLayout()
        row.setContentsMargins(0, 0, 0, 0)
        self.buttons.setLayout(row)
        for button in (self.save_button, self.save_summary_button):
            row.addWidget(button)
        self.add(self.buttons)
        for widget in (self.results, self.plot, self.buttons):
            widget.hide()
        self.column_box.changed.connect(self._draw)
        self.save_button.clicked.connect(lambda: self._ask_and_save("objects.csv", self.table))
        self.save_summary_button.clicked.connect(
            lambda: self._ask_and_save("summary.csv", self.summary)
        )

    # ------------------------------------------------------------------ parameters

    def reset_choices(self, event: Any = None) -> None:
        """Offer the layers that are there now."""
        super().reset_choices(event)
        self._show_fields()
        self._check()

    def problem(self) -> str | None:
        """Why nothing can be measured; None if it can."""
        mask, image = self.mask.value, self.image.value
        if mask is None:
            sentence = "Add a Labels layer, or a probability map, to measure."
            return self.no_labels(sentence, one_level=True)
        if mask.ndim < 2:
            return f"{mask.name} has one axis only; choose one with at least two."
        shape = mask.data.shape if image is None else image.data.shape[: image.ndim]
        if shape != mask.data.shape:
            return (
                f"{mask.name} has shape {mask.data.shape} but {image.name} has {shape}; choose "
                "layers of the same pixels."
            )
        try:
            self.config()
        except ValueError as error:
            return self.in_words(error)
        return None

    @property
    def _dims(self) -> int:
        return self.dims.value if self.form.is_shown("dims") else 2

    def config(self) -> ObjectsConfig:
        """The `ObjectsConfig` that the form shows, in the units of the layer."""
        dims = self._dims
        scale = tuple(np.abs(self.mask.value.scale[-dims:]).tolist())
        return ObjectsConfig(**self.form.values(), spatial_dims=dims, scale=scale)

    @property
    def is_numbered(self) -> bool:
        """Whether the labels are measured as they are."""
        return self.form.is_shown("numbered") and self.numbered.value

    def command(self) -> str:
        """The command that the settings are for."""
        return f"measure MASKS{' --numbered' * self.is_numbered} -o objects.csv"

    def _look_at_labels(self) -> None:
        """Take many labels for numbers of objects, once for each layer."""
        mask = self.mask.value
        if self._looked_at is not None and self._looked_at[0] is mask:
            return
        self._looked_at = mask, None
        if isinstance(mask, Labels) and mask.ndim > 1:
            values = labels_in(mask.data)
            self._looked_at = mask, merged(values)
            self.numbered.value = why_numbers(values) is not None
        self._tell_merged()

    def _tell_merged(self) -> None:
        """Say what becomes of several labels, unless they are kept."""
        text = None if self._looked_at is None or self.numbered.value else self._looked_at[1]
        say(self.about, text)

    def python(self) -> list[str]:
        """The next run as Python code."""
        mask, image, config = self.mask.value, self.image.value, self.config()
        images = "None"
        if image is not None:
            data = f"{layer_code(image)}.data"
            parts = (
                f"{name!r}: {data}" + (f"[..., {index[1]}]" if image.rgb else "")
                for name, index in _channels(image).items()
            )
            images = f"{{{', '.join(parts)}}}"
        size = {"scale": config.scale, "spatial_dims": config.spatial_dims}
        measured = as_call(
            "table = nms.objects.measure", "objects", images, **size, skeleton=self.skeleton.value
        )
        name = f"{mask.name} objects"
        return [
            "from napari_metastructure.plugin.layers import place",
            f"mask = {layer_code(mask)}",
            "objects = mask.data"
            if self.is_numbered
            else as_call("objects = nms.objects.split", "mask.data", **as_settings(config)),
            measured,
            as_call("layer = viewer.add_labels", "objects", f"name={name!r}", "**place(mask)"),
            "layer.features = nms.objects.features(table, objects.max())",
        ]

    def _show_fields(self) -> None:
        self._look_at_labels()
        shown = {"mask", "image", "skeleton", *_FIELDS} - {"threshold", "split_depth"}
        if isinstance(self.mask.value, Image):
            shown.add("threshold")
        if self.form["method"].value == "watershed":
            shown.add("split_depth")
        if self.mask.value is not None and self.mask.value.ndim > 2:
            shown.add("dims")
        if self._looked_at[1] is not None:
            shown.add("numbered")
            if self.numbered.value:
                shown -= set(_FIELDS)
        self.form.show_only(shown)
        self._show_units()

    def _show_units(self) -> None:
        """Name the units of the mask beside the lengths and sizes to fill in."""
        if self.mask.value is None:
            return
        length = _unit(self.mask.value)
        size = f"{length}{_POWERS[_size(self._dims)]}"
        self.form.rename("smoothing", f"Smoothing [{length}]")
        self.form.rename("min_size", f"Smallest size [{size}]")
        self.form.rename("max_size", f"Largest size [{size}]")

    def _check(self) -> bool:
        problem = self.problem()
        self.panel.set_problem(problem)
        return problem is None

    def _on_form(self) -> None:
        self._show_fields()
        if self._check() and not self.is_numbered:
            self._preview_later()
        else:
            self._remove_preview()

    # ------------------------------------------------------------------ preview

    def _preview_later(self) -> None:
        if self.in_front and not self.panel.running:
            self._timer.start()

    def _follow_plane(self, event: Any = None) -> None:
        if self._preview.shown:
            self._preview_later()

    def _show_preview(self) -> None:
        layer = self.mask.value
        if not self._check() or layer is self._preview.layer:
            return
        index = plane_index(layer, self.viewer)
        plane = np.asarray(layer.data[index])
        if plane.size > _LARGEST_PREVIEW:
            say(self.about, "The plane is too large for a live preview.")
            return
        config = self.config()
        scale: Any = config.scale
        config = ObjectsConfig.of(config, spatial_dims=2, scale=scale[-2:])
        objects = split(plane, config)
        self._preview.draw(objects, place_plane(layer, index))
        where = "" if layer.ndim == 2 else " on this plane"
        text = f"Preview: {counted(objects.max(initial=0), 'object')}{where}."
        say(self.about, " ".join(filter(None, [text, self._looked_at[1]])))

    def _remove_preview(self) -> None:
        self._timer.stop()
        self._preview.remove()
        self._tell_merged()

    def hideEvent(self, event: Any) -> None:
        """Take the preview away with the dock."""
        super().hideEvent(event)
        self._remove_preview()

    def covered(self) -> None:
        """Take the preview away with its tab."""
        self._remove_preview()

    def closed(self) -> None:
        """Stop the job and take the preview away."""
        self.panel.abandon()
        self._remove_preview()

    # ------------------------------------------------------------------ run

    def run(self) -> None:
        """Split and measure in the background; the objects are a new layer."""
        if self._looked_at is not None and self._looked_at[1] is None:  # painted since, perhaps
            self._looked_at = None
            self._show_fields()
        mask, image, config = self.mask.value, self.image.value, self.config()
        self._remove_preview()
        channels = {} if image is None else _channels(image)
        images = {name: image.data[index] for name, index in channels.items()}
        skeleton, numbered = self.skeleton.value, self.is_numbered
        self._pending = mask.name, config, place(mask), mask, numbered
        job = Job(lambda job: _measuring(job, mask.data, images, config, skeleton, numbered))
        self.panel.start(job, "Measurement")

    def _on_event(self, event: Any) -> None:
        if not isinstance(event, Result) or event.stopped:
            return
        labels, self.table, self.summary = event.value
        name, config, placed, source, numbered = self._pending
        count, last = len(self.table), int(self.table["index"].max()) if len(self.table) else 0
        source.visible = False
        record = {"operation": "measure", "source": name, "config": config.model_dump(mode="json")}
        record["numbered"] = numbered
        layer = self.viewer.add_labels(
            labels, name=f"{name} objects", metadata={RECORD: record}, **placed
        )
        centres = _to_world(self.table, layer, config.scale)
        layer.features = features(self.table, last)
        layer.events.selected_label.connect(lambda event: self._go_to(layer, centres))
        covered = self.summary["coverage"].mean()
        self._unit = _unit(source)
        size = _size(config.spatial_dims)
        mean = (
            f", mean {size} {_short(self.table[size].mean())} {self._unit}{_POWERS[size]}"
            if count
            else ""
        )
        say(self.found, f"{counted(count, 'object')}{mean}, {covered:.1f} % covered.")
        self._show_table()

    def _go_to(self, layer: Labels, centres: dict[int, tuple[float, ...]]) -> None:
        """Show the frame and the place of the object that was chosen, as in napari's table."""
        point = centres.get(int(layer.selected_label))
        if point is None or layer not in self.viewer.layers:
            return
        first = self.viewer.dims.ndim - len(point)
        displayed = self.viewer.dims.displayed
        for axis, value in enumerate(point, start=first):
            if axis not in displayed:
                self.viewer.dims.set_point(axis, value)
        self.viewer.camera.center = tuple(
            point[axis - first] if axis >= first else 0 for axis in displayed
        )

    def _show_table(self) -> None:
        columns = [
            name
            for name in self.table.columns
            if not name.startswith(_PLACES) and len(self.table) and self.table[name].notna().any()
        ]
        self.column_box.choices = columns
        for widget in (self.results, self.plot):
            widget.setVisible(bool(columns))
        self.buttons.show()
        self._draw()

    def _draw(self) -> None:
        name = self.column_box.value
        if self.table is not None and name in self.table:
            unit = f" [{self._unit}{_POWERS[name]}]" if name in _POWERS else ""
            self.plot.draw(self.table[name].to_numpy(float), name.replace("_", " ") + unit)

    # ------------------------------------------------------------------ table

    def save(self, path: str | Path, table: Any) -> None:
        """Write a table as CSV."""
        try:
            table.to_csv(path, index=False)
        except OSError as error:
            notify_error(f"The table could not be saved: {error}")

    def _ask_and_save(self, name: str, table: Any) -> None:
        path = ask_where(self, "Save table", name, "CSV (*.csv)", lambda t: with_ending(t, ".csv"))
        if path is not None:
            self.save(path, table)


class Histogram(FollowsTheme, pg.PlotWidget):
    """How a measurement is distributed."""

    def __init__(self) -> None:
        super().__init__(background=None, enableMenu=False)
        self.hideButtons()
        self.setMouseEnabled(False, False)
        self.setLabel("left", "Objects")
        self.getAxis("left").enableAutoSIPrefix(False)
        self.getAxis("bottom").enableAutoSIPrefix(False)
        self.setFixedHeight(170)

    def draw(self, values: np.ndarray, title: str) -> None:
        """Show finite values in up to 40 bins."""
        values = values[np.isfinite(values)]
        self.clear()
        room = self.width() - _BESIDE_TITLE
        title = self.fontMetrics().elidedText(title, Qt.TextElideMode.ElideMiddle, room)
        self.setLabel("bottom", html.escape(title, quote=False))
        if values.size:
            bins = int(np.clip(np.sqrt(values.size) * 2, 5, 40))
            counts, edges = np.histogram(values, bins)
            self.plot(edges, counts, stepMode="center", fillLevel=0, brush=COLOURS[0], pen=None)


def _measuring(
    job: Job, mask: Any, images: dict, config: ObjectsConfig, skeleton: bool, numbered: bool
) -> Iterator[Any]:
    """Split and measure, frame by frame; the result: labels, table and summary."""
    import pandas as pd

    dims: Any = config.spatial_dims
    yield Progress("numbering" if numbered else "splitting", 0, 1)
    mask = frozen(mask)
    if numbered:
        mask = np.asarray(mask)
    labels = _once_each(mask, dims) if numbered else np.asarray(split(mask, config))
    lead = labels.shape[: labels.ndim - dims]
    size: dict[str, Any] = {"scale": config.scale, "spatial_dims": config.spatial_dims}
    given = mask if numbered and labels is not mask else None
    tables, parts = [], list(np.ndindex(lead))
    for done, index in enumerate(parts, start=1):
        if job.stopping:
            yield Result(None, stopped=True)
            return
        pixels = {name: np.asarray(image[index]) for name, image in images.items()}
        table = measure(labels[index], pixels, skeleton=skeleton, **size)
        if given is not None:
            table.insert(1, "label", np.unique(given[index][given[index] > 0]))
        for axis, at in reversed(list(enumerate(index))):
            table.insert(1, f"axis_{axis}", at)
        tables.append(table)
        yield Progress("measuring", done, len(parts))
    filled = [table for table in tables if len(table)] or tables[:1]
    yield Result((labels, pd.concat(filled, ignore_index=True), summary(labels, **size)))


def _once_each(labels: np.ndarray, dims: int) -> np.ndarray:
    """Labels that number objects, with further numbers where frames use the same ones."""
    frames = labels.reshape(-1, *labels.shape[labels.ndim - dims :])
    values = [np.unique(frame[frame > 0]) for frame in frames]
    every = np.concatenate(values)
    if len(np.unique(every)) == len(every):
        return labels
    found, first = np.zeros(frames.shape, np.int32), 1
    for frame, known, out in zip(frames, values, found):
        inside = frame > 0
        out[inside] = first + np.searchsorted(known, frame[inside])
        first += len(known)
    return found.reshape(labels.shape)


def _to_world(table: Any, layer: Labels, scale: tuple) -> dict[int, tuple[float, ...]]:
    """Put the centroids of a table into the world; returns the centre of each object."""
    letters = [f"centroid_{letter}" for letter in "zyx"[-len(scale) :]]
    lead = [name for name in table.columns if name.startswith("axis_")]
    if not len(table):
        return {}
    data = np.concatenate([table[lead].to_numpy(float), table[letters].to_numpy(float) / scale], 1)
    world = np.array([layer.data_to_world(point) for point in data])
    table[letters] = world[:, -len(scale) :]
    return {int(label): tuple(point) for label, point in zip(table["index"], world)}


def _size(spatial_dims: int) -> str:
    """What measures how large an object is."""
    return "area" if spatial_dims == 2 else "volume"


def _unit(layer: Any) -> str:
    """The layer's unit of length, as in ``µm`` or ``px``."""
    return f"{layer.units[-1]:~}"


def _short(number):
    """Four digits, or all before the point; no powers of ten for sizes in pixels."""
    return f"{number:.0f}" if 1000 <= number < 1e7 else f"{number:.4g}"


def _channels(image: Image) -> dict[str, Any]:
    """What is measured in an image, by name: the index into its data."""
    if not image.rgb:
        return {image.name: (...,)}
    return {f"{image.name} {colour}": (..., k) for k, colour in enumerate(_COLOURS)}


def _is_mask(layer: Any) -> bool:
    return (isinstance(layer, Labels) and not layer.multiscale) or (
        _is_image(layer) and not layer.rgb and np.dtype(layer.data.dtype).kind == "f"
    )


def _is_image(layer: Any) -> bool:
    return isinstance(layer, Image) and not layer.multiscale
