"""Labels keep their values, whatever their type."""

import dask.array as da
import numpy as np
import pytest

from napari_metastructure.arrays.labels import as_labels, common_type, count_classes


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([0, 255, 256, 300], np.uint16),
        ([0, 1], np.uint8),
        ([-1, 0, 3], np.int8),
        ([-1, 40_000], np.int32),
        ([0, 2.0**40], np.uint64),
    ],
)
def test_whole_floats_become_integers_that_hold_them(values, dtype, lazy):
    floats = np.array([values, values], np.float64)
    found = as_labels(da.from_array(floats, chunks=(1, 2)) if lazy else floats)
    assert found.dtype == dtype
    np.testing.assert_array_equal(np.asarray(found), floats)


@pytest.mark.parametrize("lazy", [False, True], ids=["numpy", "dask"])
@pytest.mark.parametrize("odd", [0.5, np.nan, np.inf, -np.inf])
def test_fractions_and_nan_are_named(odd, lazy):
    labels = np.array([[0, 1], [2, odd]])
    labels = da.from_array(labels, chunks=1) if lazy else labels
    with pytest.raises(TypeError, match=rf"^cells\.npy must be integers.* {odd:g} is among"):
        as_labels(labels, "cells.npy")


def test_what_is_no_number_and_what_is_too_large_is_refused():
    with pytest.raises(TypeError, match="not complex128"):
        as_labels(np.ones((2, 2), complex))
    with pytest.raises(ValueError, match="64-bit integers do not hold"):
        as_labels(np.array([[0, 1e30]]))


def test_mixed_types_have_one_that_holds_all():
    signed, unsigned = np.array([-1, 5]), np.array([0, 7], np.uint64)
    assert common_type([signed, unsigned]) == np.int8
    assert common_type([signed.astype(np.int8), np.array([True])]) == np.int8
    with pytest.raises(ValueError, match="64-bit integers do not hold"):
        common_type([signed, np.array([2**64 - 1], np.uint64)])


@pytest.mark.parametrize(
    ("labels", "values", "counts"),
    [
        (np.array([[0, 255], [255, 255]], np.uint8), [0, 255], [1, 3]),
        (np.array([[-1, 4], [4, 2]], np.int16), [2, 4], [1, 2]),
        (np.array([[7, 7]]), [7], [2]),
        (np.array([[0, 0]]), [0], [2]),
        (np.array([[True, False]]), [0, 1], [1, 1]),
        (np.array([[0, 2**40, 2**40, 3]]), [0, 3, 2**40], [1, 1, 2]),
        (np.zeros((0, 4), int), [], []),
    ],
)
def test_count_classes(labels, values, counts):
    for array in (labels, da.from_array(labels, chunks=(1, 1))) if labels.size else (labels,):
        found, number = count_classes(array)
        assert found.tolist() == values
        assert number.tolist() == counts


def test_count_classes_leaves_out_ignored_pixels():
    values, counts = count_classes(np.array([[0, 9, 9, -1, 1]]), ignore_label=9)
    assert values.tolist() == [0, 1]
    assert counts.tolist() == [1, 1]
    with pytest.raises(ValueError, match="must not be negative"):
        count_classes(np.array([[0, -7]]))
