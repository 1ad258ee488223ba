import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_metastructure.few_labels.polarity import (
    background_is_larger,
    decisive,
    local_skewness,
    polarity,
)
from tests.few_labels.conftest import discs, halos


def test_background_is_the_larger_part():
    mask = np.zeros((4, 4), np.uint8)
    mask[:3] = 1
    assert background_is_larger(mask).sum() == 4
    assert np.array_equal(background_is_larger(1 - mask), 1 - mask)


def test_polarity_follows_the_image():
    bright, dark = discs()[0], discs(bright=False)[0]
    assert polarity([bright, np.zeros((5, 5))]) == "bright"
    assert polarity([dark, dark, bright]) == "dark"
    assert polarity([np.ones((5, 5))]) == "bright"


def test_bodies_in_halos_are_dark():
    images = [halos(1.5)[0], halos(1.5, seed=1)[0]]
    assert decisive(*local_skewness(images)) > 0.3
    assert polarity(images) == "dark"


def test_local_skewness_is_that_of_what_stands_out():
    image, _ = discs()
    fine, coarse = local_skewness([image])
    assert min(fine, coarse) > 0.3
    assert local_skewness([-image]) == pytest.approx((-fine, -coarse), abs=0.05)
    assert local_skewness([np.ones((5, 5))]) == (0, 0)


def test_objects_that_noise_hides_have_their_polarity():
    y, x = np.mgrid[:256, :256]
    truth = ((y % 64 - 32) ** 2 + (x % 64 - 32) ** 2 < 12**2).astype(float)
    grain = gaussian_filter(np.random.default_rng(0).normal(size=truth.shape), 1.5)
    image = (grain / grain.std()) ** 3 / 3 - 2 * truth
    fine, coarse = local_skewness([image])
    assert abs(fine) < 0.4 < -coarse
    assert polarity([image]) == "dark"


def test_uneven_light_has_no_say_where_lines_tell():
    assert decisive(-0.66, 0.21) == -0.66
    assert decisive(-0.6, 1.6) == -0.6
    assert decisive(-0.2, -0.7) == pytest.approx(-0.45)
    assert decisive(0.2, -0.7) == 0
