"""Where a stroke classifier's probabilities are cut."""

import numpy as np
import pytest

from napari_metastructure.few_labels.stroke_threshold import (
    heeding_strokes,
    threshold_of_classifier,
)
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.stroke_classifier import StrokeClassifier


def test_the_threshold_follows_the_share(blobs):
    images, masks = blobs(6, seed=0, size=64)
    strokes = np.zeros_like(masks)
    for k in range(3):
        strokes[k] = simulate_strokes(masks[k], 4, seed=k)
    classifier = StrokeClassifier(trees=20).fit(images, strokes)
    held_out, values = classifier.held_out_probabilities()
    assert len(held_out) == len(values) == (strokes > 0).sum()
    assert 0.5 < ((held_out > 0.5) == (values == 2)).mean() <= 1
    objects = [classifier.predict(image)[-1] for image in images]
    threshold, share = threshold_of_classifier(classifier, objects, images)
    assert share == pytest.approx(masks.mean(), abs=0.12)
    assert 0.1 <= threshold <= 0.9


def test_strokes_on_one_plane_tell_no_share(blobs):
    images, masks = blobs(2, seed=0, size=64)
    strokes = np.zeros_like(masks)
    strokes[0] = simulate_strokes(masks[0], 4, seed=0)
    classifier = StrokeClassifier(trees=20).fit(images, strokes)
    assert classifier.held_out_probabilities() is None
    objects = [classifier.predict(image)[-1] for image in images]
    assert threshold_of_classifier(classifier, objects, images)[1] is None


@pytest.mark.parametrize(("threshold", "expected"), [(0.5, 0.5), (0.31, 0.31), (0.9, 0.65)])
def test_a_threshold_that_contradicts_the_strokes_moves_to_where_it_does_not(threshold, expected):
    strokes = np.repeat([[0, 1, 2]], 4, axis=0)
    probabilities = np.array([[0.9, 0.1, 0.6], [0.9, 0.2, 0.6], [0.1, 0.3, 0.7], [0.1, 0.3, 0.8]])
    found = heeding_strokes(threshold, [probabilities], [strokes])
    assert found == pytest.approx(expected)


def test_a_threshold_stays_without_strokes_of_both_classes():
    p = np.linspace(0, 1, 9).reshape(3, 3)
    assert heeding_strokes(0.99, [p], [np.ones((3, 3), int)]) == 0.99
