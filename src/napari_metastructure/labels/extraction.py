"""Extraction of meta-structure (EMS): a sparse sketch of where the structures run.

A label reduced to a few jittered points along its skeleton keeps what a network needs to find the
structure, and loses the errors of its borders (Luo et al., AAAI 2022, arXiv 2103.11594, iGTT).
"""

from typing import Any

import numpy as np

from napari_metastructure.arrays import draws
from napari_metastructure.arrays.blocks import as_array, map_blocks
from napari_metastructure.labels.classes import check_radius, check_share

__all__ = ["extract"]


def extract(
    mask: Any, *, shift: int = 1, fraction: float = 0.1, spatial_dims: int = 2, seed: Any = None
) -> Any:
    """Skeleton of the mask, each pixel moved at random, and a fraction of these kept.

    Parameters
    ----------
    mask : (..., y, x) array, any real type
        Numpy, dask or zarr; above 0 is foreground.
    shift : float >= 0, optional
        Greatest move along each axis, in pixels, clipped at the border; a fraction is dropped.
    fraction : float in [0, 1], optional
        Probability of each moved pixel to stay.
    spatial_dims : {2, 3}, optional
        2: each (y, x) plane by itself; 3: the last three axes together. Dask arrays are joined
        along these axes, for a skeleton depends on the whole plane or volume.
    seed : int, sequence of int or numpy.random.Generator, optional
        The same seed gives the same pixels, whatever the chunking.

    Returns
    -------
    array of uint8, like `mask` in kind and shape
        0 and 1. Every foreground pixel lies within `shift` of the skeleton along each axis.

    Raises
    ------
    ValueError
        If `shift` is negative, `fraction` lies outside [0, 1], or the mask has fewer axes than
        `spatial_dims`.

    See Also
    --------
    skimage.morphology.skeletonize : the skeleton that is sampled
    """
    mask = as_array(mask)
    reach, fraction = int(check_radius(shift, "shift")), check_share("fraction", fraction)
    if spatial_dims not in (2, 3) or mask.ndim < spatial_dims:
        raise ValueError(
            f"A mask of {mask.ndim} axes cannot be taken in {spatial_dims} dimensions."
        )
    entropy = draws.entropy(seed, "extract")

    def on_block(block, start):
        out = np.zeros(block.shape, np.uint8)
        for index in np.ndindex(block.shape[:-spatial_dims]):
            place = [int(i + s) for i, s in zip(index, start)]
            rng = np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=place))
            _sketch(block[index] > 0, out[index], reach, fraction, rng)
        return out

    whole = range(mask.ndim - spatial_dims, mask.ndim)
    return map_blocks(on_block, mask, dtype=np.uint8, whole_axes=tuple(whole))


def _sketch(mask, out, reach, fraction, rng):
    from skimage.morphology import skeletonize

    points = np.unravel_index(np.flatnonzero(skeletonize(mask)), mask.shape)
    moved = [
        np.clip(axis + rng.integers(-reach, reach + 1, axis.size), 0, size - 1)
        for axis, size in zip(points, mask.shape)
    ]
    out[tuple(moved)] = 1
    landed = np.flatnonzero(out.view(bool))
    out.reshape(-1)[landed] = rng.random(landed.size) < fraction
