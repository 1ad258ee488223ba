"""What was read of files, and what its axes mean."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_list, is_lazy

__all__ = ["LAZY", "Pixels", "in_planes", "plain"]

LAZY = 2**28
"""Bytes above which files are not read at once."""


@dataclass(frozen=True)
class Pixels:
    """What was read.

    Attributes
    ----------
    data : array or list of arrays
        Numpy or dask; a list where the files' shapes differ.
    axes : str
        One letter per axis of (each) array, such as "zyx"; "i" where the file does not say.
    scale : tuple of float
        Pixel size, per axis.
    units : tuple of str
        Of the scale, per axis: "micrometer", or "pixel" where it is not known.
    names : tuple of str
        Of the planes along the first axis, or of the list's arrays; empty if they have none.
    complete : bool
        False for a result that was not finished.
    record : dict
        Ours, of how the pixels came about, where the file holds it.
    colours : tuple of int
        What labels were read from, label by label, as 0xRRGGBB; empty if the file holds numbers.
    palette : tuple of int
        The colours that a file shows its numbers in, as 0xRRGGBB; empty if it has none.
    translation : tuple of float
        Place of the first pixel, per axis; empty if the file does not say, or it is 0.
    """

    data: object
    axes: str
    scale: tuple
    units: tuple
    names: tuple = ()
    complete: bool = True
    record: dict = field(default_factory=dict)
    colours: tuple = ()
    palette: tuple = ()
    translation: tuple = ()

    @property
    def arrays(self) -> Any:
        """The pixels as a list of arrays."""
        return as_list(self.data)

    @property
    def channel_axis(self) -> Any:
        """The axis of the channels or colours; None if there is none."""
        found = [axis for axis, letter in enumerate(self.axes) if letter in "cs"]
        return found[0] if found else None

    def in_dimensions(self, spatial_dims: int) -> "Pixels":
        """The same; an axis that the file does not name is z, where volumes are worked on."""
        if spatial_dims != 3 or not self.axes.endswith("iyx"):
            return self
        return replace(self, axes=f"{self.axes[:-3]}zyx")

    def without(self, axis: int) -> Any:
        """What the pixels mean when an axis is gone; `data` stays as it is."""
        if axis is None:
            return self
        keep = np.delete(np.arange(len(self.axes)), axis)
        names = () if axis in (0, -len(self.axes)) else self.names
        axes = "".join(self.axes[i] for i in keep)
        scale, units, translation = (
            tuple(values[i] for i in keep) if values else ()
            for values in (self.scale, self.units, self.translation)
        )
        place: dict[str, Any] = {"scale": scale, "units": units, "translation": translation}
        return replace(self, axes=axes, names=names, **place)


def in_planes(data: Any) -> Any:
    """The array as a dask array; one that is not yet, in blocks of a plane."""
    import dask.array as da

    if is_lazy(data):
        return data

    return da.from_array(data, chunks=(1,) * (data.ndim - 2) + data.shape[-2:])


def plain(data: Any, axes: Any, scale: Any = None, units: Any = None) -> Any:
    """Pixels without a known scale or units, unless given."""
    return Pixels(data, axes, scale or (1.0,) * data.ndim, units or ("pixel",) * data.ndim)
