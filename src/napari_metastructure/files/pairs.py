"""Which mask belongs to which image, in the layouts of folders that people have."""

import os
import re
import warnings
from pathlib import Path
from typing import Any

from napari_metastructure.files.names import is_zarr, natural, paths_of, stem

__all__ = ["by_image", "folder_layout", "matched", "pair_of"]

_IMAGES = "images image img imgs raw imagestr"
_LABELS = "masks mask labels label gt annotations annotation targets target seg labelstr"
_WORDS = "cp_masks|masks?|labels?|seg|gt|strokes?|scribbles?"  # as part of a file's name
_MASK = re.compile(rf"(?:^(?:{_WORDS})[_-](?=.))|(?:(?<=.)[_-](?:{_WORDS})$)", re.IGNORECASE)
_IMAGE = re.compile(r"(?:^(?:img|image|raw)[_-](?=.))|(?:(?<=.)[_-](?:img|image|raw|0000)$)", re.I)
_PARTS = ("train", "training")


def folder_layout(path: Any) -> tuple | None:
    """The sources of images and labels in a folder that holds both.

    Known are folders side by side (images/ and masks/, img/ and gt/, imagesTr/ and labelsTr/ ...,
    in any case), files side by side (a.tif and a_mask.tif, mask_a.png ...), and either of these in
    a folder train/.

    Parameters
    ----------
    path : path or str

    Returns
    -------
    images, labels : Path or list of Path; or None
        None if it is laid out in another way.
    """
    path = Path(path).expanduser()
    if not path.is_dir() or is_zarr(path):
        return None
    folders = {item.name.lower(): item for item in path.iterdir() if item.is_dir()}
    images, labels = (
        [folders[name] for name in names.split() if name in folders] for names in (_IMAGES, _LABELS)
    )
    if len(images) == len(labels) == 1:
        return images[0], labels[0]
    inner = next((folders[name] for name in _PARTS if name in folders), None)
    if inner is not None and not images and not labels:
        return folder_layout(inner)
    return None if images or labels else _side_by_side(path)


def _side_by_side(path):
    try:
        files = paths_of(path)
    except ValueError:
        return None
    masks = [file for file in files if _MASK.search(stem(file))]
    others = [file for file in files if file not in masks]
    keys = {_key(file) for file in others}
    masks = [mask for mask in masks if _key(mask) in keys]
    return (others, masks) if masks else None


def _key(path):
    """What the names of an image and of its mask have in common."""
    return _common(stem(path))


def _common(name):
    return _IMAGE.sub("", _MASK.sub("", name)).lower()


def by_image(names: Any, others: Any) -> list[int | None]:
    """For each image the number of what belongs to it by name, None where there is nothing.

    Parameters
    ----------
    names, others : sequence of str
        Names without endings, of the images and of masks or strokes on some of them.

    Raises
    ------
    ValueError
        If one of the others belongs to no image.
    """
    numbers = {_common(name): number for number, name in enumerate(others)}
    found = [numbers.pop(_common(name), None) for name in names]
    if numbers:
        lost = others[min(numbers.values())]
        raise ValueError(f"{lost} belongs to no image: none has its name.")
    return found


def pair_of(source: Any, labels: Any = None) -> tuple:
    """The sources of images and labels, where the first may be a folder that holds both.

    Parameters
    ----------
    source : path, str or sequence of these
    labels : path, str or sequence of these, optional

    Returns
    -------
    images, labels : path, str or list of these

    Raises
    ------
    ValueError
        If no labels are given, and there are none in the folder.
    """
    if labels is not None:
        return source, labels
    layout = folder_layout(source) if isinstance(source, (str, os.PathLike)) else None
    if layout is None:
        raise ValueError(
            "There are no labels: give them too, or a folder that holds images/ and masks/ in "
            f"place of {source}."
        )
    for one in layout:
        paths_of(one)
    return layout


def matched(images: Any, labels: Any) -> tuple:
    """The files of images and those of their labels, in the same order.

    Parameters
    ----------
    images, labels : path, str or sequence of these

    Returns
    -------
    images, labels : path, str or list of Path
        As they were, if either is one file, or lies in several folders. Else paired by name, the
        same but for endings, or for additions such as _mask; where no name fits, in order.

    Raises
    ------
    ValueError
        If several files go by one name, or no names fit and the numbers differ.

    Warns
    -----
    UserWarning
        Of files that are left out, and of pairs by order.
    """
    ours, theirs = paths_of(images), paths_of(labels)
    spread = any(len({path.parent for path in paths}) > 1 for paths in (ours, theirs))
    if len(ours) == 1 or len(theirs) == 1 or spread:
        return images, labels
    for key in (stem, _key):
        by_image, by_label = _by(key, ours), _by(key, theirs)
        both = [name for name in by_image if name in by_label]
        if len(both) == min(len(ours), len(theirs)):
            break
    else:
        both = [name for name in by_image if name in by_label]
    if not both:
        if len(ours) == len(theirs):
            warnings.warn(
                f"The names of images and labels do not fit ({ours[0].name}, {theirs[0].name}): "
                "they are paired in order.",
                stacklevel=3,
            )
        return images, labels
    for paths, known, others in ((ours, by_image, "labels"), (theirs, by_label, "image")):
        left = [path for path in paths if path not in [known[name] for name in both]]
        if left:
            _tell_left_out(left, others)
    chosen = [by_image[name] for name in both], [by_label[name] for name in both]
    return images if chosen[0] == ours else chosen[0], labels if chosen[1] == theirs else chosen[1]


def _by(key, paths):
    found = {}
    for path in sorted(paths, key=natural):
        name = key(path)
        if name in found and key is _key:
            raise ValueError(f"{found[name]} and {path} go by one name, {name}; give one of them.")
        found[name] = path
    return found


def _tell_left_out(paths, lacking):
    listed = ", ".join(path.name for path in paths[:5]) + (", ..." if paths[5:] else "")
    files = "1 file" if len(paths) == 1 else f"{len(paths)} files"
    warnings.warn(
        f"{files} in {paths[0].parent} without {lacking} of the same name: {listed}; left out.",
        stacklevel=4,
    )
