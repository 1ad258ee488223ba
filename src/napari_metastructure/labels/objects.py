"""Objects of a mask: told apart, numbered one by one, and measured in physical units.

Planes (y, x), or volumes (z, y, x), are taken one by one along the other axes, such as time.
Dask arrays are read block by block; an object that crosses the border of a block counts once.
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from napari_metastructure.arrays.blocks import as_array, is_lazy, map_blocks
from napari_metastructure.parameters import Field, Parameters

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ObjectsConfig", "features", "measure", "split", "summary"]

WINDOW = 4  # standard deviations at which the Gaussian of the smoothing ends
WATERSHED_HALO = 64  # pixels around a block in which a watershed of a dask array sees objects


class ObjectsConfig(Parameters):
    """How a mask is split into objects; sizes and the smoothing are in units of `scale`."""

    threshold: float = Field(
        0.5, title="Threshold", description="Probabilities above it are object; not for labels."
    )
    smoothing: float = Field(
        0, ge=0, le=1000, title="Smoothing", description="Outlines are smoothed over this length."
    )
    fill_holes: bool = Field(
        False, title="Fill holes", description="Background that objects enclose becomes object."
    )
    method: Literal["components", "watershed"] = Field(
        "components",
        title="Method",
        description="components: what touches is one object; watershed: touching objects are split "
        "at their necks.",
    )
    seeds: Literal["distance", "probability"] = Field(
        "distance",
        title="Seeds",
        description="Where objects of a watershed begin: far from the outline, or where the "
        "probability is highest.",
    )
    split_depth: float = Field(
        1,
        ge=0,
        le=1e6,
        title="Split depth",
        description="An object is split where its half width falls by more than this, in pixels.",
    )
    split_contrast: float = Field(
        0.1,
        ge=0,
        le=1,
        title="Split contrast",
        description="An object is split where the probability falls by more than this.",
    )
    min_size: float = Field(
        0, ge=0, title="Smallest size", description="Area, or volume, of the smallest objects kept."
    )
    max_size: float | None = Field(
        None, gt=0, title="Largest size", description="Area, or volume, of the largest; none: any."
    )
    drop_border: bool = Field(
        False,
        title="Leave out border objects",
        description="Objects that touch the border of the image are left out.",
    )
    spatial_dims: Literal[2, 3] | None = Field(
        None,
        title="Dimensions",
        description="2: each plane by itself; 3: whole volumes; none: as many as scale has "
        "numbers, else 2.",
    )
    scale: float | tuple[float, ...] = Field(
        1, title="Pixel size", description="Size of a pixel, per spatial axis where they differ."
    )


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
    scale = _spatial_scale(config.scale, config.spatial_dims, array.ndim)
    task = _Task(config, scale)
    landscape = None
    if config.method == "watershed" and config.seeds == "probability":
        if array.dtype.kind != "f":
            raise ValueError("Seeds of probability need probabilities, not labels.")
        landscape = array
    mask = task.clean(array)
    if config.method == "watershed":
        labels = task.watershed(mask, landscape)
    else:
        labels = _components(mask, len(scale), full=True)
    return _numbered(labels, task.kept(labels))


# --------------------------------------------------------------------------- measurements


def measure(
    labels: Any,
    image: Any = None,
    scale: float | Sequence[float] | None = None,
    *,
    spatial_dims: int | None = None,
    skeleton: bool = False,
) -> "pd.DataFrame":
    """Measure each object of a label image.

    Parameters
    ----------
    labels : (..., y, x) array of int or bool
        One number per object, 0 is background; numpy, dask or zarr, read plane by plane, or volume
        by volume.
    image : array of the same shape, or mapping of names to such arrays, optional
        What intensities are taken from.
    scale : float or sequence of float, optional
        Size of a pixel in each spatial axis; of more numbers the last ones count. By default 1.
    spatial_dims : {2, 3}, optional
        2: each plane by itself; 3: whole volumes; by default as many as `scale` has numbers, else
        2.
    skeleton : bool, optional
        Also measure the skeleton of each object: its length, and its branch points.

    Returns
    -------
    pandas.DataFrame
        A row for each object (in each plane or volume that it is in): ``index``, its label; the
        position along the other axes (``axis_0`` ...); ``area`` or ``volume``,
        ``equivalent_diameter``, ``perimeter`` or ``surface``, ``centroid_z, centroid_y,
        centroid_x`` in units of `scale`, ``eccentricity`` and ``orientation`` (planes only, in
        radians from the first axis), and ``mean``, ``min``, ``max`` of each image.

    Raises
    ------
    TypeError
        If the labels are not integers.
    ValueError
        If shapes do not match, or the scale does not fit.

    Notes
    -----
    Perimeters are those of scikit-image where pixels are square. Else, and for surfaces, they are
    those of the contour at half way between pixels inside and outside: of discs and balls of a
    radius of 10 pixels or more, 0 to 8 % too large.
    """
    import pandas as pd

    from napari_metastructure.arrays.labels import check_labels

    labels = check_labels(labels)
    sizes = _spatial_scale(scale, spatial_dims, labels.ndim)
    images = _images(image, labels.shape)
    lead = labels.shape[: labels.ndim - len(sizes)]
    tables = []
    for index in np.ndindex(lead if labels.size else (0,)):
        unit = np.asarray(labels[index])
        names, unit = _numbers(unit)
        columns = _shape_columns(unit, sizes, skeleton)
        for name, pixels in images.items():
            columns |= _intensity_columns(unit, np.asarray(pixels[index]), name)
        label = names[columns.pop("index")]
        place = {f"axis_{axis}": np.full(len(label), at) for axis, at in enumerate(index)}
        tables.append(pd.DataFrame({"index": label, **place, **columns}))
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else tables[0] if tables else _empty()


def summary(
    labels: Any, scale: float | Sequence[float] | None = None, *, spatial_dims: int | None = None
) -> "pd.DataFrame":
    """Count and coverage of the objects, for each plane or volume.

    Parameters
    ----------
    labels, scale, spatial_dims
        As in `measure`.

    Returns
    -------
    pandas.DataFrame
        A row for each plane or volume: its position along the other axes (``axis_0`` ...),
        ``count``, ``coverage`` in percent, and ``mean_size``, ``median_size`` in units of `scale`.
    """
    import pandas as pd

    from napari_metastructure.arrays.labels import check_labels, count_classes

    labels = check_labels(labels)
    sizes = _spatial_scale(scale, spatial_dims, labels.ndim)
    rows = []
    for index in np.ndindex(labels.shape[: labels.ndim - len(sizes)]):
        unit = np.asarray(labels[index])
        values, pixels = count_classes(unit)
        pixels = pixels[values > 0]
        areas = pixels * math.prod(sizes)
        rows.append(
            {f"axis_{axis}": at for axis, at in enumerate(index)}
            | {"count": len(pixels), "coverage": 100 * pixels.sum() / max(unit.size, 1)}
            | {
                "mean_size": areas.mean() if len(areas) else float("nan"),
                "median_size": float(np.median(areas)) if len(areas) else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def features(table: "pd.DataFrame", count: int) -> "pd.DataFrame":
    """A table of measurements as the features of a napari Labels layer.

    Its row is the label: the first row is that of the background, and labels that were not
    measured have rows of NaN.

    Parameters
    ----------
    table : pandas.DataFrame
        From `measure`, with no label twice.
    count : int
        The greatest label.

    Returns
    -------
    pandas.DataFrame
        ``count + 1`` rows.
    """
    rows = table.drop_duplicates("index").set_index("index").reindex(range(count + 1))
    return rows.rename_axis("index").reset_index()


def _numbers(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The labels that are present, 0 first, and for each pixel the number of its label."""
    values, numbers = np.unique(np.maximum(labels, 0), return_inverse=True)
    numbers = numbers.reshape(labels.shape)
    if values.size and values[0] == 0:
        return values, numbers
    return np.append(np.zeros(1, values.dtype), values), numbers + 1


