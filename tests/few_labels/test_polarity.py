import numpy as np

from napari_metastructure.few_labels.polarity import background_is_larger, polarity
from tests.few_labels.conftest import discs


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
