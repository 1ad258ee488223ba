import dask.array as da
import numpy as np
import pytest

from napari_metastructure.arrays import blocks as volumes
from napari_metastructure.arrays.chunks import ChunkedArray, chunk_cache, in_chunks
from napari_metastructure.arrays.labels import count_classes
from napari_metastructure.arrays.statistics import moments

zarr = pytest.importorskip("zarr")

ARRAY = np.random.default_rng(0).integers(0, 1000, (7, 3, 50, 61)).astype(np.uint16)
CHUNKS = (4, 2, 16, 20)


class Counted:
    """An array in chunks that notes which boxes are read."""

    def __init__(self, array, chunks):
        self.array_, self.chunks = array, chunks
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim
        self.read = []

    def __getitem__(self, where):
        self.read.append(where)
        return self.array_[where]


def stored(array=ARRAY, chunks=CHUNKS, **options):
    return zarr.create_array(zarr.storage.MemoryStore(), data=array, chunks=chunks, **options)


KINDS = {
    "zarr": stored,
    "zarr in dask": lambda: da.from_array(stored()),
    "dask": lambda: da.from_array(ARRAY, (3, 3, 10, 61)),
    "computed": lambda: da.from_array(stored()) + np.uint16(0),
    "not cached": lambda: da.from_array(ARRAY, -1),
}


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_those_of_the_array(kind):
    cache = chunk_cache(2**10 if kind == "not cached" else 2**28)
    chunked = in_chunks(KINDS[kind](), cache)
    assert isinstance(chunked, ChunkedArray)
    assert chunked.cached == (kind != "not cached")
    np.testing.assert_array_equal(chunked, ARRAY)
    for take in (
        lambda a: a[3],
        lambda a: a[-1, 1:, 5:40],
        lambda a: a[..., -9:][2:5, 1],
        lambda a: np.moveaxis(a, 1, -3)[2],
        lambda a: np.moveaxis(a, 1, -1)[1, 10:40][3:],
        lambda a: a[2, 0, 4:4],
    ):
        assert take(chunked).shape == take(ARRAY).shape
        np.testing.assert_array_equal(np.asarray(take(chunked)), take(ARRAY))
    assert np.asarray(chunked[0], dtype=np.float32).dtype == np.float32
    assert [part.shape for part in chunked[0]] == [(50, 61)] * 3


def test_numpy_stays_as_it_is_and_zarr_is_read_without_dask():
    assert in_chunks(ARRAY) is ARRAY
    np.testing.assert_array_equal(in_chunks([[1, 2]]), [[1, 2]])
    array = stored()
    assert in_chunks(da.from_array(array))._source.array is array


@pytest.mark.parametrize("where", [[(0, 0, 0), (9, 0, 0)], [(slice(None, None, 2),)], [([1, 2],)]])
def test_what_cannot_be_cut_lazily_is_an_error(where):
    with pytest.raises((IndexError, TypeError)):
        in_chunks(stored())[where[-1]]


def test_only_the_chunks_that_are_touched_are_read_and_each_once():
    counted = Counted(ARRAY, CHUNKS)
    part = in_chunks(counted)[1, 0, 2:10, 15:30]
    assert not counted.read
    for _ in range(2):
        np.testing.assert_array_equal(part, ARRAY[1, 0, 2:10, 15:30])
    assert len(counted.read) == 2


def test_cache_is_bounded():
    cache = chunk_cache(2**14)
    counted = Counted(ARRAY, CHUNKS)
    np.testing.assert_array_equal(in_chunks(counted, cache), ARRAY)
    assert 0 < cache.currsize <= 2**14
    read = len(counted.read)
    np.asarray(in_chunks(counted, cache)[0, 0, 0, 0])
    assert len(counted.read) == read + 1  # another array shares the cache, not the chunks


def test_chunks_are_safe_from_the_reader():
    part = np.asarray(in_chunks(stored())[0, 0, :5, :5])
    with pytest.raises(ValueError, match="read-only"):
        part[0] = 1


@pytest.mark.parametrize("dims", [2, 3])
def test_moments_read_each_chunk_once_for_all_planes(dims):
    counted = Counted(ARRAY, CHUNKS)
    chunked = in_chunks(counted, chunk_cache(0))
    chunked._source.cached = True  # but the cache keeps nothing
    for part, expected in zip(volumes.planes(chunked, dims), volumes.planes(ARRAY, dims)):
        np.testing.assert_allclose(moments(part), moments(expected), rtol=1e-12)
    assert len(counted.read) == 2 * 2 * 4 * 4


def test_moments_of_large_planes_are_sampled():
    counted = Counted(ARRAY, CHUNKS)
    plane = in_chunks(counted, sampled=800)[0, 0]
    mean, deviation = moments(plane)
    assert 3 <= len(counted.read) <= 5  # of 16
    assert mean == pytest.approx(500, abs=60)
    assert deviation == pytest.approx(289, abs=30)


def test_moments_without_missing_pixels_and_outliers_are_those_of_the_whole_in_memory():
    pixels = ARRAY[:, 0].astype(np.float32)
    pixels[1, 10, 10], pixels[2, 40, 40], pixels[3, 3, 3] = 1e6, np.nan, -np.inf
    parts = volumes.planes(in_chunks(stored(pixels, (4, 16, 20))))
    for part, plane in zip(parts, pixels):
        assert moments(part) == pytest.approx(moments(plane))
        inner = plane[np.isfinite(plane) & (plane < 1e6)].astype(float)
        assert moments(part) == pytest.approx((inner.mean(), inner.std()))
    with pytest.raises(ValueError, match="holds NaN or infinity"):
        moments(parts[2], robust=False)


def test_classes_are_counted_chunk_by_chunk():
    labels = ARRAY[0] % 5
    for ignore in (None, 3):
        lazy = count_classes(in_chunks(stored(labels, (2, 16, 20))), ignore)
        np.testing.assert_array_equal(lazy, count_classes(labels, ignore))


@pytest.mark.filterwarnings("error")
def test_a_chunk_that_is_not_stored_is_the_fill_value():
    pixels = ARRAY.copy()
    pixels[:4, :2, :16, :20] = 0
    np.testing.assert_array_equal(np.asarray(in_chunks(stored(pixels))), pixels)
