"""Arrays of any kind and size: numpy, dask and zarr alike."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = [
    "as_array",
    "as_list",
    "evenly",
    "is_lazy",
    "map_blocks",
    "planes",
    "round_up",
    "sum_blocks",
]

_BLOCK_BYTES = 2**24


def is_lazy(array: Any) -> bool:
    """Whether the array is a dask array."""
    return hasattr(array, "dask")


def as_array(array: Any) -> Any:
    """A numpy or dask array; other chunked arrays (zarr) become dask, the rest numpy.

    Blocks of a zarr array are of 16 MiB, whole chunks where these are smaller, for operations hold
    several times their size, as floats and per class.
    """
    array = getattr(array, "lazy", array)
    if isinstance(array, np.ndarray):
        return array
    if is_lazy(array):
        return _with_known_sizes(array)
    if hasattr(array, "chunks") and hasattr(array, "shape"):
        from dask.array import from_array
        from dask.array.core import normalize_chunks

        blocks = normalize_chunks(
            "auto", array.shape, _BLOCK_BYTES, np.dtype(array.dtype), array.chunks
        )
        return from_array(array, chunks=blocks)
    return np.asarray(array)


def _with_known_sizes(array):
    """A dask array whose chunk sizes are known; those that are not are computed."""
    if not np.isnan(array.shape).any():
        return array
    return array.copy().compute_chunk_sizes()


def map_blocks(
    function: Callable,
    array: Any,
    *,
    depth: Any = 0,
    dtype: Any = None,
    whole_axes: Sequence[int] = (),
    leading: Sequence[int] = (),
) -> Any:
    """Apply a function block by block: at once to numpy, lazily to dask.

    Parameters
    ----------
    function : callable
        ``function(block, start)`` gets a numpy block, with its halo, and the index in the whole
        array where the block begins; it returns an array of the block's shape, after the axes
        given by `leading`.
    array : array_like, numpy, dask or zarr
    depth : int or sequence of int, optional
        Halo in pixels per axis, cut off at the border of the array and trimmed from the result.
    dtype : dtype, optional
        Of the result; by default that of `array`.
    whole_axes : sequence of int, optional
        Axes that must not be cut.
    leading : tuple of int, optional
        Lengths of the axes that the function puts in front, such as a class axis.

    Returns
    -------
    numpy.ndarray or dask.array.Array
        Of the kind of `array` and of shape ``(*leading, *array.shape)``.
    """
    array = as_array(array)
    dtype = np.dtype(array.dtype if dtype is None else dtype)
    if not is_lazy(array):
        return function(array, (0,) * array.ndim).astype(dtype, copy=False)
    return _map_lazily(function, array, depth, dtype, whole_axes, leading)


def _map_lazily(function, array, depth, dtype, whole_axes, leading):
    import dask.array as da

    array = array.rechunk(dict.fromkeys(whole_axes, -1))
    depth = [
        0 if len(sizes) == 1 or not array.size else min(int(reach), length)
        for reach, sizes, length in zip(
            np.broadcast_to(depth, array.ndim), array.chunks, array.shape
        )
    ]
    padded = array
    if any(depth):
        padded = da.overlap.overlap(array, dict(enumerate(depth)), boundary="none")
    inner = [_without_halo(sizes, d) for sizes, d in zip(padded.chunks, depth)]
    begins = [np.cumsum([0, *sizes]) for sizes in inner]
    prefix = (slice(None),) * len(leading)

    def on_block(block, block_info=None):
        where = block_info[0]["chunk-location"]
        first = [int(edges[i]) for edges, i in zip(begins, where)]
        size = [sizes[i] for sizes, i in zip(inner, where)]
        start = tuple(max(a - d, 0) for a, d in zip(first, depth))
        trim = tuple(slice(a - s, a - s + n) for a, s, n in zip(first, start, size))
        return function(block, start)[prefix + trim].astype(dtype, copy=False)

    return da.map_blocks(
        on_block,
        padded,
        dtype=dtype,
        chunks=tuple((n,) for n in leading) + tuple(inner),
        new_axis=list(range(len(leading))) or None,
        meta=np.empty((0,) * (len(leading) + array.ndim), dtype),
    )


def _without_halo(sizes, depth):
    last = len(sizes) - 1
    return tuple(n - depth * ((i > 0) + (i < last)) for i, n in enumerate(sizes))


def as_list(arrays: Any) -> list:
    """One array, or a sequence of arrays, as a list of arrays."""
    if hasattr(arrays, "shape"):
        return [as_array(arrays)]
    return [as_array(array) for array in arrays]


def planes(array: Any, spatial_dims: int = 2) -> list:
    """The (y, x) planes, or with ``spatial_dims=3`` the (z, y, x) volumes, of an n-D array.

    Parameters
    ----------
    array : array, n-D
        The last `spatial_dims` axes are spatial; all before are iterated over.
    spatial_dims : {2, 3}

    Returns
    -------
    list of array
        Views of the array, in order.

    Raises
    ------
    ValueError
        If the array has too few axes or no pixels.
    """
    if array.ndim < spatial_dims:
        raise ValueError(
            f"An array of shape {array.shape} has fewer than {spatial_dims} axes; "
            f"give {'planes' if spatial_dims == 2 else 'volumes'} or stacks of them."
        )
    if 0 in array.shape:
        raise ValueError(f"An array of shape {array.shape} holds no pixels.")
    return [array[index] for index in np.ndindex(array.shape[: array.ndim - spatial_dims])]


def sum_blocks(function: Callable, *arrays: Any, whole_axes: Sequence[int] = ()) -> Any:
    """Sum what a function returns for each block of arrays of one shape; read at once.

    Parameters
    ----------
    function : callable
        ``function(*blocks)`` gets one numpy block of each array, without halos.
    *arrays : numpy or dask arrays
    whole_axes : sequence of int, optional
        Axes that must not be cut.
    """
    if not any(map(is_lazy, arrays)):
        return function(*arrays)
    import dask
    import dask.array as da

    first = next(array for array in arrays if is_lazy(array))
    chunks = first.rechunk(dict.fromkeys(whole_axes, -1)).chunks
    cut = [da.asarray(array).rechunk(chunks).to_delayed().ravel() for array in arrays]
    return sum(dask.compute(*[dask.delayed(function)(*blocks) for blocks in zip(*cut)]))


def evenly(values: Sequence, count: int) -> list:
    """At most so many of the values, evenly spread."""
    count = min(len(values), max(count, 0))
    return [values[n] for n in np.linspace(0, len(values) - 1, count).round().astype(int)]


def round_up(side: float, multiple: Any) -> int:
    """The smallest multiple of `multiple` that is at least `side`."""
    return -(-int(side) // multiple) * multiple
