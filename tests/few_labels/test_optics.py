import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from napari_metastructure.few_labels.optics import has_halos, is_relief, is_stained
from tests.few_labels.conftest import discs, halos, relief


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


@pytest.mark.parametrize("strength", [0.8, 1.5, 2.2])
def test_dark_bodies_in_bright_halos(strength):
    assert has_halos([halos(strength)[0], halos(strength, seed=1)[0]])


def test_what_has_no_halos():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:192, :192]
    far = np.hypot(y % 64 - 32, x % 64 - 32)
    rims = [gaussian_filter(1.0 * (abs(far - r) < 2), 1) for r in (16, 24)]  # around nothing
    images = (discs()[0], discs(bright=False)[0], relief()[0], -halos(1.5)[0], np.ones((64, 64)))
    for image in (
        *images,
        rng.normal(size=(160, 160)),
        *(rim + rng.normal(0, 0.1, rim.shape) for rim in rims),
    ):
        assert not has_halos([image])


def test_of_a_volume_the_middle_section_counts():
    dark, other = halos()[0], discs()[0]
    flat = np.zeros_like(dark)
    assert has_halos([np.stack([flat, dark, flat])])
    assert is_relief([np.stack([flat, relief()[0], flat])])
    assert not has_halos([np.stack([other, other, other])])
