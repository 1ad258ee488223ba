"""What strokes may hold, how sure a classifier is, and simulated strokes."""

import numpy as np
import pytest

from napari_metastructure.labels.strokes import (
    check_strokes,
    digest_under,
    pixels_under,
    simulate_strokes,
    uncertainty,
)


def test_strokes_are_integers():
    with pytest.raises(TypeError, match="must be integers"):
        check_strokes([np.zeros((3, 3))])


def test_uncertainty_is_one_minus_the_margin():
    found = uncertainty(np.array([[0.5, 1.0, 0.7], [0.5, 0.0, 0.1], [0.0, 0.0, 0.2]]))
    np.testing.assert_allclose(found, [1, 0, 0.5])


def test_simulated_strokes_keep_to_their_class(blobs):
    _, masks = blobs(1)
    strokes = simulate_strokes(masks[0], 5, 20, seed=1)
    assert set(np.unique(strokes)) == {0, 1, 2}
    painted = strokes > 0
    np.testing.assert_array_equal(strokes[painted], masks[0][painted] + 1)
    np.testing.assert_array_equal(strokes, simulate_strokes(masks[0], 5, 20, seed=1))


def test_pixels_under_strokes_tell_an_image_from_another():
    image = np.random.default_rng(0).normal(size=(3, 5, 2, 40, 40)).astype(np.float32)
    strokes = np.zeros((3, 5, 40, 40), np.uint8)
    strokes[1, 2, 3, :7], strokes[2, 4, :, 30] = 1, 2
    found = pixels_under(image, strokes, channel_axis=2)
    np.testing.assert_array_equal(found[:7], image[1, 2, :, 3, :7].T)
    np.testing.assert_array_equal(found[7:], image[2, 4, :, :, 30].T)
    last = pixels_under(np.moveaxis(image, 2, -1), strokes, channel_axis=-1)
    np.testing.assert_array_equal(last, found)
    assert len(pixels_under(image[:, :, 0], np.zeros_like(strokes))) == 0
    assert len(pixels_under(image[:, :, 0], np.ones_like(strokes))) == 1000


def test_a_digest_tells_images_apart_without_their_pixels():
    image = np.random.default_rng(0).normal(size=(2, 40, 40)).astype(np.float32)
    strokes = np.zeros((2, 40, 40), np.uint8)
    strokes[1, 3, :7], image[1, 3, 2] = 1, np.nan
    found = digest_under(image, strokes)
    assert (found.dtype, found.shape) == (np.uint8, (32,))
    np.testing.assert_array_equal(digest_under(image.copy(), strokes), found)
    other = image.copy()
    other[0] = 0  # where no stroke is
    np.testing.assert_array_equal(digest_under(other, strokes), found)
    other[1, 3, 4] += 1
    assert (digest_under(other, strokes) != found).any()
