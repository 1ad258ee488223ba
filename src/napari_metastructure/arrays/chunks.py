"""Arrays in chunks, larger than memory: parts read as they are needed, through a small cache."""

from collections.abc import Generator
from itertools import product
from typing import Any

import numpy as np
from cachetools import LRUCache

from napari_metastructure.arrays.blocks import evenly
from napari_metastructure.arrays.outliers import limits, sample

__all__ = ["ChunkedArray", "chunk_cache", "in_chunks"]

CACHE_BYTES = 2**28


def chunk_cache(size: int = CACHE_BYTES) -> Any:
    """A cache for the chunks read last, of so many bytes at most."""
    return LRUCache(size, getsizeof=lambda chunk: chunk.nbytes)


def in_chunks(array: Any, cache: Any = None, *, sampled: Any = None) -> Any:
    """The array in a form that is cheap to cut small parts from.

    Parameters
    ----------
    array : array_like
        Dask, zarr (`ome_zarr.ZarrImage` too) and other arrays with chunks become `ChunkedArray`;
        from a dask array that only wraps a zarr array, the zarr array is read. The rest
        becomes numpy.
    cache : LRUCache, optional
        `chunk_cache` that several arrays may share.
    sampled : int, optional
        `ChunkedArray.statistics` of more pixels than that are taken from some of the chunks.
    """
    if isinstance(array, (np.ndarray, ChunkedArray)):
        return array
    array = _unwrapped(array)
    if not (hasattr(array, "chunks") and hasattr(array, "shape")):
        return np.asarray(array)
    cache = chunk_cache() if cache is None else cache
    return ChunkedArray(_Source(array, cache, sampled))


def _unwrapped(array):
    """The array that a dask array without further operations was made from, if it has chunks."""
    graph = getattr(array, "dask", None)
    layers = getattr(graph, "layers", {})
    origin = f"original-{getattr(array, 'name', '')}"
    if origin not in layers or len(layers) != 2:
        return array
    inner = layers[origin][origin]
    inner = getattr(inner, "value", inner)
    same = getattr(inner, "shape", None) == array.shape and inner.dtype == array.dtype
    return inner if same and getattr(inner, "chunks", None) else array


class _Source:
    """Reads boxes of an array, its chunks through a cache."""

    def __init__(self, array, cache, sampled=None):
        self.array, self.cache, self.sampled = array, cache, sampled
        self.shape, self.dtype = tuple(array.shape), np.dtype(array.dtype)
        self.moments = {}
        sizes = array.chunks or self.shape
        if not hasattr(array, "dask"):
            sizes = [
                [min(side, length - at) for at in range(0, length, side)]
                for side, length in zip(sizes, self.shape)
            ]
        self.edges = [np.cumsum([0, *lengths]) for lengths in sizes]
        largest = np.prod([max(lengths, default=0) for lengths in sizes], dtype=float)
        self.cached = largest * self.dtype.itemsize <= cache.maxsize / 2

    def chunks_of(self, box):
        """Indices of the chunks that a box of (start, stop) per axis touches."""
        ranges = [
            range(np.searchsorted(edges, start, "right") - 1, np.searchsorted(edges, stop, "left"))
            for edges, (start, stop) in zip(self.edges, box)
        ]
        return product(*ranges)

    def box_of(self, index):
        return [(int(e[i]), int(e[i + 1])) for e, i in zip(self.edges, index)]

    def read(self, box):
        """The pixels of a box; not to be written on."""
        if not self.cached:
            return self._read(box)
        indices = list(self.chunks_of(box))
        if len(indices) == 1:
            return self.part(indices[0], box)[0]
        pixels = np.empty([stop - start for start, stop in box], self.dtype)
        for index in indices:
            part, where = self.part(index, box)
            pixels[where] = part
        return pixels

    def part(self, index, box):
        """What a chunk holds of a box, and where in the box it lies."""
        chunk, edges = self.chunk(index), self.box_of(index)
        both = [(max(a, b), min(c, d)) for (a, c), (b, d) in zip(box, edges)]
        inner = tuple(slice(a - e, b - e) for (a, b), (e, _) in zip(both, edges))
        return chunk[inner], tuple(slice(a - s, b - s) for (a, b), (s, _) in zip(both, box))

    def chunk(self, index):
        """One chunk, from the cache if it is there."""
        key = id(self), index
        chunk = self.cache.get(key)
        if chunk is None:
            chunk = self._read(self.box_of(index))
            chunk.flags.writeable = False
            if chunk.nbytes <= self.cache.maxsize:
                self.cache[key] = chunk
        return chunk

    def _read(self, box):
        part = self.array[tuple(slice(*edges) for edges in box)]
        if hasattr(part, "dask"):
            part = part.compute(scheduler="synchronous")
        return np.asarray(part).view()


