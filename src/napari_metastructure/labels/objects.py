"""Objects of a mask: told apart, numbered one by one, and measured in physical units.

Planes (y, x), or volumes (z, y, x), are taken one by one along the other axes, such as time.
Dask arrays are read block by block; an object that crosses the border of a block counts once.
"""

import math
from typing import Any, Literal

import numpy as np
from pydantic import model_validator

from napari_metastructure.arrays.blocks import as_array, is_lazy, map_blocks
from napari_metastructure.labels.components import Components, connected_components, numbered
from napari_metastructure.labels.measurements import features, measure, spatial_scale, summary
from napari_metastructure.parameters import Field, Parameters

__all__ = ["ObjectsConfig", "features", "measure", "split", "summary"]

WINDOW = 4  # standard deviations at which the Gaussian of the smoothing ends
WATERSHED_HALO = 64  # pixels around a block in which a watershed of a dask array sees objects


class ObjectsConfig(Parameters):
    """How a mask is split into objects; sizes and the smoothing are in units of `scale`."""

    threshold: float = Field(
        0.5,
        title="Threshold",
        description="Pixels with a higher probability are object; not used for labels.",
    )
    smoothing: float = Field(
        0, ge=0, le=1000, title="Smoothing", description="Length over which outlines are smoothed."
    )
    fill_holes: bool = Field(
        False, title="Fill holes", description="Fill background that is enclosed by an object."
    )
    method: Literal["components", "watershed"] = Field(
        "components",
        title="Method",
        description="components: pixels that touch are one object. watershed: touching objects are "
        "split at their narrowest place.",
    )
    seeds: Literal["distance", "probability"] = Field(
        "distance",
        title="Seeds",
        description="Where the watershed starts: far from the outline, or where the probability is "
        "highest.",
    )
    split_depth: float = Field(
        1,
        ge=0,
        le=1e6,
        title="Split depth",
        description="An object is split where its half width decreases by more than this, in "
        "pixels.",
    )
    split_contrast: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Split contrast",
        description="An object is split where the probability decreases by more than this.",
    )
    min_size: float = Field(
        0, ge=0, title="Smallest size", description="Smaller objects are left out; area or volume."
    )
    max_size: float | None = Field(
        None,
        gt=0,
        title="Largest size",
        description="Larger objects are left out; area or volume. Empty: no limit.",
    )
    drop_border: bool = Field(
        False,
        title="Leave out border objects",
        description="Leave out objects that touch the border of the image.",
    )
    spatial_dims: Literal[2, 3] | None = Field(
        None,
        title="Dimensions",
        description="2: each plane separately; 3: whole volumes; none: as many as scale has "
        "numbers, otherwise 2, or 3 for a file with an axis z.",
    )
    scale: float | tuple[float, ...] = Field(
        1,
        title="Pixel size",
        description="Size of a pixel; one number, or one for each spatial axis.",
        json_schema_extra={"on_files": "that of the file"},
    )

    @model_validator(mode="after")
    def _consistent(self):
        if self.max_size is not None and self.max_size < self.min_size:
            raise ValueError(
                f"The smallest size ({self.min_size:g}) is larger than the largest "
                f"({self.max_size:g}): no object would be left."
            )
        return self


def split(mask: Any, config: ObjectsConfig | dict | None = None, **params: Any) -> Any:
    """Number the objects of a mask.

    Parameters
    ----------
    mask : (..., y, x) array of int, bool or float
        Labels, of which all above 0 are object, or probabilities; numpy, dask or zarr.
    config : ObjectsConfig or mapping, optional
    **params
        Fields of `ObjectsConfig`: ``threshold, smoothing, fill_holes, method, seeds, split_depth,
        split_contrast, min_size, max_size, drop_border, spatial_dims, scale``. Sizes and the
        smoothing are in the units of `scale`, by default pixels.

    Returns
    -------
    (..., y, x) array of int32, numpy or dask as `mask`
        0: background; objects 1, 2, 3 ... without gaps, over all planes or volumes.

    Raises
    ------
    TypeError
        If the mask holds no numbers.
    ValueError
        If a parameter lies outside its range, or the mask has too few axes.

    Notes
    -----
    Pixels that touch at a corner belong to one object. A dask array is read at once, block by
    block, to count the objects, and again when the result is computed. A watershed sees 64 pixels
    beyond its block: objects wider than that may be cut at the border of a block.
    """
    config = ObjectsConfig.of(config, **params)
    array = _pixels(mask)
    scale = spatial_scale(config.scale, config.spatial_dims, array.ndim)
    task = _Task(config, scale)
    landscape = None
    if config.method == "watershed" and config.seeds == "probability":
        if array.dtype.kind != "f":
            raise ValueError("Seeds from probabilities need a probability map, not labels.")
        landscape = array
    mask = task.clean(array)
    if config.method == "watershed":
        labels = task.watershed(mask, landscape)
    else:
        labels = connected_components(mask, len(scale), full=True)
    return numbered(labels, task.kept(labels))


