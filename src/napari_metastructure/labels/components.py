"""Connected parts of a mask, block by block; what touches across blocks is one object."""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from napari_metastructure.arrays.blocks import is_lazy, map_blocks

__all__ = ["Components", "connected_components", "numbered"]


class Components:
    """Numbered parts of a mask, block by block, and which object each part belongs to.

    Attributes
    ----------
    ids : numpy or dask array of int64
        0: background, else the number of a part.
    parts : array of int64
        The numbers of the parts, sorted.
    objects : array of int64
        The object of each part, from 0.
    sizes : array of int64
        Pixels of each object.
    at_border : array of bool
        Whether each object touches the border of its plane or volume.
    """

    def __init__(self, ids: Any, parts: Any, objects: Any, sizes: Any, at_border: Any) -> None:
        self.ids, self.parts, self.objects = ids, parts, objects
        count = int(objects.max(initial=-1)) + 1
        self.sizes = np.zeros(count, np.int64)
        np.add.at(self.sizes, objects, sizes)
        self.at_border = np.zeros(count, bool)
        np.logical_or.at(self.at_border, objects, at_border)

    @classmethod
    def of_ids(cls, ids: Any, dims: int) -> "Components":
        """Labels whose ids are the same in all blocks."""
        found = [_counted(block, start, ids.shape, dims) for block, start in _blocks_of(ids)]
        parts, where = np.unique(np.concatenate([f.ids for f in found]), return_inverse=True)
        sizes, border = np.zeros(len(parts), np.int64), np.zeros(len(parts), bool)
        np.add.at(sizes, where, np.concatenate([f.sizes for f in found]))
        np.logical_or.at(border, where, np.concatenate([f.at_border for f in found]))
        return cls(ids, parts, np.arange(len(parts)), sizes, border)

    def lookup(self, values: np.ndarray) -> Any:
        """A numpy or dask array of the value of each pixel's object, 0 in the background."""
        parts, table = self.parts, np.append(values[self.objects], np.zeros(1, values.dtype))

        def on_block(block, start):
            where = np.searchsorted(parts, block)
            return table[np.where(block > 0, where, len(parts))]

        return map_blocks(on_block, self.ids, dtype=values.dtype)

    def select(self, chosen: np.ndarray) -> Any:
        """The pixels of the chosen objects, as bool."""
        return self.lookup(chosen)


def numbered(labels: Components, kept: np.ndarray) -> Any:
    """Labels 1, 2, 3 ... of the objects that are kept."""
    return labels.lookup(np.where(kept, np.cumsum(kept), 0).astype(np.int32))


class _Count(NamedTuple):
    """Numbers in a block, their pixels, and whether they touch the border of the image."""

    ids: np.ndarray
    sizes: np.ndarray
    at_border: np.ndarray


def _counted(block: np.ndarray, start, shape, dims: int) -> _Count:
    ids, sizes = np.unique(block[block > 0], return_counts=True)
    at_border = np.zeros(len(ids), bool)
    for axis in range(block.ndim - dims, block.ndim):
        if not block.shape[axis]:
            continue
        for at, is_edge in (
            (0, start[axis] == 0),
            (-1, start[axis] + block.shape[axis] == shape[axis]),
        ):
            if is_edge:
                face = np.take(block, at, axis)
                at_border[np.searchsorted(ids, np.unique(face[face > 0]))] = True
    return _Count(ids, sizes, at_border)


def _blocks_of(array):
    """Numpy blocks, one at a time, and where each begins."""
    if not is_lazy(array):
        yield array, (0,) * array.ndim
        return
    begins = [np.cumsum([0, *sizes]) for sizes in array.chunks]
    for at in np.ndindex(array.numblocks):
        start = tuple(int(edges[i]) for edges, i in zip(begins, at))
        yield array.blocks[at].compute(), start