class ChunkedArray:
    """A part of an array in chunks. Indexing gives a smaller part; numpy.asarray reads it.

    Only integers, slices without a step and ``...`` index it; `transpose` works too.
    """

    def __init__(self, source: Any, box: Any = None, kept: Any = None) -> None:
        self._source = source
        self._box = [(0, length) for length in source.shape] if box is None else box
        self._kept = tuple(range(len(self._box))) if kept is None else kept  # axes, in order
        self.dtype = source.dtype
        lengths = [stop - start for start, stop in self._box]
        self.shape = tuple(lengths[axis] for axis in self._kept)
        self.ndim, self.size = len(self.shape), int(np.prod(self.shape))

    @property
    def cached(self) -> bool:
        """Whether chunks are small enough to be kept, so that small parts are cheap to read."""
        return self._source.cached

    def __len__(self):
        return self.shape[0]

    def __iter__(self):
        return (self[number] for number in range(len(self)))

    def __getitem__(self, where):
        where = where if isinstance(where, tuple) else (where,)
        if Ellipsis in where:
            at = where.index(Ellipsis)
            filled = (slice(None),) * (self.ndim - len(where) + 1)
            where = where[:at] + filled + where[at + 1 :]
        if len(where) > self.ndim:
            raise IndexError(f"There are {self.ndim} axes, not {len(where)}.")
        box, kept = list(self._box), []
        for axis, item in zip(self._kept, where):
            start, stop = self._box[axis]
            if isinstance(item, slice):
                first, last, step = item.indices(stop - start)
                if step != 1:
                    raise IndexError("A chunked array cannot be cut with a step; read it first.")
                box[axis] = start + first, start + max(first, last)
                kept.append(axis)
            else:
                item = range(start, stop)[item]
                box[axis] = item, item + 1
        return ChunkedArray(self._source, box, (*kept, *self._kept[len(where) :]))

    def transpose(self, order: Any) -> Any:
        """The array with its axes in another order."""
        return ChunkedArray(self._source, self._box, tuple(self._kept[axis] for axis in order))

    def __array__(self, dtype=None, copy=None):
        pixels = self._source.read(self._box) if self.size else np.empty(self._sides(), self.dtype)
        pixels = self._arranged(pixels)
        return pixels.astype(dtype or self.dtype, copy=bool(copy))

    def _sides(self):
        return [stop - start for start, stop in self._box]

    def _arranged(self, pixels):
        """Pixels of the source's axes with those of this array."""
        left_out = tuple(axis for axis in range(pixels.ndim) if axis not in self._kept)
        rank = np.argsort(np.argsort(self._kept))
        return pixels.squeeze(left_out).transpose(rank)

    def blocks(self, most_pixels: Any = None) -> Generator[Any, Any, Any]:
        """The pixels in blocks, one chunk after the other.

        Parameters
        ----------
        most_pixels : int, optional
            Leave out chunks, evenly, to read about so many pixels at most.

        Yields
        ------
        array
            Of as many axes as this one.
        """
        for index in self._spread(most_pixels):
            part, _ = self._source.part(index, self._box)
            yield self._arranged(part)

    def _spread(self, most_pixels):
        indices = list(self._source.chunks_of(self._box)) if self.size else []
        count = len(indices)
        if most_pixels and self.size > most_pixels:
            count = max(1, int(count * most_pixels / self.size))
        return evenly(indices, count)

    def statistics(self, robust: bool = True) -> Any:
        """Mean and standard deviation, as float; see `in_chunks` on large arrays.

        What is read serves the neighbours along the other axes that lie in the same chunks too, so
        that it need not be read again. With `robust`, NaN, infinity and outliers
        (`outliers.limits`) are left out; without, NaN and infinity pass through.
        """
        key, found = (tuple(self._box), robust), self._source.moments
        if key not in found:
            indices = self._spread(self._source.sampled)
            merged = _merged(self._source, self._box, self._kept, indices, robust)
            found.update({(box, robust): both for box, both in merged.items()})
        return found[key]


def _merged(source, box, kept, indices, robust):
    """Mean and deviation of a box, and of its neighbours in the same chunks, by box."""
    others = [axis for axis in range(len(box)) if axis not in kept]
    edges = source.box_of(indices[0])
    slab = [edges[axis] if axis in others else part for axis, part in enumerate(box)]

    def parts():
        """The pixels chunk by chunk, (neighbours, pixels), as float."""
        for index in indices:
            part = source.part(index, slab)[0].transpose(*others, *kept)
            yield part.reshape(-1, int(np.prod(part.shape[len(others) :]))).astype(float)

    mean, squares, count, lowest, highest, samples = _summed(parts())
    if robust:
        low, high = np.transpose([limits(row) for row in samples])[..., None]
        inside = np.isfinite(mean) & (lowest >= low[:, 0]) & (highest <= high[:, 0])
        if not inside.all():
            mean, squares, count, *_ = _summed(parts(), low, high)
    deviation = np.sqrt(squares / count)
    found, neighbours = {}, [stop - start for start, stop in (slab[axis] for axis in others)]
    for number, place in enumerate(np.ndindex(*neighbours)):
        where = list(box)
        for axis, step in zip(others, place):
            where[axis] = slab[axis][0] + step, slab[axis][0] + step + 1
        found[tuple(where)] = float(mean[number]), float(deviation[number])
    return found


def _summed(parts, low=None, high=None):
    """Per row: mean, sum of squares around it, number, least, greatest and a sample of the pixels.

    Means and squares of parts are put together as by Chan, Golub and LeVeque 1983. With limits,
    what lies outside of them, or is not finite, is left out.
    """
    mean, squares, count, lowest, highest, samples = 0.0, 0.0, 0, np.inf, -np.inf, []
    for part in parts:
        samples.append(sample(part).copy())  # part changes below
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            lowest, highest = np.fmin(lowest, part.min(1)), np.fmax(highest, part.max(1))
            size = part.shape[1]
            if low is not None:
                inside = np.isfinite(part) & (part >= low) & (part <= high)
                size = inside.sum(1)
                part = np.where(inside, part, 0)
            part_mean = part.sum(1) / np.maximum(size, 1)
            part -= part_mean[:, None]
            if low is not None:
                part *= inside
            step = part_mean - mean
            total = np.maximum(count + size, 1)
            mean = mean + step * (size / total)
            squares = squares + step**2 * (count * size / total)
            squares = squares + np.einsum("ij,ij->i", part, part)
        count = count + size
    return mean, squares, count, lowest, highest, np.concatenate(samples, axis=1)
