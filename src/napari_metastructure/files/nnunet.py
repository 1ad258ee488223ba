"""What the dataset.json of nnU-Net says of channels and labels."""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from napari_metastructure.files.records import load_json

__all__ = ["Dataset", "dataset_of"]


_NUMBER = re.compile(r"[0-9]{1,4}")


class Dataset(NamedTuple):
    """What a file dataset.json says.

    Attributes
    ----------
    path : Path
    channels : tuple of str
        Their names, in order; none if they are not told.
    labels : dict of {str: tuple of int}
        The values of each label by its name; several for regions that overlap.
    """

    path: Path
    channels: tuple
    labels: dict

    @property
    def said(self) -> str:
        """What it says, in a sentence."""
        names = (("channels", self.channels), ("labels", self.labels))
        parts = [f"{what}: {_listed(of)}" for what, of in names if of]
        return f"{self.path.name} names the {', the '.join(parts)}." if parts else ""

    def unknown(self, labels: Any) -> str:
        """A sentence on values that it does not name; empty if there are none.

        Parameters
        ----------
        labels : sequence of arrays of integers
        """
        known = [value for values in self.labels.values() for value in values]
        if not known:
            return ""
        found = np.unique(np.concatenate([np.unique(array) for array in labels]))
        others = [str(value) for value in found if value not in [*known, -1]]
        verb = "a label" if len(others) == 1 else "labels"
        return f"The masks hold {verb} that {self.path} does not name: {_listed(others)}." * bool(
            others
        )


def dataset_of(folder: Path) -> Dataset | None:
    """The dataset.json beside imagesTr, imagesTs or imagesVal, of either version of nnU-Net.

    Parameters
    ----------
    folder : Path
        Of images.

    Returns
    -------
    Dataset or None
        None if there is none, or it is one of another program.

    Raises
    ------
    ValueError
        If it cannot be read.
    """
    path = folder.absolute().parent / "dataset.json"
    if not path.is_file():
        return None
    found = load_json(path, "the dataset.json of nnU-Net")
    channels = _part(found, "channel_names") or _part(found, "modality")
    labels = _part(found, "labels")
    if not channels or not all(map(_NUMBER.fullmatch, channels)):
        return None
    if all(map(_NUMBER.fullmatch, labels)):  # of the first version: names by values
        labels = {str(name): int(value) for value, name in labels.items()}
    names = tuple(str(channels[key]) for key in sorted(channels, key=int))
    return Dataset(path, names, {name: _values(value) for name, value in labels.items()})


def _part(found, name):
    part = found.get(name) if isinstance(found, dict) else None
    return part if isinstance(part, dict) else {}


def _values(value):
    values = value if isinstance(value, list) else [value]
    return tuple(int(one) for one in values if isinstance(one, int))


def _listed(names):
    names = list(names)
    return ", ".join(names[:6]) + (", ..." if names[6:] else "")
