"""What a pixel classifier sees: an image and its edges, ridges and texture at several scales."""

from collections import OrderedDict
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from napari_metastructure.arrays.statistics import normalised

__all__ = ["SIGMAS", "FeatureCache", "Features"]

SIGMAS = (0.3, 0.7, 1.4, 2.8, 5.6, 11.2)
"""Scales in pixels along y and x."""

_DIFFERENTIATED = 0.7  # the least sigma whose derivatives are more than noise
_TRUNCATE = 3.0  # deviations after which a Gaussian is cut off
_DIFFERENCE = 1  # reach of a central difference, in pixels


@dataclass(frozen=True)
class Features:  # numpydoc ignore=PR02
    """Filters at several scales, for planes or volumes with or without channels.

    For each channel and scale: the Gaussian; from 0.7 pixels on also the gradient's magnitude, the
    Laplacian of the Gaussian, and the eigenvalues of the Hessian and of the structure tensor.

    Parameters
    ----------
    spatial_dims : {2, 3}
    anisotropy : float > 0
        Size of a voxel along z over its size along y and x; sigmas are that much shorter along z.
    sigmas : tuple of float > 0
        Scales in pixels along y and x.
    """

    spatial_dims: int = 2
    anisotropy: float = 1.0
    sigmas: tuple[float, ...] = SIGMAS

    @property
    def per_channel(self) -> int:
        """How many features there are of each channel."""
        full = sum(sigma >= _DIFFERENTIATED for sigma in self.sigmas)
        return len(self.sigmas) + full * (2 + 2 * self.spatial_dims)

    @property
    def reach(self) -> tuple[int, ...]:
        """How far a feature looks along each axis, in pixels."""
        return self._reach(max(self.sigmas))

    def _reach(self, sigma):
        around = zip(self._widths(sigma), self._widths(sigma / 2))
        return tuple(_radius(inner) + _radius(outer) + _DIFFERENCE for inner, outer in around)

    def compute(
        self, image: np.ndarray, box: tuple[slice, ...] | None = None, moments: tuple = (0.0, 1.0)
    ) -> np.ndarray:
        """Features of a box of an image; the same numbers as those of the whole image there.

        Parameters
        ----------
        image : array of real numbers, (y, x) or (z, y, x), or with a first axis for channels
            Only the box and what lies within `reach` of it is read.
        box : tuple of slice, optional
            Along the spatial axes, with a start and a stop; by default the whole image.
        moments : tuple of (mean, deviation)
            Of the whole image, numbers or arrays (channels, 1, 1), for `statistics.normalised`.

        Returns
        -------
        array of float32, (features, *box)
            Channel by channel.
        """
        shape = image.shape[-self.spatial_dims :]
        box = box or tuple(slice(0, side) for side in shape)
        padded = _grown(box, self.reach, shape)
        place: Any = (..., *padded)
        pixels = normalised(np.asarray(image[place]), *moments)
        channels = pixels.reshape(-1, *pixels.shape[-self.spatial_dims :])
        size = [part.stop - part.start for part in box]
        found = np.empty((len(channels) * self.per_channel, *size), np.float32)
        rows = iter(found)
        for channel in channels:
            for sigma in self.sigmas:
                near = _grown(box, self._reach(sigma), shape)
                part = channel[_within(near, padded)]
                for feature in self._of_scale(part, sigma, _within(box, near)):
                    next(rows)[...] = feature
        return found

    def _of_scale(self, image, sigma, inner):
        """Generator of the features of one scale, in a box of an image.

        What looks at one pixel only is computed in the box alone: eigenvalues take the longest.
        """
        from scipy.ndimage import gaussian_filter
        from skimage.feature import hessian_matrix_eigvals

        widths = self._widths(sigma)
        smooth = gaussian_filter(image, widths, radius=[_radius(w) for w in widths])
        yield smooth[inner]
        if sigma < _DIFFERENTIATED:
            return
        slopes = [self._difference(smooth, axis) for axis in range(self.spatial_dims)]
        yield np.sqrt(sum(slope[inner] ** 2 for slope in slopes))
        curved = {pair: part[inner] for pair, part in self._hessian(smooth, slopes).items()}
        yield sum(curved[(axis, axis)] for axis in range(self.spatial_dims))
        yield from hessian_matrix_eigvals(list(curved.values()))
        outer = self._widths(sigma / 2)
        radius = [_radius(width) for width in outer]
        tensor = [
            gaussian_filter(slopes[i] * slopes[j], outer, radius=radius)[inner] for i, j in curved
        ]
        yield from hessian_matrix_eigvals(tensor)

    def _widths(self, sigma):
        """Sigma along each axis, in its own pixels."""
        along_z = (sigma / self.anisotropy,) * (self.spatial_dims - 2)
        return (*along_z, sigma, sigma)

    def _spacing(self, axis):
        return self.anisotropy if self.spatial_dims == 3 and axis == 0 else 1.0

    def _difference(self, image, axis):
        from scipy.ndimage import correlate1d

        return correlate1d(image, [-0.5 / self._spacing(axis), 0, 0.5 / self._spacing(axis)], axis)

    def _hessian(self, smooth, slopes):
        """Second differences by their pair of axes, the upper triangle in order."""
        from scipy.ndimage import correlate1d

        found = {}
        for i in range(self.spatial_dims):
            for j in range(i, self.spatial_dims):
                if i == j:
                    scale = 1 / self._spacing(i) ** 2
                    found[i, j] = correlate1d(smooth, [scale, -2 * scale, scale], i)
                else:
                    found[i, j] = self._difference(slopes[i], j)
        return found


def _grown(box, reach, shape):
    """A box and what lies within reach of it, in an image of this shape."""
    return tuple(
        slice(max(part.start - far, 0), min(part.stop + far, side))
        for part, far, side in zip(box, reach, shape)
    )


def _within(box, around):
    """A box as a part of a larger one."""
    return tuple(
        slice(part.start - whole.start, part.stop - whole.start) for part, whole in zip(box, around)
    )


def _radius(sigma):
    return int(_TRUNCATE * sigma + 0.5)


class FeatureCache:
    """Features of tiles, the most recently used ones kept within a budget of memory.

    Parameters
    ----------
    features : Features
    budget : int
        Bytes.
    """

    def __init__(self, features: Features, budget: int = 2**30) -> None:
        self.features, self.budget = features, budget
        self.held = 0  # bytes
        self._tiles = OrderedDict()

    def compute(
        self, key: Any, image: np.ndarray, box: tuple[slice, ...], moments: tuple
    ) -> np.ndarray:
        """`Features.compute`, remembered under a key of the image, such as its number."""
        place = (key, tuple((part.start, part.stop) for part in box))
        if place in self._tiles:
            self._tiles.move_to_end(place)
            return self._tiles[place]
        found = self.features.compute(image, box, moments)
        if found.nbytes <= self.budget:
            self._tiles[place] = found
            self.held += found.nbytes
            while self.held > self.budget:
                self.held -= self._tiles.popitem(last=False)[1].nbytes
        return found

    def clear(self) -> None:
        """Forget everything."""
        self._tiles.clear()
        self.held = 0


def tiles(shape: tuple[int, ...], side: int) -> list[tuple[slice, ...]]:
    """Boxes of at most `side` pixels along each axis that cover a shape, in order."""
    from itertools import product

    parts = [
        [slice(start, min(start + side, length)) for start in range(0, length, side)]
        for length in shape
    ]
    return list(product(*parts)) if prod(shape) else []
