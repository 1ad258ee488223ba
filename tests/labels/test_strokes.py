"""What strokes may hold, how sure a classifier is, and simulated strokes."""

import numpy as np
import pytest

from napari_metastructure.labels.strokes import check_strokes, simulate_strokes, uncertainty


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
