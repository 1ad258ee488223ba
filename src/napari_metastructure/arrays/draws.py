"""Random numbers that belong to places, so that no result depends on how arrays are cut."""

import zlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

TILE = 512  # side of the tiles of random numbers; a change alters every seeded result


def tiles(
    block_shape: Any, start: Any, shape: Sequence[int], entropy: Any
) -> Generator[Any, Any, Any]:
    """Yield the places in a block, and the uniform float32 numbers that belong there.

    Numbers belong to fixed tiles of each plane of the whole array, so that they do not depend on
    how it is cut into blocks.
    """
    rows, columns = (_cuts(start[a], block_shape[a], shape[a]) for a in (-2, -1))
    for plane in np.ndindex(block_shape[:-2]):
        key = tuple(int(i + s) for i, s in zip(plane, start))
        for row, y, height, _ in rows:
            for column, x, right, width in columns:
                spawn = np.random.SeedSequence(entropy, spawn_key=(*key, row, column))
                rng = np.random.Generator(np.random.PCG64(spawn))
                u = rng.random((height.stop, width), dtype=np.float32)
                yield (*plane, y, x), u[height, right]


def _cuts(start, size, whole):
    """Tiles that overlap [start, start + size): (number, part of block, part of tile, length)."""
    cuts = []
    for number in range(start // TILE, -(-(start + size) // TILE)):
        low, high = number * TILE, min(number * TILE + TILE, whole)
        first, last = max(low, start), min(high, start + size)
        block, tile = slice(first - start, last - start), slice(first - low, last - low)
        cuts.append((number, block, tile, high - low))
    return cuts


def uniform(block_shape: Any, start: Any, shape: Sequence[int], entropy: Any) -> Any:
    """Uniform random numbers of a block, float32, by its place in the whole."""
    out = np.empty(block_shape, np.float32)
    for where, u in tiles(block_shape, start, shape, entropy):
        out[where] = u
    return out


def entropy(seed: Any, kind: Any) -> Any:
    """Seed words for one operation; different kinds never share their numbers."""
    if isinstance(seed, np.random.Generator):
        seed = int(seed.integers(2**63))
    elif seed is None:
        seed = np.random.SeedSequence().entropy
    words = np.atleast_1d(np.asarray(seed, object)).tolist()
    if not all(isinstance(w, (int, np.integer)) and w >= 0 for w in words):
        raise ValueError(f"seed must be a non-negative integer or a numpy Generator, not {seed!r}.")
    return [int(w) for w in words] + [zlib.crc32(kind.encode())]


def alias_tables(matrix: Any) -> Any:
    """Walker's tables: one uniform number draws from any row, at a cost free of the classes."""
    size = matrix.shape[1]
    accept = np.ones_like(matrix)
    other = np.tile(np.arange(size), (len(matrix), 1))
    for row, shares in enumerate(matrix * size / matrix.sum(1, keepdims=True)):
        small = [i for i in range(size) if shares[i] < 1]
        large = [i for i in range(size) if shares[i] >= 1]
        while small and large:
            low, high = small.pop(), large[-1]
            accept[row, low], other[row, low] = shares[low], high
            shares[high] -= 1 - shares[low]
            if shares[high] < 1:
                small.append(large.pop())
    return accept.astype(np.float32).ravel(), other.astype(np.min_scalar_type(size)).ravel(), size


def draw(tables: Any, row: Any, u: Any) -> Any:
    """Draw a column for each row number, from `alias_tables` and uniform numbers."""
    accept, other, size = tables
    scaled = u * np.float32(size)
    column = np.minimum(scaled.astype(other.dtype), other.dtype.type(size - 1))
    scaled -= column
    cell = np.multiply(row, size, dtype=np.intp) + column
    accepted = scaled < accept.take(cell, mode="clip")
    return choose(accepted, column, other.take(cell, mode="clip"))


def choose(where: Any, these: Any, those: Any) -> Any:
    """``numpy.where`` for integers of one type, without a branch: several times faster."""
    return those ^ (these ^ those) * where
