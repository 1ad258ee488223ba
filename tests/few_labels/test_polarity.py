import numpy as np
import pytest

from napari_metastructure.few_labels.polarity import (
    background_is_larger,
    local_skewness,
    polarity,
)
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


def test_local_skewness_is_that_of_what_stands_out():
    image, _ = discs()
    assert local_skewness([image]) > 0.3
    assert local_skewness([-image]) == pytest.approx(-local_skewness([image]), abs=0.05)
    assert local_skewness([np.ones((5, 5))]) == 0
