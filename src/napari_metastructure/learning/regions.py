"""Normalised planes (or volumes), parts of them, and results written back into the whole."""

from collections.abc import Callable
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_metastructure.arrays.chunks import ChunkedArray
from napari_metastructure.arrays.statistics import channel_moments, normalised

__all__ = ["NormalisedImage", "RegionWriter"]


class NormalisedImage:
    """Boxes of a plane (or volume), channels first, of zero mean and unit deviation.

    Parameters
    ----------
    image : array
    spatial_dims : {2, 3}
    robust : bool
        As for `statistics.moments` and `statistics.normalised`.
    """

    def __init__(self, image: Any, spatial_dims: int, robust: bool = True) -> None:
        if isinstance(image, ChunkedArray) and not image.cached:
            image = np.asarray(image)
        self.image, self.shape = image, image.shape
        self.robust = robust
        self.mean, self.deviation = channel_moments(image, spatial_dims, robust)

    def __getitem__(self, where):
        return normalised(self.image[where], self.mean, self.deviation, self.robust)

    def cut(self, box: Any) -> "NormalisedImage":
        """A part, normalised in the same way."""
        part = copy(self)
        part.image = self.image[(..., *box)]
        part.shape = part.image.shape
        return part


class RegionWriter:
    """Hands on rows of a box as rows of the whole plane (or volume), 0 outside of the region."""

    def __init__(self, write: Callable, region: Any, box: Any, classes: Any) -> None:
        self._write, self.region, self.classes = write, region, classes
        self.box = box or (slice(0, 0),) * region.ndim
        self.done = 0
        self._zeros(self.box[0].start)

    def write(self, start: Any, block: NDArray) -> None:
        """Write the next block, 0 outside the region; `start` is known from the order."""
        count, rest = block.shape[-self.region.ndim], self.region.shape[1:]
        rows = np.zeros((*self.classes, count, *rest), np.float32)
        rows[(..., slice(None), *self.box[1:])] = block
        rows *= self.region[self.done : self.done + count]
        self._write(self.done, rows)
        self.done += count

    def close(self) -> None:
        """All that is left are zeros."""
        self._zeros(len(self.region) - self.done)

    def _zeros(self, count):
        if count:
            self._write(
                self.done, np.zeros((*self.classes, count, *self.region.shape[1:]), np.float32)
            )
        self.done += count
