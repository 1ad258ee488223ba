import dask.array as da
import numpy as np
import pytest

from napari_metastructure.labels.metrics import Tally, evaluate

REFERENCE = np.array([[0, 0, 1, 1], [0, 1, 1, 0]])
MASK = np.array([[0, 1, 1, 1], [0, 0, 1, 0]])  # 3 found, 1 missed, 1 false, 3 right background


@pytest.fixture
def random_map():
    """A reference and probabilities with many ties."""
    rng = np.random.default_rng(0)
    reference = (rng.random((30, 40)) < 0.3).astype(np.uint8)
    return reference, np.round((0.3 * reference + rng.random((30, 40))) / 1.3, 2)


def dice_of(truth, mask):
    return 2 * (truth & mask).sum() / (truth.sum() + mask.sum())


# ----------------------------------------------------------------- masks and label images


def test_mask_by_hand():
    scores = evaluate(REFERENCE, MASK)
    assert scores["dice"] == pytest.approx(6 / 8)
    assert scores["iou"] == pytest.approx(3 / 5)
    assert scores["accuracy"] == pytest.approx(6 / 8)
    assert scores["auc"] == pytest.approx((3 / 4 + 3 / 4) / 2)
    assert np.isnan(scores["threshold"])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.uint16])
def test_mask_of_any_type(dtype):
    assert evaluate(REFERENCE.astype(dtype), MASK.astype(dtype)) == pytest.approx(
        evaluate(REFERENCE, MASK), nan_ok=True
    )


def test_object_may_be_1_or_255():
    expected = pytest.approx(evaluate(REFERENCE, MASK), nan_ok=True)
    assert evaluate(255 * REFERENCE, MASK) == expected
    assert evaluate(REFERENCE, 255 * MASK) == expected
    assert evaluate(255 * REFERENCE, 255 * MASK) == expected


def test_different_classes_are_not_taken_for_masks():
    assert evaluate(REFERENCE, 2 * REFERENCE)["dice"] == 0


def test_classes_by_hand():
    reference = np.array([0, 1, 1, 2, 2, 2])
    prediction = np.array([0, 1, 2, 2, 2, 0])
    scores = evaluate(reference, prediction)
    assert scores["per_class"] == {
        1: {"dice": pytest.approx(2 / 3), "iou": pytest.approx(1 / 2)},
        2: {"dice": pytest.approx(4 / 6), "iou": pytest.approx(2 / 4)},
    }
    assert scores["dice"] == pytest.approx(2 / 3)
    assert scores["iou"] == pytest.approx(1 / 2)
    assert scores["accuracy"] == pytest.approx(4 / 6)
    assert np.isnan(scores["auc"])


def test_probabilities_of_classes_are_scored_by_the_most_probable():
    labels = np.array([[0, 1, 2], [2, 1, 0]])
    probabilities = np.eye(3, dtype=np.float32)[labels].transpose(2, 0, 1) * 0.5 + 0.1
    assert evaluate(labels, probabilities)["dice"] == 1
    assert evaluate(labels, probabilities[[0, 2, 1]])["dice"] == 0


def test_labels_to_ignore_do_not_count():
    reference = np.array([0, 0, 1, 1, -1, -1, 9, 9])
    prediction = np.array([0, 1, 1, 1, 0, 1, 0, 1])
    expected = evaluate(reference[:4], prediction[:4])
    assert evaluate(reference, prediction, ignore_label=9) == pytest.approx(expected, nan_ok=True)
    probability = prediction * 0.8
    expected = evaluate(reference[:4], probability[:4])
    assert evaluate(reference, probability, ignore_label=9) == pytest.approx(expected)


def test_empty_masks_agree():
    empty = np.zeros((4, 4), int)
    assert evaluate(empty, empty)["dice"] == 1
    assert evaluate(empty, empty + 1)["dice"] == 0
    assert evaluate(empty, np.full((4, 4), 0.3))["dice"] == 1  # nothing lies above the threshold
    assert np.isnan(evaluate(empty, np.full((4, 4), 0.3))["auc"])


@pytest.mark.parametrize("prediction", [np.zeros((2, 2), int), np.zeros((2, 2))])
def test_nothing_to_compare_scores_nan(prediction):
    scores = evaluate(np.full((2, 2), -1), prediction)
    assert all(np.isnan(value) for value in scores.values())


# ----------------------------------------------------------------- probabilities


def test_area_under_the_curve_counts_pairs(random_map):
    reference, probability = random_map
    objects, background = probability[reference == 1], probability[reference == 0]
    higher = (objects[:, None] > background).mean()
    equal = (objects[:, None] == background).mean()
    assert evaluate(reference, probability)["auc"] == pytest.approx(higher + equal / 2)


