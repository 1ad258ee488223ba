"""What identifies a result: its digest, and the record that is its own."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.files.fingerprint import digest, fingerprint
from napari_metastructure.files.names import paths_of
from napari_metastructure.files.read import read
from napari_metastructure.files.records import digests_of, read_record, record_path

__all__ = ["MODEL", "own_record", "record_beside", "recorded_colours", "result_digest"]

MODEL = ".safetensors"
"""The ending of a model's file."""

_LARGEST_HEADER = 2**28  # bytes
_TYPES = {"F": "float", "I": "int", "U": "uint"}  # of safetensors, without the bits


def own_record(path: str | os.PathLike, known: str | None = None) -> dict[str, Any] | None:
    """The record beside a result, if it is of what lies there now; as `record_beside`."""
    record, own = record_beside(path, known)
    return record if own else None


def record_beside(
    path: str | os.PathLike, known: str | None = None
) -> tuple[dict[str, Any] | None, bool]:
    """The record beside a result, and whether it is of what lies there now.

    Parameters
    ----------
    path : path
        Of the result.
    known : str, optional
        The result's digest, where it is known already.

    Returns
    -------
    record : dict or None
        None if there is none.
    own : bool
        False if there is none, or the result was changed or replaced since.
    """
    try:
        record = read_record(record_path(path))
    except (ValueError, OSError):
        return None, False
    try:
        digests = digests_of(record, path)
        return record, bool(digests) and (known or result_digest(path)) in digests
    except (ValueError, OSError):
        return record, False


def recorded_colours(source: Any) -> tuple[int, ...]:
    """The colours that labels in a result of ours had once, in the order of their numbers.

    Parameters
    ----------
    source : path, str or sequence of these

    Returns
    -------
    tuple of int
        As in `Pixels.colours`; empty if no record, of these very labels, tells.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ()
    path = Path(source).expanduser()
    for place in (path, *paths_of(path)[:1]):
        colours = _colours_in(place)
        if colours and own_record(place):
            return colours
    return ()


def _colours_in(path):
    """What the record beside a result tells of colours, whatever lies there now."""
    try:
        found = read_record(record_path(path)).get("colours")
    except (ValueError, OSError):
        return ()
    is_list = isinstance(found, list) and all(isinstance(colour, int) for colour in found)
    return tuple(found) if is_list else ()


def result_digest(path: str | os.PathLike) -> str:
    """SHA-256 of what a result holds, whatever else is in the file: pixels, weights or scores.

    Raises
    ------
    ValueError, OSError
        If the result cannot be read.
    """
    path = Path(path)
    if path.suffix == MODEL:
        return _weights_digest(path)
    if path.suffix in (".json", ".csv"):
        return fingerprint(path)["sha256"]
    return digest(read(path, missing="fill"))


def _weights_digest(path: Path) -> str:
    """Of the weights in a safetensors file, by name, without loading its library."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(path.stat().st_size, _LARGEST_HEADER):
            raise ValueError(f"{path} is damaged or not a safetensors file.")
        try:
            header = json.loads(file.read(size))
            header.pop("__metadata__", None)
            total = hashlib.sha256()
            for name, known in sorted(header.items()):
                begin, end = known["data_offsets"]
                kind = known["dtype"]
                kind = np.dtype(_TYPES[kind[0]] + kind[1:])
                total.update(f"{name} {tuple(known['shape'])} {kind}".encode())
                file.seek(8 + size + begin)
                total.update(file.read(end - begin))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ValueError(f"{path} is damaged or not a safetensors file.") from None
    return total.hexdigest()