def _empty() -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame({"index": np.zeros(0, int)})


def _images(image: Any, shape: tuple[int, ...]) -> dict[str, Any]:
    if image is None:
        return {}
    images = dict(image) if isinstance(image, dict) else {"intensity": image}
    images = {name: as_array(array) for name, array in images.items()}
    for name, array in images.items():
        if array.shape != shape:
            raise ValueError(
                f"The labels have shape {shape} but {name} has {array.shape}; measure images of "
                "the same pixels."
            )
    return images


def _shape_columns(labels: np.ndarray, scale: Sequence[float], skeleton: bool) -> dict[str, Any]:
    """Measurements of the objects of one plane or volume, by name."""
    from skimage.measure import regionprops, regionprops_table

    planar = labels.ndim == 2
    wanted = ["label", "area", "equivalent_diameter_area", "centroid"]
    wanted += ["eccentricity", "orientation"] if planar else []
    found = regionprops_table(labels, properties=wanted, spacing=tuple(scale))
    size, outline = ("area", "perimeter") if planar else ("volume", "surface")
    columns = {
        "index": found["label"],
        size: found["area"],
        "equivalent_diameter": found["equivalent_diameter_area"],
    }
    regions = regionprops(labels)
    columns[outline] = np.array([_outline(region.image, scale) for region in regions], float)
    for axis, letter in enumerate("zyx"[-labels.ndim :]):
        columns[f"centroid_{letter}"] = found[f"centroid-{axis}"]
    if planar:
        columns |= {name: found[name] for name in ("eccentricity", "orientation")}
    if skeleton:
        both = [_skeleton(region.image, scale) for region in regions]
        columns["skeleton_length"] = np.array([length for length, _ in both], float)
        columns["branch_points"] = np.array([points for _, points in both], int)
    return columns


