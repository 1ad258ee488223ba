"""Layers that follow a running job, and the plane that it previews."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from napari_metastructure.plugin.layers import RECORD

__all__ = ["LIVE", "LiveLayer", "Watched", "remove_all"]

LIVE = "live"
"""As the operation in a layer's record: it is drawn again and again, and no input."""
PROBABILITY = {"colormap": "magma", "contrast_limits": (0, 1)}


class LiveLayer:
    """A layer of one plane that is drawn again and again, and removed in the end.

    The image shows through it.

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

    @property
    def shown(self) -> bool:
        """Whether the layer is there."""
        return self.layer is not None and self.layer in self.viewer.layers

    def draw(self, plane: Any, place: Any) -> None:
        """Show a plane at its place (`layers.place_plane`)."""
        data = plane.reshape((1,) * (len(place["scale"]) - plane.ndim) + plane.shape)
        if not self.shown:
            active = self.viewer.layers.selection.active
            add = getattr(self.viewer, f"add_{self.kind}")
            self.layer = add(data, name=self.name, **self.options, **place)
            if active is not None:
                self.viewer.layers.selection.active = active
            return
        self.layer.data = data
        for name, value in place.items():
            setattr(self.layer, name, value)

    def remove(self) -> None:
        """Take the layer away."""
        if self.shown:
            self.viewer.layers.remove(self.layer)
        self.layer = None


def remove_all(live: Iterable[LiveLayer]) -> None:
    """Take several layers away, each with a picture of the canvas after it.

    Where the last two layers go with nothing drawn in between, napari (0.9) with Mesa reads
    freed memory at its next pictures, and the program crashes.
    """
    for one in live:
        if one.shown:
            one.remove()
            one.viewer.screenshot(flash=False)


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

    def follow(self, viewer: Any) -> None:
        """Ask the job for previews of the plane that the sliders point at."""
        index = self.source.plane_index(viewer)
        self.plane = np.array(self.source.canonical[index])
        self.place = self.source.place_plane(index)
        self.job.preview = self.plane
