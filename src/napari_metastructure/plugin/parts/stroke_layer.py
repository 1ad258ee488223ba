"""The Labels layer that strokes are painted on: its colours, classes, and a copy on disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from napari.viewer import Viewer

from napari_metastructure.labels.strokes import pack_strokes, unpack_strokes
from napari_metastructure.plugin.parts.colours import CLASSES

__all__ = [
    "bring_up",
    "brush_size",
    "class_colors",
    "class_names",
    "new_stroke_layer",
    "restore_strokes",
    "result_colors",
    "save_strokes",
    "saved_strokes_path",
    "share_of_zeros",
    "uncertainty_colors",
]

_NEARLY_ALL = 0.9  # share of zeros of labels that may be strokes
_FEW = 8  # values of strokes
_MOST_LOOKED_AT = 2**27  # pixels
_MOST_SAMPLED = 2**16  # pixels by which an image is known
_DOUBTFUL = (1, 0.93, 0.2)  # red, green, blue
STROKES = "strokes"
"""Marks a stroke layer in its metadata."""


def class_names(count: int) -> list[str]:
    """Names of the first stroke values: "background", "object", "class 3" ..."""
    return ["background", "object", *(f"class {n}" for n in range(3, count + 1))][:count]


def class_colors(count: int) -> list[str]:
    """A colour for each of the first stroke values."""
    return [CLASSES[n % len(CLASSES)] for n in range(count)]


def _colormap(colors):
    from napari.utils.colormaps import DirectLabelColormap

    return DirectLabelColormap(color_dict={None: "transparent", 0: "transparent", **colors})


def stroke_colors(count: int = 32) -> Any:
    """Colormap of strokes."""
    return _colormap({n + 1: color for n, color in enumerate(class_colors(count))})


def result_colors(count: int = 32) -> Any:
    """Colormap of results: the stroke's colour at its value minus 1; background is not painted."""
    return _colormap(dict(list(enumerate(class_colors(count)))[1:]))


def uncertainty_colors() -> Any:
    """Colormap of the uncertainty: clear to yellow, which is seen on dark and bright images."""
    from napari.utils.colormaps import Colormap

    return Colormap([(*_DOUBTFUL, 0), (*_DOUBTFUL, 1)], name="uncertainty")


def new_stroke_layer(viewer: Viewer, source: Any, *, data: Any = None) -> Any:
    """A layer to paint on, of the image's shape without channels, in its place.

    Parameters
    ----------
    viewer : napari.Viewer
    source : Source
        The image.
    data : array of uint8, optional
        Strokes that are there already.

    Returns
    -------
    napari.layers.Labels
        Active, with a brush for class 2, the object.
    """
    from napari_metastructure.plugin.layers import RECORD

    shape = source.shape
    data = np.zeros(shape, np.uint8) if data is None else np.asarray(data, np.uint8).copy()
    layer = viewer.add_labels(
        source.shaped(data),
        name=f"{source.name} strokes",
        colormap=stroke_colors(),
        metadata={RECORD: {"operation": STROKES, "applied_to": source.name}},
        opacity=0.9,
        **source.place(),
    )
    layer.selected_label = 2
    ready_to_paint(viewer, layer, shape)
    return layer


def share_of_zeros(layer: Any) -> float | None:
    """The share of zeros of a labels layer that may hold strokes, else None.

    It may if nearly all is 0, and the rest are 1, 2 and perhaps a few values more.
    """
    data = layer.data
    if not isinstance(data, np.ndarray) or not 0 < data.size <= _MOST_LOOKED_AT:
        return None
    share = 1 - np.count_nonzero(data) / data.size
    if share < _NEARLY_ALL:
        return None
    values = np.unique(data[data > 0])
    return share if 2 <= len(values) <= _FEW and values[1] == 2 else None


def bring_up(viewer: Viewer, layer: Any) -> None:
    """Make a layer active and visible, on a plane: hidden or in 3-D, napari does not paint."""
    viewer.layers.selection.active = layer
    layer.visible = True
    viewer.dims.ndisplay = 2


def brush_size(shape: Sequence[int]) -> int:
    """Pixels of a brush for strokes on images of this shape."""
    return max(2, round(min(shape[-2:]) / 128))


def ready_to_paint(viewer: Viewer, layer: Any, shape: Sequence[int]) -> None:
    """Make a layer active with the brush in hand."""
    bring_up(viewer, layer)
    layer.brush_size = brush_size(shape)
    layer.n_edit_dimensions = 2
    if layer.selected_label == 0:
        layer.selected_label = 2
    layer.mode = "paint"


# ---------------------------------------------------------------------- on disk


def saved_strokes_path(source: Any) -> Path:
    """Where strokes on an image are kept while they are painted.

    An image of no file is known by its pixels: many are named "Image", and have one shape.
    """
    import hashlib

    from platformdirs import user_data_path

    name = f"{source.name} {source.layer.source.path or ''} {source.shape}"
    known = hashlib.sha256(name.encode())
    if source.layer.source.path is None:
        known.update(_some_pixels(source.layer))
    digest = known.hexdigest()[:16]
    return user_data_path("napari-metastructure") / "strokes" / f"{digest}.npz"


def _some_pixels(layer: Any) -> bytes:
    """Evenly spaced pixels of a layer in memory; none of another, which may take long to read."""
    data = layer.data[0] if layer.multiscale else layer.data
    if not isinstance(data, np.ndarray):
        return b""
    most = max(1, int(_MOST_SAMPLED ** (1 / max(1, data.ndim))))
    spread = (np.linspace(0, n - 1, min(n, most)).astype(int) for n in data.shape)
    return np.ascontiguousarray(data[np.ix_(*spread)]).tobytes()


def save_strokes(path: Path, strokes: np.ndarray, name: str) -> None:
    """Write strokes, few pixels of many, to a small file that takes the old one's place whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with open(temporary, "wb") as file:
        arrays: dict[str, Any] = pack_strokes([strokes])
        np.savez_compressed(file, name=np.array(name), **arrays)
    temporary.replace(path)


def restore_strokes(path: Path, shape: tuple[int, ...]) -> np.ndarray | None:
    """Strokes of an earlier session; None if there are none of this shape."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = unpack_strokes(dict(file))
    except (OSError, KeyError, ValueError, IndexError):
        return None
    if not found or found[0].shape != tuple(shape) or not found[0].any():
        return None
    return found[0]
