import numpy as np
import pytest
import torch

from napari_metastructure.few_labels import filters as pseudo


def _brute(probability, num_thresholds):
    """The largest DMI of all candidate masks, each built and scored by the 2 x 2 determinant."""
    if num_thresholds is None:
        thresholds = np.unique(probability)
    else:
        low, high = probability.min(), probability.max()
        thresholds = np.linspace(low, high, num_thresholds + 2)[1:-1]
    p, scores = probability.ravel(), []
    for threshold in thresholds:
        s = (p > threshold).astype(float)
        q = np.stack([p, 1 - p]) @ np.stack([s, 1 - s]).T / p.size
        scores.append(np.linalg.det(q))
    return max(scores), thresholds


@pytest.mark.parametrize("num_thresholds", [1, 2, 3, 30, None])
def test_choice_equals_the_search_over_all_masks(num_thresholds):
    rng = np.random.default_rng(0)
    for power in (0.1, 0.5, 1, 3, 9):
        for shape in ((2, 3), (7, 9), (40, 30)):
            p = rng.random(shape) ** power
            best, thresholds = _brute(p, num_thresholds)
            threshold = pseudo.best_threshold(p, num_thresholds)
            assert pseudo.dmi(p, p > threshold) == pytest.approx(best, abs=1e-12)
            assert np.abs(thresholds - threshold).min() < 1e-12


def test_batch_equals_its_images_one_by_one():
    rng = np.random.default_rng(1)
    batch = (rng.random((5, 1, 16, 17)) ** np.arange(1, 6)[:, None, None, None]).astype(np.float32)
    for num_thresholds in (30, None):
        together = pseudo.best_threshold(torch.from_numpy(batch), num_thresholds)
        singly = [pseudo.best_threshold(p, num_thresholds) for p in batch]
        assert together.tolist() == pytest.approx(singly)
    masks = pseudo.candidate(torch.from_numpy(batch))
    assert np.array_equal(masks[2].numpy(), pseudo.candidate(batch[2]))


def test_equal_values_give_an_empty_mask():
    assert not pseudo.candidate(np.full((4, 4), 0.3)).any()
    assert not pseudo.candidate(np.full((4, 4), 0.3), None).any()


@pytest.mark.parametrize(
    "bad", [np.empty((0, 3)), np.array([0.1, np.nan]), np.array([0.1, np.inf])]
)
def test_probabilities_that_cannot_be_cut_are_named(bad):
    with pytest.raises(ValueError, match=r"no pixels|NaN or infinity"):
        pseudo.best_threshold(bad)


def test_number_of_thresholds_is_checked():
    with pytest.raises(ValueError, match="num_thresholds must be 1 or more"):
        pseudo.best_threshold(np.arange(3.0), 0)


def test_start_filters_fit_the_images():
    discs, _ = _discs()
    assert pseudo.vote_filters([discs]) == pseudo.INTENSITY
    noise = np.random.default_rng(0).normal(size=(64, 64))
    assert pseudo.vote_filters([noise]) == ("top", "broad_sato")
    faint = np.random.default_rng(0).gamma(1, size=(64, 64))
    assert pseudo.vote_filters([faint]) == ("li", "even_sato", "even_detail")
    assert pseudo.vote_filters([np.zeros((9, 9))]) == pseudo.INTENSITY


def test_background_is_the_larger_part():
    mask = np.zeros((4, 4), np.uint8)
    mask[:3] = 1
    assert pseudo.background_is_larger(mask).sum() == 4
    assert np.array_equal(pseudo.background_is_larger(1 - mask), 1 - mask)


def _discs(bright=True, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.zeros((96, 96), bool)
    y, x = np.mgrid[:96, :96]
    for cy, cx in ((20, 25), (60, 30), (45, 70)):
        truth |= (y - cy) ** 2 + (x - cx) ** 2 < 100
    image = 10 * truth + rng.normal(size=truth.shape)
    return (image if bright else -image), truth


def test_polarity_follows_the_image():
    bright, dark = _discs()[0], _discs(bright=False)[0]
    assert pseudo.polarity([bright, np.zeros((5, 5))]) == "bright"
    assert pseudo.polarity([dark, dark, bright]) == "dark"
    assert pseudo.polarity([np.ones((5, 5))]) == "bright"


@pytest.mark.parametrize("name", ["otsu", "li", "triangle", "local"])
@pytest.mark.parametrize("polarity", ["bright", "dark"])
def test_filters_find_discs_of_either_polarity(name, polarity):
    image, truth = _discs(polarity == "bright")
    mask = pseudo.filter_mask(image, name, polarity)
    assert mask.dtype == np.uint8
    assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.8


def test_filters_agree_with_scikit_image():
    from skimage import filters

    image = np.random.default_rng(0).gamma(2, 100, (40, 50)).astype(np.uint16)
    scaled = (image.astype(np.float32) - image.min()) / np.float32(image.max() - image.min())
    for name in ("otsu", "li", "triangle"):
        expected = scaled > getattr(filters, f"threshold_{name}")(scaled)
        assert np.array_equal(pseudo.filter_mask(image, name), expected)
    ridges = filters.sato(scaled, sigmas=(1, 2, 3), black_ridges=False)
    expected = ridges > filters.threshold_otsu(ridges)
    assert np.mean(pseudo.filter_mask(image, "sato") == expected) > 0.999


@pytest.mark.parametrize("name", sorted(pseudo.FILTERS))
@pytest.mark.parametrize(
    "image",
    [np.zeros((9, 9), np.uint8), np.full((9, 9), 65535, np.uint16), np.eye(3), np.ones((1, 1))],
    ids=["zero", "saturated", "tiny", "one pixel"],
)
def test_filters_take_odd_images(name, image):
    mask = pseudo.filter_mask(image, name)
    assert mask.shape == image.shape
    if image.min() == image.max():
        assert not mask.any()


def test_filters_name_what_is_wrong():
    with pytest.raises(ValueError, match="NaN or infinity"):
        pseudo.filter_mask(np.array([[0, np.nan]]), "otsu")
    with pytest.raises(ValueError, match="no filter 'ostu'"):
        pseudo.filter_mask(np.eye(4), "ostu")


def test_scribbles_grow_to_the_edges():
    image, truth = _discs()
    scribbles = np.zeros(image.shape, np.uint8)
    scribbles[::12, ::12][~truth[::12, ::12]] = 1
    for cy, cx in ((20, 25), (60, 30), (45, 70)):
        scribbles[cy - 2 : cy + 2, cx - 2 : cx + 2] = 2
    mask = pseudo.scribble_mask(image, scribbles)
    assert 2 * (mask * truth).sum() / (mask.sum() + truth.sum()) > 0.9
    assert not pseudo.scribble_mask(image, np.zeros(image.shape, int)).any()
    with pytest.raises(ValueError, match="scribbles have shape"):
        pseudo.scribble_mask(image, scribbles[:5])
