"""A strip of pictures: the best start masks of the current plane; a click takes one."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from napari import Viewer
from napari.qt.threading import create_worker
from numpy.typing import NDArray
from qtpy.QtCore import QSize, Qt, QTimer, Signal
from qtpy.QtGui import QIcon, QImage, QPixmap
from qtpy.QtWidgets import QGridLayout, QPushButton, QToolButton, QVBoxLayout, QWidget

from napari_metastructure.arrays.blocks import evenly
from napari_metastructure.plugin.layers import Source
from napari_metastructure.plugin.parts.colours import COLOURS
from napari_metastructure.plugin.parts.dock import note, say
from napari_metastructure.plugin.parts.live import LiveLayer
from napari_metastructure.plugin.parts.run_panel import notify_error

__all__ = ["Gallery"]

_COUNT, _COLUMNS, _SIDE = 6, 3, 96
_MILLISECONDS = 400  # of rest, before the pictures follow the sliders or the strokes
_COLOUR = np.array([255, 140, 0])
_OPACITY = 0.45


class Gallery(QWidget):
    """Start masks of the plane in view, made in the background; a click takes one as the start.

    Parameters
    ----------
    viewer : napari.Viewer
    source : callable
        Returns the image as it is read (`Source`), or None while there is none.
    strokes : callable, optional
        ``strokes(index)`` returns the strokes of a plane (y, x) by its index, (..., z), or None;
        the ranking follows them.

    Attributes
    ----------
    picked : Signal(str, str)
        Name and polarity of the start that was clicked.
    """

    picked = Signal(str, str)

    def __init__(
        self,
        viewer: Viewer,
        source: Callable[[], Source | None],
        strokes: Callable[[tuple], NDArray | None] = lambda index: None,
    ) -> None:
        super().__init__()
        self.viewer, self._source, self._strokes = viewer, source, strokes
        self.pictures: list[tuple[Any, NDArray]] = []
        self._worker: Any = None
        self._watched: Source | None = None
        self._shown_at: tuple[Source, dict] | None = None  # where the pictures belong
        self._taken: tuple[str, str] | None = None
        self._fields: dict[tuple, NDArray | None] = {}  # dark surroundings of an image's planes
        self._doubt = ""
        self._live = LiveLayer(viewer, "labels", "live start mask")
        self._rest = QTimer(self, interval=_MILLISECONDS, singleShot=True)
        self._rest.timeout.connect(self.refresh)
        self._build()
        viewer.dims.events.current_step.connect(self.follow)

    def _build(self) -> None:
        self.button = QPushButton("Suggest start masks")
        self.button.setToolTip("Masks of the current plane from simple filters, the best first.")
        self.button.clicked.connect(self.refresh)
        self.hint = note()
        self.tiles = [QToolButton() for _ in range(_COUNT)]
        grid = QGridLayout()
        for number, tile in enumerate(self.tiles):
            tile.setIconSize(QSize(_SIDE, _SIDE))
            tile.setCheckable(True)
            tile.setStyleSheet(f"QToolButton:checked {{border: 2px solid {COLOURS[1]}}}")
            tile.clicked.connect(lambda _=False, number=number: self._pick(number))
            tile.hide()
            grid.addWidget(tile, number // _COLUMNS, number % _COLUMNS)
        grid.setColumnStretch(_COLUMNS, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.button)
        layout.addWidget(self.hint)
        layout.addLayout(grid)

    @property
    def running(self) -> bool:
        """Whether pictures are being made."""
        return self._worker is not None

    def follow(self, event: Any = None) -> None:
        """Make the pictures anew after a moment of rest, once they have been asked for."""
        if self._watched is not None:
            self._rest.start()

    def suggest(self, confidence: dict) -> None:
        """Offer pictures where a run's confidence in its start (of its record) is low."""
        if confidence.get("level") == "low":
            self.refresh()
            reasons = "; ".join(confidence["reasons"])
            self._doubt = f"Low confidence: {reasons}. Choose a mask below, or paint a few strokes."
            say(self.hint, self._doubt)

    def refresh(self) -> None:
        """Make pictures of the plane in view, in the background."""
        self.stop()
        source = self._source()
        if source is None:
            return
        planes = source.layout.spatial_dims == 2
        source = replace(source, layout=replace(source.layout, spatial_dims=2))
        index = source.plane_index(self.viewer)
        plane, strokes = _plane(source, index), self._strokes(index)
        strokes = None if strokes is None else np.array(strokes)
        self._watched, at = source, (source, source.place_plane(index))
        say(self.hint, "making start masks …")
        dark = partial(self._dark_surroundings, source) if planes else lambda: None
        worker = create_worker(
            _pictures, plane, strokes, dark, _start_thread=False, _ignore_errors=True
        )
        worker.yielded.connect(lambda pictures: self._show(worker, pictures, plane, at))
        worker.errored.connect(notify_error)
        worker.finished.connect(lambda: self._finished(worker, at))
        self._worker = worker
        worker.start()

    def _dark_surroundings(self, source: Source) -> NDArray | None:
        """Surroundings that the planes of an image share, looked for once; in the worker."""
        from napari_metastructure.few_labels.field_of_view import MOST_PLANES, field_of_view

        key = source.layer, id(source.layer.data), source.level, source.layout
        if key not in self._fields:
            chosen = evenly(list(np.ndindex(*source.shape[:-2])), MOST_PLANES)
            self._fields[key] = field_of_view([_plane(source, index) for index in chosen])
        return self._fields[key]

    def stop(self) -> None:
        """End the making of pictures."""
        self._rest.stop()
        if self._worker is not None:
            self._worker.quit()
            self._worker = None

    def clear(self) -> None:
        """Stop, forget the pictures and take the live layer away."""
        self.stop()
        self._watched, self._doubt = None, ""
        self._fields.clear()
        self._forget()
        say(self.hint, None)
        self.take_away()

    def take_away(self) -> None:
        """Take the live layer of the mask that was clicked away."""
        self._live.remove()

    def _forget(self) -> None:
        """Show no pictures."""
        self.pictures, self._shown_at = [], None
        for tile in self.tiles:
            tile.hide()

    def _show(self, worker: Any, pictures: list, plane: NDArray, at: tuple[Source, dict]) -> None:
        if worker is not self._worker or not pictures:
            return
        from napari_metastructure.few_labels.filters import describe

        self.pictures, self._shown_at = pictures, at
        for number, tile in enumerate(self.tiles):
            tile.setVisible(number < len(pictures))
            if number < len(pictures):
                start, mask = pictures[number]
                tile.setIcon(_icon(plane, mask))
                words = describe(start.name)
                tile.setToolTip(f"{start.name}, {start.polarity} structures: {words}")
        self._mark()

    def _mark(self) -> None:
        """Frame the picture of the start that was taken, if it is among them."""
        for tile, (start, _) in zip(self.tiles, self.pictures):
            tile.setChecked((start.name, start.polarity) == self._taken)

    def _finished(self, worker: Any, at: tuple[Source, dict]) -> None:
        if worker is not self._worker:
            return
        self._worker = None
        if self._shown_at is not at:  # those of another plane
            self._forget()
        text = self._doubt or "Click on the mask that fits best. The network starts from it."
        say(self.hint, text if self.pictures else "No start mask can be made of this plane.")

    def _pick(self, number: int) -> None:
        """Take a picture as the start, and show it on the plane that it was made of."""
        if number >= len(self.pictures) or self._shown_at is None:
            return
        (start, mask), (source, place) = self.pictures[number], self._shown_at
        self._live.draw(source.shaped(mask.astype(np.uint8)), place)
        self._doubt, self._taken = "", (start.name, start.polarity)
        self._mark()
        self.picked.emit(*self._taken)