def connected_components(mask: Any, dims: int, *, full: bool) -> Components:
    """Connected parts of a mask; those on both sides of a block's border are one object."""
    from scipy.ndimage import generate_binary_structure, label

    structure = np.zeros((3,) * mask.ndim, bool)
    middle = (1,) * (mask.ndim - dims)
    structure[middle] = generate_binary_structure(dims, dims if full else 1)
    whole = tuple(mask.shape)

    def on_block(block, start):
        """The number of a part is 1 + the place of its first pixel, which no other part has."""
        numbers, count = label(block, structure)
        found, first = np.unique(numbers, return_index=True)
        ids = np.zeros(count + 1, np.int64)
        places = [a + s for a, s in zip(np.unravel_index(first, block.shape), start)]
        ids[found] = np.ravel_multi_index(places, whole) + 1 if block.size else 0
        ids[0] = 0
        return ids[numbers]

    ids = map_blocks(on_block, mask, dtype=np.int64)
    faces = _Faces(ids, dims, full)
    found = []
    for block, start in _blocks_of(ids):
        found.append(_counted(block, start, whole, dims))
        faces.add(block, start)
    counts = [np.concatenate([getattr(f, name) for f in found]) for name in _Count._fields]
    order = np.argsort(counts[0])
    parts, sizes, at_border = (column[order] for column in counts)
    return Components(ids, parts, faces.objects(parts), sizes, at_border)


class _Faces:
    """What lies on both sides of the borders between the blocks of a dask array."""

    def __init__(self, ids, dims: int, full: bool):
        self.shape, self.full = ids.shape, full
        self.axes = range(ids.ndim - dims, ids.ndim)
        self.borders = {axis: _borders(ids, axis) for axis in self.axes}
        self.sides: dict[tuple[int, int], list[np.ndarray]] = {}

    def add(self, block: np.ndarray, start: Sequence[int]) -> None:
        """Keep the outermost layers of a block that lie at the border of another."""
        for axis in self.axes:
            end = start[axis] + block.shape[axis]
            for border, side, at in ((start[axis], 1, 0), (end, 0, -1)):
                if border in self.borders[axis]:
                    where = [slice(s, s + n) for s, n in zip(start, block.shape)]
                    layer = self._layers(axis, border)[side]
                    layer[tuple(where[:axis] + where[axis + 1 :])] = np.take(block, at, axis)

    def _layers(self, axis: int, border: int) -> list[np.ndarray]:
        if (axis, border) not in self.sides:
            shape = self.shape[:axis] + self.shape[axis + 1 :]
            self.sides[axis, border] = [np.zeros(shape, np.int64) for _ in range(2)]
        return self.sides[axis, border]

    def objects(self, parts: np.ndarray) -> np.ndarray:
        """The object, from 0, of each part; parts that touch across a border are one object."""
        from scipy.sparse import coo_array, csgraph

        if not self.sides:
            return np.arange(len(parts))
        pairs = np.concatenate(
            [self._pairs(axis, *layers) for (axis, _), layers in self.sides.items()], axis=1
        )
        one, other = np.searchsorted(parts, pairs)
        graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(parts),) * 2)
        return csgraph.connected_components(graph, directed=False)[1].astype(np.int64)

    def _pairs(self, axis: int, before: np.ndarray, after: np.ndarray) -> np.ndarray:
        """Numbers on both sides of a border, of pixels that touch."""
        spatial = [a - (a > axis) for a in self.axes if a != axis]
        found = []
        for steps in product((-1, 0, 1) if self.full else (0,), repeat=len(spatial)):
            here, there = [slice(None)] * before.ndim, [slice(None)] * before.ndim
            for along, step in zip(spatial, steps):
                here[along] = slice(max(-step, 0), before.shape[along] - max(step, 0))
                there[along] = slice(max(step, 0), before.shape[along] - max(-step, 0))
            one, other = before[tuple(here)], after[tuple(there)]
            both = (one > 0) & (other > 0)
            found.append(np.unique(np.stack([one[both], other[both]]), axis=1))
        return np.concatenate(found, axis=1)


def _borders(ids, axis: int) -> set[int]:
    """Where blocks meet along an axis."""
    return set(np.cumsum(ids.chunks[axis])[:-1].tolist()) if is_lazy(ids) else set()
