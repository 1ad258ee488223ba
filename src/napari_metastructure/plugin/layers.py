"""Between napari layers and arrays: where a layer lies, and which plane is shown."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from weakref import WeakSet

import numpy as np
from napari.viewer import Viewer
from numpy.typing import NDArray

from napari_metastructure.arrays.axes import Layout, channels_first
from napari_metastructure.arrays.blocks import as_array
from napari_metastructure.files.fingerprint import digest
from napari_metastructure.files.records import record_path
from napari_metastructure.files.results import record_beside
from napari_metastructure.labels.lines import draw_lines

__all__ = [
    "NO_MASKS",
    "RECORD",
    "Source",
    "axis_letters",
    "hidden_layers",
    "hide_results",
    "in_one_update",
    "is_shapes",
    "labels_of",
    "line_labels",
    "lines_problem",
    "made_by",
    "names_of_volumes",
    "noise_of",
    "place",
    "place_plane",
    "plane_index",
    "recorded_noise",
    "reference_of",
    "region_mask",
    "snapshot",
    "unwrapped",
    "write_ome_tiff",
]

RECORD = "napari_metastructure"
"""Key of our record in ``layer.metadata``."""

NO_MASKS = ("compare", "density", "measure", "strokes", "suspects", "live")
"""Operations whose results are no segmentation."""

_LINES = ("line", "path")
_STACKED = ("plane", "field")  # what readers and samples call an axis of images, no volume
_AXES = {2: "yx", 3: "zyx", 4: "tzyx", 5: "tczyx"}
_SPATIAL = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def in_one_update(viewer: Viewer) -> AbstractContextManager:
    """A context in which layers come and go before napari draws them anew, once for all.

    napari collects garbage at each removal, which stops the window for a quarter of a second.
    """
    return getattr(viewer.layers, "batched_update", nullcontext)()


def place(layer: Any) -> dict:
    """Keyword arguments that put a new layer of the same axes where `layer` lies."""
    return {name: _copy(getattr(layer, name)) for name in _SPATIAL}


def place_plane(layer: Any, index: Any) -> dict:
    """Keyword arguments that put one plane, its leading axes of length 1, where it lies.

    Parameters
    ----------
    layer : napari.layers.Layer
    index : tuple of int
        The plane: an index into each leading axis.
    """
    offset = np.zeros(layer.ndim)
    offset[: len(index)] = index
    return _moved(place(layer), offset)


def _moved(placed, offset):
    """The place of an array that begins so many pixels further on."""
    linear = _to_physical(placed).linear_matrix
    return {**placed, "translate": np.asarray(placed["translate"]) + linear @ offset}


def _coarser(placed, factors):
    """The place of an array with pixels larger by these factors, over the same pixels."""
    factors = np.asarray(factors, dtype=float)
    moved = _moved(placed, (factors - 1) / 2)
    return {**moved, "scale": np.asarray(placed["scale"]) * factors}


def _without_axis(placed, axis):
    """The place of an array that lacks an axis."""
    kept = [k for k in range(len(placed["scale"])) if k != axis]
    sliced = _to_physical(placed).set_slice(kept)
    whole = [*kept, -1]
    return {
        **{name: getattr(sliced, name) for name in ("scale", "translate", "rotate", "shear")},
        "affine": np.asarray(placed["affine"])[np.ix_(whole, whole)],
        "units": tuple(placed["units"][k] for k in kept),
        "axis_labels": tuple(placed["axis_labels"][k] for k in kept),
    }


def _to_physical(placed):
    from napari.utils.transforms import CompositeAffine

    names = ("scale", "translate", "rotate", "shear")
    return CompositeAffine(**{name: placed[name] for name in names}, ndim=len(placed["scale"]))


def _to_world(placed):
    """Matrix from pixels, with a 1 at the end, to the world."""
    return np.asarray(placed["affine"]) @ _to_physical(placed).affine_matrix


def plane_index(layer: Any, viewer: Viewer, spatial_dims: int = 2) -> tuple:
    """Index into the layer's leading axes of the plane (or volume) that the sliders point at."""
    point = np.asarray(viewer.dims.point, dtype=float)[-layer.ndim :]
    leading = layer.ndim - spatial_dims
    point = np.concatenate([np.zeros(layer.ndim - len(point)), point])
    index = np.rint(layer.world_to_data(point)[:leading]).astype(int)
    return tuple(int(i) for i in np.clip(index, 0, np.array(layer.data.shape[:leading]) - 1))


