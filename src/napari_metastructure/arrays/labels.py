"""Labels: integers without a value lost, their classes and how many pixels have each."""

from typing import Any

import numpy as np

from napari_metastructure.arrays.blocks import as_array, is_lazy
from napari_metastructure.arrays.chunks import ChunkedArray

__all__ = ["as_labels", "check_labels", "common_type", "count_classes"]


def as_labels(labels: Any, name: str = "Labels") -> Any:
    """Labels as an array of integers or bool that holds the same values.

    Parameters
    ----------
    labels : array, n-D
        Numpy, dask or zarr; integers and bool stay as they are, floats must hold whole numbers.
    name : str, optional
        What they are called in errors, such as the name of a file.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Floats become the smallest type of integers that holds all values; those of a dask array
        are read once for that.

    Raises
    ------
    TypeError
        If there is a fraction, NaN or infinity, or if the values are no real numbers.
    ValueError
        If there is a value that 64 bits do not hold.
    """
    if np.ma.isMaskedArray(labels):
        raise TypeError(f"{name} cannot be a masked array; fill it first, as with filled(-1).")
    labels = as_array(labels)
    if labels.dtype.kind in "biu":
        return labels
    if labels.dtype.kind != "f":
        raise TypeError(f"{name} must be integers, not {labels.dtype}.")
    if not is_lazy(labels):
        low, high = _range_of_whole(labels, name)
        return labels.astype(_holding(low, high, name))
    import dask

    blocks = labels.to_delayed().ravel()
    ranges = dask.compute(*[dask.delayed(_range_of_whole)(block, name) for block in blocks])
    low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
    return labels.astype(_holding(low, high, name))


def _range_of_whole(labels, name):
    """The lowest and the highest value, as int, if all are whole."""
    if not labels.size:
        return 0, 0
    with np.errstate(invalid="ignore"):
        odd = labels != np.rint(labels)  # NaN too
    odd |= np.isinf(labels)
    if odd.any():
        value = labels[odd].flat[0]
        raise TypeError(
            f"{name} must be integers, one per class or object, but {value:.6g} is among them."
        )
    return int(labels.min()), int(labels.max())


def _holding(low, high, name):
    """The smallest type of integers that holds both values."""
    for kind in ("u1", "u2", "u4", "u8") if low >= 0 else ("i1", "i2", "i4", "i8"):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    raise ValueError(
        f"{name}: 64-bit integers do not hold all values from {low:.6g} to {high:.6g}."
    )


def common_type(arrays: Any, name: str = "Labels") -> Any:
    """A type of integers that holds the labels of all arrays, of whatever types of integers.

    Parameters
    ----------
    arrays : sequence of arrays of integers or bool
    name : str, optional
        What they are called in errors.

    Returns
    -------
    numpy.dtype

    Raises
    ------
    ValueError
        If there are both negative values and some above 2**63 - 1.
    """
    dtype = np.result_type(*{array.dtype for array in arrays})
    if dtype.kind in "biu":
        return dtype
    low = min(int(array.min()) for array in arrays if array.size)
    high = max(int(array.max()) for array in arrays if array.size)
    return _holding(low, high, name)


def check_labels(labels: Any, spatial_dims: int = 2) -> Any:
    """The labels as a numpy or dask array, if they are integers or bool with enough axes."""
    labels = as_labels(labels)
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, not {spatial_dims}.")
    if labels.ndim < spatial_dims:
        raise ValueError(f"Labels must have at least {spatial_dims} axes, not {labels.ndim}.")
    return labels


def count_classes(labels: Any, ignore_label: int | None = None) -> Any:
    """Sorted class values present in the labels, and how many pixels have each.

    Label -1 and `ignore_label` are left out. A dask array is read once, at once, a
    `chunks.ChunkedArray` chunk by chunk.
    """
    if is_lazy(labels):
        import dask

        blocks = labels.to_delayed().ravel()
        found = dask.compute(
            *[dask.delayed(count_classes)(block, ignore_label) for block in blocks]
        )
        return _summed_counts(found)
    if isinstance(labels, ChunkedArray):
        return _summed_counts([count_classes(block, ignore_label) for block in labels.blocks()])
    values, counts = _count(labels)
    known = ~np.isin(values, [-1] if ignore_label is None else [-1, ignore_label])
    values, counts = values[known], counts[known]
    if values.size and values[0] < 0:
        raise ValueError(
            f"Labels must not be negative, except -1 for pixels to ignore, not {values[0]}."
        )
    return values, counts


def _summed_counts(found):
    values, where = np.unique(np.concatenate([f[0] for f in found]), return_inverse=True)
    counts = np.zeros(values.size, np.int64)
    np.add.at(counts, where, np.concatenate([f[1] for f in found]))
    return values, counts


def _count(labels):
    low, top = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if top >= 2**63:
        raise ValueError(f"Labels must be smaller than 2**63, not {top}.")
    zeros, ones = labels.size - np.count_nonzero(labels), np.count_nonzero(labels == top)
    if low == 0 < top and zeros + ones == labels.size:  # a binary mask, the usual case
        values, counts = np.array([0, top]), np.array([zeros, ones])
    elif low >= 0 and top < 2**20:
        counts = np.bincount(labels.ravel())
        values = np.flatnonzero(counts)
        counts = counts[values]
    else:
        values, counts = np.unique(labels, return_counts=True)
    return values.astype(np.int64), counts
