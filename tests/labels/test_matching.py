"""Objects against objects, by the rules of stardist."""

import dask.array as da
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from skimage.measure import label

import napari_metastructure as nms
from napari_metastructure.labels.matching import THRESHOLDS, ObjectTally


def scores(reference, other, thresholds=THRESHOLDS):
    tally = ObjectTally(thresholds)
    tally.add(reference, other)
    return tally.scores()


def published(reference, other, threshold):
    """True positives as stardist's `matching` counts them (stardist/matching.py)."""
    true, found = (np.unique(x[x > 0]) for x in (reference, other))
    iou = np.array(
        [
            [
                np.sum((reference == t) & (other == f)) / np.sum((reference == t) | (other == f))
                for f in found
            ]
            for t in true
        ]
    ).reshape(len(true), len(found))
    if not iou.size or not (iou >= threshold).any():
        return 0
    costs = -(iou >= threshold).astype(float) - iou / (2 * min(iou.shape))
    return np.count_nonzero(iou[linear_sum_assignment(costs)] >= threshold)


def test_the_example_of_stardists_documentation():
    reference = np.zeros((100, 100), np.uint16)
    reference[10:20, 10:20] = 1
    row = scores(reference, np.roll(reference, 5, axis=0)).rows[0]
    assert (row["found"], row["missed"], row["extra"], row["f1"]) == (0, 1, 1, 0)
    row = scores(reference, np.roll(reference, 3, axis=0)).rows[0]  # 70 / 130 > 0.5
    assert (row["found"], row["f1"], row["average_precision"]) == (1, 1, 1)


@pytest.mark.parametrize("seed", range(8))
def test_random_objects_match_as_published(seed):
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 6, (8, 8)).repeat(5, 0).repeat(5, 1)
    other = np.where(rng.random(coarse.shape) < 0.2 * (seed % 4), 0, coarse)
    other = np.roll(label(other), seed % 3, axis=1)
    reference = label(coarse)
    thresholds = (0.3, 0.5, 0.75, 0.9)
    found = scores(reference, other, thresholds)
    for row, threshold in zip(found.rows, thresholds):
        assert row["found"] == published(reference, other, threshold)
        true, predicted = reference.max(), len(np.unique(other)) - 1
        assert row["missed"] + row["found"] == true
        assert row["extra"] + row["found"] == predicted
        assert row["average_precision"] == row["found"] / (true + predicted - row["found"])


def test_halves_of_an_object_count_once():
    reference = np.ones((2, 4), int)
    other = np.array([[1, 1, 2, 2]] * 2)
    row = scores(reference, other).rows[0]
    assert (row["found"], row["missed"], row["extra"]) == (1, 0, 1)


def test_merges_and_splits():
    reference = np.array([[1, 1, 0, 2, 2, 0, 3, 3, 3, 3, 3]])
    other = np.array([[1, 1, 1, 1, 1, 0, 5, 5, 0, 6, 6]])
    found = scores(reference, other)
    assert (found.merges, found.splits) == (1, 1)
    assert (found.in_reference, found.in_other, found.count_error) == (3, 3, 0)
    assert "1 merged, 1 split" in str(found)


def test_no_objects_have_no_score():
    empty = np.zeros((4, 4), int)
    assert np.isnan(scores(empty, empty).rows[0]["f1"])
    assert scores(empty, empty + 1).rows[0]["f1"] == 0


def test_large_numbers_and_order_do_not_matter():
    reference = label(np.random.default_rng(0).random((40, 40)) > 0.7)
    other = np.where(reference, 10**12 - reference.astype(np.int64), 0)
    assert {row["f1"] for row in scores(reference, other).rows} == {1}


# ----------------------------------------------------------------- in a comparison


def test_comparison_of_numbered_objects_and_of_connected_parts():
    mask = np.zeros((2, 40, 60), np.uint8)
    mask[:, 5:15, 5:15] = mask[0, 20:30, 20:40] = 1
    other = np.roll(mask, 1, axis=2)
    found = nms.compare(mask, other, objects="components").objects
    assert (found.in_reference, found.in_other) == (3, 3)
    assert [row["found"] for row in found.rows] == [3, 3, 3, 3, 1]
    assert nms.compare(mask, other).objects is None
    numbered = nms.objects.split(mask)
    lazy = da.from_array(numbered, 20), da.from_array(np.roll(numbered, 1, axis=2), 30)
    assert nms.compare(*lazy, objects="numbered").objects == found
    volumes = nms.compare(mask, other, objects="components", spatial_dims=3).objects
    assert volumes.in_reference == 2


def test_instances_have_object_scores_unasked():
    numbered = np.arange(1600).reshape(40, 40).repeat(2, 0).repeat(2, 1)
    found = nms.compare(numbered, numbered)
    assert found.objects.rows[-1]["f1"] == 1
    assert found.objects.in_reference == 1599
    assert any(sentence.startswith("Objects: 1599 against 1599") for sentence in found.sentences)


def test_ignored_pixels_belong_to_no_object():
    reference = np.zeros((10, 20), np.int16)
    reference[2:8, 2:8], reference[2:8, 10:16] = 1, 2
    other = reference.copy()
    reference[:, 9:] = -1
    found = nms.compare(reference, other, objects="numbered").objects
    assert (found.in_reference, found.in_other, found.rows[-1]["f1"]) == (1, 1, 1)


def test_numbers_of_objects_need_nothing_in_common():
    reference = np.zeros((20, 20), int)
    reference[2:8, 2:8], reference[12:18, 12:18], reference[2:8, 12:18] = 1, 2, 3
    found = nms.compare(reference, np.where(reference, reference + 5, 0), objects="numbered")
    assert found.objects.rows[-1]["f1"] == found.scores["dice"] == 1
    assert any("Each label is one object" in sentence for sentence in found.sentences)