@dataclass(frozen=True)
class Source:
    """What a job takes from an image layer, and where its results lie.

    Results have the axes of the image without its channels. If these are the layer's first axis,
    result layers lack it; otherwise the axis stays, with a single pixel as long as all channels, so
    that the other axes keep their sliders.

    Attributes
    ----------
    layer : napari.layers.Image
    layout : Layout
        Of the array of the chosen level.
    level : int
        Of a multiscale layer, 0 is the finest.
    box : tuple of slice or None
        A part of the image, without channels, that the job works on.
    """

    layer: Any
    layout: Layout
    level: int = 0
    box: tuple | None = None

    @classmethod
    def of(cls, layer: Any, level: int = 0, **preferences: Any) -> "Source":
        """Understand a layer by its name, axis labels, scale and colours (`Layout.of`)."""
        level = min(level, len(layer.data) - 1) if layer.multiscale else 0
        shape = np.shape(layer.data[level] if layer.multiscale else layer.data)
        layout = Layout.of(
            shape,
            axis_labels=layer.axis_labels,
            rgb=getattr(layer, "rgb", False),
            scale=layer.scale * cls._factors_of(layer, shape),
            **preferences,
        )
        return cls(layer, layout, level)

    @staticmethod
    def _factors_of(layer, shape):
        whole = np.array(np.shape(layer.data[0] if layer.multiscale else layer.data)[: layer.ndim])
        return whole / shape[: layer.ndim]

    @property
    def name(self) -> str:
        """Name of the layer."""
        return self.layer.name

    @property
    def array(self) -> Any:
        """What the network sees of the layer, safe from later edits."""
        data = self.layer.data[self.level] if self.layer.multiscale else self.layer.data
        data = self.layout.taken(as_array(data))
        if self.box is None:
            return data
        part, axis = list(self.box), self.layout.input_axis
        if axis is not None:
            part.insert(axis, slice(None))
        return data[tuple(part)]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of results."""
        shape = self.layout.label_shape
        return shape if self.box is None else tuple(part.stop - part.start for part in self.box)

    def around(self, region: Any) -> "Source":
        """The part of the image around a region, an array of bool."""
        from scipy.ndimage import find_objects

        return replace(self, box=find_objects(region.astype(np.uint8))[0])

    def whole(self, result: Any) -> Any:
        """A result of the `box` in an array of the image's size, 0 elsewhere."""
        filled = np.zeros(self.layout.label_shape, result.dtype)
        filled[self.box] = result
        return filled

    @property
    def canonical(self) -> Any:
        """`array` with its channels, if it holds any, just before the spatial axes."""
        layout = self.layout
        return channels_first(self.array, layout.input_axis, layout.spatial_dims)

    @property
    def _kept_axis(self):
        """The channel axis, counted from the end, where result layers keep it; else None."""
        axis = self.layout.channel_axis
        return axis - self.layer.ndim if axis and axis < self.layer.ndim else None

    def place(self) -> dict:
        """Keyword arguments that put a result of all planes where the image lies."""
        factors = self._factors_of(self.layer, self.layout.shape)
        axis = self.layout.channel_axis
        if axis is not None and self._kept_axis is not None:
            factors[axis] = self.layout.shape[axis]
        placed = _coarser(place(self.layer), factors)
        placed = _without_axis(placed, axis) if axis == 0 else placed
        return self._onward(placed, [part.start for part in self.box]) if self.box else placed

    def place_plane(self, index: Any) -> dict:
        """The same for one plane (or volume), its leading axes of length 1."""
        return self._onward(self.place(), index)

    def _onward(self, placed, index):
        """The place so many pixels further on, along the first axes of the result."""
        offset = np.zeros(len(placed["scale"]))
        offset[self._result_axes[: len(index)]] = index
        return _moved(placed, offset)

    @property
    def _result_axes(self):
        """Axes of result layers that are axes of the result."""
        ndim = len(self.layout.label_shape)
        kept = self._kept_axis
        axes = range(ndim if kept is None else ndim + 1)
        return [k for k in axes if kept is None or k != len(axes) + kept]

    def shaped(self, result: Any) -> Any:
        """A result, planes or all, with the axes of its layer; axes in front are left alone."""
        kept = self._kept_axis
        return result if kept is None else np.expand_dims(result, kept)

    def plane_index(self, viewer: Viewer) -> tuple:
        """Index into the result's leading axes of the plane that the sliders point at."""
        placed, axes = self.place(), self._result_axes
        ndim = len(placed["scale"])
        point = np.asarray(viewer.dims.point, dtype=float)[-ndim:]
        point = np.concatenate([np.zeros(ndim - len(point)), point])
        pixel = (np.linalg.inv(_to_world(placed)) @ [*point, 1])[axes]
        leading = self.shape[: -self.layout.spatial_dims]
        index = np.rint(pixel[: len(leading)]).astype(int)
        return tuple(int(i) for i in np.clip(index, 0, np.array(leading, int) - 1))

    def show(self, pixel: Any, viewer: Viewer) -> None:
        """Move the sliders and the camera to a pixel of the result."""
        placed, dims = self.place(), viewer.dims
        whole = np.zeros(len(placed["scale"]))
        whole[self._result_axes] = pixel
        world = (_to_world(placed) @ [*whole, 1])[:-1]
        first = dims.ndim - len(world)  # other layers may have more axes
        for axis in dims.not_displayed:
            if axis >= first:
                dims.set_point(axis, world[axis - first])
        center = [world[axis - first] for axis in dims.displayed if axis >= first]
        viewer.camera.center = [0] * (3 - len(center)) + center

    # ------------------------------------------------------------------ labels

    def fits(self, labels: Any) -> bool:
        """Whether a labels layer can belong to the image."""
        return self._way(labels) is not None

    def misfit(self, labels: Any) -> str | None:
        """Why a labels layer cannot belong to the image, in one sentence; None if it can."""
        if self.fits(labels):
            return None
        return (
            f"{self.name} has shape {self.layout.label_shape} but {labels.name} has "
            f"{labels.data.shape}; choose labels that belong to the image."
        )

    def labels(self, layer: Any, region: Any = None) -> NDArray:
        """The labels of a layer in the image's shape without channels.

        Labels on several channels are united. Of labels as large as the finest level, those at the
        middle of each pixel of a coarser level are taken. Of a Shapes layer they are its lines, see
        `line_labels`. Outside a `region` (array of bool) they become -1.
        """
        return self.labels_later(layer, region)()

    def labels_later(self, layer: Any, region: Any = None) -> partial:
        """A function that gives `labels`, in any thread: large ones are copied in a moment."""
        way = self._way(layer)
        if way == "lines":
            return partial(self._like_image, line_labels(layer, self), way, region)
        return partial(self._like_image, _data(layer, self._level_of(layer) or 0), way, region)

    def _like_image(self, labels, way, region):
        labels = _own(labels)
        if way == "channels":
            labels = labels.max(axis=self.layout.channel_axis)
        elif way == "finest":
            for axis, (n, whole) in enumerate(zip(self.layout.label_shape, labels.shape)):
                nearest = ((np.arange(n) + 0.5) * whole / n).astype(int)
                labels = labels[(slice(None),) * axis + (nearest,)]
        if self.box is not None:
            labels = labels[self.box]
        if region is None:
            return labels
        signed = np.promote_types(labels.dtype, np.int8)
        labels = labels.astype(np.int64 if signed.kind == "f" else signed)
        if hasattr(labels, "dask"):
            from dask.array import where

            return where(region, labels, -1)
        return np.where(region, labels, labels.dtype.type(-1))

    def _way(self, labels):
        if is_shapes(labels):
            flat = len(self.layout.label_shape) == 2
            return "lines" if flat or labels.ndim >= len(self.place()["scale"]) else None
        shape, layout = tuple(labels.data.shape), self.layout
        if shape == layout.label_shape or self._level_of(labels) is not None:
            return "same"
        if shape == layout.shape and layout.channel_axis is not None:
            return "channels"
        finest = Source.of(self.layer, channel_axis=layout.channel_axis).layout.label_shape
        return "finest" if self.level and shape == finest else None

    def _level_of(self, labels):
        """The level of multiscale labels that has the image's shape; None if there is none."""
        shapes = [np.shape(level) for level in labels.data] if labels.multiscale else []
        wanted = self.layout.label_shape
        return shapes.index(wanted) if wanted in shapes else None


