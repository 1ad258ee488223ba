"""A start mask beside the label of a stroke classifier."""

import numpy as np
import pytest

from napari_metastructure.few_labels.second_opinion import agreed, on_strokes


class Classifier:
    """Strokes on several planes, of which it tells a given share apart."""

    oob_error = 0.1

    def __init__(self, right):
        self.right = right

    def held_out_probabilities(self):
        if self.right is None:
            return None
        right = np.arange(100) < self.right
        values = np.repeat([1, 2], 100)
        p = np.concatenate([np.where(right, 0.2, 0.9), np.where(right, 0.8, 0.1)])
        return p, values


STROKES = np.repeat([[0, 1, 2]], 10, axis=0)


@pytest.mark.parametrize(
    ("right", "expected"), [(95, 0.9), (90, 0.8), (None, 0.8)], ids=["more", "as many", "one plane"]
)
def test_the_start_has_a_say_if_it_is_nearly_as_good(right, expected):
    mask = STROKES == 2
    mask[:2] = False  # 8 of 10 object pixels
    found = on_strokes([mask.astype(np.uint8)], [STROKES], Classifier(right))
    assert found["start"] == pytest.approx(0.8)
    assert found["classifier"] == pytest.approx(expected)
    assert found["used"]
    mask[:4] = False
    assert on_strokes([mask.astype(np.uint8)], [STROKES], Classifier(right))["start"] == 0.6
    assert not on_strokes([mask.astype(np.uint8)], [STROKES], Classifier(100))["used"]


def test_a_start_with_many_more_errors_than_the_classifier_has_none():
    mask = STROKES == 2
    mask[:2] = False  # 8 of 10 object pixels
    assert on_strokes([mask], [STROKES], Classifier(95))["used"]
    found = on_strokes([mask], [STROKES], Classifier(99))
    assert found == {"start": 0.8, "classifier": 0.98, "used": False}
    mask[1] = True
    assert not on_strokes([mask], [STROKES], Classifier(100))["used"]
    assert on_strokes([STROKES == 2], [STROKES], Classifier(100))["used"]


def test_an_inverted_start_has_none():
    found = on_strokes([(STROKES != 2).astype(np.uint8)], [STROKES], Classifier(60))
    assert found["start"] == -1
    assert not found["used"]


@pytest.mark.filterwarnings("error")
def test_strokes_of_one_kind_tell_nothing():
    found = on_strokes([np.ones_like(STROKES)], [np.minimum(STROKES, 1)], Classifier(10))
    assert not found["used"]


def test_labels_are_open_where_the_start_differs_and_nothing_is_painted():
    label = np.array([[0, 3, 0, 3]])
    mask = np.array([[0, 1, 1, 0]])
    (found,) = agreed([label], [mask], [np.zeros_like(label)])
    assert found.tolist() == [[0, 3, -1, -1]]
    (found,) = agreed([label], [mask], [np.array([[0, 0, 1, 2]])])
    assert found.tolist() == label.tolist()


def test_labels_stay_where_a_class_would_be_lost():
    label = np.array([[0, 1, 0, 1]])
    (found,) = agreed([label], [np.zeros_like(label)], [np.zeros_like(label)])
    assert found.tolist() == label.tolist()