def _pixels(mask: Any) -> Any:
    if np.ma.isMaskedArray(mask):
        raise TypeError("The mask cannot be a masked array; fill it first, as with filled(0).")
    array = as_array(mask)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"A mask should hold labels or probabilities, not {array.dtype}.")
    return array


class _Task:
    """The steps from pixels to objects, for numpy and dask arrays."""

    def __init__(self, config: ObjectsConfig, scale: tuple[float, ...]):
        self.config, self.scale, self.dims = config, scale, len(scale)

    def clean(self, array):
        """The mask as bool: cut at the threshold, smoothed, and without holes."""
        from scipy.ndimage import binary_fill_holes, gaussian_filter

        threshold = self.config.threshold if array.dtype.kind == "f" else 0
        sigma = [self.config.smoothing / size for size in self.scale]

        def on_block(block, start):
            mask = block > threshold
            if any(sigma):
                for index in self._units(mask):
                    smooth = gaussian_filter(
                        mask[index].astype(np.float32), sigma, truncate=WINDOW, mode="nearest"
                    )
                    mask[index] = smooth > 0.5
            return mask

        reach = [math.ceil(WINDOW * s) for s in sigma]
        depth = (0,) * (array.ndim - self.dims) + tuple(reach)
        mask = map_blocks(on_block, array, depth=depth, dtype=bool)
        if not self.config.fill_holes:
            return mask
        if is_lazy(mask):
            outside = connected_components(~mask, self.dims, full=False)
            return ~outside.select(outside.at_border)
        for index in self._units(mask):
            mask[index] = binary_fill_holes(mask[index])
        return mask

    def _units(self, array):
        return np.ndindex(array.shape[: array.ndim - self.dims])

    def watershed(self, mask, landscape):
        """Objects split where the landscape has a valley; labels are places of their seeds."""
        shape = mask.shape[-self.dims :]
        whole = tuple(mask.shape)

        def on_block(block, start):
            part = block if landscape is None else np.isfinite(block)
            out = np.zeros(block.shape, np.int64)
            for index in self._units(block):
                height = None if landscape is None else block[index]
                unit = tuple(int(s + i) for s, i in zip(start, index))
                first = int(np.ravel_multi_index(unit, whole[: len(unit)])) if unit else 0
                seeds = self._seeds(part[index], height, start[len(unit) :], shape)
                out[index] = np.where(seeds > 0, seeds + first * math.prod(shape), 0)
            return out

        if landscape is not None:  # one array of both
            mask = np.where(mask & np.isfinite(landscape), landscape, np.nan)
        halo = (0,) * (mask.ndim - self.dims) + (WATERSHED_HALO,) * self.dims
        return Components.of_ids(map_blocks(on_block, mask, depth=halo, dtype=np.int64), self.dims)

    def _seeds(self, mask, height, start, shape):
        """The watershed of one plane or volume; a label is 1 + the place of its first seed."""
        from scipy.ndimage import distance_transform_edt, label
        from skimage.morphology import local_maxima, reconstruction
        from skimage.segmentation import watershed

        if not mask.any():
            return np.zeros(mask.shape, np.int64)
        depth = self.config.split_contrast
        if height is None:
            depth = self.config.split_depth * min(self.scale)
            height = np.zeros(mask.shape)
            if not mask.all():
                height = distance_transform_edt(mask, sampling=self.scale)
        height = np.where(mask, height, 0).astype(np.float64)
        height[~mask] = height.min() - depth - 1  # lower than any valley within an object
        height_cut = height
        if depth:
            height_cut = reconstruction(np.where(mask, height - depth, height), height)
        lowest = height_cut.min() - 1  # around all, for a plateau without a lower pixel is no peak
        padded = np.pad(height_cut, 1, constant_values=lowest)
        peaks = local_maxima(padded, connectivity=mask.ndim)[(slice(1, -1),) * mask.ndim] & mask
        seeds, count = label(peaks, np.ones((3,) * mask.ndim))
        where = np.nonzero(seeds)
        places = np.ravel_multi_index(
            tuple(axis + s for axis, s in zip(where, start)), shape, mode="clip"
        )
        first = np.full(count + 1, np.iinfo(np.int64).max)
        np.minimum.at(first, seeds[where], places)
        first[0] = -1
        ids = first + 1
        flooded = watershed(-height, seeds, mask=mask, connectivity=np.ones((3,) * mask.ndim, bool))
        return ids[flooded]

    def kept(self, labels: Components) -> np.ndarray:
        """Whether each object is kept."""
        size = labels.sizes * math.prod(self.scale)
        kept = size >= self.config.min_size
        if self.config.max_size is not None:
            kept &= size <= self.config.max_size
        if self.config.drop_border:
            kept &= ~labels.at_border
        return kept
