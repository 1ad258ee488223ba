"""Paint strokes, and see at once what a classifier makes of them."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from napari.layers import Labels
from napari.qt.threading import create_worker
from qtpy.QtCore import QTimer, Signal
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QCheckBox, QGridLayout, QPushButton, QVBoxLayout, QWidget

from napari_metastructure.labels.strokes import MOST_CLASSES, check_values, values_in
from napari_metastructure.plugin.keys import with_key
from napari_metastructure.plugin.layers import RECORD, place, unwrapped
from napari_metastructure.plugin.parts.again import layer_code
from napari_metastructure.plugin.parts.dock import note, say
from napari_metastructure.plugin.parts.form import Form
from napari_metastructure.plugin.parts.live import LiveLayer
from napari_metastructure.plugin.parts.stroke_layer import (
    STROKES,
    bring_up,
    class_colors,
    class_names,
    new_stroke_layer,
    ready_to_paint,
    restore_strokes,
    result_colors,
    save_strokes,
    saved_strokes_path,
    uncertainty_colors,
)
from napari_metastructure.words import counted

__all__ = ["StrokesPanel", "may_hold_strokes"]

_SETTLE = 60  # ms after the last change
_SAVE_AFTER = 1000  # ms
_REDRAW = 100  # ms
_COLUMNS = 3  # of buttons of classes
_QUICKLY_READ = 2**22  # pixels: larger layers are looked at in a thread


def may_hold_strokes(layer: Any) -> bool:
    """Whether a layer can be chosen for strokes: labels that are no result of ours."""
    if not isinstance(layer, Labels) or layer.multiscale:
        return False
    return layer.metadata.get(RECORD, {}).get("operation", STROKES) == STROKES


class StrokesPanel(QWidget):
    """The layer to paint on, its classes, and the live result.

    Parameters
    ----------
    dock : Dock
        Its viewer and layer choices are used.
    sources : callable
        ``sources()`` returns the `Source` of each image of the set; the first is painted on.

    Attributes
    ----------
    changed : Signal
        Strokes were painted, or another layer was chosen.
    shown : Signal(dict, tuple)
        What the strokes gave is shown now, at this place and of this shape.
    """

    changed = Signal()
    shown = Signal(dict, tuple)

    def __init__(self, dock: Any, sources: Callable) -> None:
        super().__init__()
        self.viewer, self._sources = dock.viewer, sources
        self.worker = self.live = None
        self._live_key = self._learned = self._drawn = None
        self._watched_layer: Any = None
        self._image: Any = None  # whose strokes are chosen
        self._made_for: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()  # image, by strokes
        self._doing: str | None = None  # of the worker: "learn", "predict", "search"
        self._values: set[int] = set()
        self._wanted = None  # what to do when the worker has ended: "learn", "predict", "search"
        self._brush_down = False
        self._is_new = False  # whether the strokes were learned since a result was shown
        self._overlay = LiveLayer(
            self.viewer,
            "labels",
            "live segmentation",
            opacity=0.5,
            colormap=result_colors(),
        )
        self._doubt = LiveLayer(
            self.viewer,
            "image",
            "uncertainty",
            colormap=uncertainty_colors(),
            contrast_limits=(0, 1),
            opacity=0.8,
        )
        self._build(dock)
        self._changes = self._timer(_SETTLE, self._on_settled)
        self._saving = self._timer(_SAVE_AFTER, self._save)
        self._redraw = self._timer(_REDRAW, self._refresh_layers)
        self.viewer.dims.events.current_step.connect(self._on_view)
        self.viewer.camera.events.zoom.connect(self._on_view)
        self.viewer.camera.events.center.connect(self._on_view)
        self._looking = self._timer(250, self._look_again)
        self.actions = {
            "update": self.update_now,
            "next_place": self.find_next_place,
            "toggle_overlay": self.overlay_box.toggle,
            "toggle_uncertainty": self.doubt_box.toggle,
        }

    def _timer(self, interval, action):
        timer = QTimer(self, interval=interval, singleShot=True)
        timer.timeout.connect(action)
        return timer

    # ------------------------------------------------------------------ layout

    def _build(self, dock):
        self.paint_button = _button(
            "Paint strokes",
            "Add a layer for strokes and take the brush. Paint short strokes of label 1 on "
            "the background and of label 2 on objects, on any plane.",
            self.paint,
        )
        self.restore_button = _button(
            "Restore strokes of an earlier session",
            "Strokes are saved while you paint.",
            self.restore,
        )
        self.choice = dock.choose_layer(
            "strokes",
            "Strokes",
            may_hold_strokes,
            optional=True,
            tooltip="A Labels layer: 0 not annotated, 1 background, 2 object, 3 ... more classes.",
        )
        self.form = Form().add(self.choice)
        self.choice.changed.connect(self._on_chosen)
        self.classes = QGridLayout()
        self.add_class_button = _button("Add class", "Add one more kind of object.", self.add_class)
        self.live_box = QCheckBox("Live")
        self.live_box.setChecked(True)
        self.live_box.setToolTip(
            "After each stroke, show the result for the part of the image in view."
        )
        self.live_box.toggled.connect(lambda on: on and self.request("learn"))
        self.update_button = _button(
            "Update",
            with_key("Show the result for the part of the image in view once.", "update"),
            self.update_now,
        )
        self.overlay_box = QCheckBox("Result")
        self.overlay_box.setChecked(True)
        self.overlay_box.setToolTip(with_key("Show or hide the live result.", "toggle_overlay"))
        self.overlay_box.toggled.connect(self._toggle_layers)
        self.doubt_box = QCheckBox("Uncertainty")
        self.doubt_box.setToolTip(
            with_key("Show where the two most probable classes are close.", "toggle_uncertainty")
        )
        self.doubt_box.toggled.connect(self._toggle_layers)
        self.next_button = _button(
            "Next place",
            with_key(
                "Go to where the classifier is least certain: a stroke there helps most.",
                "next_place",
            ),
            self.find_next_place,
        )
        self.note = note()
        grid = QGridLayout()
        for number, part in enumerate((self.live_box, self.overlay_box, self.doubt_box)):
            grid.addWidget(part, 0, number)
        grid.addWidget(self.update_button, 1, 0)
        grid.addWidget(self.next_button, 1, 1, 1, 2)
        self._painting = QWidget()
        inner = QVBoxLayout(self._painting)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addLayout(self.classes)
        inner.addWidget(self.add_class_button)
        inner.addLayout(grid)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for part in (self.paint_button, self.restore_button, self.form, self._painting, self.note):
            layout.addWidget(part)
        self.num_classes = 2
        self.refresh()

    def refresh(self) -> None:
        """Offer what can be done with the image and the layer that are chosen."""
        source = self._first()
        self._follow_image(source)
        self.paint_button.setEnabled(source is not None)
        self.restore_button.setVisible(
            source is not None and self.layer is None and saved_strokes_path(source).exists()
        )
        self.form.show_only({"strokes"} if len(self.choice.choices) > 1 else set())
        self._painting.setVisible(self.layer is not None)

    def _follow_image(self, source):
        """With another image, take up the strokes made for it in place of those for another."""
        image = None if source is None else source.layer
        before, self._image = self._image, image
        if image is None or before is None or image is before:
            return
        layer, own = self.choice.value, self._layer_of(source)
        if own is not None or self._is_for_another(layer, image):
            self.choice.value = own
        self.clear()  # what is shown is the other image's
        kept = layer is not None and self.layer is layer
        if kept and self.values() and self.live_box.isChecked():
            self.request("learn")

    def _is_for_another(self, layer, image):
        """Whether a layer was made for strokes on another image that is still there."""
        made_for = None if layer is None else self._image_of(layer)
        return made_for is not None and made_for is not image

    def _image_of(self, strokes):
        """The image that a stroke layer was made for, if it is still there."""
        image = self._made_for.get(strokes)
        if image is None:  # of another dock, or of an earlier one
            record = strokes.metadata.get(RECORD, {})
            known = record.get("operation") == STROKES and record.get("applied_to")
            image = next((one for one in self.viewer.layers if one.name == known), None)
        return image if image in self.viewer.layers else None

    def _show_classes(self):
        while self.classes.count():
            button = self.classes.takeAt(0).widget()
            button.hide()
            button.deleteLater()
        pairs = zip(class_names(self.num_classes), class_colors(self.num_classes))
        for value, (name, color) in enumerate(pairs, 1):
            swatch = QPixmap(14, 14)
            swatch.fill(QColor(color))
            button = _button(
                name, f"Paint {name} (label {value}).", lambda *_, v=value: self.take_class(v)
            )
            button.setIcon(QIcon(swatch))
            self.classes.addWidget(button, (value - 1) // _COLUMNS, (value - 1) % _COLUMNS)

    def _offer(self, values):
        """Buttons for all classes that were painted, some perhaps with a label that was typed."""
        most = min(max({self.num_classes, *values}), MOST_CLASSES)
        if most > self.num_classes:
            self.num_classes = most
            self._show_classes()

    # ------------------------------------------------------------------ the layer

    @property
    def layer(self) -> Any:
        """The chosen stroke layer, if it is still there and fits the image."""
        layer, source = self.choice.value, self._first()
        if layer is None or source is None or layer not in self.viewer.layers:
            return None
        return layer if source.fits(layer) or _shape_fits(layer, source) else None

    def _first(self):
        sources = self._sources()
        return sources[0] if sources else None

    def paint(self) -> None:
        """Make a layer to paint on, or take up the one there is."""
        source, layer = self._first(), self.layer
        if layer is None:
            layer = self._new_layer(source)
            self._take(layer)
        ready_to_paint(self.viewer, layer, source.shape)

    def restore(self) -> None:
        """Take up the strokes of an earlier session."""
        source = self._first()
        strokes = restore_strokes(saved_strokes_path(source), source.shape)
        if strokes is None:
            say(self.note, "The earlier strokes do not fit this image.")
            return
        self.show_strokes(strokes)

    def show_strokes(self, strokes: Any, number: int = 0) -> None:
        """A new stroke layer with these strokes on an image of the set, the first by default."""
        layer = self._new_layer(self._sources()[number], strokes)
        if number == 0:
            self._take(layer)

    def _new_layer(self, source, strokes=None):
        layer = new_stroke_layer(self.viewer, source, data=strokes)
        self._made_for[unwrapped(layer)] = source.layer
        return layer

    def _take(self, layer):
        self.choice.reset_choices()
        self.choice.value = layer

    def add_class(self) -> None:
        """One class more, with the brush on it."""
        self.num_classes = min(self.num_classes + 1, MOST_CLASSES)
        self._show_classes()
        self.take_class(self.num_classes)

    def take_class(self, value: int) -> None:
        """Paint this class from now on."""
        layer = self.layer
        if layer is not None:
            layer.selected_label = value
            bring_up(self.viewer, layer)
            if layer.mode not in ("paint", "fill", "polygon"):
                layer.mode = "paint"

    def strokes(self, *, copy: bool = True) -> list:
        """Strokes of each image, in its shape without channels; zeros where there are none.

        Parameters
        ----------
        copy : bool
            Otherwise they are to be read only, and change while the user paints.
        """
        found = []
        for number, source in enumerate(self._sources()):
            layer = self.layer if number == 0 else self._layer_of(source)
            found.append(
                np.zeros(source.shape, np.uint8)
                if layer is None
                else np.array(layer.data, copy=copy or None).reshape(source.shape)
                if _shape_fits(layer, source)
                else np.asarray(source.labels(layer))
            )
        return found

    def keep(self, strokes: list) -> None:
        """Show what was painted on results as strokes, that it counts from now on; can be undone.

        Parameters
        ----------
        strokes : list of arrays
            As from `strokes`, with more in them.
        """
        kept = 0
        for number, (source, one) in enumerate(zip(self._sources(), strokes)):
            layer = self.layer if number == 0 else self._layer_of(source)
            if layer is None or not isinstance(layer.data, np.ndarray):
                if layer is None and one.any():
                    self.show_strokes(one, number)
                continue
            if layer.data.size != one.size:
                continue
            one = one.reshape(layer.data.shape)
            changed = layer.data != one
            if changed.any():
                kept += int(np.count_nonzero(changed))
                layer.data_setitem(np.nonzero(changed), one[changed])
                layer.data[...] = one  # on a sheared layer, napari writes into the plane in view
                layer.refresh()
                if number == 0:
                    self._learned, self._values = _look_at(layer.data)
                    self._offer(self._values)
                    self._saving.start()
        if kept:
            now = "is a stroke" if kept == 1 else "are strokes"
            say(self.note, f"{counted(kept, 'corrected pixel')} {now} now.")

    def code(self, name: str, source: Any) -> Any:
        """The strokes of a source, as Python code; `name` is the source in it."""
        first = source.layer is self._first().layer
        layer = self.layer if first else self._layer_of(source)
        if layer is None:
            return f"np.zeros({name}.shape, np.uint8)"
        if _shape_fits(layer, source):
            cut = f"[{name}.box or ...]"
            return f"{layer_code(layer)}.data.reshape({name}.layout.label_shape){cut}"
        return f"{name}.labels({layer_code(layer)})"

    def problem(self) -> str | None:
        """Why nothing can be learnt from the strokes, in one sentence; None if something can."""
        found = self.values()
        for source in self._sources()[1:]:
            layer = self._layer_of(source)
            found |= set() if layer is None else values_in(np.asarray(layer.data))
        try:
            check_values(found)
        except ValueError as error:
            return str(error)
        return None

    def values(self) -> set[int]:
        """The values on the stroke layer, other than 0; of a large one, as they were last seen."""
        layer = self.layer
        if layer is None:
            return set()
        if layer is self._watched_layer and layer.data.size > _QUICKLY_READ:
            return set(self._values)
        return values_in(np.asarray(layer.data))

    def _layer_of(self, source):
        """The stroke layer that was made for a further image of the set."""
        for layer in self.viewer.layers:
            if may_hold_strokes(layer) and self._image_of(layer) is source.layer:
                return layer
        return None

    def _on_chosen(self, _value=None):
        layer, old = self.layer, self._watched_layer
        if layer is old:
            return
        if old is not None:
            old.events.paint.disconnect(self._on_change)
            old.events.set_data.disconnect(self._on_change)
            if self._on_drag in old.mouse_drag_callbacks:
                old.mouse_drag_callbacks.remove(self._on_drag)
        self._watched_layer = layer
        say(self.note, None)  # it is about the other layer
        if layer is not None:
            layer.events.paint.connect(self._on_change)
            layer.events.set_data.connect(self._on_change)
            layer.mouse_drag_callbacks.append(self._on_drag)
            self._values = values_in(np.asarray(layer.data))
            self.num_classes = 2
            self._show_classes()
            self._offer(self._values)
            self._on_change()
        self._learned = None
        self.clear()
        self.refresh()
        self.changed.emit()

    def _on_drag(self, _layer, event):
        self._brush_down = True
        yield
        while event.type == "mouse_move":
            yield
        self._brush_down = False
        self._changes.start()

    def _on_change(self, _event=None):
        self._changes.start()

    def _on_settled(self):
        """The strokes have not changed for a moment."""
        layer = self.layer
        if self._brush_down or layer is None:
            return
        if layer.data.size <= _QUICKLY_READ:
            self._on_looked_at(layer, *_look_at(layer.data))
            return
        worker = create_worker(_look_at, layer.data, _start_thread=False, _ignore_errors=True)
        worker.returned.connect(lambda found: self._on_looked_at(layer, *found))
        worker.start()

    def _on_looked_at(self, layer, checksum, values):
        """The strokes as they are now are known."""
        if layer is not self.layer or checksum == self._learned:
            return
        first, self._learned, self._values = self._learned is None, checksum, values
        self._offer(values)
        if first and not values:
            return
        self._saving.start()
        self.changed.emit()
        problem = self.problem()
        if problem:
            self.clear()
            say(self.note, problem)
        elif self.live_box.isChecked():
            self.request("learn")

    def _save(self):
        source, layer = self._first(), self.layer
        if layer is None:
            return
        worker = create_worker(
            save_strokes,
            saved_strokes_path(source),
            self.strokes(copy=False)[0],
            source.name,
            _start_thread=False,
            _ignore_errors=True,
        )
        worker.errored.connect(lambda error: say(self.note, f"Strokes were not saved: {error}"))
        worker.start()

    # ------------------------------------------------------------------ the live result

    def update_now(self) -> None:
        """Show the result of what is in view once."""
        self.request("learn")

    def find_next_place(self) -> None:
        """Go where a stroke would help most."""
        self.request("search")

    def request(self, what: Any) -> None:
        """Do this as soon as the present work is given up: "learn", "predict" or "search"."""
        if self.layer is None:
            return
        if self.worker is not None:
            if what != "predict" or self._wanted is None:
                self._wanted = what
            if what != "predict" or self._doing != "search":
                self.live.cancelled = True
            return
        self._start(what)

    def _start(self, what):
        self._wanted, self._doing = None, what
        sources, strokes = self._sources(), self.strokes(copy=False)
        self.live = self._classifier_for(sources)
        self.live.cancelled = False
        view = self._view(sources[0])
        if what == "search":
            work = self.live.next_place(strokes, view)
            say(self.note, "Looking for the place where a stroke helps most …")
        else:
            work = self.live.update(strokes, view, learn=what == "learn")
            if self._drawn is None and what == "learn":
                say(self.note, "Learning the strokes …")
        self.worker = create_worker(_passed_on, work, _start_thread=False, _ignore_errors=True)
        self.worker.yielded.connect(self._on_event)
        self.worker.errored.connect(self._on_error)
        self.worker.finished.connect(self._on_finished)
        self.worker.start()

    def _classifier_for(self, sources):
        """The classifier at hand, or a new one where the images are read in another way."""
        from napari_metastructure.plugin.parts.live_strokes import LiveClassifier

        key = [(id(s.layer.data), s.layout, s.level) for s in sources]
        if self.live is None or key != self._live_key:
            layout = sources[0].layout
            self.live = LiveClassifier(
                [source.canonical for source in sources],
                layout.spatial_dims,
                layout.input_axis is not None,
                layout.anisotropy,
            )
            self._live_key = key
        return self.live

    def _view(self, source):
        """What is in view of the first image."""
        from napari_metastructure.plugin.parts.live_strokes import View

        dims = source.layout.spatial_dims
        planes = replace(source, layout=replace(source.layout, spatial_dims=2))
        index = planes.plane_index(self.viewer)
        leading, within = index[: len(source.shape) - dims], index[len(source.shape) - dims :]
        box = [slice(k, k + 1) for k in within]
        low, high = self._corners(source)
        for axis, side in enumerate(source.shape[-2:]):
            start = int(np.clip(low[axis], 0, side - 1))
            box.append(slice(start, max(start + 1, int(min(high[axis] + 1, side)))))
        return View(leading, tuple(box))

    def _corners(self, source):
        """First and last (y, x) pixels that the canvas shows; all where that is not known."""
        shape, layer = source.shape[-2:], source.layer
        axis = source.layout.channel_axis
        last_are_spatial = source.layout.rgb or axis is None or axis < len(source.layout.shape) - 2
        if layer.multiscale or not last_are_spatial or self.viewer.dims.ndisplay != 2:
            return (0, 0), shape
        low, high = np.asarray(layer.corner_pixels)[:, -2:]
        return (low, high) if np.all(high > low) else ((0, 0), shape)

    def _on_event(self, event):
        kind = type(event).__name__
        if kind == "Learned":
            self._is_new = True
            say(
                self.note,
                f"Estimated error of the classifier: at least {100 * event.oob_error:.1f} % "
                f"({event.pixels} pixels on {counted(event.planes, 'plane')}).",
            )
        elif kind == "Piece" and not self.live.cancelled:
            self._draw(event)
        elif kind == "Place":
            self._go_to(event)

    def _on_error(self, error):
        say(self.note, str(error))

    def _on_finished(self):
        self.worker = None
        if self._wanted is not None and self.layer is not None:
            self._start(self._wanted)

    def _draw(self, piece):
        """Take a piece into the plane that is shown, and redraw soon."""
        source = self._first()
        if source is None:
            return
        shape = source.shape[len(piece.index) :]
        if self._drawn is None or self._drawn[0] != (piece.index, shape):
            planes = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
            self._drawn = (piece.index, shape), planes
            self._arrange()
        for plane, part in zip(self._drawn[1], (piece.labels, piece.uncertainty)):
            target = plane[piece.box]
            if piece.step > 1:
                part = part.repeat(piece.step, axis=-1).repeat(piece.step, axis=-2)
                part = part[..., : target.shape[-2], : target.shape[-1]]
            target[...] = part
        self._tell_shown()
        if not self._redraw.isActive():
            self._redraw.start()

    def _refresh_layers(self):
        for live in (self._overlay, self._doubt):
            if live.shown and live.layer.visible:
                live.layer.refresh(extent=False)

    def _arrange(self):
        """The live layers lie below the strokes."""
        self._toggle_layers()
        self.put_on_top()

    def put_on_top(self) -> None:
        """Let the strokes lie over all other layers."""
        layer, layers = self.layer, self.viewer.layers
        if layer is not None and layers.index(layer) != len(layers) - 1:
            layers.move(layers.index(layer), len(layers))

    def _toggle_layers(self, _on=None):
        """Show what was drawn; the uncertainty gets a layer, which takes time, once asked for."""
        source = self._first()
        if self._drawn is None or source is None:
            return
        (index, _), planes = self._drawn
        where, asked = source.place_plane(index), self.doubt_box.isChecked()
        self._overlay.draw(source.shaped(planes[0]), where)
        self._overlay.layer.visible = self.overlay_box.isChecked()
        is_new = asked and not self._doubt.shown
        if asked or self._doubt.shown:
            self._doubt.draw(source.shaped(planes[1]), where)
            self._doubt.layer.visible = asked
        if is_new:
            self.put_on_top()
        self._tell_shown()

    def _tell_shown(self):
        """Tell once of what the strokes gave, as soon as it can be seen."""
        layer = self._overlay.layer
        if self._is_new and self._overlay.shown and layer.visible:
            self._is_new = False
            self.shown.emit(place(layer), layer.data.shape)

    def _on_view(self, _event=None):
        """Another plane or another part is in view."""
        if self.live_box.isChecked() and self.layer is not None and self.live is not None:
            self._looking.start()

    def _look_again(self):
        """Follow the view while a live result is shown, or on its way; not over a later one."""
        coming = self.worker is not None and self._doing != "search"
        if self._drawn is not None or coming:
            self.request("predict")

    def _go_to(self, place):
        """Show a pixel in the middle of the canvas."""
        layer, source = self.layer, self._first()
        if layer is None:
            return
        source.show([*place.index, *place.pixel], self.viewer)
        self.viewer.camera.zoom = max(self.viewer.camera.zoom, 1)
        where = f"plane {', '.join(map(str, place.index))}, " if place.index else ""
        say(self.note, f"Least certain: {where}around {', '.join(map(str, place.pixel))}.")
        ready_to_paint(self.viewer, layer, source.shape)

    # ------------------------------------------------------------------ the end

    def clear(self, *, drawn: bool = True) -> None:
        """Take the live layers away; `drawn` as in `LiveLayer.remove`."""
        if self.live is not None:
            self.live.cancelled = True
        self._wanted = None
        for live in (self._overlay, self._doubt):
            live.remove(drawn=drawn)
        self._drawn = None

    def close_down(self) -> None:
        """Let go of the viewer, as when the dock is closed."""
        self.clear()
        for event in (
            self.viewer.dims.events.current_step,
            self.viewer.camera.events.zoom,
            self.viewer.camera.events.center,
        ):
            event.disconnect(self._on_view)
        for timer in (self._changes, self._saving, self._redraw, self._looking):
            timer.stop()


def _passed_on(work):
    yield from work


def _look_at(strokes):
    """A checksum of strokes, and the values that occur."""
    strokes = np.ascontiguousarray(strokes)
    return zlib.crc32(strokes), values_in(strokes)


def _shape_fits(layer, source):
    """Whether a layer has the image's shape, but for axes of a single pixel."""
    return tuple(n for n in layer.data.shape if n > 1) == tuple(n for n in source.shape if n > 1)


def _button(text, tooltip, action):
    button = QPushButton(text)
    button.setToolTip(tooltip)
    button.clicked.connect(lambda *_: action())
    return button
