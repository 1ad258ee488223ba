"""What tells whether files, or pixels, are still the same."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_list
from napari_metastructure.files.errors import reading
from napari_metastructure.files.names import paths_of
from napari_metastructure.files.pixels import Pixels

__all__ = ["digest", "fingerprint"]

_SAMPLED = 64  # planes or parts that stand for a whole that is too large to hash
_HASHED_WHOLE = 2**30  # bytes


def fingerprint(source: Any) -> dict[str, Any]:
    """What tells whether files are still the same.

    Parameters
    ----------
    source : path, str or sequence of these
        As for `read`; other files too.

    Returns
    -------
    dict
        ``path`` (or a list of them), ``files``, ``bytes`` and ``sha256``: of the names and contents
        or, above 1 GiB, of the names, sizes, first and last 64 KiB of 64 files (then ``sampled`` is
        true).
    """
    files = _files(source)
    size = sum(path.stat().st_size for path in files)
    sampled = size > _HASHED_WHOLE
    chosen = files
    if sampled and len(files) > _SAMPLED:
        chosen = [files[i] for i in np.linspace(0, len(files) - 1, _SAMPLED).astype(int)]
    total = hashlib.sha256()
    for path in files if sampled else ():
        total.update(f"{path.name} {path.stat().st_size}\n".encode())
    for path in chosen:
        total.update(path.name.encode())
        with reading(path), open(path, "rb") as file:
            if not sampled:
                total.update(hashlib.file_digest(file, "sha256").digest())
                continue
            total.update(file.read(2**16))
            file.seek(max(0, path.stat().st_size - 2**16))
            total.update(file.read(2**16))
    one = isinstance(source, (str, os.PathLike))
    where = _absolute(source) if one else [_absolute(item) for item in source]
    found = {"path": where, "files": len(files), "bytes": size, "sha256": total.hexdigest()}
    return {**found, "sampled": True} if sampled else found


def digest(pixels: Any) -> Any:
    """SHA-256 of pixels, with their shapes and types: the same however they are stored.

    Parameters
    ----------
    pixels : Pixels, array or sequence of arrays
        Above 1 GiB, 64 evenly spaced planes stand for all.
    """
    arrays = pixels.arrays if isinstance(pixels, Pixels) else as_list(pixels)
    total = hashlib.sha256()
    for array in arrays:
        kind = array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype
        total.update(f"{array.shape} {kind.str}".encode())
        indices = list(np.ndindex(array.shape[:-2]))
        if array.nbytes > _HASHED_WHOLE and len(indices) > _SAMPLED:
            at = np.linspace(0, len(indices) - 1, _SAMPLED).astype(int)
            indices = [indices[i] for i in at]
        for index in indices:
            total.update(np.ascontiguousarray(np.asarray(array[index]), kind).data)
    return total.hexdigest()


def _absolute(path):
    return os.path.abspath(Path(path).expanduser())


def _files(source):
    paths = paths_of(source)
    found = [
        sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for path in paths
    ]
    return [path for group in found for path in group]
