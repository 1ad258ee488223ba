"""Layers that follow a running job, and the plane that it previews."""

from typing import Any

import numpy as np
from qtpy.QtCore import QTimer

from napari_metastructure.plugin.layers import RECORD, hide_results, made_by, unwrapped
from napari_metastructure.plugin.parts.pauses import note_new, set_aside

__all__ = ["LIVE", "LiveLayer", "Watched"]

LIVE = "live"
"""As the operation in a layer's record: it is drawn again and again, and no input."""
PROBABILITY = {"colormap": "magma", "contrast_limits": (0, 1)}


class LiveLayer:
    """A layer of one plane that is drawn again and again, and removed in the end.

    The image shows through it, unless the options say otherwise.

    Parameters
    ----------
    viewer : napari.Viewer
    kind : {"image", "labels"}
    name : str
    **options
        Keyword arguments for the new layer.
    """

    def __init__(self, viewer: Any, kind: Any, name: str, **options: Any) -> None:
        self.viewer, self.kind, self.name = viewer, kind, name
        self.options = {"metadata": {RECORD: {"operation": LIVE}}, "opacity": 0.6, **options}
        self.layer: Any = None
        self._another_goes = False  # a layer is being removed

    @property
    def shown(self) -> bool:
        """Whether the layer is there."""
        return self.layer is not None and self.layer in self.viewer.layers

    def draw(self, plane: Any, place: Any) -> None:
        """Show a plane at its place (`layers.place_plane`)."""
        data = plane.reshape(_shape_in_layer(plane, place))
        if not self.shown:
            active = self.viewer.layers.selection.active
            add = getattr(self.viewer, f"add_{self.kind}")
            set_aside()
            self.layer = add(data, name=self.name, **self.options, **place)
            note_new(unwrapped(self.layer))
            self.viewer.layers.events.removing.connect(self._on_removing)
            if active is not None:
                self.viewer.layers.selection.active = active
            return
        self.layer.data = data
        for name, value in place.items():
            setattr(self.layer, name, value)

    def remove(self, *, drawn: bool = True) -> None:
        """Take the layer away.

        Where layers go one after the other with nothing drawn in between, napari (0.9) with Mesa
        reads freed memory when it draws again, and the program crashes. So while another layer
        is being removed, perhaps the one that this one is about, this one waits until it has gone.

        Parameters
        ----------
        drawn : bool
            Draw the canvas first; not needed where layers are added before it is drawn again.
        """
        viewer, layer, waits = self.viewer, self.layer, self._another_goes
        if self.shown:
            viewer.layers.events.removing.disconnect(self._on_removing)
            if waits and drawn:
                QTimer.singleShot(0, lambda: _remove(viewer, layer))
            elif drawn:
                _remove(viewer, layer)
            else:
                viewer.layers.remove(layer)
        self.layer = None

    def _on_removing(self, event):
        if made_by(self.viewer.layers[event.index]) != LIVE:
            self._another_goes = True
            QTimer.singleShot(0, self._on_gone)

    def _on_gone(self):
        self._another_goes = False


def _shape_in_layer(plane, place):
    """That of a plane with all axes of the layer that it is drawn on."""
    return (1,) * (len(place["scale"]) - plane.ndim) + plane.shape


def _remove(viewer, layer):
    if layer in viewer.layers:
        _draw(viewer)
        viewer.layers.remove(layer)


def _draw(viewer):
    """Draw the canvas now, if it can be seen."""
    canvas = unwrapped(viewer.window)._qt_viewer.canvas.native
    if canvas.isVisible():
        canvas.repaint()


class Watched:
    """A running job, the image it works on and the plane of it that is shown.

    Parameters
    ----------
    job : Job
    source : Source
        The image as it is read.
    """

    def __init__(self, job: Any, source: Any) -> None:
        self.job, self.source = job, source
        self.plane: Any = None
        self.place: Any = None
        self._hidden: list = []

    def follow(self, viewer: Any) -> None:
        """Ask the job for previews of the plane that the sliders point at."""
        index = self.source.plane_index(viewer)
        self.plane = np.array(self.source.canonical[index])
        self.place = self.source.place_plane(index)
        self.job.preview = self.plane

    def hide_results(self, viewer: Any, preview: Any) -> None:
        """Hide masks that the first preview of the plane would lie over."""
        shape = _shape_in_layer(preview, self.place)
        self._hidden += hide_results(viewer, self.source.name, self.place, shape)

    def show_results(self) -> None:
        """Show these masks again, as there are no previews any more."""
        for layer in self._hidden:
            layer.visible = True
