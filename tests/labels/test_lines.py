import numpy as np
import pytest

from napari_metastructure.labels.lines import draw_lines


def test_lines_are_one_pixel_wide_along_their_corners():
    labels = draw_lines([[(2, 1), (2, 6), (7, 6)]], (10, 8))
    expected = np.zeros((10, 8), np.uint8)
    expected[2, 1:7] = expected[2:8, 6] = 1
    np.testing.assert_array_equal(labels, expected)
    assert labels.dtype == np.uint8


def test_diagonals_are_connected_and_fractions_are_rounded():
    from scipy.ndimage import label

    labels = draw_lines([[(0.2, 0.3), (19.4, 11.8)]], (20, 13))
    assert labels[0, 0] == labels[19, 12] == 1
    assert label(labels, np.ones((3, 3)))[1] == 1
    assert 20 <= labels.sum() <= 21


def test_lines_of_volumes():
    labels = draw_lines([[(0, 0, 0), (4, 8, 8)], [(2, 7, 1), (2, 1, 1)]], (5, 9, 9))
    assert labels[2, 4, 4] == 1
    assert labels[2, 1:8, 1].all()
    assert labels.sum() == 9 + 7


def test_what_lies_outside_is_left_out():
    labels = draw_lines([[(-5, 3), (20, 3)], [(30, 30), (40, 40)], [(4, 4)]], (8, 8))
    assert labels[:, 3].all()
    assert labels.sum() == 8 + 1  # a point is a pixel


@pytest.mark.parametrize("line", [[(1, 2, 3), (2, 3, 4)], [], [1, 2]])
def test_what_is_no_line_is_refused(line):
    with pytest.raises(ValueError, match="Line 0 should be an array of points with 2 axes"):
        draw_lines([line], (8, 8))
