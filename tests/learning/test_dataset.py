"""What is held back of few images and of strokes."""

import numpy as np
import pytest

import napari_metastructure as nms
from napari_metastructure.labels.strokes import simulate_strokes
from napari_metastructure.learning.configs import TrainingConfig
from napari_metastructure.learning.dataset import hold_back, warn_of_numbers
from napari_metastructure.learning.losses import IGNORE

SMALL = {"channels": 2, "depth": 3, "patch_size": 32, "epochs": 1, "min_steps": 2, "seed": 0}


def held_back(images, labels, clean=None, **params):
    return hold_back(list(images), list(labels), None, clean, TrainingConfig(**params))[:2]


@pytest.mark.parametrize(("number", "whole"), [(1, False), (4, False), (9, False), (10, True)])
def test_of_few_images_a_part_of_each_is_held_back(blobs, number, whole):
    images, masks = blobs(number, seed=0, size=60)
    training, validation = held_back(images, masks)
    kept = sum(label.size for label in training.labels)
    assert kept / masks.size == pytest.approx(0.8, abs=0.01)
    assert len(training) == (8 if whole else number)
    assert len(validation) == (2 if whole else number)


def strokes_on(masks, count=6):
    return np.stack([simulate_strokes(mask, count, 10, seed=k) for k, mask in enumerate(masks)])


def test_of_strokes_whole_ones_are_held_back(blobs):
    images, masks = blobs(4, seed=0, size=64)
    strokes = strokes_on(masks)
    training, validation = held_back(images, strokes, unannotated=True)
    assert len(training) == 4
    taught = np.stack(training.labels)
    judged = np.full_like(taught, IGNORE)
    for image, label in zip(validation.images, validation.labels):
        judged[[np.array_equal(image, other) for other in images].index(True)] = label
    assert not ((taught != IGNORE) & (judged != IGNORE)).any()
    both = np.where(taught == IGNORE, judged, taught)
    np.testing.assert_array_equal(both, strokes.astype(int) - 1)
    for label in (0, 1):
        assert 0.1 < (judged == label).sum() / (both == label).sum() < 0.35


def test_of_too_few_strokes_none_is_held_back(blobs):
    images, masks = blobs(1, seed=0, size=64)
    strokes = strokes_on(masks, 2)
    training, validation = held_back(images, strokes, unannotated=True)
    assert len(validation) == 0
    np.testing.assert_array_equal(training.labels[0], strokes[0].astype(int) - 1)


def test_clean_labels_beside_strokes_are_those_of_a_block(blobs):
    images, masks = blobs(4, seed=0, size=60)
    training, validation = held_back(images, strokes_on(masks), list(masks), unannotated=True)
    parts = zip(training.labels, validation.labels)
    assert all(taught.size + clean.size == masks[0].size for taught, clean in parts)
    assert all(clean.min() == 0 for clean in validation.labels)  # masks, not strokes


def test_training_on_strokes_scores_on_those_held_back(blobs, one_thread):
    images, masks = blobs(2, seed=0, size=64)
    done = nms.train(images, strokes_on(masks), unannotated=True, **SMALL).run(hidden=True)
    assert done.record["images"] == 2
    assert done.record["held_back"] >= 1
    assert np.isfinite(done.record["validation"]["auc"])


def test_class_weights_go_with_cross_entropy_and_unknown_noise(blobs, one_thread):
    images, masks = blobs(2, seed=0, size=64)
    done = nms.train(images, masks, class_weights=True, **SMALL).run(hidden=True)
    assert done.record["config"]["class_weights"]
    with pytest.raises(ValueError, match="loss='bce'"):
        nms.train(images, masks, class_weights=True, loss="dice", **SMALL)
    noise = nms.NoiseSpec(kind="flip", ratio=0.2)
    with pytest.raises(ValueError, match="known noise"):
        nms.train(images, masks, class_weights=True, noise=noise, **SMALL).run(hidden=True)


def _numbers_and_classes():
    """Discs, numbered in each plane, and the same of four classes."""
    numbers = np.zeros((3, 60, 60), np.uint8)
    for plane in range(3):
        for number, (y, x) in enumerate(np.ndindex(3, 3), 1):
            numbers[plane, 20 * y + 3 : 20 * y + 15, 20 * x + 3 : 20 * x + 15] = number
    return numbers, np.where(numbers, numbers % 4 + 1, 0)


def test_few_numbered_objects_are_told_from_classes(recwarn):
    numbers, classes = _numbers_and_classes()
    warn_of_numbers(list(classes), [0, 1, 2, 3, 4])
    warn_of_numbers(list(numbers % 2), [0, 1])
    assert not recwarn
    with pytest.warns(UserWarning, match=r"10 values .* train on the mask \(as_mask\)"):
        warn_of_numbers(list(numbers), list(range(10)))
    with pytest.warns(UserWarning, match="train on the mask"):
        nms.train(numbers.astype(float), numbers, **{**SMALL, "device": "cpu"}).run(hidden=True)