def region_mask(shapes: Any, source: Any, *, every_plane: bool = False) -> NDArray | None:
    """Pixels of an image inside the polygons, rectangles and ellipses of a Shapes layer.

    Shapes with fewer axes than the image hold on every plane; those drawn on a plane of a stack
    hold on that plane, unless `every_plane`. Lines and paths enclose nothing. Both layers' places
    in the world are respected.

    Parameters
    ----------
    shapes : napari.layers.Shapes
    source : Source
    every_plane : bool

    Returns
    -------
    array of bool
        Of the image's shape without channels; read-only where it is the same on every plane.

    Raises
    ------
    ValueError
        If no shape encloses a pixel of the image.
    """
    from skimage.draw import polygon

    shape = source.layout.label_shape
    mask, flat = np.zeros(shape, bool), np.zeros(shape[-2:], bool)
    for kind, corners in zip(shapes.shape_type, shapes.data):
        if kind in _LINES:
            continue
        pixels = _in_pixels(_outline(np.asarray(corners, float), kind), shapes, source)
        inside = polygon(pixels[:, -2], pixels[:, -1], shape[-2:])
        if every_plane or shapes.ndim < len(source.place()["scale"]) or len(shape) == 2:
            flat[inside] = True
            continue
        first, last = np.rint([pixels[:, :-2].min(0), pixels[:, :-2].max(0)]).astype(int)
        planes = tuple(slice(max(a, 0), max(b + 1, 0)) for a, b in zip(first, last))
        mask[planes] |= _filled(shape[-2:], inside)
    if not (mask.any() or flat.any()):
        raise ValueError(f"No shape of {shapes.name} encloses a pixel of {source.name}.")
    return mask | flat if mask.any() else np.broadcast_to(flat, shape)


