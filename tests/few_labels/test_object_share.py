"""The share of objects that strokes tell."""

import numpy as np
import pytest

from napari_metastructure.few_labels.object_share import object_share, prior_of
from napari_metastructure.few_labels.stroke_classifier import StrokeClassifier
from napari_metastructure.few_labels.strokes import simulate_strokes
from napari_metastructure.few_labels.taught import threshold_of_classifier


def drawn(rng, is_object, overlap):
    """Probabilities of a classifier for which both classes are equally frequent."""
    signal = rng.normal(np.where(is_object, 1, -1) / overlap)
    return 1 / (1 + np.exp(-2 * signal / overlap))


@pytest.mark.parametrize("share", [0.12, 0.3, 0.6])
@pytest.mark.parametrize("overlap", [0.6, 1.5])
def test_even_strokes_tell_an_uneven_share(share, overlap):
    rng = np.random.default_rng(0)
    truth, strokes = rng.random((2, 200, 200)) < share, np.arange(2000) % 2 == 0
    p = [drawn(rng, plane, overlap) for plane in truth]
    found = object_share(drawn(rng, strokes, overlap), strokes, p)
    assert found == pytest.approx(share, abs=0.04)
    assert abs(np.mean([(plane > 0.5).mean() for plane in p]) - share) > abs(found - share) - 0.01


def test_a_classifier_that_tells_nothing_tells_no_share():
    rng = np.random.default_rng(0)
    assert object_share(rng.random(500), np.arange(500) % 2 == 0, [rng.random((50, 50))]) is None


def test_small_shares_are_not_told_apart_from_none():
    strokes = np.arange(100) % 2 == 0
    assert object_share(strokes * 1.0, strokes, [np.zeros((50, 50))]) == 0.1


def test_the_prior_lies_between_even_and_the_share():
    assert prior_of(0.5) == 0.5
    assert 0.1 < prior_of(0.1) < 0.5


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
