"""Between napari layers and arrays: where a layer lies, and which plane is shown."""

import numpy as np

__all__ = [
    "RECORD",
    "noise_of",
    "place",
    "place_plane",
    "plane_index",
    "snapshot",
    "write_ome_tiff",
]

RECORD = "napari_metastructure"
"""Key of our record in ``layer.metadata``."""

_SPATIAL = ("scale", "translate", "rotate", "shear", "affine", "units", "axis_labels")


def place(layer):
    """Keyword arguments that put a new layer of the same axes where `layer` lies."""
    return {name: _copy(getattr(layer, name)) for name in _SPATIAL}


def place_plane(layer, index):
    """Keyword arguments that put one plane, its leading axes of length 1, where it lies.

    Parameters
    ----------
    layer : napari.layers.Layer
    index : tuple of int
        The plane: an index into each leading axis.
    """
    from napari.utils.transforms import Affine

    placed = place(layer)
    linear = Affine(
        scale=layer.scale, rotate=layer.rotate, shear=layer.shear, ndim=layer.ndim
    ).linear_matrix
    offset = np.zeros(layer.ndim)
    offset[: len(index)] = index
    placed["translate"] = np.asarray(layer.translate) + linear @ offset
    return placed


def plane_index(layer, viewer, spatial_dims=2):
    """Index into the layer's leading axes of the plane (or volume) that the sliders point at."""
    point = np.asarray(viewer.dims.point, dtype=float)[-layer.ndim :]
    leading = layer.ndim - spatial_dims
    point = np.concatenate([np.zeros(layer.ndim - len(point)), point])
    index = np.rint(layer.world_to_data(point)[:leading]).astype(int)
    return tuple(int(i) for i in np.clip(index, 0, np.array(layer.data.shape[:leading]) - 1))


def snapshot(layer):
    """The layer's array, safe from later edits: labels are copied, images and lazy arrays kept."""
    from napari.layers import Labels

    if isinstance(layer, Labels) and isinstance(layer.data, np.ndarray):
        return layer.data.copy()
    return layer.data


def noise_of(layer):
    """How the labels of a layer were corrupted, as far as our record tells; else None."""
    record = layer.metadata.get(RECORD, {})
    return record.get("noise") if record.get("whole", True) else None


def _copy(value):
    affine = getattr(value, "affine_matrix", None)
    if affine is not None:
        return np.array(affine)
    return np.array(value) if isinstance(value, np.ndarray) else value


def write_ome_tiff(path, layer):
    """Write the data of an image or labels layer as OME-TIFF, with its pixel sizes.

    Parameters
    ----------
    path : path
        Ending in ``.ome.tif``; what is there is replaced.
    layer : napari.layers.Image or Labels
        At most (t, z, y, x).
    """
    from napari_metastructure import files

    ndim = layer.ndim
    files.write(
        path,
        layer.data,
        axes="tzyx"[-ndim:],
        scale=tuple(layer.scale),
        units=tuple(map(str, layer.units)),
        overwrite=True,
    )