def is_shapes(layer: Any) -> bool:
    """Whether a layer holds shapes, of which lines and paths can be labels."""
    from napari.layers import Shapes

    return isinstance(layer, Shapes)


def line_labels(shapes: Any, source: Source) -> NDArray[np.int8]:
    """Labels from the lines and paths of a Shapes layer, one pixel wide, as centre lines.

    Parameters
    ----------
    shapes : napari.layers.Shapes
        Both layers' places in the world are respected; filled shapes are left out.
    source : Source
        The image.

    Returns
    -------
    array of int8
        Of the image's shape without channels: 1 on the lines, 0 beside them, and -1, not annotated,
        on the planes (volumes for 3-D) without any.

    Raises
    ------
    ValueError
        If no line crosses a pixel of the image.
    """
    kinds = zip(shapes.shape_type, shapes.data)
    lines = [
        _in_pixels(np.asarray(c, float), shapes, source) for kind, c in kinds if kind in _LINES
    ]
    labels = draw_lines(lines, source.layout.label_shape).astype(np.int8)
    if not labels.any():
        raise ValueError(
            f"{shapes.name} has no line on {source.name}: draw lines or paths along the structures."
        )
    spatial = tuple(range(-source.layout.spatial_dims, 0))
    return np.where(labels.any(axis=spatial, keepdims=True), labels, np.int8(-1))


def lines_problem(shapes: Any, source: Source) -> str | None:
    """Why the lines of a Shapes layer cannot be labels of an image; None if they can."""
    if not any(kind in _LINES for kind in shapes.shape_type):
        return f"Draw lines or paths on {shapes.name}, along the structures."
    if not source.fits(shapes):
        return (
            f"The lines of {shapes.name} do not say which plane of {source.name} they are on; draw "
            "them on a Shapes layer that is added while the image is shown."
        )
    return None


