import numpy as np
import pytest

from napari_metastructure.few_labels import filters
from tests.few_labels.conftest import discs, halos, relief


@pytest.mark.parametrize("name", ["otsu", "li", "triangle", "local"])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_filters_find_discs_of_either_polarity(name, polarity):
    image, truth = discs(polarity == "bright")
    mask = filters.filter_mask(image, name, polarity)
    assert mask.dtype == np.uint8
    assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.8


def test_texture_tells_objects_of_no_polarity():
    image, truth = relief()
    masks = [filters.filter_mask(image, "texture", polarity) for polarity in ("bright", "dark")]
    assert 2 * (masks[0] * truth).sum() / (masks[0].sum() + truth.sum()) > 0.85
    assert np.array_equal(*masks)


def test_dark_bodies_are_told_from_their_halos():
    image, truth = halos()
    mask = filters.filter_mask(image, "within_halos", "dark")
    assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.85


@pytest.mark.parametrize(("name", "made"), [("within_halos", halos), ("texture", relief)])
def test_sections_of_a_volume_have_their_own_holes(name, made):
    sections = [made(seed=seed)[0] for seed in range(3)]
    lowest, highest = min(map(np.min, sections)), max(map(np.max, sections))
    for section in sections:
        section.flat[:2] = lowest, highest  # one range
    volume = filters.filter_mask(np.stack(sections), name, "dark")
    for found, section in zip(volume, sections):
        np.testing.assert_array_equal(found, filters.filter_mask(section, name, "dark"))


def test_texture_fills_small_holes_only():
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:200, :200]
    for inner, filled in ((12, True), (40, False)):
        ring = (np.hypot(y - 100, x - 100) < 80) & (np.hypot(y - 100, x - 100) > inner)
        mask = filters.filter_mask(ring * rng.normal(size=ring.shape), "texture")
        assert bool(mask[100, 100]) == filled


def test_filters_agree_with_scikit_image():
    from skimage import filters as skimage_filters

    image = np.random.default_rng(0).gamma(2, 100, (40, 50)).astype(np.uint16)
    scaled = (image.astype(np.float32) - image.min()) / np.float32(image.max() - image.min())
    for name in ("otsu", "li", "triangle"):
        expected = scaled > getattr(skimage_filters, f"threshold_{name}")(scaled)
        assert np.array_equal(filters.filter_mask(image, name), expected)
    ridges = skimage_filters.sato(scaled, sigmas=(1, 2, 3), black_ridges=False)
    expected = ridges > skimage_filters.threshold_otsu(ridges)
    assert (
        np.mean(filters.filter_mask(image, "sato") == expected) > 0.99
    )  # a width of 1.01 in place of 1


@pytest.mark.parametrize("name", sorted(filters.BANK))
@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.full((9, 9), 65535, np.uint16), np.eye(3), np.ones((1, 1))],
    ids=["zero", "saturated", "tiny", "one pixel"],
)
def test_filters_take_odd_images(name, image):
    mask = filters.filter_mask(image, name)
    assert mask.shape == image.shape
    if image.min() == image.max():
        assert not mask.any()


def test_lis_threshold_ends_though_float32_is_rounded(monkeypatch):
    import skimage.filters

    real, given = skimage.filters.threshold_li, []

    def watched(pixels, tolerance=None):
        given.append(tolerance / np.ptp(pixels))
        return real(pixels, tolerance=tolerance)

    monkeypatch.setattr(skimage.filters, "threshold_li", watched)
    filters.filter_mask(discs()[0], "even_li")
    assert 1e-5 <= given[0] <= 1e-3  # rounding has moved it by 1e-6 in a circle


def test_filters_name_what_is_wrong():
    with pytest.raises(ValueError, match="NaN or infinity"):
        filters.filter_mask(np.array([[0, np.nan]]), "otsu")
    with pytest.raises(ValueError, match="no filter 'ostu'"):
        filters.filter_mask(np.eye(4), "ostu")


def test_masks_are_described_in_words():
    assert filters.describe("otsu") == "Otsu's threshold of the image"
    assert all(filters.describe(name) for name in filters.BANK)


def test_otsu_classes_tell_a_clear_gap():
    rng = np.random.default_rng(0)
    assert filters.otsu_classes(np.repeat([0.0, 1.0], (75, 25)))[0] == 0.25
    assert filters.otsu_classes(np.repeat([0.0, 1.0], (75, 25)))[1] == pytest.approx(1)
    assert filters.otsu_classes(rng.normal(size=10_000))[1] == pytest.approx(0.64, abs=0.02)


def test_what_classes_leave_unexplained():
    rng = np.random.default_rng(0)
    three = np.repeat([0.0, 0.5, 1.0], (600, 300, 100)) + rng.normal(0, 0.05, 1000)
    assert 3 * filters.unexplained(three, 3) < filters.unexplained(three, 2) < 0.3
    noise = rng.normal(size=10_000)
    assert filters.unexplained(noise, 2) == pytest.approx(0.36, abs=0.02)
    assert filters.unexplained(np.repeat([0.0, 1.0], 5), 3) == 1  # fewer values than classes