def _outline(image: np.ndarray, scale: Sequence[float]) -> float:
    """Perimeter of a planar object, or surface of a solid one, in units of `scale`."""
    from scipy.ndimage import distance_transform_edt
    from skimage.measure import find_contours, marching_cubes, mesh_surface_area, perimeter

    if image.ndim == 2 and scale[0] == scale[1]:
        return perimeter(image) * scale[0]
    padded = np.pad(image, 2)  # signed distances make a smoother outline than 0 and 1 do
    depth = distance_transform_edt(padded, sampling=scale)
    depth -= distance_transform_edt(~padded, sampling=scale)
    if image.ndim == 3:
        vertices, faces, *_ = marching_cubes(depth, 0, spacing=scale)
        return mesh_surface_area(vertices, faces)
    lines = find_contours(depth, 0)
    return sum(np.linalg.norm(np.diff(line * scale, axis=0), axis=1).sum() for line in lines)


def _skeleton(image: np.ndarray, scale: Sequence[float]) -> tuple[float, int]:
    """Length of the skeleton of an object, and the number of its branch points."""
    from scipy.ndimage import convolve, label
    from skan import Skeleton
    from skimage.morphology import skeletonize

    line = skeletonize(np.pad(image, 1)) > 0
    touching = np.ones((3,) * line.ndim, int)
    line &= convolve(line.astype(int), touching, mode="constant") > 1  # no single pixels
    if not line.any():
        return 0.0, 0
    found = Skeleton(line, spacing=tuple(scale))
    branching = np.zeros(line.shape, bool)
    branching[tuple(found.coordinates[found.degrees > 2].astype(int).T)] = True
    return float(found.path_lengths().sum()), label(branching, touching)[1]


def _intensity_columns(labels: np.ndarray, image: np.ndarray, name: str) -> dict[str, Any]:
    from skimage.measure import regionprops_table

    properties = ("intensity_mean", "intensity_min", "intensity_max")
    found = regionprops_table(labels, image, properties=properties)
    return {f"{name}_{key.removeprefix('intensity_')}": found[key] for key in properties}


# --------------------------------------------------------------------------- one plane or volume


def _pixels(mask: Any) -> Any:
    if np.ma.isMaskedArray(mask):
        raise TypeError("The mask cannot be a masked array; fill it first, as with filled(0).")
    array = as_array(mask)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"A mask should hold labels or probabilities, not {array.dtype}.")
    return array