def _plane(source: Source, index: tuple) -> NDArray:
    """The plane in view; of channels the mean, each normalised."""
    plane = np.array(source.canonical[index])
    if source.layout.input_axis is not None:
        channels = plane.reshape(len(plane), -1).astype(np.float32)
        mean, deviation = channels.mean(axis=1), channels.std(axis=1)
        channels = (channels - mean[:, None]) / np.where(deviation > 0, deviation, 1)[:, None]
        plane = channels.mean(axis=0).reshape(plane.shape[1:])
    return plane


def _pictures(
    plane: NDArray, strokes: NDArray | None, dark: Callable[[], NDArray | None]
) -> Iterator[list]:
    from napari_metastructure.few_labels.gallery import gallery

    yield from gallery(plane, strokes=strokes, count=_COUNT, dark=dark())


def _icon(plane: NDArray, mask: NDArray) -> QIcon:
    """The plane in grey with the mask over it in orange."""
    step = max(1, max(plane.shape) // (2 * _SIDE))
    grey = plane[::step, ::step].astype(np.float32)
    low, high = np.percentile(grey, (1, 99))
    grey = np.clip((grey - low) / max(high - low, 1e-9), 0, 1) * 255
    share = _OPACITY * mask[::step, ::step, None]
    picture = (1 - share) * grey[..., None] + share * _COLOUR
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    height, width = picture.shape[:2]
    image = QImage(picture.data, width, height, 3 * width, QImage.Format.Format_RGB888)
    return QIcon(
        QPixmap.fromImage(image.copy()).scaled(
            _SIDE,
            _SIDE,
            Qt.AspectRatioMode.KeepAspectRatio,
            Qt.TransformationMode.SmoothTransformation,
        )
    )
