import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_metastructure.few_labels.polarity import (
    background_is_larger,
    decisive,
    is_relief,
    is_stained,
    local_skewness,
    polarity,
)
from tests.few_labels.conftest import discs, relief


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


def colours(of_stain, seed=0):
    """Discs that take away light of some colours from white; fluorescence is the negative."""
    rng = np.random.default_rng(seed)
    truth = discs(seed=seed)[1]
    share = np.asarray(of_stain)[:, None, None]
    image = 235 - 150 * share * (0.1 + truth) + rng.normal(0, 5, (3, *truth.shape))
    return image.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("stain", [(0.9, 1, 0.3), (0.2, 0.9, 0.4), (1, 0.6, 0.3)])
def test_what_gets_darker_with_its_colour_is_stained(stain):
    images = [colours(stain, seed) for seed in range(3)]
    assert is_stained(images)
    assert not is_stained([255 - image for image in images])  # on a black ground
    assert not is_stained([image.astype(np.float32) for image in images])
    assert not is_stained([image[:2] for image in images])
    assert not is_stained([np.stack([image[0]] * 3) for image in images])  # grey as colours
    assert not is_stained([image[0] for image in images])


def test_relief_is_neither_bright_nor_dark():
    assert is_relief([relief()[0], -relief(seed=1)[0]])
    assert is_relief([relief()[0], np.ones((64, 64))])  # a constant image does not count
    assert not is_relief([np.ones((64, 64))])


def test_what_is_bright_or_dark_is_no_relief():
    rng = np.random.default_rng(0)
    lines = np.sin(np.arange(160) / 4) * np.ones((160, 1)) + rng.normal(0, 0.1, (160, 160))
    for image in (discs()[0], discs(bright=False)[0], rng.normal(size=(160, 160)), lines):
        assert not is_relief([image])
