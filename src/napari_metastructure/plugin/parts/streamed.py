"""Results too large for memory: written to OME-Zarr, and shown while they grow."""

import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari import Viewer

from napari_metastructure.jobs.events import Done, Progress, Result
from napari_metastructure.plugin.layers import (
    RECORD,
    Source,
    axis_letters,
    hide_results,
    names_of_volumes,
)
from napari_metastructure.plugin.parts.live import PROBABILITY

__all__ = ["Decided", "Streamed", "is_large"]

_SHARE = 0.25  # of the free memory that a result may take
_SECONDS_BETWEEN_REFRESHES = 1.0
_PARTIAL = ", partial"


def is_large(data: Any, shape: Sequence[int], classes: int) -> bool:
    """Whether a result is better written to a file: the image is lazy, or memory is short."""
    import psutil

    maps = 1 if classes == 2 else classes
    size = 4.0 * maps * np.prod(shape, dtype=float)
    return hasattr(data, "dask") or size > _SHARE * psutil.virtual_memory().available


class Decided:
    """The labels that a model reads from stored probabilities, decided where they are looked at.

    Parameters
    ----------
    model : SegmentationModel
        Of two classes.
    probabilities : array with chunks
    threshold : float
    """

    def __init__(self, model: Any, probabilities: Any, threshold: float) -> None:
        self.model, self.probabilities, self.threshold = model, probabilities, threshold
        self.shape, self.ndim = probabilities.shape, probabilities.ndim
        self.size, self.chunks = int(np.prod(self.shape)), probabilities.chunks
        self.dtype = model.decide(np.zeros(1)).dtype

    def __getitem__(self, where: Any) -> np.ndarray:
        return self.model.decide(np.asarray(self.probabilities[where]), self.threshold)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[...].astype(dtype or self.dtype, copy=False)


class Streamed:
    """A result that is written to a new OME-Zarr image, and its layers.

    Layers are named partial until all is there.

    Parameters
    ----------
    viewer : napari.Viewer
    title : str
        Of the model.
    source : Source
        The image.
    dtype : dtype
        Of the result.
    model : SegmentationModel, optional
        The result are its probabilities, for two classes, and the mask is decided where it is
        looked at; otherwise the result are labels.
    record : dict, optional
        For the layers' metadata.
    folder : path, optional
        Where the image is made; by default in a temporary folder.
    """

    def __init__(
        self,
        viewer: Viewer,
        title: str,
        source: Source,
        dtype: Any,
        *,
        model: Any = None,
        record: dict[str, Any] | None = None,
        folder: str | Path | None = None,
    ) -> None:
        from napari_metastructure.files.reordered import Reordered

        kind, placed = "segmentation" if model is None else "probability", source.place()
        self.path = _unused(folder, f"{source.name} {kind} ({title})")
        axes = source._result_axes
        self.out = _new_image(self.path, source, dtype, placed, axes)
        is_stored_so = len(axes) == len(placed["scale"]) and not isinstance(self.out, Reordered)
        data = self.out.array if is_stored_so else source.shaped(self.out.lazy)
        record = {**(record or {}), "applied_to": source.name, "model": title, "path": self.path}
        options = {"metadata": {RECORD: {**record, "complete": False}}, **placed}
        self.layers, self._next = [], 0.0
        if model is not None:
            name = f"{source.name} probability ({title}){_PARTIAL}"
            shown = {**PROBABILITY, "visible": False}
            self.layers.append(viewer.add_image(data, name=name, **shown, **options))
            data = Decided(model, data, model.threshold)
        hide_results(viewer, source.name, placed, data.shape)
        name = f"{source.name} segmentation ({title}){_PARTIAL}"
        self.layers.append(viewer.add_labels(data, name=name, **options))

    def on_event(self, event: Any) -> bool:
        """Show what has come; returns whether all of it has."""
        if isinstance(event, Progress) and time.monotonic() >= self._next:
            for layer in self.layers:
                layer.refresh(extent=False)
            self._next = time.monotonic() + _SECONDS_BETWEEN_REFRESHES
        if not self._is_end(event):
            return False
        for layer in self.layers:
            layer.refresh(extent=False)
            if not event.stopped:
                layer.name = layer.name.replace(_PARTIAL, "")
                record = {**layer.metadata[RECORD], "complete": True}
                layer.metadata = {**layer.metadata, RECORD: record}
        return not event.stopped

    def _is_end(self, event):
        if isinstance(event, Done):
            return any(mask is self.out for mask in event.masks or ())
        return isinstance(event, Result) and event.value is self.out


def _new_image(path, source, dtype, placed, axes):
    """A new OME-Zarr image at the place of a source; `axes` are those of the layer that it has."""
    from napari_metastructure.files.pixels import Pixels
    from napari_metastructure.files.write import create_zarr

    names = [placed["axis_labels"][axis] for axis in axes]
    if source.layout.spatial_dims == 3:
        names = names_of_volumes(names)
    like = Pixels(
        None,
        axis_letters(names, len(axes)),
        tuple(np.abs(np.asarray(placed["scale"], float))[axes]),
        tuple(placed["units"][axis] for axis in axes),
        translation=tuple(np.asarray(placed["translate"], float)[axes]),
    )
    return create_zarr(path, source.shape, dtype, like=like)


def _unused(folder, name):
    """A path for a new image, numbered where there is one of that name."""
    folder = Path(folder or tempfile.mkdtemp(prefix="napari-metastructure-")).expanduser()
    name = re.sub(r"[^\w(). -]+", "-", name)
    numbers = ["", *(f" {number}" for number in range(2, 10_000))]
    paths = (folder / f"{name}{number}.ome.zarr" for number in numbers)
    return str(next(path for path in paths if not path.exists()))
