"""Files that are the channels of one image, as nnU-Net names them: cell_0000.tif, cell_0001.tif."""

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from napari_metastructure.files.names import paths_of, stem
from napari_metastructure.files.nnunet import dataset_of
from napari_metastructure.files.pairs import folder_layout, mask_key

__all__ = ["by_case", "is_nnunet", "masks_beside"]

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_NNUNET = re.compile(r"images(tr|ts|val)", re.IGNORECASE)
_MOST = 8  # channels of several images that nothing else tells of; more are a time series
_MOST_OF_ONE = 4  # where there is one image only


def is_nnunet(folder: Path) -> bool:
    """Whether a folder has the name of one of nnU-Net: imagesTr, imagesTs or imagesVal."""
    return bool(_NNUNET.fullmatch(folder.name))


def by_case(paths: Sequence[Path], masks: Sequence[Path] | None = None) -> dict[Path, list[Path]]:
    """The files of each image, in the order of their channels.

    In a folder of nnU-Net, the last four digits of a name are the number of the channel, as far as
    dataset.json and masks agree; without these, if there are a few channels only, the same for all
    images. In another folder they are where all images have the same numbers, from 0000, and there
    is one mask for each image, named without the number. Else each file is an image, as in a
    time series.

    Parameters
    ----------
    paths : sequence of Path
    masks : sequence of Path, optional
        Of the same images; by default those in a folder beside, if there is one.

    Returns
    -------
    dict of {Path: list of Path}
        By the path that the image would have without the number; files that are no channels by
        their own.

    Raises
    ------
    ValueError
        If an image of a folder of nnU-Net lacks a channel, or has more than dataset.json names.

    Warns
    -----
    UserWarning
        Of what was taken for channels or for images, where nothing tells.
    """
    single = {path: [path] for path in paths}
    cases = _numbered(paths)
    numbers = {case: sorted(channels) for case, channels in cases.items()}
    if sum(map(len, numbers.values())) < len(paths) or not any(0 in n for n in numbers.values()):
        return single
    masks = masks_beside(paths) if masks is None else masks
    if all(is_nnunet(path.parent) for path in paths):
        if {stem(mask) for mask in masks} & {stem(path) for path in paths}:
            return single
        if not _are_of_nnunet(numbers, paths[0].parent, masks):
            return single
    elif not _are_channels(numbers, masks):
        return single
    return {
        _without_number(channels[0], case): [channels[number] for number in sorted(channels)]
        for case, channels in cases.items()
    }


def _numbered(paths):
    """Files by the image that they may belong to, and by their number; none if one has none."""
    cases: dict[Path, dict[int, Path]] = {}
    for path in paths:
        name = _CHANNEL.fullmatch(stem(path))
        if name is None:
            return {}
        cases.setdefault(path.parent / name[1], {})[int(name[2])] = path
    return cases


def _are_of_nnunet(numbers, folder, masks):
    """Whether the files in a folder of nnU-Net are channels, by all that is known of them."""
    dataset, first = dataset_of(folder), next(iter(numbers.values()))
    if dataset is not None:
        if len(dataset.channels) == 1 and any(found != [0] for found in numbers.values()):
            _note(folder, f"{dataset.path.name} names one channel, so that each file is an image")
            return False
        _check_complete(numbers, dataset)
        return True
    most = 1 + max(max(found) for found in numbers.values())
    others = _numbered(paths_of(folder)) if len(numbers) == 1 else numbers
    if not masks and most > (_MOST if len(others) > 1 else _MOST_OF_ONE):
        _note(folder, "there is no dataset.json, so that each file is taken for an image")
        return False
    if not masks and len(others) == 1 and most > 1:
        _note(folder, f"the {len(first)} files are taken for the channels of one image")
    _check_complete(numbers)
    return True


def _note(folder, text):
    warnings.warn(f"{folder.name}: {text}.", stacklevel=5)


def _without_number(path, case):
    return case.with_name(case.name + path.name[len(stem(path)) :])


def _are_channels(numbers, masks):
    """Whether all have the same channels, two or more, and each a mask of its name."""
    first = next(iter(numbers.values()))
    alike = all(found == first for found in numbers.values())
    named = Counter(mask_key(mask) for mask in masks)
    cases = Counter(case.name.lower() for case in numbers)
    return alike and first == list(range(len(first))) and len(first) > 1 and named == cases


def _check_complete(numbers, dataset=None):
    """Refuse images without a channel that others have, or that dataset.json names."""
    named = len(dataset.channels) if dataset else 0
    count = max(named, 1 + max(max(found) for found in numbers.values()))
    for case, found in numbers.items():
        if named and found[-1] >= named:
            raise ValueError(
                f"{case} has a channel {found[-1]:04}, but {dataset.path} names {named} only."
            )
        lacking = sorted(set(range(count)) - set(found))
        if lacking:
            listed = ", ".join(f"{number:04}" for number in lacking[:5])
            what = f"that {dataset.path.name} names" if named else "that other images have"
            raise ValueError(f"{case} lacks the channel {listed} {what}.")


def masks_beside(paths: Sequence[Path]) -> list[Path]:
    """The masks of the images in a folder, where they lie in a folder beside it; else none."""
    folders = {path.parent for path in paths}
    if len(folders) > 1:
        return []
    folder = folders.pop().absolute()
    if is_nnunet(folder):
        ending = folder.name[len("images") :]
        layout = folder, folder.with_name(f"labels{ending}")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what else lies beside the folder is not read
            layout = folder_layout(folder.parent) or (None, None)
    if layout[0] != folder or not layout[1].is_dir():
        return []
    try:
        return paths_of(layout[1])
    except ValueError:
        return []
