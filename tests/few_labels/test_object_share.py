"""The share of objects that strokes tell."""

import numpy as np
import pytest

from napari_metastructure.few_labels.object_share import believable, object_share, prior_of


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
    assert believable(0.1) is None
    assert believable(0.2) == 0.2


def test_the_prior_lies_between_even_and_the_share():
    assert prior_of(0.5) == 0.5
    assert 0.1 < prior_of(0.1) < 0.5