def _in_pixels(points, shapes, source):
    """Points of a Shapes layer in pixels of an image without channels, (points, axes).

    Along the axes that the shapes lack, the image's first pixel.
    """
    placed = source.place()
    ndim = len(placed["scale"])
    to_world = _to_world(placed)
    world = np.array([shapes.data_to_world(point) for point in points])[:, -ndim:]
    missing = ndim - world.shape[1]
    world = np.hstack([np.tile(to_world[:missing, -1], (len(world), 1)), world])
    pixels = (np.linalg.inv(to_world) @ np.column_stack([world, np.ones(len(world))]).T)[:-1].T
    return pixels[:, source._result_axes]


def _filled(shape, where):
    mask = np.zeros(shape, bool)
    mask[where] = True
    return mask


def _outline(corners, kind):
    """Corners of a shape; of an ellipse, given by the corners of its box, many points."""
    if kind != "ellipse":
        return corners
    angles = np.linspace(0, 2 * np.pi, 128, endpoint=False)[:, None]
    across, down = (corners[1] - corners[0]) / 2, (corners[3] - corners[0]) / 2
    return corners.mean(0) + np.cos(angles) * across + np.sin(angles) * down


def snapshot(layer: Any, level: int = 0) -> Any:
    """The layer's array, safe from later edits: labels are copied, images and lazy arrays kept.

    Of a multiscale layer it is that of a level, the finest if not told.
    """
    from napari.layers import Labels

    data = _data(layer, level)
    return _own(data) if isinstance(layer, Labels) else data


def _data(layer, level=0):
    return layer.data[level] if layer.multiscale else layer.data


def _own(data):
    return data.copy() if isinstance(data, np.ndarray) else data


def noise_of(layer: Any) -> list[dict] | None:
    """How the labels of a layer were corrupted, as far as a record tells; else None.

    That is the record of the layer or, of a layer without one, that beside its file. It counts only
    if its digest is that of the labels: not of labels that were painted on since.
    """
    noise, own = recorded_noise(layer)
    return noise if own else None


def recorded_noise(layer: Any) -> tuple[list[dict] | None, bool]:
    """As `noise_of`, also of labels that were painted on since; and whether it is of these."""
    if is_shapes(layer):
        return [{"kind": "skeletonize"}], True  # centre lines
    record, path = layer.metadata.get(RECORD), layer.source.path
    if record is not None:
        if not record.get("noise"):
            return None, False
        whole = record.get("whole", True)
        return record["noise"], whole and record.get("digest") == digest(_data(layer))
    if path is None or not record_path(path).is_file():
        return None, False
    record, own = record_beside(path, digest(_data(layer)))
    if record is None or record["operation"] != "corrupt":
        return None, False
    return [record["config"]], own


def made_by(layer: Any) -> str | None:
    """The operation of ours that a layer is the result of; None if it is none."""
    return layer.metadata.get(RECORD, {}).get("operation")


hidden_layers: WeakSet[Any] = WeakSet()
"""Layers that `hide_results` has hidden: nobody has asked for them to go."""


def hide_results(viewer: Viewer, image: str, placed: dict, shape: Any) -> list:
    """Hide the masks of an image where a new result comes: it would be seen through them.

    Parameters
    ----------
    viewer : napari.Viewer
    image : str
        Name of the image.
    placed, shape : dict and tuple of int
        Where the new result lies, as from `Source.place`, and its shape.

    Returns
    -------
    list of napari.layers.Labels
        Those that were shown until now.
    """
    from napari.layers import Labels

    shown = [
        layer
        for layer in viewer.layers
        if isinstance(layer, Labels)
        and layer.visible
        and layer.metadata.get(RECORD, {}).get("applied_to") == image
        and made_by(layer) not in NO_MASKS
        and _overlaps(layer, placed, shape)
    ]
    for layer in shown:
        layer.visible = False
        hidden_layers.add(layer)
    return shown


