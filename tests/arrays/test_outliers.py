import numpy as np
import pytest

from napari_metastructure.arrays.outliers import limits
from napari_metastructure.arrays.statistics import moments, normalised


@pytest.fixture
def image():
    return np.random.default_rng(0).normal(120, 15, (256, 256)).round().astype(np.uint16)


def test_without_outliers_nothing_is_left_out(image):
    assert moments(image) == (image.mean(), image.std())
    low, high = limits(image.ravel())
    assert low < image.min()
    assert high > image.max()


@pytest.mark.parametrize(
    ("name", "where", "value"),
    [
        ("hot pixel", (100, 100), 65535),
        ("hot pixels", (slice(0, None, 40), slice(0, None, 40)), 65535),
        ("saturated corner", (slice(0, 60), slice(0, 60)), 65535),
        ("dead pixels", (slice(0, None, 40), slice(0, None, 40)), 0),
        ("black border", (slice(0, 60), slice(None)), 0),
    ],
)
def test_what_is_no_image_does_not_move_the_moments(image, name, where, value):
    changed = image.copy()
    changed[where] = value
    assert moments(changed) == pytest.approx(moments(image), rel=0.03)


def test_sparse_objects_are_no_outliers():
    """Bright spots on half a percent of a noisy ground, and a ground of nothing but zeros."""
    rng = np.random.default_rng(0)
    spots = rng.normal(100, 10, (256, 256))
    spots[rng.random(spots.shape) < 0.005] += 300
    assert moments(spots) == (spots.mean(), spots.std())
    mask = (rng.random((256, 256)) < 0.1) * rng.integers(100, 200, (256, 256))
    assert moments(mask) == (mask.mean(), mask.std())
    assert moments(np.eye(64)) == (np.eye(64).mean(), np.eye(64).std())


def test_normalised_pixels_are_finite_and_bounded(image):
    pixels = image.astype(np.float32)
    pixels[0, :3] = np.nan, np.inf, 65535
    values = normalised(pixels, *moments(pixels))
    assert values[0, :3].tolist() == [0, 0, 20]
    assert values[1:].mean() == pytest.approx(0, abs=0.01)
    plain = normalised(image, *moments(image, robust=False), robust=False)
    np.testing.assert_allclose(plain, (image - image.mean()) / image.std(), atol=1e-4)
