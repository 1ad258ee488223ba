"""Which mask belongs to which image, in the layouts of folders that people have."""

import os
import re
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from napari_metastructure.files.names import is_zarr, natural, paths_of, stem
from napari_metastructure.words import counted

__all__ = [
    "Matched",
    "by_image",
    "folder_layout",
    "mask_key",
    "matched",
    "pair_of",
]

_IMAGES = "images image img imgs raw imagestr"
_LABELS = "masks mask labels label gt annotations annotation targets target seg labelstr"
_WORDS = "cp_masks|masks?|labels?|seg|gt|strokes?|scribbles?"  # as part of a file's name
_MASK = re.compile(rf"(?:^(?:{_WORDS})[_-](?=.))|(?:(?<=.)[_-](?:{_WORDS})$)", re.IGNORECASE)
_IMAGE = re.compile(r"(?:^(?:img|image|raw)[_-](?=.))|(?:(?<=.)[_-](?:img|image|raw|0000)$)", re.I)
_PARTS = ("train", "training")
_OTHER_PARTS = ("val", "valid", "validation", "test", "testing")


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


def _parts_left_out(path):
    """A sentence on the parts of a data set that `folder_layout` leaves out; empty if none."""
    folders = [item for item in Path(path).expanduser().iterdir() if item.is_dir()]
    others = [item.name for item in folders if item.name.lower() in _OTHER_PARTS]
    names = {item.name.lower() for item in folders}
    taken = next((name for name in _PARTS if name in names), None)
    if taken is None or not others or names & {*_IMAGES.split(), *_LABELS.split()}:
        return ""
    listed = " and ".join(sorted(others, key=natural))
    return f"Of {Path(path).name or path}, {taken} is read, and {listed} left out."


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


def mask_key(path: Any) -> str:
    """The name that the image of a mask should have."""
    return _MASK.sub("", stem(path)).lower()


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
        raise ValueError(f"{lost} belongs to no image; no image has a matching name.")
    return found


def pair_of(source: Any, labels: Any = None, say: Callable[[str], Any] | None = None) -> tuple:
    """The sources of images and labels, where the first may be a folder that holds both.

    Parameters
    ----------
    source : path, str or sequence of these
    labels : path, str or sequence of these, optional
    say : callable, optional
        Takes a sentence on parts of the folder, such as val/, that are left out; by default it is a
        warning.

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
        with suppress(ValueError):  # says so if there is nothing
            paths_of(source)
        raise ValueError(
            "There are no labels. Give them, too, or a folder that holds images/ and masks/ "
            f"in place of {source}."
        )
    for one in layout:
        paths_of(one)
    left_out = _parts_left_out(source)
    if left_out and say is not None:
        say(left_out)
    elif left_out:
        warnings.warn(left_out, stacklevel=3)
    return layout


class Matched(NamedTuple):
    """Files that belong together.

    Attributes
    ----------
    images, labels : path, str or list of Path
        The sources, as they were where nothing is left out.
    said : str
        How that was understood, in a sentence; empty if there was nothing to understand.
    is_expected : bool
        False if files are left out, or are paired in order for want of names.
    """

    images: Any
    labels: Any
    said: str = ""
    is_expected: bool = True


def matched(
    images: Any,
    labels: Any,
    cases: Mapping[Path, list[Path]] | None = None,
    nouns: tuple[str, str] = ("image", "mask"),
) -> Matched:
    """The files of images and those of their labels, in the same order.

    Parameters
    ----------
    images, labels : path, str or sequence of these
    cases : dict of {Path: list of Path}, optional
        The files of each image, where some have a file for each channel.
    nouns : tuple of str
        What the sentence calls them.

    Returns
    -------
    Matched
        With the sources as they were, if either is one file, or lies in several folders. Else
        paired by name, the same but for endings, or for additions such as _mask; where no name
        fits, in order.

    Raises
    ------
    ValueError
        If several files go by one name.
    """
    theirs = paths_of(labels)
    cases = {path: [path] for path in paths_of(images)} if cases is None else cases
    ours = list(cases)
    spread = any(len({path.parent for path in paths}) > 1 for paths in (ours, theirs))
    if len(ours) == 1 or len(theirs) == 1 or spread:
        return Matched(images, labels)
    for key in (stem, _key):
        by_image, by_label = _by(key, ours), _by(key, theirs)
        both = [name for name in by_image if name in by_label]
        if len(both) == min(len(ours), len(theirs)):
            break
    if not both:
        first = f"{cases[ours[0]][0].name}, {theirs[0].name}"
        said = f"The names of {nouns[0]}s and {nouns[1]}s do not fit ({first}): "
        if len(ours) != len(theirs):
            return Matched(images, labels)
        return Matched(images, labels, f"{said}they are paired in order.", False)
    chosen = [by_image[name] for name in both], [by_label[name] for name in both]
    left = [
        [path.name for path in paths if path not in known]
        for paths, known in zip((ours, theirs), chosen)
    ]
    found = images
    if chosen[0] != ours:
        found = [file for path in chosen[0] for file in cases[path]]
    said = _understood(cases[chosen[0][0]], chosen[1][0], len(both), left, nouns)
    labels = labels if chosen[1] == theirs else chosen[1]
    return Matched(found, labels, said, not any(left))


def _by(key, paths):
    found = {}
    for path in sorted(paths, key=natural):
        name = key(path)
        if name in found and key is _key:
            raise ValueError(
                f"{found[name]} and {path} have the same name, {name}; give only one of them."
            )
        found[name] = path
    return found


def _understood(files, label, count, left, nouns):
    """Which files belong together, with one pair as an example, and which are left out."""
    image, label = (f"{path.parent.name}/{path.name}" for path in (files[0], label))
    more = f" to {files[-1].name}" if files[1:] else ""
    of = f" of {len(files)} channels" if files[1:] else ""
    parts = [f"{counted(count, nouns[0])}{of} with {nouns[1]}s ({image}{more} with {label})"]
    for names, noun, lacking in zip(left, nouns, reversed(nouns)):
        if names:
            article = "an" if lacking[0] in "aeiou" else "a"
            are = "is" if len(names) == 1 else "are"
            listed = ", ".join(names[:5]) + (", ..." if names[5:] else "")
            lost = f"{counted(len(names), noun)} without {article} {lacking}"
            parts.append(f"{lost} {are} left out: {listed}")
    return "; ".join(parts) + "."
