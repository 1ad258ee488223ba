import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_metastructure.few_labels.filters import filter_mask
from napari_metastructure.few_labels.gallery import gallery
from tests.few_labels.conftest import discs


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (one.sum() + other.sum())


def shown(plane, **how):
    return [pictures for pictures in gallery(plane, **how) if pictures]


def test_pictures_come_early_and_the_last_ones_are_six_that_differ():
    image, truth = discs()
    pictures = shown(image)
    assert len(pictures) >= 2
    last = pictures[-1]
    assert len(last) == 6
    assert max(dice(mask, truth) for _, mask in last) > 0.85
    for start, mask in last:
        np.testing.assert_array_equal(mask, filter_mask(image, start.name, start.polarity))


def test_the_ranking_follows_the_strokes():
    image, truth = discs()
    strokes = np.zeros(image.shape, np.uint8)
    strokes[truth] = 1  # the user takes the discs for background
    strokes[:15, :90] = 2
    _, mask = shown(image, strokes=strokes)[-1][0]
    assert mask[strokes == 2].mean() > 0.5
    assert mask[truth].mean() < 0.3
    with pytest.raises(ValueError, match="strokes have shape"):
        shown(image, strokes=strokes[1:])


def test_both_polarities_are_offered_where_the_plane_does_not_tell():
    checks = np.indices((96, 96)).sum(0) // 12 % 2
    checks = checks + np.random.default_rng(0).normal(0, 0.2, checks.shape)
    first = shown(checks)[-1][:2]
    assert {start.polarity for start, _ in first} == {"bright", "dark"}


def test_the_less_likely_polarity_comes_last_but_comes():
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(128, 128)), 5)
    truth = field > -0.2 * field.std()  # bright, and more than half of the plane
    image = gaussian_filter(truth * 1.0, 1) + rng.normal(0, 0.15, truth.shape)
    starts, masks = zip(*shown(image)[-1])
    assert [start.polarity for start in starts] == ["dark"] * 4 + ["bright"] * 2
    assert dice(masks[4], truth) > 0.9


def test_constant_plane_has_no_gallery():
    assert list(gallery(np.ones((8, 8)))) == []


def test_masks_of_a_large_plane_are_whole_and_come_in_time():
    image = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    image[::16] += 3
    started, seconds = time.process_time(), []
    for pictures in gallery(image):
        if pictures:
            seconds.append(time.process_time() - started)
            assert all(mask.shape == image.shape for _, mask in pictures)
    assert seconds[-1] < 30  # a busy machine; a free one takes a fifth


def test_the_ranking_follows_strokes_at_the_border_of_a_large_plane():
    image, truth = (np.tile(part, (8, 8)) for part in discs())
    strokes = np.zeros(image.shape, np.uint8)
    strokes[:96, :96][truth[:96, :96]] = 1  # the user takes the discs for background
    strokes[:15, :90] = 2
    _, mask = shown(image, strokes=strokes)[-1][0]
    assert mask[truth].mean() < 0.3
    assert mask[strokes == 2].mean() > 0.5
