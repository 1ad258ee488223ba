import numpy as np
import pytest
import torch

from napari_metastructure.few_labels.dmi import best_threshold, candidate, dmi


def _brute(probability, num_thresholds):
    """The largest DMI of all candidate masks, each built and scored by the 2 x 2 determinant."""
    if num_thresholds is None:
        thresholds = np.unique(probability)
    else:
        low, high = probability.min(), probability.max()
        thresholds = np.linspace(low, high, num_thresholds)[1:-1]
    p, scores = probability.ravel(), []
    for threshold in thresholds:
        s = (p > threshold).astype(float)
        q = np.stack([p, 1 - p]) @ np.stack([s, 1 - s]).T / p.size
        scores.append(np.linalg.det(q))
    return max(scores), thresholds


@pytest.mark.parametrize("num_thresholds", [3, 4, 5, 30, None])
def test_choice_equals_the_search_over_all_masks(num_thresholds):
    rng = np.random.default_rng(0)
    for power in (0.1, 0.5, 1, 3, 9):
        for shape in ((2, 3), (7, 9), (40, 30)):
            p = rng.random(shape) ** power
            best, thresholds = _brute(p, num_thresholds)
            threshold = best_threshold(p, num_thresholds)
            assert dmi(p, p > threshold) == pytest.approx(best, abs=1e-12)
            assert np.abs(thresholds - threshold).min() < 1e-12


def test_batch_equals_its_images_one_by_one():
    rng = np.random.default_rng(1)
    batch = (rng.random((5, 1, 16, 17)) ** np.arange(1, 6)[:, None, None, None]).astype(np.float32)
    for num_thresholds in (30, None):
        together = best_threshold(torch.from_numpy(batch), num_thresholds)
        singly = [best_threshold(p, num_thresholds) for p in batch]
        assert together.tolist() == pytest.approx(singly)
    masks = candidate(torch.from_numpy(batch))
    assert np.array_equal(masks[2].numpy(), candidate(batch[2]))


def test_equal_values_give_an_empty_mask():
    assert not candidate(np.full((4, 4), 0.3)).any()
    assert not candidate(np.full((4, 4), 0.3), None).any()


@pytest.mark.parametrize(
    "bad", [np.empty((0, 3)), np.array([0.1, np.nan]), np.array([0.1, np.inf])]
)
def test_probabilities_that_cannot_be_cut_are_named(bad):
    with pytest.raises(ValueError, match=r"no pixels|NaN or infinity"):
        best_threshold(bad)


def test_number_of_thresholds_is_checked():
    with pytest.raises(ValueError, match="num_thresholds must be 3 or more"):
        best_threshold(np.arange(3.0), 2)