def _overlaps(layer, placed, shape):
    """Whether a layer of the same image has pixels at a place; other planes of it have none."""
    if len(layer.data.shape) != len(shape) or not np.allclose(layer.scale, placed["scale"]):
        return True
    here, there = _to_world(placed), _to_world(place(layer))
    first = (np.linalg.inv(here) @ there[:, -1])[:-1]  # of the layer, in pixels of the place
    last = first + np.array(layer.data.shape) - 1
    return bool(np.all(first < np.array(shape) - 0.5) and np.all(last > -0.5))


def reference_of(layer: Any, layers: Any) -> Any:
    """The labels that a layer goes back to, as far as records tell.

    Parameters
    ----------
    layer : napari.layers.Layer or None
    layers : napari.components.LayerList

    Returns
    -------
    napari.layers.Labels or None
        Of noisy labels, those before the noise; of a prediction, those of the training, or of these
        those before the noise.
    """
    found, chain = None, [layer]
    while chain[-1] is not None:
        before = _before(chain[-1], layers)
        if before is None or before in chain or before.data.shape != layer.data.shape:
            break
        found = before
        chain.append(before)
    return found


def _before(layer, layers):
    from napari.layers import Labels

    record = layer.metadata.get(RECORD, {})
    known = {one.name: one for one in layers if isinstance(one, Labels)}  # no proxies, as by index
    names = (record.get(key) for key in ("clean", "source", "model"))
    return next((known[name] for name in names if name in known), None)


def labels_of(image: Any, layers: Any, chosen: Any = None) -> Any:
    """The labels layer that goes with an image: of its shape, and named after it if one is.

    Parameters
    ----------
    image : napari.layers.Image or None
    layers : sequence of napari.layers.Labels
        What is chosen from.
    chosen : napari.layers.Labels, optional
        Kept if it is as good as any.

    Returns
    -------
    napari.layers.Labels or None
    """
    if image is None:
        return None
    source = Source.of(image)
    fitting = [layer for layer in layers if layer is not None and source.fits(layer)]
    best = [layer for layer in fitting if layer.name.startswith(image.name)] or fitting
    return chosen if chosen in best else next(iter(best), None)


def _copy(value):
    affine = getattr(value, "affine_matrix", None)
    if affine is not None:
        return np.array(affine)
    return np.array(value) if isinstance(value, np.ndarray) else value


def axis_letters(names: Any, ndim: int) -> str:
    """A letter of "tczyx" for each axis in a file, from a layer's names if these say what they are.

    Images one after the other, which are no volume, are times.

    Parameters
    ----------
    names : sequence of str or None
    ndim : int
        Number of axes.

    Raises
    ------
    ValueError
        If files hold no layers with so many axes.
    """
    if ndim not in _AXES:
        raise ValueError(f"Only layers with 2 to 5 axes can be written; this one has {ndim}.")
    names = [str(name) for name in names or ()]
    letters = "".join("t" if name in _STACKED else name[:1].lower() for name in names)
    is_known = letters.endswith("yx") and len(set(letters)) == ndim and set(letters) <= set("tczyx")
    return letters if is_known else _AXES[ndim]


def names_of_volumes(names: Any) -> list[str]:
    """Names of axes, with z in place of those of images one after the other."""
    return ["z" if str(name) in _STACKED else str(name) for name in names]


def write_ome_tiff(path: Any, layer: Any) -> None:
    """Write the data of an image or labels layer as OME-TIFF, with its pixel sizes.

    Parameters
    ----------
    path : path
        Ending in ``.ome.tif``; what is there is replaced.
    layer : napari.layers.Image or Labels
    """
    from napari_metastructure.files.write import write

    write(
        path,
        layer.data,
        axes=axis_letters(layer.axis_labels, layer.ndim),
        scale=tuple(layer.scale),
        units=tuple(map(str, layer.units)),
        overwrite=True,
    )


def unwrapped(thing: Any) -> Any:
    """A window or layer itself, where plugins are given a proxy of it."""
    return getattr(thing, "__wrapped__", thing)