def _spatial_scale(scale: Any, spatial_dims: int | None, ndim: int) -> tuple[float, ...]:
    """Size of a pixel along each spatial axis; as many as there are spatial axes."""
    try:
        sizes = np.atleast_1d(np.asarray(1.0 if scale is None else scale, float))
    except (ValueError, TypeError):
        raise TypeError(f"scale must be one number per axis, not {scale!r}.") from None
    if spatial_dims is None:
        spatial_dims = 3 if len(sizes) >= 3 else 2
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, not {spatial_dims}.")
    if ndim < spatial_dims:
        raise ValueError(f"There must be at least {spatial_dims} axes, not {ndim}.")
    if sizes.ndim != 1 or not (len(sizes) == 1 or spatial_dims <= len(sizes) <= ndim):
        raise ValueError(f"scale needs one number or one per axis, not {scale!r}.")
    sizes = sizes[-spatial_dims:] if len(sizes) > 1 else np.repeat(sizes, spatial_dims)
    if not ((sizes >= 1e-12) & (sizes <= 1e12)).all():
        raise ValueError(f"scale must be positive, from 1e-12 to 1e12, not {scale!r}.")
    return tuple(float(size) for size in sizes)


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
            outside = _components(~mask, self.dims, full=False)
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
        return _Labels.of_ids(map_blocks(on_block, mask, depth=halo, dtype=np.int64), self.dims)

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

    def kept(self, labels: "_Labels") -> np.ndarray:
        """Whether each object is kept."""
        size = labels.sizes * math.prod(self.scale)
        kept = size >= self.config.min_size
        if self.config.max_size is not None:
            kept &= size <= self.config.max_size
        if self.config.drop_border:
            kept &= ~labels.at_border
        return kept


# --------------------------------------------------------------------------- blocks


class _Labels:
    """Numbered parts of a mask, block by block, and which object each part belongs to.

    Attributes
    ----------
    ids : numpy or dask array of int64
        0: background, else the number of a part.
    parts : array of int64
        The numbers of the parts, sorted.
    objects : array of int64
        The object of each part, from 0.
    sizes : array of int64
        Pixels of each object.
    at_border : array of bool
        Whether each object touches the border of its plane or volume.
    """

    def __init__(self, ids, parts, objects, sizes, at_border):
        self.ids, self.parts, self.objects = ids, parts, objects
        count = int(objects.max(initial=-1)) + 1
        self.sizes = np.zeros(count, np.int64)
        np.add.at(self.sizes, objects, sizes)
        self.at_border = np.zeros(count, bool)
        np.logical_or.at(self.at_border, objects, at_border)

    @classmethod
    def of_ids(cls, ids, dims: int) -> "_Labels":
        """Labels whose ids are the same in all blocks."""
        found = [_counted(block, start, ids.shape, dims) for block, start in _blocks_of(ids)]
        parts, where = np.unique(np.concatenate([f.ids for f in found]), return_inverse=True)
        sizes, border = np.zeros(len(parts), np.int64), np.zeros(len(parts), bool)
        np.add.at(sizes, where, np.concatenate([f.sizes for f in found]))
        np.logical_or.at(border, where, np.concatenate([f.at_border for f in found]))
        return cls(ids, parts, np.arange(len(parts)), sizes, border)

    def lookup(self, values: np.ndarray):
        """A numpy or dask array of the value of each pixel's object, 0 in the background."""
        parts, table = self.parts, np.append(values[self.objects], np.zeros(1, values.dtype))

        def on_block(block, start):
            where = np.searchsorted(parts, block)
            return table[np.where(block > 0, where, len(parts))]

        return map_blocks(on_block, self.ids, dtype=values.dtype)

    def select(self, chosen: np.ndarray):
        """The pixels of the chosen objects, as bool."""
        return self.lookup(chosen)


def _numbered(labels: _Labels, kept: np.ndarray):
    """Labels 1, 2, 3 ... of the objects that are kept."""
    return labels.lookup(np.where(kept, np.cumsum(kept), 0).astype(np.int32))


class _Count(NamedTuple):
    """Numbers in a block, their pixels, and whether they touch the border of the image."""

    ids: np.ndarray
    sizes: np.ndarray
    at_border: np.ndarray


def _counted(block: np.ndarray, start, shape, dims: int) -> _Count:
    ids, sizes = np.unique(block[block > 0], return_counts=True)
    at_border = np.zeros(len(ids), bool)
    for axis in range(block.ndim - dims, block.ndim):
        if not block.shape[axis]:
            continue
        for at, is_edge in (
            (0, start[axis] == 0),
            (-1, start[axis] + block.shape[axis] == shape[axis]),
        ):
            if is_edge:
                face = np.take(block, at, axis)
                at_border[np.searchsorted(ids, np.unique(face[face > 0]))] = True
    return _Count(ids, sizes, at_border)


def _blocks_of(array):
    """Numpy blocks, one at a time, and where each begins."""
    if not is_lazy(array):
        yield array, (0,) * array.ndim
        return
    begins = [np.cumsum([0, *sizes]) for sizes in array.chunks]
    for at in np.ndindex(array.numblocks):
        start = tuple(int(edges[i]) for edges, i in zip(begins, at))
        yield array.blocks[at].compute(), start


