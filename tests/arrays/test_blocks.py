import dask.array as da
import numpy as np
import pytest

from napari_metastructure.arrays import blocks as volumes

ARRAY = np.random.default_rng(0).integers(0, 100, (5, 37, 41))


def neighbour_sum(block, start):
    """Sum over a cross of radius 2 in each plane; zeros outside."""
    out = block.copy()
    for step in (1, 2):
        for axis in (-2, -1):
            low = np.moveaxis(out, axis, 0)
            source = np.moveaxis(block, axis, 0)
            low[step:] += source[:-step]
            low[:-step] += source[step:]
    return out


@pytest.mark.parametrize("chunks", [(5, 37, 41), (1, 10, 41), (2, 7, 5), (5, 3, 1)])
def test_halo_makes_the_result_independent_of_the_chunks(chunks):
    expected = volumes.map_blocks(neighbour_sum, ARRAY, depth=(0, 2, 2))
    lazy = volumes.map_blocks(neighbour_sum, da.from_array(ARRAY, chunks), depth=(0, 2, 2))
    assert isinstance(lazy, da.Array)
    assert lazy.shape == ARRAY.shape
    np.testing.assert_array_equal(lazy.compute(), expected)


@pytest.mark.parametrize("depth", [0, 3, (0, 1, 4)])
def test_start_is_the_place_of_the_block_with_its_halo(depth):
    def check(block, start):
        where = tuple(slice(s, s + n) for s, n in zip(start, block.shape))
        return (block == ARRAY[where]).astype(np.uint8)

    out = volumes.map_blocks(check, da.from_array(ARRAY, (2, 9, 10)), depth=depth, dtype=np.uint8)
    assert out.dtype == np.uint8
    assert out.compute().all()


def test_whole_axes_are_joined_and_leading_axes_added():
    def mean(block, start):
        return np.stack([block - block.mean((1, 2), keepdims=True), block])

    options = {"dtype": np.float32, "whole_axes": (1, 2), "leading": (2,)}
    lazy = volumes.map_blocks(mean, da.from_array(ARRAY, (2, 9, 10)), **options)
    assert lazy.shape == (2, *ARRAY.shape)
    assert lazy.numblocks == (1, 3, 1, 1)
    assert lazy.compute().dtype == np.float32
    np.testing.assert_array_equal(lazy.compute(), volumes.map_blocks(mean, ARRAY, **options))


def test_nothing_is_read_before_it_is_asked_for():
    def explode(block, start):
        raise AssertionError

    volumes.map_blocks(explode, da.from_array(ARRAY, (2, 9, 10)), depth=1)


def test_other_chunked_arrays_become_dask():
    class Stored:
        shape, dtype, ndim, chunks = ARRAY.shape, ARRAY.dtype, 3, (1, 37, 41)

        def __getitem__(self, where):
            return ARRAY[where]

    lazy = volumes.as_array(Stored())
    assert volumes.is_lazy(lazy)
    np.testing.assert_array_equal(lazy.compute(), ARRAY)
    assert volumes.as_array([[1, 2]]).shape == (1, 2)


def test_blocks_of_several_arrays_are_summed():
    def product(first, second):
        return (first * second).sum((1, 2)).sum()

    expected = (ARRAY * ARRAY).sum()
    lazy = da.from_array(ARRAY, (2, 9, 10)), da.from_array(ARRAY, (5, 37, 4))
    assert volumes.sum_blocks(product, ARRAY, ARRAY) == expected
    assert volumes.sum_blocks(product, *lazy) == expected
    assert volumes.sum_blocks(product, ARRAY, lazy[1], whole_axes=(1, 2)) == expected


def test_blocks_of_a_large_zarr_array_are_small():
    zarr = pytest.importorskip("zarr")
    store = zarr.storage.MemoryStore()
    array = zarr.create_array(store, shape=(500, 2048, 2048), chunks=(1, 512, 512), dtype="uint16")
    lazy = volumes.as_array(array)
    assert isinstance(lazy, da.Array)
    assert np.prod(lazy.chunksize) * 2 <= 2**24
    assert all(side % chunk == 0 for side, chunk in zip(lazy.chunksize, array.chunks))


def test_unknown_chunk_sizes_are_computed():
    odd = da.from_array(ARRAY, chunks=(1, 37, 41))[da.from_array(np.arange(5)) > 1]
    assert np.isnan(odd.shape[0])
    found = volumes.as_array(odd)
    assert found.shape == (3, 37, 41)
    np.testing.assert_array_equal(found.compute(), ARRAY[2:])