def test_best_threshold_by_trying_all(random_map):
    reference, probability = random_map
    scores = evaluate(reference, probability)
    every = [dice_of(reference == 1, probability > t) for t in np.arange(-0.005, 1.005, 0.01)]
    assert scores["dice"] == pytest.approx(max(every))
    chosen = probability > scores["threshold"]
    assert dice_of(reference == 1, chosen) == pytest.approx(max(every))
    assert scores["accuracy"] == pytest.approx((chosen == (reference == 1)).mean())
    assert scores["iou"] == pytest.approx(evaluate(reference, chosen)["iou"])


def test_threshold_lies_midway_between_the_classes():
    scores = evaluate(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.6, 0.7]))
    assert scores["threshold"] == pytest.approx(0.4)
    assert scores["dice"] == scores["auc"] == 1


def test_perfect_inverted_and_constant_probabilities():
    assert evaluate(REFERENCE, REFERENCE * 0.9)["auc"] == 1
    assert evaluate(REFERENCE, 1 - REFERENCE * 0.9)["auc"] == 0
    assert evaluate(REFERENCE, np.full(REFERENCE.shape, 0.5))["auc"] == 0.5


# ----------------------------------------------------------------- tally


def test_tally_in_parts_equals_evaluate_on_all(random_map):
    reference, probability = random_map
    tally = Tally(bins=101)  # holds the probabilities of two decimals exactly
    for rows in np.array_split(np.arange(len(reference)), 4):
        tally.add(reference[rows] == 1, probability[rows])
    expected = evaluate(reference, probability)
    assert tally.scores() == pytest.approx(expected)
    assert tally.at(expected["threshold"]) == pytest.approx(expected["dice"])
    assert tally.at(0.305) == pytest.approx(dice_of(reference == 1, probability > 0.305))
    np.testing.assert_array_equal(
        tally.histogram, np.bincount(np.rint(100 * probability).astype(int).ravel(), minlength=101)
    )


def test_tally_of_fine_probabilities_is_close():
    rng = np.random.default_rng(0)
    reference = rng.random((100, 100)) < 0.5
    probability = rng.beta(1 + 2 * reference, 3 - 2 * reference).astype(np.float32)
    tally = Tally()
    tally.add(reference, probability)
    assert tally.scores() == pytest.approx(evaluate(reference, probability), abs=1e-3)


def test_turned_tally_is_that_of_the_inverse(random_map):
    reference, probability = random_map
    tally, other = Tally(101), Tally(101)
    tally.add(reference == 1, probability)
    other.add(reference == 1, 1 - probability)
    assert tally.turned().scores() == pytest.approx(other.scores())


def test_tally_without_pixels_scores_nan():
    assert np.isnan(Tally().scores()["dice"])


# ----------------------------------------------------------------- bad input


def test_bad_input():
    with pytest.raises(ValueError, match=r"shape \(2, 3\) does not match"):
        evaluate(REFERENCE, np.zeros((2, 3), int))
    with pytest.raises(TypeError, match="integer labels, not float64"):
        evaluate(REFERENCE.astype(float), REFERENCE)


def test_what_is_not_finite_never_counts():
    truth = np.array([[0, 0, 1, 1, 0, 1, 1, 1]])
    probability = np.array([[0.1, 0.2, 0.8, 0.9, np.nan, np.nan, np.inf, -np.inf]])
    assert evaluate(truth, probability) == evaluate(truth[:, :4], probability[:, :4])
    both = np.stack([1 - probability, probability])
    scores = evaluate(truth, both)
    assert scores["dice"] == scores["accuracy"] == 1
    assert np.isnan(evaluate(truth, np.full(truth.shape, np.nan))["dice"])


def test_masked_pixels_do_not_count():
    hidden = np.ma.masked_array(MASK, MASK != REFERENCE)
    assert evaluate(REFERENCE, hidden)["dice"] == 1
    assert evaluate(np.ma.masked_array(REFERENCE, MASK != REFERENCE), MASK)["dice"] == 1


def test_large_labels_and_lazy_arrays_count_alike():
    large = np.array([[0, 2**63 + 5], [2**63 + 6, 2**63 + 5]], np.uint64)
    assert evaluate(large, large)["dice"] == 1
    assert (
        evaluate(large, large[::-1])["dice"] == evaluate(large % 2**63, large[::-1] % 2**63)["dice"]
    )
    lazy = [da.from_array(array, chunks=1) for array in (large, large[::-1])]
    assert str(evaluate(*lazy)) == str(evaluate(large, large[::-1]))