def _components(mask, dims: int, *, full: bool) -> _Labels:
    """Connected parts of a mask; those on both sides of a block's border are one object."""
    from scipy.ndimage import generate_binary_structure, label

    structure = np.zeros((3,) * mask.ndim, bool)
    middle = (1,) * (mask.ndim - dims)
    structure[middle] = generate_binary_structure(dims, dims if full else 1)
    whole = tuple(mask.shape)

    def on_block(block, start):
        """The number of a part is 1 + the place of its first pixel, which no other part has."""
        numbers, count = label(block, structure)
        found, first = np.unique(numbers, return_index=True)
        ids = np.zeros(count + 1, np.int64)
        places = [a + s for a, s in zip(np.unravel_index(first, block.shape), start)]
        ids[found] = np.ravel_multi_index(places, whole) + 1 if block.size else 0
        ids[0] = 0
        return ids[numbers]

    ids = map_blocks(on_block, mask, dtype=np.int64)
    faces = _Faces(ids, dims, full)
    found = []
    for block, start in _blocks_of(ids):
        found.append(_counted(block, start, whole, dims))
        faces.add(block, start)
    counts = [np.concatenate([getattr(f, name) for f in found]) for name in _Count._fields]
    order = np.argsort(counts[0])
    parts, sizes, at_border = (column[order] for column in counts)
    return _Labels(ids, parts, faces.objects(parts), sizes, at_border)


class _Faces:
    """What lies on both sides of the borders between the blocks of a dask array."""

    def __init__(self, ids, dims: int, full: bool):
        self.shape, self.full = ids.shape, full
        self.axes = range(ids.ndim - dims, ids.ndim)
        self.borders = {axis: _borders(ids, axis) for axis in self.axes}
        self.sides: dict[tuple[int, int], list[np.ndarray]] = {}

    def add(self, block: np.ndarray, start: Sequence[int]) -> None:
        """Keep the outermost layers of a block that lie at the border of another."""
        for axis in self.axes:
            end = start[axis] + block.shape[axis]
            for border, side, at in ((start[axis], 1, 0), (end, 0, -1)):
                if border in self.borders[axis]:
                    where = [slice(s, s + n) for s, n in zip(start, block.shape)]
                    layer = self._layers(axis, border)[side]
                    layer[tuple(where[:axis] + where[axis + 1 :])] = np.take(block, at, axis)

    def _layers(self, axis: int, border: int) -> list[np.ndarray]:
        if (axis, border) not in self.sides:
            shape = self.shape[:axis] + self.shape[axis + 1 :]
            self.sides[axis, border] = [np.zeros(shape, np.int64) for _ in range(2)]
        return self.sides[axis, border]

    def objects(self, parts: np.ndarray) -> np.ndarray:
        """The object, from 0, of each part; parts that touch across a border are one object."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        if not self.sides:
            return np.arange(len(parts))
        pairs = np.concatenate(
            [self._pairs(axis, *layers) for (axis, _), layers in self.sides.items()], axis=1
        )
        one, other = np.searchsorted(parts, pairs)
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(parts),) * 2)
        return connected_components(graph, directed=False)[1].astype(np.int64)

    def _pairs(self, axis: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Numbers on both sides of a border, of pixels that touch."""
        spatial = [a - (a > axis) for a in self.axes if a != axis]
        found = []
        for steps in product((-1, 0, 1) if self.full else (0,), repeat=len(spatial)):
            here, there = [slice(None)] * before.ndim, [slice(None)] * before.ndim
            for along, step in zip(spatial, steps):
                here[along] = slice(max(-step, 0), before.shape[along] - max(step, 0))
                there[along] = slice(max(step, 0), before.shape[along] - max(-step, 0))
            one, other = before[tuple(here)], after[tuple(there)]
            both = (one > 0) & (other > 0)
            found.append(np.unique(np.stack([one[both], other[both]]), axis=1))
        return np.concatenate(found, axis=1)


def _borders(ids, axis: int) -> set[int]:
    """Where blocks meet along an axis."""
    return set(np.cumsum(ids.chunks[axis])[:-1].tolist()) if is_lazy(ids) else set()
