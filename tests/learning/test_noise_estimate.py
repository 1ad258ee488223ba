"""The noise of labels, estimated without clean ones."""

import json

import numpy as np
import pytest
from scipy import ndimage as ndi

import napari_metastructure as nms
from napari_metastructure.learning.noise_estimate import (
    NoiseEstimate,
    _loneliness,
    estimate_from,
)


def _task(number=6, size=128):
    """Masks of discs, and probabilities as a network of blurred knowledge would give them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size]
    masks = np.zeros((number, size, size), np.uint8)
    for mask in masks:
        for cy, cx in rng.integers(10, size - 10, (8, 2)):
            mask[(y - cy) ** 2 + (x - cx) ** 2 < 9**2] = 1
    blurred = ndi.gaussian_filter(masks.astype(float), (0, 1.5, 1.5))
    return masks, np.clip(blurred + rng.normal(0, 0.02, masks.shape), 0, 1)


def _learnt(probability, matrix):
    """What a network says that learnt labels with this noise."""
    return probability * matrix[1][1] + (1 - probability) * matrix[0][1]


@pytest.mark.parametrize("ratio", [0.1, 0.2, 0.3, 0.45])
def test_flips(ratio):
    masks, p = _task()
    noisy = nms.noise.flip(masks, ratio, seed=0)
    matrix = [[1 - ratio, ratio], [ratio, 1 - ratio]]
    found = estimate_from(list(_learnt(p, matrix)), list(noisy), 2)
    np.testing.assert_allclose(found.matrix, matrix, atol=0.05)
    assert found.pixelwise
    assert found.noisy
    assert not found.contradicts(matrix)
    assert found.contradicts(np.eye(2)) is (ratio > 0.1)
    assert f"{100 * found.matrix[0, 1]:.0f} %" in found.text


def test_noise_is_not_denied_where_one_class_was_not_learnt():
    """Confident predictions of a rare class that are wrong lie in patches, whatever the noise."""
    masks, p = _task()
    halves = masks * (1 + (np.arange(128) > 100))  # class 2 is taken for class 1
    noisy = nms.noise.flip(halves, 0.3, num_classes=3, seed=0)
    probabilities = [np.stack([1 - q, 0.9 * q, 0.1 * q]) for q in p]
    found = estimate_from(probabilities, list(noisy), 3)
    assert not found.pixelwise
    assert 0 in found.by_pixel
    assert 2 not in found.by_pixel
    said = "Estimated share of wrong labels in each class, background first: 30 % (± 5 %), "
    assert found.text.startswith(said)
    assert ", unknown. Unknown: " in found.text


def test_noise_that_may_be_chance_is_none():
    matrix = np.array([[1, 0], [0.14, 0.86]])
    error = np.array([[0, 0], [0.04, 0.04]])
    assert NoiseEstimate(matrix, error / 4, 0.0).noisy
    assert not NoiseEstimate(matrix, error, 0.0).noisy


def test_a_record_holds_plain_values():
    found = NoiseEstimate(np.eye(2), np.zeros((2, 2)), np.float64(0), np.float64(1))
    record = found.record()
    assert json.loads(json.dumps(record))["pixelwise"] is True
    assert not any(isinstance(value, np.generic) for value in record.values())


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.5])
def test_sampling_though_no_object_is_predicted(fraction):
    masks, p = _task()
    noisy = nms.noise.sample(masks, fraction, seed=0)
    found = estimate_from(list(_learnt(p, [[1, 0], [1 - fraction, fraction]])), list(noisy), 2)
    np.testing.assert_allclose(found.matrix[1], [1 - fraction, fraction], atol=0.05)
    assert found.noisy
    assert "object pixels seem to be labelled as object" in found.text
    assert (found.error < 0.05).all()


@pytest.mark.parametrize("kind", ["skeletonize", "dilate", "erode"])
def test_bent_labels_are_not_taken_for_pixelwise_noise(kind):
    masks, p = _task()
    radius = {} if kind == "skeletonize" else {"radius": 3}
    bent = nms.corrupt(masks, kind, **radius)
    found = estimate_from(list(p), list(bent), 2)
    assert not found.noisy


def test_clean_labels():
    masks, p = _task()
    found = estimate_from(list(p), list(masks), 2)
    assert not found.noisy
    assert "No pixel-wise noise" in found.text


def test_several_classes():
    masks, p = _task()
    half = np.arange(128) < 64
    three = masks * (1 + half).astype(np.uint8)
    probabilities = [np.stack([1 - q, q * ~half, q * half]) for q in p]
    noisy = nms.noise.flip(three, 0.3, num_classes=3, seed=0)
    found = estimate_from(probabilities, list(noisy), 3)
    np.testing.assert_allclose(found.matrix, np.full((3, 3), 0.15) + 0.55 * np.eye(3), atol=0.05)


def test_ignored_pixels_do_not_count():
    masks, p = _task()
    noisy = nms.noise.flip(masks, 0.2, seed=0).astype(int)
    noisy[:, 64:] = -1
    found = estimate_from(list(p), list(noisy), 2)
    np.testing.assert_allclose(np.diag(found.matrix), 0.8, atol=0.05)


@pytest.mark.usefixtures("one_thread")
def test_after_a_training(blobs):
    images, masks = blobs(16, seed=0)
    noisy = nms.corrupt(masks, "flip", ratio=0.3, seed=1)
    config = {"channels": 4, "depth": 3, "patch_size": 32, "epochs": 12, "min_steps": 1, "seed": 0}
    done = nms.train(images, noisy, device="cpu", **config).run(hidden=True)
    estimate = done.record["noise_estimate"]
    np.testing.assert_allclose(np.diag(estimate["matrix"]), 0.7, atol=0.06)
    assert any("State it as label noise" in text for text in done.record["notes"])
    assert "corrected for the estimated noise" in done.model.threshold_source
    again = nms.estimate_noise(done.model, images, noisy)
    np.testing.assert_allclose(np.diag(again.matrix), 0.7, atol=0.06)
    stated = nms.train(images, noisy, device="cpu", noise=np.eye(2), **config).run(hidden=True)
    assert any("stated noise differs from" in text for text in stated.record["notes"])
    with pytest.raises(ValueError, match="16 images but 2 label arrays"):
        nms.estimate_noise(done.model, list(images), list(masks[:2]))


def test_strokes_say_nothing_of_noise_by_pixel():
    from napari_metastructure.labels.strokes import simulate_strokes

    masks, p = _task()
    doubtful = np.clip(p + np.random.default_rng(1).normal(0, 0.5, p.shape), 0, 1)
    strokes = np.stack([simulate_strokes(mask, 20, 14, seed=k) for k, mask in enumerate(masks)])
    labels = strokes.astype(int) - 1
    found = estimate_from(list(doubtful), list(labels), 2)
    assert not found.noisy
    assert not found.contradicts([[0.6, 0.4], [0.4, 0.6]])
    assert found.text == "Too few pixels are annotated to look for noise in the labels."
    assert found.record()["judged"] is False
    assert estimate_from(list(doubtful), list(masks.astype(int)), 2).judged


def test_few_lonely_pixels_by_chance_are_no_patches():
    rng = np.random.default_rng(0)
    everywhere = np.ones((52, 52), bool)
    drawn = (rng.random((300, 52, 52)) > 0.4).astype(int)  # about 18 stand alone
    found = [_loneliness([labels], [everywhere], 1) for labels in drawn]
    assert min(found) > 0.5
    patches = np.kron(rng.random((13, 13)) > 0.2, np.ones((4, 4), int))
    assert _loneliness([patches], [everywhere], 1) < 0.5
