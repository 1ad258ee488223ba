"""Folders that napari opens through this plugin: images/ with masks/ or labels/ beside it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_metastructure.files.names import paths_of
from napari_metastructure.files.pairs import folder_layout
from napari_metastructure.files.pixels import Pixels
from napari_metastructure.files.read import read_pair

__all__ = ["get_reader", "layer_of"]

_MOST_LAYERS = 100


def get_reader(path: str | list[str]) -> Any:
    """A reader for a folder that holds ``images/`` and ``masks/`` (or ``labels/``); else None.

    Parameters
    ----------
    path : str or list of str

    Returns
    -------
    callable or None
        It gives an image and a labels layer, with the file names as ``metadata["names"]``.
    """
    layout = None if isinstance(path, list) else folder_layout(path)
    if layout is None:
        return None
    try:
        for folder in layout:
            paths_of(folder)
    except ValueError:  # a folder without images is not ours
        return None
    return _read


def _read(path):
    from napari.utils.notifications import show_info

    images, labels = read_pair(path, say=show_info)
    lacking = images.channel_axis if len(labels.axes) < len(images.axes) else None
    labels = replace(images.without(lacking), data=labels.data, names=labels.names)
    if not isinstance(images.data, list):
        name = Path(path).resolve().name
        return [
            layer_of(images.data, images, name, "image"),
            layer_of(labels.data, labels, f"{name} labels", "labels"),
        ]
    if 2 * len(images.data) > _MOST_LAYERS:
        raise ValueError(
            f"The {len(images.data)} images in {path} differ in shape and are too many to open "
            "each as a layer. Open some of them, or use the command line."
        )
    pairs = zip(images.names, images.data, labels.data)
    return [
        layer_of(data, pixels, f"{name} {kind}", kind)
        for name, image, label in pairs
        for data, pixels, kind in ((image, images, "image"), (label, labels, "labels"))
    ]


def layer_of(data: Any, pixels: Pixels, name: str, kind: str) -> tuple[Any, dict, str]:
    """What napari makes a layer from.

    Parameters
    ----------
    data : array
    pixels : Pixels
        What its axes mean.
    name : str
    kind : {"image", "labels"}

    Returns
    -------
    data, options, kind
    """
    options: dict[str, Any] = {"name": name, "scale": pixels.scale, "units": pixels.units}
    if pixels.translation:
        options["translate"] = pixels.translation
    options["axis_labels"] = ["plane" if axis == "i" else axis for axis in pixels.axes]
    if pixels.axes.endswith("s"):
        keys = options.keys() & {"scale", "units", "axis_labels", "translate"}
        options |= {key: options[key][:-1] for key in keys}
        options |= {"rgb": True} if kind == "image" else {}
    if not isinstance(pixels.data, list):
        options["metadata"] = {"names": list(pixels.names)}
    if kind == "labels" and data.dtype.kind not in "iu":
        data = data.astype("uint8")
    return data, options, kind
