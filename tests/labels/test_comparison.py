"""Scores, matrix, verdict and errors of labels or probabilities against a reference."""

import dask.array as da
import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.labels import comparison, density, transition
from napari_metastructure.labels.metrics import NAMES, evaluate


@pytest.fixture
def three():
    """Stripes of classes 0, 1 and 2, three pixels wide: (2, 60, 60)."""
    stripes = np.repeat(np.arange(20) % 3, 3).astype(np.uint8)
    return np.broadcast_to(stripes, (2, 60, 60)).copy()


@pytest.fixture
def mask(three):
    return (three > 0).astype(np.uint8)


def test_a_mask_has_the_scores_of_evaluate_and_all_the_rest(mask):
    noisy = nms.corrupt(mask, "flip", ratio=0.3, seed=1)
    scores, matrix, verdict, errors = found = nms.compare(mask, noisy)
    assert scores == pytest.approx(evaluate(mask, noisy), nan_ok=True)
    np.testing.assert_allclose(matrix, transition.estimate(mask, noisy))
    assert verdict == transition.judge(mask, noisy)
    np.testing.assert_array_equal(errors, np.where(mask, 1, 2) * (mask != noisy))
    assert found.kept == density.kept(mask, noisy)
    assert found.rank == 2
    assert found.classes == [0, 1]
    assert list(found.rows) == ["1"]


def test_several_classes(three):
    other = np.where(three == 2, 1, three)
    other[0, :9, :6] = 2
    found = nms.compare(three, other)
    expected = evaluate(three, other)
    assert {name: found.scores[name] for name in NAMES} == pytest.approx(
        {name: expected[name] for name in NAMES}, nan_ok=True
    )
    for value in (1, 2):
        assert found.rows[str(value)]["dice"] == expected["per_class"][value]["dice"]
        one = evaluate(three == value, other == value)
        assert found.rows[str(value)] == pytest.approx(one, nan_ok=True)
    wrong = np.where(three == 0, 2, np.where(other == 0, 1, 3)) * (three != other)
    np.testing.assert_array_equal(found.errors, wrong)


def test_dask_zarr_and_numpy_count_alike(three):
    noisy = nms.corrupt(three, "flip", ratio=0.2, seed=0)
    expected = nms.compare(three, noisy)
    found = nms.compare(da.from_array(three, (1, 25, 60)), da.from_array(noisy, (2, 60, 7)))
    assert str(found.scores) == str(expected.scores)  # nan in both
    np.testing.assert_array_equal(found.counts, expected.counts)
    np.testing.assert_array_equal(found.errors, expected.errors)


def test_images_of_several_sizes_count_together(three):
    noisy = nms.corrupt(three, "flip", ratio=0.2, seed=0)
    cut = [three[0], three[1, :40, :50]], [noisy[0], noisy[1, :40, :50]]
    found = nms.compare(*cut)
    counts = sum(transition.count(*pair, 3) for pair in zip(*cut))
    np.testing.assert_array_equal(found.counts, counts)
    assert [array.shape for array in found.errors] == [(60, 60), (40, 50)]
    with pytest.raises(ValueError, match="2 references but 1 to compare"):
        nms.compare(cut[0], cut[1][:1])


def test_probabilities_are_cut_at_the_best_threshold(mask):
    rng = np.random.default_rng(0)
    probability = (0.2 + 0.3 * mask + rng.normal(0, 0.1, mask.shape)).clip(0, 1)
    found = nms.compare(mask, probability)
    expected = evaluate(mask, probability)
    assert found.scores == pytest.approx(expected)
    cut = (probability > expected["threshold"]).astype(np.uint8)
    np.testing.assert_array_equal(found.counts, transition.count(mask, cut))


def test_many_pixels_are_rounded(mask, monkeypatch):
    monkeypatch.setattr(comparison, "MANY_PIXELS", 10)
    monkeypatch.setattr(comparison, "JUDGED_PIXELS", 3600)
    probability = (mask + np.random.default_rng(0).random(mask.shape)) / 2
    found = nms.compare(mask, probability)
    assert found.scores == pytest.approx(evaluate(mask, probability), abs=1e-3)
    assert "on 1 plane of" in found.sentences[-1]
    with pytest.raises(ValueError, match="between 0 and 1"):
        nms.compare(mask, 2 * probability)


def test_probabilities_of_all_classes_and_of_one(three):
    data = np.stack([three == value for value in range(3)]) * 0.6 + 0.1
    data += 0.5 * np.random.default_rng(0).random(data.shape)
    found = nms.compare(three, data)
    np.testing.assert_array_equal(found.counts, transition.count(three, data.argmax(0)))
    assert found.rows["2"]["auc"] == pytest.approx(evaluate(three == 2, data[2])["auc"])
    one = nms.compare(three, data[2], of_class=2)
    assert one.scores["auc"] == pytest.approx(found.rows["2"]["auc"])
    assert one.classes == ["rest", 2]


def test_nan_and_ignored_pixels_do_not_count(mask):
    probability = np.where(mask, 0.9, 0.1)
    probability[0, :30] = np.nan
    probability[1, :10] = -np.inf
    found = nms.compare(mask, probability)
    assert found.scores["dice"] == 1
    assert found.counts.sum() == mask.size - 40 * 60
    reference = mask.astype(np.int16)
    reference[:, :5], reference[:, 5:9] = -1, 7
    other = mask.astype(np.int8)
    other[:, 9:12] = -1
    found = nms.compare(reference, other, ignore_label=7)
    assert found.scores["accuracy"] == 1
    assert found.counts.sum() == 2 * 48 * 60


def test_few_labels_with_large_numbers_are_taken_for_instances(mask):
    """A crop of many numbered objects; a matrix up to the largest would not fit in memory."""
    numbered = np.zeros(mask.shape, np.int32)
    numbered[mask > 0] = np.where(np.arange(np.count_nonzero(mask)) % 2, 7, 70_012)
    found = nms.compare(numbered, mask)
    assert found.matrix.shape == (2, 2)
    assert found.scores["dice"] == 1
    assert any("labels up to 70012" in sentence for sentence in found.sentences)
    assert nms.compare(mask.astype(np.int32) * 70_012, mask).scores["dice"] == 1  # a mask is one


def test_many_values_are_taken_for_instances(mask):
    numbered = mask * np.arange(1, mask.size + 1).reshape(mask.shape)
    found = nms.compare(numbered, mask)
    assert found.scores["dice"] == 1
    assert any("which look like numbered objects" in sentence for sentence in found.sentences)


@pytest.mark.parametrize(
    ("reference", "other", "error", "message"),
    [
        (np.zeros((4, 4), int), np.zeros((4, 5), int), ValueError, "same pixels"),
        (
            np.full((4, 4), -1),
            np.zeros((4, 4), int),
            ValueError,
            "All pixels of the reference are ignored",
        ),
        (np.arange(16).reshape(4, 4) % 3, np.full((4, 4), 5), ValueError, "no class in common"),
        (np.eye(4) / 2, np.eye(4), TypeError, "must be integers"),
        (np.eye(4, dtype=int), np.eye(4).astype(str), TypeError, "labels or probabilities"),
        (3 * np.eye(4, dtype=int), np.zeros((2, 4, 4)), ValueError, "of only 2 classes"),
    ],
)
def test_bad_input(reference, other, error, message):
    with pytest.raises(error, match=message) as caught:
        nms.compare(reference, other)
    assert "\n" not in str(caught.value)
