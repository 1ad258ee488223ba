"""Objects told apart, numbered and measured."""

from itertools import pairwise

import dask.array as da
import numpy as np
import pytest
from scipy.ndimage import binary_fill_holes, gaussian_filter
from skimage.draw import disk
from skimage.measure import label, regionprops_table

import napari_metastructure as nms
from napari_metastructure.labels.objects import features, measure, split, summary


def blobs(shape, seed=0, sigma=3.0):
    """A mask of blobs that touch, cross borders and have holes."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)
    return noise > 0.6 * noise.std()


def discs(shape, *places):
    mask = np.zeros(shape, bool)
    for row, column, radius in places:
        mask[disk((row, column), radius, shape=shape)] = True
    return mask


def assert_same_objects(one, other):
    """Whether two label images have the same objects, whatever their numbers."""
    one, other = np.asarray(one), np.asarray(other)
    pairs = np.unique(np.stack([one.ravel(), other.ravel()]), axis=1)
    assert len(pairs[0]) == len(np.unique(one)) == len(np.unique(other))
    np.testing.assert_array_equal(one == 0, other == 0)


# ----------------------------------------------------------------- splitting


def test_components_touch_at_corners_too():
    mask = blobs((90, 110))
    found = nms.objects.split(mask)
    assert found.dtype == np.int32
    assert_same_objects(found, label(mask, connectivity=2))
    assert np.unique(found).tolist() == list(range(found.max() + 1))


def test_planes_and_volumes():
    stack = blobs((4, 60, 70), sigma=2)
    planes = split(stack)
    assert planes.max() == sum(label(plane).max() for plane in stack)
    assert [set(np.unique(a)) & set(np.unique(b)) for a, b in pairwise(planes)] == [{0}] * 3
    assert_same_objects(split(stack, spatial_dims=3), label(stack, connectivity=3))
    assert_same_objects(split(stack, scale=(2, 1, 1)), label(stack, connectivity=3))
    movie = np.stack([stack, stack[::-1]])
    assert split(movie, spatial_dims=3).max() == 2 * label(stack).max()


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("chunks", [(1, 20, 70), (3, 13, 17), (12, 64, 80)])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"fill_holes": True},
        {"drop_border": True, "min_size": 12},
        {"smoothing": 1.5, "max_size": 900},
        {"method": "watershed", "split_depth": 0.8},
    ],
    ids=str,
)
def test_objects_across_the_borders_of_blocks_count_once(dims, chunks, how):
    noise = gaussian_filter(np.random.default_rng(0).normal(size=(12, 64, 80)), 1.8)
    mask = noise > 1.3 * noise.std()
    expected = split(mask, spatial_dims=dims, **how)
    found = split(da.from_array(mask, chunks), spatial_dims=dims, **how)
    assert isinstance(found, da.Array)
    assert found.dtype == np.int32
    assert expected.max() > (1 if dims == 3 else 20)
    assert_same_objects(expected, found)
    assert found.compute().max() == expected.max()


def test_diagonal_touch_across_the_corner_of_blocks():
    mask = np.zeros((20, 20), bool)
    mask[9, 9] = mask[10, 10] = True
    assert split(da.from_array(mask, 10)).compute().max() == 1


def test_sizes_are_in_physical_units():
    mask = discs((60, 100), (20, 20, 5), (20, 50, 10), (30, 80, 14))
    areas = sorted(measure(split(mask), scale=0.5)["area"])
    middle = split(mask, scale=0.5, min_size=areas[0] + 0.1, max_size=areas[2] - 0.1)
    assert middle.max() == 1
    assert np.count_nonzero(middle) == areas[1] / 0.25


def test_holes_and_border():
    mask = discs((60, 80), (30, 20, 15), (30, 75, 10)) & ~discs((60, 80), (30, 20, 5))
    filled = split(mask, fill_holes=True)
    np.testing.assert_array_equal(filled > 0, binary_fill_holes(mask))
    assert split(mask, drop_border=True).max() == 1


def test_watershed_splits_at_necks_and_keeps_the_rest():
    mask = discs((60, 120), (30, 25, 15), (30, 50, 15), (30, 95, 12))
    assert split(mask).max() == 2
    found = split(mask, method="watershed")
    assert found.max() == 3
    assert len({found[30, 25], found[30, 50], found[30, 95]} - {0}) == 3
    assert split(mask, method="watershed", split_depth=1000).max() == 2  # none is lost
    np.testing.assert_array_equal(found > 0, mask)


def test_watershed_from_probabilities():
    rows, columns = np.mgrid[:40, :80]
    probability = np.maximum(
        np.exp(-((columns - 20) ** 2) / 200), np.exp(-((columns - 55) ** 2) / 200)
    ) * (abs(rows - 20) < 12)
    how = {"method": "watershed", "seeds": "probability", "threshold": 0.1}
    assert split(probability, threshold=0.1).max() == 1
    assert split(probability, **how).max() == 2
    assert split(probability, **how, split_contrast=0.9).max() == 1
    assert split(da.from_array(probability, 20), **how).compute().max() == 2


def test_probabilities_labels_and_ignored_pixels():
    probability = np.array([[0.9, 0.9, 0.1, np.nan, 0.7]] * 2)
    assert split(probability).tolist() == [[1, 1, 0, 0, 2]] * 2
    assert split(probability, threshold=0.8).max() == 1
    assert split(np.array([[3, 3, 0, -1, 255]] * 2)).tolist() == [[1, 1, 0, 0, 2]] * 2


@pytest.mark.parametrize("empty", [np.zeros((5, 6), bool), np.zeros((0, 6), bool), np.ones((5, 6))])
@pytest.mark.parametrize("method", ["components", "watershed"])
@pytest.mark.parametrize("lazy", [False, True])
def test_nothing_or_all(empty, method, lazy):
    mask = da.from_array(empty, 3) if lazy else empty
    found = np.asarray(split(mask, method=method, fill_holes=True))
    assert found.shape == empty.shape
    assert found.max(initial=0) == (1 if empty.any() else 0)
    assert len(measure(found)) == found.max(initial=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: split(m[0]), "at least 2 axes, not 1"),
        (lambda m: split(m, spatial_dims=3), "at least 3 axes"),
        (lambda m: split(m, scale=(1, 2, 3, 4), spatial_dims=2), "one number, or one for each of"),
        (lambda m: split(m, scale=0), "must be positive"),
        (lambda m: split(m, min_size=-1), "min_size"),
        (lambda m: split(m, method="magic"), "'components' or 'watershed'"),
        (lambda m: split(m, seeds="probability", method="watershed"), "need a probability map"),
        (lambda m: split(m.astype("U1")), "labels or probabilities"),
        (lambda m: measure(m + 0.5), "must be integers"),
        (lambda m: measure(m, np.zeros((2, 2))), "same pixels"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call(np.eye(5, dtype=np.uint8))
    assert "\n" not in str(caught.value)


# ----------------------------------------------------------------- measuring


def test_planar_measurements_in_units():
    mask = discs((100, 120), (30, 30, 20), (70, 90, 10))
    labels = split(mask)
    found = measure(labels, scale=0.5)
    assert found["index"].tolist() == [1, 2]
    np.testing.assert_allclose(found["area"], np.pi * np.array([10, 5]) ** 2, rtol=0.04)
    np.testing.assert_allclose(found["equivalent_diameter"], [20, 10], rtol=0.02)
    np.testing.assert_allclose(found["perimeter"], 2 * np.pi * np.array([10, 5]), rtol=0.05)
    np.testing.assert_allclose(found[["centroid_y", "centroid_x"]], [[15, 15], [35, 45]])
    assert (found["eccentricity"] < 0.1).all()


def test_anisotropic_pixels_give_the_same_shape():
    rows, columns = np.mgrid[:80, :240]
    mask = ((rows - 40) * 3) ** 2 + (columns - 120) ** 2 < 90**2  # a disc of radius 90
    found = measure(mask.astype(np.uint8), scale=(3, 1)).iloc[0]
    assert found["area"] == pytest.approx(np.pi * 90**2, rel=0.01)
    assert found["perimeter"] == pytest.approx(2 * np.pi * 90, rel=0.08)
    assert found["eccentricity"] < 0.1


def test_volumes_of_anisotropic_voxels():
    z, y, x = np.mgrid[:20, :60, :60]
    ball = ((z - 10) * 3) ** 2 + (y - 30) ** 2 + (x - 30) ** 2 < 24**2
    found = measure(ball.astype(np.uint8), scale=(3, 1, 1)).iloc[0]
    assert found["volume"] == pytest.approx(4 / 3 * np.pi * 24**3, rel=0.02)
    assert found["surface"] == pytest.approx(4 * np.pi * 24**2, rel=0.08)
    assert found[["centroid_z", "centroid_y", "centroid_x"]].tolist() == pytest.approx([30, 30, 30])


def test_intensities_and_frames():
    labels = np.zeros((2, 10, 12), np.int32)
    labels[0, 1:4, 1:5], labels[1, 5:9, 2:8] = 1, 2
    image = np.random.default_rng(0).random(labels.shape)
    found = measure(labels, {"actin": image, "other": da.from_array(image * 2)})
    assert found["axis_0"].tolist() == [0, 1]
    for row, value in enumerate((1, 2)):
        pixels = image[labels == value]
        assert found["actin_mean"][row] == pytest.approx(pixels.mean())
        assert found["other_max"][row] == pytest.approx(2 * pixels.max())
    reference = regionprops_table(labels[1], image[1], ["intensity_mean"])
    assert found["actin_mean"][1] == pytest.approx(reference["intensity_mean"][0])


def test_skeletons_have_a_length_and_branch_points():
    cross = np.zeros((41, 61), np.uint8)
    cross[20, 5:56] = 1
    cross[5:36, 30] = 1
    found = measure(cross, scale=0.5, skeleton=True).iloc[0]
    assert found["branch_points"] == 1
    assert found["skeleton_length"] == pytest.approx((50 + 30) / 2, abs=1.5)
    dot = np.zeros((9, 9), np.uint8)
    dot[4, 4] = 1
    assert measure(dot, skeleton=True)["branch_points"].tolist() == [0]


def test_labels_with_gaps_and_large_numbers():
    labels = np.zeros((10, 10), np.int64)
    labels[:3, :3], labels[5:, 5:] = 7, 10**12
    assert measure(labels)["index"].tolist() == [7, 10**12]
    assert measure(labels)["area"].tolist() == [9, 25]


def test_dask_labels_are_measured_alike():
    labels = split(blobs((3, 40, 50)))
    one, other = measure(labels), measure(da.from_array(labels, (1, 17, 50)))
    assert one.equals(other)


def test_summary_of_planes():
    labels = np.zeros((2, 10, 10), np.int32)
    labels[0, :5, :2], labels[0, 8:, 8:] = 1, 2
    found = summary(labels, scale=2)
    assert found["count"].tolist() == [2, 0]
    assert found["coverage"].tolist() == [14, 0]
    assert found["mean_size"][0] == 28
    assert np.isnan(found["mean_size"][1])
    assert summary(labels, spatial_dims=3)["count"].tolist() == [2]


def test_features_have_a_row_for_each_label():
    table = measure(np.array([[0, 2, 2, 0, 4]] * 2))
    found = features(table, 4)
    assert found["index"].tolist() == [0, 1, 2, 3, 4]
    assert np.isnan(found["area"][[0, 1, 3]]).all()
    assert found["area"][[2, 4]].tolist() == [4, 2]
