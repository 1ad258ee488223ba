import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import binary_dilation, distance_transform_cdt, gaussian_filter
from skimage.morphology import skeletonize

from napari_metastructure.labels import extraction


def tubes(shape=(200, 220), seed=0):
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return np.abs(field) < 0.4 * field.std()


@pytest.mark.parametrize("shift", [0, 1, 3])
@pytest.mark.parametrize("seed", range(3))
def test_pixels_lie_within_the_shift_of_the_skeleton(shift, seed):
    mask = tubes()
    distance = distance_transform_cdt(~skeletonize(mask), "chessboard")
    out = extraction.extract(mask, shift=shift, fraction=1, seed=seed)
    assert distance[out > 0].max() == shift


def test_nothing_moved_and_all_kept_is_the_skeleton():
    mask = tubes()
    out = extraction.extract(mask, shift=0, fraction=1)
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, skeletonize(mask))


@pytest.mark.parametrize("fraction", [0, 0.1, 0.5])
def test_the_fraction_is_kept(fraction):
    mask = tubes((400, 400))
    n = skeletonize(mask).sum()
    kept = extraction.extract(mask, shift=0, fraction=fraction, seed=1).sum()
    assert abs(kept - n * fraction) <= 4 * np.sqrt(n * fraction * (1 - fraction))


def test_moves_are_uniform_over_the_square():
    mask = np.zeros((400, 400), bool)
    mask[10::20, 10::20] = True  # single pixels are their own skeletons
    steps = np.argwhere(extraction.extract(mask, shift=1, fraction=1, seed=0)) % 20 - 10
    counts = np.unique(steps, axis=0, return_counts=True)[1]
    assert counts.size == 9
    assert ((counts - 400 / 9) ** 2 / (400 / 9)).sum() < 8 + 5 * 4


def test_moves_are_clipped_at_the_border():
    mask = np.zeros((9, 9), bool)
    mask[0, 0] = mask[8, 8] = True
    out = extraction.extract(mask, shift=50, fraction=1, seed=0)
    assert out.sum() in (1, 2)


def test_planes_and_volumes():
    stack = np.stack([tubes((60, 60), seed) for seed in range(5)])
    planes = extraction.extract(stack, shift=0, fraction=1)
    np.testing.assert_array_equal(planes, [skeletonize(plane) for plane in stack])
    volume = extraction.extract(stack, shift=0, fraction=1, spatial_dims=3)
    np.testing.assert_array_equal(volume, skeletonize(stack) > 0)
    moved = extraction.extract(stack, shift=1, fraction=1, spatial_dims=3, seed=0) > 0
    assert not (moved & ~binary_dilation(volume, np.ones((3, 3, 3)))).any()


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float32])
def test_any_type_and_zeros(dtype):
    mask = tubes()
    np.testing.assert_array_equal(
        extraction.extract(mask.astype(dtype), seed=3), extraction.extract(mask, seed=3)
    )
    assert not extraction.extract(np.zeros((30, 30), dtype)).any()
    assert not extraction.extract(np.full((30, 30), -1)).any()


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_dask_gives_the_same_whatever_the_chunks(spatial_dims):
    stack = np.stack([tubes((60, 60), seed) for seed in range(5)])
    expected = extraction.extract(stack, spatial_dims=spatial_dims, seed=2)
    for chunks in [(1, 60, 60), (2, 17, 60)]:
        out = extraction.extract(da.from_array(stack, chunks), spatial_dims=spatial_dims, seed=2)
        assert isinstance(out, da.Array)
        np.testing.assert_array_equal(out.compute(), expected)


def test_seeds():
    mask = tubes()
    first = extraction.extract(mask, seed=1)
    np.testing.assert_array_equal(first, extraction.extract(mask, seed=1))
    assert (first != extraction.extract(mask, seed=2)).any()
    stack = extraction.extract(np.stack([mask, mask]), seed=1)
    assert (stack[0] != stack[1]).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shift": -1}, "shift must be a non-negative"),
        ({"fraction": 1.2}, "between 0 and 1"),
        ({"spatial_dims": 3}, "3 dimensions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        extraction.extract(tubes(), **options)
