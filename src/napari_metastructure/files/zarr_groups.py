"""What a Zarr group holds: one image in levels, or several, labels or wells to choose from."""

from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.errors import Unreadable

__all__ = ["describe", "find_image"]

_DEEPEST = 4
_AXES = "tczyx"


def find_image(path: Any, node: Any) -> Any:
    """The only image in a group, however deep, or the array itself.

    Parameters
    ----------
    path : str
        Of the node.
    node : zarr.Group or zarr.Array

    Returns
    -------
    path : str
    node : zarr.Group or zarr.Array
        With multiscales metadata, or the array.

    Raises
    ------
    Unreadable
        If there is none, or several, as in a plate: the sentence says which to choose from.
    """
    for _ in range(_DEEPEST):
        if hasattr(node, "shape") or "multiscales" in _ome(node):
            return path, node
        name = _only(path, node)
        path, node = f"{path}/{name}", node[name]
    raise Unreadable("its groups lie deeper than those of an image")


def _ome(node):
    attributes = dict(node.attrs)
    found = attributes.get("ome", attributes)
    return found if isinstance(found, dict) else {}


def _only(path, group):
    """Name of the only thing in a group that can be opened."""
    known, kind = _ome(group), "images"
    if isinstance(known.get("plate"), dict):
        wells = [well.get("path") for well in known["plate"].get("wells", [])]
        images = [f"{well}/0" for well in wells if well]
        raise Unreadable(f"it is a plate of {len(images)} wells; {_choose(path, images)}")
    if isinstance(known.get("labels"), list):
        names, kind = [str(name) for name in known["labels"]], "label images"
    elif isinstance(known.get("well"), dict):
        names = [str(image.get("path")) for image in known["well"].get("images", [])]
    else:
        names = sorted(name for name in group if name not in ("OME", "labels"))
    names = [name for name in names if name in group]
    if not names:
        raise Unreadable("its description (multiscales) is missing, and it holds no array")
    if len(names) > 1 and "bioformats2raw.layout" not in known:
        raise Unreadable(f"it holds {len(names)} {kind}; {_choose(path, names)}")
    return names[0]


def _choose(path, names):
    listed = ", ".join(names[:3]) + (", ..." if names[3:] else "")
    example = f"{Path(path).name}/{names[0]}" if names else ""
    return f"give one of them ({listed}), such as {example}" if names else "give one image of it"


def describe(group: Any, level: Any) -> Any:
    """What the multiscales metadata of a group tells of one level.

    Parameters
    ----------
    group : zarr.Group
    level : int

    Returns
    -------
    dict
        `array`, `axes`, `scale`, `translation`, `units`, `level` and `shapes`, as in
        `ome_zarr.ZarrImage`.

    Raises
    ------
    Unreadable
        If there is no such level, or the metadata is incomplete or contradicts the arrays.
    """
    try:
        multiscale = _ome(group)["multiscales"][0]
        datasets = multiscale["datasets"]
        arrays = [group[dataset["path"]] for dataset in datasets]
        shapes = [tuple(array.shape) for array in arrays]
        axes = multiscale.get("axes", _AXES)[-len(shapes[0]) :]  # before 0.4, always the same
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in axes]
        names = "".join(str(axis["name"])[:1].lower() for axis in axes)
        steps = [item.get("coordinateTransformations", []) for item in (*datasets, multiscale)]
    except Exception:
        raise Unreadable("its description (multiscales) is missing or incomplete") from None
    if not 0 <= level < len(arrays):
        raise Unreadable(f"it has no level {level}; its levels are 0 to {len(arrays) - 1}")
    if len(names) != len(shapes[level]) or len(set(names)) < len(names):
        raise Unreadable(f"its description tells of the axes {names}, its array has {shapes[0]}")
    scale, translation = _transformed((steps[level], steps[-1]), len(names))
    return {
        "array": arrays[level],
        "axes": names,
        "scale": scale,
        "translation": translation,
        "units": tuple(axis.get("unit") for axis in axes),
        "level": level,
        "shapes": shapes,
    }


def _transformed(steps, ndim):
    scale, translation = np.ones(ndim), np.zeros(ndim)
    try:
        for step in (step for part in steps for step in part):
            if step["type"] == "scale":
                factors = np.reshape(step["scale"], ndim)
                scale, translation = scale * factors, translation * factors
            elif step["type"] == "translation":
                translation = translation + np.reshape(step["translation"], ndim)
        if not np.isfinite([scale, translation]).all():
            raise ValueError
    except Exception:
        raise Unreadable("its description gives no proper scale or translation") from None
    return tuple(scale.tolist()), tuple(translation.tolist())
