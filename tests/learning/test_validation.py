"""Scores on held-back labels, by which the weights are chosen."""

import numpy as np
import pytest

from napari_metastructure.jobs.job import Job
from napari_metastructure.learning.items import Items
from napari_metastructure.learning.validation import Validation

FLIPS = np.full((3, 3), 0.3) + 0.1 * np.eye(3)  # 60 % of three classes


class Network:
    def __init__(self):
        self.name = ""

    def state_dict(self):
        return {"name": self.name}


class Model:
    """Its prediction is what it is told."""

    def __init__(self, classes):
        self.classes, self.inverted, self.network = classes, False, Network()

    def tell(self, name, probability):
        self.network.name, self.probability = name, probability

    def predicting_one(self, image):
        yield 1, 1
        return self.probability


def validated(matrix, labels, clean=False):
    """A validation of one image, and its model."""
    model = Model(list(range(len(matrix))))
    items = Items.of([np.zeros(labels.shape, np.uint8)], [labels])
    job = Job(lambda job: iter(()))
    return Validation(job, model, items, clean, None, matrix), model


def one_hot(labels, sure=0.98):
    return np.where(np.arange(3)[:, None, None] == labels, sure, (1 - sure) / 2)


@pytest.fixture
def task():
    """Two halves, a rare third class among them, and its flipped labels."""
    rng = np.random.default_rng(0)
    truth = np.zeros((128, 128), int)
    truth[:, 64:], truth[40:50, 30:40] = 1, 2
    flipped = (rng.random(truth.shape)[..., None] > FLIPS[truth].cumsum(-1)).sum(-1)
    return truth, flipped.clip(max=2)


def test_of_several_classes_the_likeliest_weights_under_known_noise_are_kept(task):
    truth, noisy = task
    validation, model = validated(FLIPS, noisy)
    without_rare = np.where(truth == 2, 0, truth)
    for name, labels in (("half", truth * 0), ("all", truth), ("common", without_rare)):
        model.tell(name, one_hot(labels))
        list(validation.run(1, 1))
    assert validation.weights == {"name": "all"}
    noisy_p = np.tensordot(FLIPS.T, one_hot(truth), axes=1)
    shares = np.bincount(noisy.ravel()) / noisy.size
    left = -np.log(np.take_along_axis(noisy_p, noisy[None], 0)).mean()
    entropy = -(shares * np.log(shares)).sum()
    assert validation.merit == pytest.approx(0.5 + (1 - left / entropy) / 2)


def test_what_tells_nothing_explains_nothing(task):
    truth, noisy = task
    validation, model = validated(FLIPS, noisy)
    shares = np.bincount(truth.ravel()) / truth.size
    model.tell("shares", np.broadcast_to(shares[:, None, None], (3, *noisy.shape)))
    list(validation.run(1, 1))
    assert validation.merit == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("clean", [True, False])
def test_else_the_area_under_the_curve_counts(task, clean):
    truth, noisy = task
    two = np.array([[0.7, 0.3], [0.3, 0.7]])
    labels = truth if clean else np.minimum(noisy, 1)
    validation, model = validated(FLIPS if clean else two, labels, clean)
    model.tell("all", one_hot(truth) if clean else np.minimum(truth, 1) * 0.9)
    (*_, event) = validation.run(1, 1)
    assert validation.merit == event.auc
